"""Paths on disk: one Home per installation, one Workspace per owner. All paths are created here.

Home/studio.db, identity, logs/, trials/, owners/<owner>/{datasets,runs,adapters,images,presets,published,trash}/
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from studio.core import damage, storage
from studio.core.errors import StudioError

PLAIN_ID = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,118}[a-z0-9])?")
OWNERS = "owners"
RUNS = "runs"
CHOOSE_ANOTHER_HOME = "Choose a home folder on a local disk that you can write to: set LORA_STUDIO_HOME, or use a command's --home."
FOOTPRINTS = "footprints"
"""Folder of counted memory footprints, for all owners: see devices/footprint_store.py."""
SET_ASIDE = "set-aside"
"""Folder of a home for a damaged job database; nothing reads it."""
ORIGIN = {"original": str, "removed": damage.NUMBER}
TRIALS = "trials"
"""Folder of what was found out about executions on this computer's GPU, for all owners: see training/verdicts.py."""


def slug(title: str, default: str = "untitled") -> str:
    """A title as lower-case letters, digits and dashes, at most 40 characters long."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_title.lower()).strip("-")[:40].strip("-") or default


def new_id(title: str) -> str:
    """A readable but unguessable id: the title's slug and 128 random bits."""
    return f"{slug(title)}-{secrets.token_hex(16)}"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: readers see the old or the new bytes, even after a power loss."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with storage.saving(path.name, aside):
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        storage.replace_file(aside, path)


def copy_atomically(source: Path, target: Path) -> None:
    """The same for a file that is a copy of another; its bytes never pass through this process's memory."""
    aside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with storage.saving(target.name, aside):
        shutil.copyfile(source, aside)
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        storage.replace_file(aside, target)


def _make_folder(folder: Path) -> None:
    """Create a folder of a home; StudioError that names it if the system does not allow that."""
    try:
        with storage.saving(f"the folder {folder.name}"):
            folder.mkdir(parents=True, exist_ok=True)
    except storage.DiskFull:
        raise
    except OSError as error:
        raise StudioError(f"The folder {folder} cannot be used: {error.strerror}. {CHOOSE_ANOTHER_HOME}") from error


@dataclass(frozen=True)
class Trashed:
    """A removed file or folder that can be restored."""

    id: str
    original: Path
    content: Path
    removed: float


