"""The exact versions that the studio installs: `python .ci/pins.py check | lock | raise`. Needs uv, which tests/requirements.txt brings.

requirements.txt pins what the studio imports; requirements.lock adds everything that those bring, with hashes, for Linux, Windows and macOS and
Python 3.11 to 3.13. torch and what torch alone brings stay out of the lock: the right build of it depends on the machine.

check   fails when the two files disagree, when the pins do not resolve on a supported platform, or not beside what a Gradio Space installs
lock    writes requirements.lock anew from the pins, keeping the versions in it that still fit
raise   tries the newest version within each pin's major in a fresh environment, runs all tests there, then rewrites pins and lock
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS, TESTS, LOCK = ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt", ROOT / "requirements.lock"
OLDEST_PYTHON = "3.11"
TARGETS = [(python, platform) for python in ("3.12", "3.13") for platform in ("linux", "windows", "macos")]
"""(Python, platform) for which the pins are resolved, nothing installed."""
SPACE_PYTHON = "3.12"
TESTED_TORCH = "torch==2.13.0"
"""What .ci/run and the Dockerfile install before the lock."""
TORCH = "torch"
HEADER = """\
# Everything that requirements.txt brings but torch, with hashes; written by `python .ci/pins.py lock`, not by hand.
# Install a torch within requirements.txt's range first, then: pip install --no-deps --require-hashes -r requirements.lock
"""


def compile_pins(*arguments: str, source: Path = REQUIREMENTS, extra: str = "") -> str:
    """What uv resolves `source` and the lines in `extra` to; SystemExit with uv's own explanation where they contradict each other."""
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder) / "more.txt"
        more.write_text(extra, encoding="utf-8")
        command = ["uv", "pip", "compile", "--quiet", "--no-header", *arguments, str(source), str(more)]
        # Run beside no uv.toml or pyproject.toml: whatever those configure on one machine must not decide what all machines get.
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"{source.name} does not resolve with {' '.join(arguments) or 'no arguments'}:\n{done.stderr}")
    return done.stdout


def without_torch(resolved: str) -> str:
    """`resolved`, annotated by uv, without torch and without what only torch brings."""
    blocks = {block.split("==")[0]: block for block in re.findall(r"^\S.*\n(?:[ \t]+.*\n?)*", resolved, re.MULTILINE)}
    brought_by = {name: set(re.findall(r"#\s+(?:via\s+)?(-r \S+|\S+)$", block, re.MULTILINE)) for name, block in blocks.items()}
    kept = {name for name, parents in brought_by.items() if any(parent.startswith("-r") for parent in parents)} - {TORCH}
    while more := {name for name, parents in brought_by.items() if parents & kept} - kept - {TORCH}:
        kept |= more
    # Who brings a package stands in a comment; `uv pip tree` says the same.
    return "".join(re.sub(r"^\s+#.*\n?", "", block, flags=re.MULTILINE) for name, block in blocks.items() if name in kept)


def locked(seed: str = "") -> str:
    """The text of requirements.lock for today's requirements.txt, keeping the versions in `seed` (an earlier lock) where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.lock"
        # uv prefers the versions it finds in its output file.
        output.write_text(seed, encoding="utf-8")
        text = compile_pins("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--output-file", str(output))
        return HEADER + without_torch(output.read_text(encoding="utf-8") or text)


def check() -> None:
    """SystemExit with the reason unless pins and lock agree and the pins resolve everywhere."""
    current = LOCK.read_text(encoding="utf-8")
    # Hashes aside: a maker may add a wheel to a release of last year at any time.
    if versions(locked(current)) != versions(current):
        raise SystemExit("requirements.lock does not follow from requirements.txt. Run: python .ci/pins.py lock")
    for python, platform in TARGETS:
        compile_pins("--python-version", python, "--python-platform", platform)
    compile_pins("--python-version", SPACE_PYTHON, extra="\n".join(space_packages()))
    sys.stdout.write(f"requirements.txt and requirements.lock agree, and resolve on {len(TARGETS)} platforms and in a Gradio Space.\n")


def versions(lock: str) -> list[str]:
    """Its packages with their versions and platforms, without hashes and comments."""
    return [line.rstrip(" \\") for line in lock.splitlines() if not line.startswith(("#", " "))]


def space_packages() -> list[str]:
    """What a Gradio Space installs in the same pip command as requirements.txt."""
    gradio = re.search(r"^gradio\[.*\]==(\S+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    if gradio is None:
        raise SystemExit("requirements.txt pins no gradio.")
    return [f"gradio[oauth,mcp]=={gradio[1]}", "uvicorn", "websockets", "spaces"]


def raise_pins() -> None:
    """Rewrite pins and lock with the newest versions within their majors, once all tests have passed with them."""
    before = {path: path.read_text(encoding="utf-8") for path in (REQUIREMENTS, TESTS, LOCK)}
    try:
        for path in (REQUIREMENTS, TESTS):
            path.write_text(re.sub(r"^([\w.\[\],-]+)==(\d+)(\.\S+)?", _within_major, before[path], flags=re.MULTILINE), encoding="utf-8")
        # Together with the Space's packages, since both files have to fit there too.
        loose = compile_pins("--python-version", OLDEST_PYTHON, "--no-annotate", "--universal", source=TESTS, extra="\n".join(space_packages_loose()))
        newest = dict(re.findall(r"^([\w.-]+)==(\S+)", loose, re.MULTILINE))
        for path in (REQUIREMENTS, TESTS):
            path.write_text(re.sub(r"^([\w.-]+)(\S*==)(\S+)", lambda m: _pinned(m, newest), before[path], flags=re.MULTILINE), encoding="utf-8")
        LOCK.write_text(locked(), encoding="utf-8")
        run_tests()
    except BaseException:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        raise


def space_packages_loose() -> list[str]:
    """`space_packages` while requirements.txt holds ranges: without gradio's exact version."""
    return ["gradio[oauth,mcp]", "uvicorn", "websockets", "spaces"]


def _within_major(match: re.Match) -> str:
    """`name==1.2.3` as `name>=1.2.3,<2`; below 1.0, where the second number is the major one, `name==0.42.1` as `name>=0.42.1,<0.43`."""
    name, major, rest = match[1], int(match[2]), match[3] or ""
    if major:
        return f"{name}>={major}{rest},<{major + 1}"
    minor = int(rest.split(".")[1])
    return f"{name}>=0{rest},<0.{minor + 1}"


def _pinned(match: re.Match, newest: dict[str, str]) -> str:
    return match[1] + match[2] + newest.get(re.sub(r"[-_.]+", "-", match[1]).lower(), match[3])


def run_tests() -> None:
    """All tests, in a fresh environment with the pins as they are written now."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(next(path for path in (Path(folder) / "bin" / "python", Path(folder) / "Scripts" / "python.exe") if path.exists()))
        subprocess.run([python, "-m", "pip", "install", "-q", TESTED_TORCH], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", str(LOCK)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(TESTS)], check=True)
        subprocess.run([python, "-m", "pytest"], check=True, cwd=ROOT, env={**os.environ, "CI": "true"})


def main(argv: list[str]) -> None:
    if argv == ["check"]:
        check()
    elif argv == ["lock"]:
        LOCK.write_text(locked(LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""), encoding="utf-8")
    elif argv == ["raise"]:
        raise_pins()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
