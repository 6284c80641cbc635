"""`python -m studio.benchmark NAME`: each benchmark prints a table and one JSON line."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Name -> first line of its docstring, for every module here with a main function."""
    found = {}
    for file in sorted(HERE.glob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "\ndef main(argv: list[str])" in source:
            found[file.stem] = source.partition('"""')[2].partition("\n")[0]
    return found


def main(argv: list[str]) -> int:
    known = benchmarks()
    if not argv or argv[0] not in known:
        print("python -m studio.benchmark NAME [--help]\n")
        for name, about in known.items():
            print(f"  {name:10} {about}")
        return 0 if not argv or argv[0] in ("-h", "--help") else 2
    return importlib.import_module(f"studio.benchmark.{argv[0]}").main(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