class Workspace:
    """The folders of one owner. Every path to a dataset, run, adapter or image is created and validated here."""

    def __init__(self, root: Path, owner: str):
        self.root = root
        self.owner = owner
        self.datasets = root / "datasets"
        self.runs = root / RUNS
        self.adapters = root / "adapters"
        self.images = root / "images"
        self.inits = root / "inits"
        """Copies of the images that generation began from."""
        self.presets = root / "presets"
        self.published = root / "published"
        """Zips and folders that were made to be taken away."""
        self.trash = root / "trash"
        for folder in (self.datasets, self.runs, self.adapters, self.images, self.inits, self.presets, self.published, self.trash):
            _make_folder(folder)

    def dataset_path(self, dataset_id: str) -> Path:
        return self._inside(self.datasets, dataset_id, "dataset")

    def run_path(self, run_id: str) -> Path:
        return self._inside(self.runs, run_id, "run")

    def adapter_path(self, adapter_id: str) -> Path:
        return self._inside(self.adapters, adapter_id, "adapter").with_name(f"{adapter_id}.safetensors")

    def image_path(self, image_id: str) -> Path:
        return self._inside(self.images, image_id, "image").with_name(f"{image_id}.png")

    def init_path(self, image_id: str) -> Path:
        return self._inside(self.inits, image_id, "init image").with_name(f"{image_id}.png")

    def preset_path(self, preset_id: str) -> Path:
        return self._inside(self.presets, preset_id, "preset").with_name(f"{preset_id}.toml")

    def remove(self, path: Path) -> str:
        """Move a file or folder of this workspace to its trash; returns the id that `restore` takes."""
        path = path.resolve()
        if not path.is_relative_to(self.root.resolve()) or not path.exists():
            raise StudioError(f"{path.name} is no longer in this workspace, so there is nothing to remove.")
        trash_id = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        folder = self.trash / trash_id
        folder.mkdir()
        original = str(path.relative_to(self.root.resolve()))
        try:
            write_atomically(folder / "origin.json", json.dumps({"original": original, "removed": time.time()}).encode())
            storage.move(path, folder / "content")
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return trash_id

    def restore(self, trash_id: str) -> Path:
        """Restore something removed to its place."""
        folder = self._inside(self.trash, trash_id, "removed item")
        if not (folder / "content").exists():
            raise StudioError("This was already restored or permanently deleted.")
        original = self._original(damage.read_object(folder / "origin.json", ORIGIN))
        if original.exists():
            raise StudioError(f"{original.name} exists again; remove or rename that one first.")
        original.parent.mkdir(parents=True, exist_ok=True)
        storage.move(folder / "content", original)
        storage.discard(folder)
        return original

    def erase(self, trash_id: str) -> None:
        """Permanently delete something removed."""
        folder = self._inside(self.trash, trash_id, "removed item")
        if not folder.exists():
            raise StudioError("This was already restored or permanently deleted.")
        storage.remove_folder(folder)

    def trashed(self) -> list[Trashed]:
        """What can be restored, newest first; runs/damage.py lists what cannot, because its origin.json cannot be read."""
        found = []
        for folder in sorted(self.trash.iterdir(), reverse=True):
            if (folder / "origin.json").exists() and (folder / "content").exists():
                with contextlib.suppress(StudioError):
                    origin = damage.read_object(folder / "origin.json", ORIGIN)
                    found.append(Trashed(folder.name, self._original(origin), folder / "content", origin["removed"]))
        return found

    def _original(self, origin: dict) -> Path:
        """Where something in the trash came from; a file that was tampered with names no place outside this workspace."""
        original = (self.root / origin["original"]).resolve()
        if not original.is_relative_to(self.root.resolve()):
            raise StudioError("This was not removed from this workspace, so it cannot be restored.")
        return original

    def _inside(self, folder: Path, plain_id: str, noun: str) -> Path:
        if not isinstance(plain_id, str) or not PLAIN_ID.fullmatch(plain_id) or ".." in plain_id:
            raise StudioError(f"{str(plain_id)[:60]!r} is not the id of a {noun}; choose one from the list.")
        return folder / plain_id


class Home:
    """One installation: the job database, logs, and every owner's Workspace."""

    def __init__(self, root: Path | str | None = None):
        if root is None:
            root = os.environ.get("LORA_STUDIO_HOME")
        if root is None:
            import platformdirs

            root = platformdirs.user_data_path("lora-studio")
        self.root = Path(root).expanduser().resolve()
        self.database = self.root / "studio.db"
        self.identity = self.root / "identity"
        """File with a random id of this installation."""
        self.logs = self.root / "logs"
        _make_folder(self.logs)

    def workspace(self, owner: str) -> Workspace:
        if not PLAIN_ID.fullmatch(owner) or ".." in owner:
            raise StudioError(f"{owner[:60]!r} cannot own a workspace; names are lower-case letters, digits, '-', '_' and '.'.")
        return Workspace(self.root / OWNERS / owner, owner)

    def drafts_key(self, owner: str) -> str:
        """Name under which a browser keeps the unsaved text of one owner of this installation. It tells neither name."""
        return hashlib.sha256(f"{self._identify()}:{owner}".encode()).hexdigest()[:32]

    def _identify(self) -> str:
        try:
            known = self.identity.read_text(encoding="ascii")
            if re.fullmatch(r"[0-9a-f]{32}", known):
                return known
        except (OSError, UnicodeDecodeError):
            pass
        write_atomically(self.identity, secrets.token_hex(16).encode())
        return self.identity.read_text(encoding="ascii")
