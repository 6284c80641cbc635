"""What this machine can do and what is wrong with it, each with the one command that helps. Nothing heavy is imported to find out."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from studio.core.packages import INSTALL, REQUIREMENTS, installed, tested, untested
from studio.core.workspace import Home

OLDEST_PYTHON = (3, 11)
LEAST_DISK_GB = 5
LEAST_MEMORY_GB = 4
NVIDIA_SIGNS = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
SMI_SECONDS = 5


@dataclass(frozen=True)
class Finding:
    """One thing worth saying. level: "ok", "warn" (works, but badly) or "error" (does not work). `fix` is a command, or empty."""

    level: str
    message: str
    fix: str = ""


def examine(home: Home | None = None) -> list[Finding]:
    """Everything that can be found out within a second."""
    card = graphics_card()
    folder = (home or Home()).root
    found = [python(), *packages(), torch_build(card, installed("torch")), disk(folder), memory()]
    return [finding for finding in found if finding is not None]


def graphics_card() -> str:
    """The name of an NVIDIA card, or empty. The driver's own tool first; its files where that is missing (containers)."""
    tool = shutil.which("nvidia-smi")
    if tool:
        try:
            asked = subprocess.run(
                [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=SMI_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            asked = None
        if asked is not None and asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.splitlines()[0].strip()
    return "NVIDIA graphics card" if any(sign.exists() for sign in NVIDIA_SIGNS) else ""


def torch_build(card: str, version: str, platform: str = sys.platform) -> Finding | None:
    """A card that is there but not used is the most common reason for slow training."""
    if not version:
        return None
    computes_on_cpu = "+cpu" in version
    if card and computes_on_cpu:
        return Finding(
            "warn",
            f"This computer has a graphics card ({card}) that the installed torch {version} cannot use: everything takes far longer.",
            f'uv pip install --torch-backend=auto --reinstall-package torch "{tested()["torch"]}"',
        )
    if card:
        return Finding("ok", f"{card}, torch {version}.")
    if platform == "darwin":
        return Finding("ok", f"torch {version}.")
    return Finding("ok", f"No NVIDIA graphics card found; torch {version} computes on the processor, which is enough for the built-in model.")


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    said = ".".join(str(part) for part in version[:2])
    if version < OLDEST_PYTHON:
        needed = ".".join(str(part) for part in OLDEST_PYTHON)
        return Finding("error", f"This is Python {said}; the studio needs {needed} or newer.", f"uv venv --python {needed}")
    return Finding("ok", f"Python {said}.")


def packages(requirements: Path = REQUIREMENTS) -> list[Finding]:
    """Packages that are missing, and those in another version than the tests passed with."""
    needed = tested(requirements)
    missing = [name for name in needed if not installed(name)]
    found = [Finding("error", f"Not installed: {', '.join(missing)}.", INSTALL)] if missing else []
    if other := untested(needed):
        found.append(Finding("warn", f"Installed in versions that the studio was not tested with: {'; '.join(other)}.", INSTALL))
    return found


def disk(folder: Path) -> Finding:
    """Room where the studio keeps its things."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free < LEAST_DISK_GB:
        return Finding("warn", f"Only {free:.1f} GB are free in {folder}; training saves its state and needs {LEAST_DISK_GB} GB to be safe.")
    return Finding("ok", f"{free:.0f} GB free on the disk.")


def memory() -> Finding | None:
    """Main memory, also as a container limits it. None where the system does not say."""
    if sys.platform == "win32":
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    size = total / 1e9
    if size < LEAST_MEMORY_GB:
        return Finding("warn", f"This computer has {size:.1f} GB of memory; the built-in model works, larger ones need more.")
    return Finding("ok", f"{size:.0f} GB of memory.")
