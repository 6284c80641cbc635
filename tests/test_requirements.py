"""What is imported is declared, what is declared is imported, and both files name the same versions."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from studio.config.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[1]
INSTALLED_ONLY_FOR_SOME = {"torchao": "packs a base in fp8; each release fits a few of torch only, so the error says what to install"}
"""Imported by the studio where it is installed, and not in requirements.txt."""
PROGRAMS = {"pytest-timeout", "pytest-xdist", "ruff", "uv", "import-linter", "mypy", "oxlint", "types-psutil", "types-pyyaml", "types-tqdm"}
"""Started by name, found by pytest itself, or read by mypy (types-*)."""


def declared(path: Path) -> dict[str, tuple[Requirement, str]]:
    """name -> (its requirement, its comment) of a requirements file, without the files it includes."""
    lines = [line.partition("#") for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(Requirement(text), comment) for text, _, comment in lines if text.strip() and not text.startswith("-")]
    return {normal(requirement.name): (requirement, comment.strip()) for requirement, comment in found}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*roots: str) -> set[str]:
    """Every package that files below these roots import, by the name it is installed under."""
    modules = set()
    for root in roots:
        for path in (ROOT / root).rglob("*.py") if (ROOT / root).is_dir() else [ROOT / root]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    modules.add(node.module.partition(".")[0])
    ours = {"studio", "tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    by_module = importlib.metadata.packages_distributions()
    return {normal(by_module.get(module, [module])[0]) for module in modules - set(sys.stdlib_module_names) - ours}


@pytest.fixture(scope="module")
def needed():
    return declared(ROOT / "requirements.txt")


@pytest.fixture(scope="module")
def for_tests():
    return declared(ROOT / "tests" / "requirements.txt")


def test_every_package_that_the_studio_imports_is_declared(needed):
    assert imported("studio", "app.py") - set(needed) == set(INSTALLED_ONLY_FOR_SOME) | {"playwright"}


@pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
def test_every_optimizer_comes_from_a_declared_package_that_has_its_module(entry, needed):
    assert normal(entry.package) in needed
    packages = importlib.metadata.packages_distributions()[entry.class_path.partition(":")[0].partition(".")[0]]
    assert normal(entry.package) in map(normal, packages)


def test_every_package_that_tests_import_is_declared(needed, for_tests):
    assert imported("tests", ".ci/pins.py") <= set(needed) | set(for_tests)


def test_every_declared_package_is_imported_or_says_why_it_is_needed(needed, for_tests):
    unused = set(needed) - imported("studio", "app.py") - {normal(entry.package) for entry in OPTIMIZERS}
    assert all(needed[name][1].startswith("not imported: ") for name in unused), unused
    assert set(for_tests) - imported("tests", "studio") - PROGRAMS == set()


def test_every_version_is_exact_but_torchs(needed, for_tests):
    for name, (requirement, _) in {**needed, **for_tests}.items():
        exact = re.fullmatch(r"==[\d.]+", str(requirement.specifier))
        assert bool(exact) == (name != "torch"), requirement


def test_the_lock_names_the_same_versions_and_a_hash_for_each(needed):
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = {normal(block.partition("==")[0]): block for block in re.findall(r"^\S+==.*\n(?: .*\n)*", text, re.MULTILINE)}
    assert all("--hash=sha256:" in block for block in blocks.values())
    assert "torch" not in blocks and not [name for name in blocks if name.startswith(("nvidia", "triton", "cuda"))]
    for name, (requirement, _) in needed.items():
        if name != "torch":
            assert re.match(rf"\S+{re.escape(str(requirement.specifier))}\s", blocks[name]), name


def test_torch_in_ci_and_in_the_container_is_one_that_requirements_accept(needed):
    for name in (".ci/run", "Dockerfile", ".ci/pins.py"):
        (version,) = set(re.findall(r"torch==([\d.]+)", (ROOT / name).read_text(encoding="utf-8")))
        assert needed["torch"][0].specifier.contains(version), name
