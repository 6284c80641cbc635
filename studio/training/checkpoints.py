"""Resume states that survive a kill at any instant: written aside, hashed last, renamed into place, then the older ones removed.

checkpoints/step-000100/{state.safetensors, manifest.json}
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from studio.adapters.format import serialise

KEPT = 2
NAME = re.compile(r"step-(\d{6})")


class Disk:
    """The four ways training touches the disk. A test puts a kill before and inside each of them."""

    def write(self, path: Path, data: bytes) -> None:
        """All bytes on the platter before this returns; a write that fails leaves nothing behind, which also makes room on a full disk."""
        try:
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def rename(self, source: Path, target: Path) -> None:
        """The new name is on the platter before this returns."""
        os.replace(source, target)
        self.sync(target.parent)

    def sync(self, folder: Path) -> None:
        """Names in a folder; not every file system or Windows can, and there a rename is as safe as it gets."""
        with contextlib.suppress(PermissionError, NotImplementedError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def replace(self, path: Path, data: bytes) -> None:
        """A whole file, old or new, never a mixture."""
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self.write(aside, data)
        self.rename(aside, path)


def save(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict, disk: Disk) -> None:
    """Keep the state after `step` steps, tensors and plain facts (JSON); the two newest stay."""
    state = serialise(tensors, {"facts": json.dumps(facts, sort_keys=True)})
    aside = folder / f".aside-{secrets.token_hex(4)}"
    aside.mkdir(parents=True)
    disk.write(aside / "state.safetensors", state)
    manifest = {"step": step, "files": {"state.safetensors": hashlib.sha256(state).hexdigest()}}
    disk.write(aside / "manifest.json", json.dumps(manifest, sort_keys=True).encode())
    disk.sync(aside)
    target = folder / f"step-{step:06d}"
    if target.exists():
        # A resume that could not read this one comes past the same step again.
        disk.remove(target)
    disk.rename(aside, target)
    for _, old in _listed(folder)[:-KEPT]:
        disk.remove(old)


def load_newest(folder: Path) -> tuple[int, dict[str, Tensor], dict] | None:
    """(step, tensors, facts) of the newest state whose bytes are what its manifest says; None when there is none yet.

    Also sweeps away what a killed writer left half done.
    """
    if not folder.exists():
        return None
    for leftover in folder.glob(".aside-*"):
        shutil.rmtree(leftover)
    for step, path in reversed(_listed(folder)):
        try:
            manifest = json.loads((path / "manifest.json").read_bytes())
            state = (path / "state.safetensors").read_bytes()
            if manifest["files"]["state.safetensors"] == hashlib.sha256(state).hexdigest() and manifest["step"] == step:
                return step, load(state), _facts(state)
        except (OSError, ValueError, KeyError):
            continue
    return None


def _facts(state: bytes) -> dict:
    """The facts in a state's header, read as `headers.read_header` would, from bytes that are known to be whole."""
    length = int.from_bytes(state[:8], "little")
    return json.loads(json.loads(state[8 : 8 + length])["__metadata__"]["facts"])


def _listed(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))
