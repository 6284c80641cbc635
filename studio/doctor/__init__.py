"""Diagnostics of computer and installation, each problem with the command that fixes it. No heavy imports."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from studio.core.packages import INSTALL, REQUIREMENTS, installed, tested, untested
from studio.core.workspace import SET_ASIDE, Home

MIN_PYTHON = (3, 11)
MIN_DISK_GB = 5
MIN_MEMORY_GB = 4
NVIDIA_SIGNS = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
SMI_SECONDS = 5


@dataclass(frozen=True)
class Finding:
    """One result. level: "ok", "warn" (works, but badly) or "error" (does not work). `fix` is a command, or empty."""

    level: str
    message: str
    fix: str = ""


def examine(home: Home | None = None) -> list[Finding]:
    """Run all checks; takes less than a second."""
    gpu = find_gpu()
    folder = (home or Home()).root
    found = [python(), *packages(), torch_build(gpu, installed("torch")), disk(folder), memory(), set_aside(folder)]
    return [finding for finding in found if finding is not None]


def find_gpu() -> str:
    """Name of the NVIDIA GPU, or empty: from nvidia-smi, or from the driver's files where that is missing (containers)."""
    return _query_gpu("name") or ("NVIDIA GPU" if any(sign.exists() for sign in NVIDIA_SIGNS) else "")


def find_gpu_memory() -> int | None:
    """Memory of the NVIDIA GPU in GB, as its maker counts it; None without one, or where nvidia-smi is missing."""
    mebibytes = _query_gpu("memory.total")
    return round(int(mebibytes) / 1024) if mebibytes.isdecimal() else None


def _query_gpu(field: str) -> str:
    """A field that nvidia-smi reports for the first GPU, without its unit; empty without one."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ""
    command = [tool, f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return output.stdout.splitlines()[0].strip() if output.returncode == 0 and output.stdout.strip() else ""


def torch_build(gpu: str, version: str, platform: str = sys.platform) -> Finding | None:
    """Whether torch can use the GPU; a GPU that is not used is the most common reason for slow training."""
    if not version:
        return None
    is_cpu_build = "+cpu" in version
    if gpu and is_cpu_build:
        return Finding(
            "warn",
            f"This computer has a GPU ({gpu}) that the installed torch {version} cannot use: everything takes far longer.",
            f'uv pip install --torch-backend=auto --reinstall-package torch "{tested()["torch"]}"',
        )
    if gpu:
        return Finding("ok", f"{gpu}, torch {version}.")
    if platform == "darwin":
        return Finding("ok", f"torch {version}.")
    return Finding("ok", f"No NVIDIA GPU found; torch {version} runs on the CPU, which is enough for the built-in model.")


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    found = ".".join(str(part) for part in version[:2])
    if version < MIN_PYTHON:
        needed = ".".join(str(part) for part in MIN_PYTHON)
        return Finding("error", f"This is Python {found}; the studio needs {needed} or newer.", f"uv venv --python {needed}")
    return Finding("ok", f"Python {found}.")


def packages(requirements: Path = REQUIREMENTS) -> list[Finding]:
    """Missing packages, and packages whose version was not tested."""
    needed = tested(requirements)
    versions = {name: installed(name) for name in needed}
    missing = [name for name, version in versions.items() if not version]
    found = [Finding("error", f"Not installed: {', '.join(missing)}.", INSTALL)] if missing else []
    if other := untested(needed, versions):
        found.append(Finding("warn", f"Installed in versions that the studio was not tested with: {'; '.join(other)}.", INSTALL))
    return found


def disk(folder: Path) -> Finding:
    """Free disk space of the home folder."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free < MIN_DISK_GB:
        return Finding("warn", f"Only {free:.1f} GB are free in {folder}; checkpoints of training need {MIN_DISK_GB} GB to be safe.")
    return Finding("ok", f"{free:.0f} GB free on the disk.")


def set_aside(folder: Path) -> Finding | None:
    """A job database that was damaged, until its folder is deleted."""
    kept = sorted((folder / SET_ASIDE).glob("*")) if (folder / SET_ASIDE).is_dir() else []
    if not kept:
        return None
    return Finding(
        "warn",
        "The list of jobs was damaged and was set aside; a new one was started. Datasets, runs and LoRAs are kept. "
        f"The damaged file is in {kept[-1]}; delete that folder when you no longer need it.",
    )


def memory() -> Finding | None:
    """RAM, or a container's memory limit. None where the system does not report it."""
    if sys.platform == "win32":
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    size = total / 1e9
    if size < MIN_MEMORY_GB:
        return Finding("warn", f"This computer has {size:.1f} GB of RAM; the built-in model works, larger ones need more.")
    return Finding("ok", f"{size:.0f} GB of RAM.")
