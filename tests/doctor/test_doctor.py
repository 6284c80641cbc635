import subprocess
import sys
from pathlib import Path

import pytest

from studio import doctor
from studio.core import packages


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A driver's tool that names a card."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA GeForce RTX 4070\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tool


def test_a_card_with_a_cpu_torch_is_said_with_the_one_command_that_fixes_it():
    found = doctor.torch_build("NVIDIA GeForce RTX 4070", "2.13.0+cpu")
    assert found.level == "warn" and "RTX 4070" in found.message
    assert found.fix.startswith("uv pip install --torch-backend=auto") and ">=2.10" in found.fix


@pytest.mark.parametrize(("card", "version"), [("NVIDIA A10", "2.13.0+cu130"), ("", "2.13.0+cpu"), ("", "2.13.0+cu130")])
def test_what_fits_together_needs_no_advice(card, version):
    found = doctor.torch_build(card, version)
    assert found.level == "ok" and not found.fix


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
def test_the_card_is_found_by_the_drivers_own_tool(nvidia_smi):
    assert doctor.find_gpu() == "NVIDIA GeForce RTX 4070"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
def test_a_tool_that_fails_is_no_card(nvidia_smi, monkeypatch):
    nvidia_smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    monkeypatch.setattr(doctor, "NVIDIA_SIGNS", ())
    assert doctor.find_gpu() == ""


def test_in_a_container_the_drivers_files_are_sign_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    sign = tmp_path / "version"
    monkeypatch.setattr(doctor, "NVIDIA_SIGNS", (sign,))
    assert doctor.find_gpu() == ""
    sign.touch()
    assert doctor.find_gpu() == "NVIDIA GPU"


@pytest.mark.parametrize(
    ("line", "tag"),
    [("cuda: Optional[str] = '13.0'", "+cu130"), ('cuda = "12.8"', "+cu128"), ("cuda: Optional[str] = None", "+cpu"), ("nothing", "")],
)
def test_torchs_build_is_read_from_its_version_file_as_text(tmp_path, monkeypatch, line, tag):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\n")
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: type("Spec", (), {"origin": str(package / "__init__.py")}))
    assert packages._cuda_of_torch() == tag


def test_an_old_python_is_an_error_with_a_way_out():
    found = doctor.python((3, 10))
    assert found.level == "error" and "3.11" in found.message and found.fix
    assert doctor.python((3, 12)).level == "ok"


def test_missing_packages_are_named(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# what it needs\npydantic>=2\nnot-a-package-at-all>=1,<2\n\n")
    (found,) = doctor.packages(requirements)
    assert found.level == "error" and "not-a-package-at-all" in found.message and "pydantic" not in found.message
    assert doctor.packages() == []


def test_a_version_that_was_not_tested_is_named_with_the_tested_one_and_the_command(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("pydantic==2.0.1  # pinned\nnumpy>=1\n")
    (found,) = doctor.packages(requirements)
    assert found.level == "warn" and found.fix == "pip install -r requirements.txt"
    assert "pydantic" in found.message and "tested: 2.0.1" in found.message and "numpy" not in found.message


def test_a_package_of_another_platform_is_not_missed(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("not-a-package-at-all==1 ; sys_platform == 'no such system'\n")
    assert doctor.packages(requirements) == []


def test_a_full_disk_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1e9}))
    assert doctor.disk(tmp_path / "not" / "made" / "yet").level == "warn"


def test_the_whole_examination_is_quick_and_imports_nothing_heavy(home):
    code = (
        "import sys, time; from pathlib import Path; from studio import doctor; from studio.core.workspace import Home; began = time.monotonic();"
        f"found = doctor.examine(Home(Path({str(home.root)!r}))); "
        "print(len(found), time.monotonic() - began < 6, {'torch', 'diffusers', 'gradio'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(doctor.__file__).parents[2])
    count, quick, heavy = said.stdout.split()
    assert int(count) >= 4 and quick == "True" and heavy == "set()"
