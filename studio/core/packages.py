"""Installed package versions compared with the tested ones (requirements.txt). No package is imported."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
INSTALL = "pip install -r requirements.txt"


def installed(package: str) -> str:
    """The version of an installed package with its local tag (2.13.0+cpu), or empty."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    if package == "torch" and "+" not in version:
        # PyPI's Linux build includes CUDA without a version tag; torch/version.py has it.
        version += _cuda_of_torch()
    return version


def untested(needed: dict[str, Requirement] | None = None, versions: dict[str, str] | None = None) -> list[str]:
    """Each installed package outside its tested versions, as "transformers 5.24.0 (tested: 5.23.0)". `versions` are those already read."""
    other = []
    for name, requirement in (needed if needed is not None else tested()).items():
        version = versions[name] if versions is not None else installed(name)
        if version and not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            other.append(f"{name} {version} (tested: {str(requirement.specifier).removeprefix('==')})")
    return other


def tested(requirements: Path = REQUIREMENTS) -> dict[str, Requirement]:
    """name -> its line in requirements.txt, for this platform; empty if the file is missing."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.exists() else []
    found = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip()) and not text.startswith("-")]
    return {requirement.name: requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()}


def _cuda_of_torch() -> str:
    """`+cu130` or `+cpu` from torch/version.py, read as text: importing torch takes seconds and 200 MB."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).with_name("version.py")
    if not file.exists():
        return ""
    match = re.search(r"^cuda\b[^=]*=\s*(None|['\"]([\d.]+)['\"])", file.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        return ""
    return f"+cu{match[2].replace('.', '')}" if match[2] else "+cpu"
