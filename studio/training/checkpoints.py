"""Checkpoints that survive a kill at any instant: written to a temporary folder, then a manifest with the hash, renamed, older ones removed.

checkpoints/step-000100/{state.safetensors, manifest.json}
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from studio.adapters.format import serialise
from studio.core import storage

log = logging.getLogger(__name__)

MAX_STATES = 2
NAME = re.compile(r"step-(\d{6})")


class Disk:
    """File operations of a training, durable when they return. A test kills the process before and inside each of them."""

    def write(self, path: Path, data: bytes) -> None:
        """Write and fsync. A write that fails removes the file, which also frees space on a full disk."""
        try:
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def rename(self, source: Path, target: Path) -> None:
        """Rename and fsync the folder."""
        storage.replace_file(source, target)
        self.sync(target.parent)

    def sync(self, folder: Path) -> None:
        """fsync a folder, so that new names survive a power failure. Windows and some file systems cannot; there this does nothing."""
        with contextlib.suppress(PermissionError, NotImplementedError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def remove(self, folder: Path) -> None:
        """Delete a folder with its files."""
        storage.remove_folder(folder)

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file atomically: readers see the old or the new bytes."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self.write(temporary, data)
        self.rename(temporary, path)


def save(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict, disk: Disk) -> None:
    """Write a checkpoint of tensors and JSON values after `step` steps, and remove all but the two newest."""
    state = serialise(tensors, {"facts": json.dumps(facts, sort_keys=True)})
    temporary = folder / f".aside-{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    disk.write(temporary / "state.safetensors", state)
    manifest = {"step": step, "files": {"state.safetensors": hashlib.sha256(state).hexdigest()}}
    disk.write(temporary / "manifest.json", json.dumps(manifest, sort_keys=True).encode())
    disk.sync(temporary)
    target = folder / f"step-{step:06d}"
    if target.exists():
        # Exists if it was damaged and an earlier checkpoint was resumed.
        disk.remove(target)
    disk.rename(temporary, target)
    for _, old in _list_states(folder)[:-MAX_STATES]:
        try:
            disk.remove(old)
        except storage.FileInUse:
            # The next checkpoint tries again; until then it only takes space.
            log.warning("%s is open in another program and was not deleted", old.name)


def load_newest(folder: Path) -> tuple[int, dict[str, Tensor], dict] | None:
    """(step, tensors, facts) of the newest checkpoint whose bytes match its manifest; None if there is none.

    Also deletes temporary folders of a killed process.
    """
    if not folder.exists():
        return None
    for leftover in folder.glob(".aside-*"):
        storage.discard(leftover)
    for step, path in reversed(_list_states(folder)):
        try:
            manifest = json.loads((path / "manifest.json").read_bytes())
            state = (path / "state.safetensors").read_bytes()
            if manifest["files"]["state.safetensors"] == hashlib.sha256(state).hexdigest() and manifest["step"] == step:
                return step, load(state), _facts(state)
        except (OSError, ValueError, KeyError):
            continue
    return None


def _facts(state: bytes) -> dict:
    """The JSON values in a checkpoint's safetensors header. The bytes were compared with their hash, so nothing else is checked."""
    length = int.from_bytes(state[:8], "little")
    return json.loads(json.loads(state[8 : 8 + length])["__metadata__"]["facts"])


def _list_states(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, oldest first."""
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))
