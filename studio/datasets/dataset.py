"""A dataset: one folder of canonical pictures and their captions, with history and undo. No torch, no decoding.

dataset.json   title, subject, real_person, consent, trigger_word
pictures.json  what was added, in order; removed pictures stay listed and lie in trash/ until restored
pictures/<id>.png  thumbs/<id>.jpg   an id is the sha256 of the pixels
captions.jsonl one line a change, never rewritten
masks.jsonl  masks/<sha256>.png  likewise which picture has a mask, and the masks
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from studio import builtin
from studio.core.errors import StudioError
from studio.core.platform import FileLock
from studio.core.workspace import Workspace, new_id, slug, write_atomically
from studio.datasets.captions import Captions
from studio.datasets.importing.images import clean_text, decode_files, need_pictures
from studio.datasets.importing.mask_names import masked_by, name_for
from studio.datasets.importing.matching import Decoded
from studio.datasets.masks import Masks

SUBJECTS = ("style", "character", "object")
LONGEST_TRIGGER = 60


@dataclass(frozen=True)
class Picture:
    """One picture of a dataset. caption_source: hand, file (a .txt beside it), sample, a captioner's name, or "" for none."""

    id: str
    name: str
    file: Path
    thumb: Path
    caption: str
    caption_source: str
    width: int
    height: int
    looks_like_photo: bool
    mask: Path | None = None
    """As large as the picture; its light parts teach. The file's name is the hash of its pixels."""
    mask_can_go_back: bool = False
    """Whether there was another mask, or another none, before."""


class Dataset:
    def __init__(self, path: Path):
        self.path = path
        self.id = path.name

    @classmethod
    def create(
        cls, workspace: Workspace, title: str, subject: str = "style", real_person: bool = False, consent: str = "", trigger_word: str = ""
    ) -> "Dataset":
        """A new, empty dataset. Pictures of a real person need their consent in words; it is kept with today's date."""
        title = clean_text(title, 120) or "My pictures"
        dataset = cls(workspace.dataset_path(new_id(title)))
        facts = {"version": 1, "title": title, "created": time.time(), **_checked(subject, real_person, consent, trigger_word)}
        for folder in ("pictures", "thumbs", "trash"):
            (dataset.path / folder).mkdir(parents=True)
        write_atomically(dataset.path / "pictures.json", b"[]")
        write_atomically(dataset.path / "dataset.json", json.dumps(facts, indent=1).encode())
        return dataset

    @classmethod
    def open(cls, workspace: Workspace, dataset_id: str) -> "Dataset":
        dataset = cls(workspace.dataset_path(dataset_id))
        if not (dataset.path / "dataset.json").exists():
            raise StudioError("This dataset is not here any more; choose one from the list, or put it back under Removed.")
        return dataset

    @classmethod
    def all(cls, workspace: Workspace) -> list["Dataset"]:
        """Every dataset of a workspace, newest first."""
        found = [cls(path) for path in workspace.datasets.iterdir() if (path / "dataset.json").exists()]
        return sorted(found, key=lambda dataset: dataset.facts["created"], reverse=True)

    @classmethod
    def from_samples(cls, workspace: Workspace, name: str) -> "Dataset":
        """A new dataset with the sample pictures that ship with the studio: "style" or "character"."""
        if name not in builtin.SAMPLES:
            raise StudioError(f"There are no sample pictures {name!r}; known: {', '.join(builtin.SAMPLES)}.")
        files = sorted(path for path in builtin.SAMPLES[name].iterdir() if path.suffix in (".png", ".txt"))
        dataset = cls.create(workspace, f"Sample {name}", subject=name, trigger_word=builtin.TRIGGER_WORDS[name])
        with dataset.incoming() as folder:
            decoded = decode_files([{"path": path, "name": path.name} for path in files], folder)
            need_pictures(decoded)
            dataset.add(decoded, folder, source="sample")
        return dataset

    @property
    def facts(self) -> dict:
        return json.loads((self.path / "dataset.json").read_text(encoding="utf-8"))

    @property
    def title(self) -> str:
        return self.facts["title"]

    @property
    def subject(self) -> str:
        return self.facts["subject"]

    @property
    def real_person(self) -> bool:
        return self.facts["real_person"]

    @property
    def consent(self) -> dict | None:
        """{"text", "date"}: what the user said when asked, or None when no real person is shown."""
        return self.facts["consent"]

    @property
    def trigger_word(self) -> str:
        return self.facts["trigger_word"]

    def describe(
        self,
        title: str | None = None,
        subject: str | None = None,
        real_person: bool | None = None,
        consent: str | None = None,
        trigger_word: str | None = None,
    ) -> None:
        """Change what is said about the dataset; None leaves a fact as it is."""
        with self._locked():
            facts = self.facts
            said = facts["consent"]["text"] if facts["consent"] else ""
            checked = _checked(
                subject if subject is not None else facts["subject"],
                real_person if real_person is not None else facts["real_person"],
                consent if consent is not None else said,
                trigger_word if trigger_word is not None else facts["trigger_word"],
            )
            if checked["consent"] and checked["consent"]["text"] == said:
                checked["consent"] = facts["consent"]
            title = clean_text(title, 120) if title else facts["title"]
            write_atomically(self.path / "dataset.json", json.dumps({**facts, **checked, "title": title}, indent=1).encode())

    def set_trigger_word(self, word: str) -> None:
        self.describe(trigger_word=word)

    @property
    def pictures(self) -> list[Picture]:
        """The pictures that are in use, in the order they were added."""
        captions, masks = self._captions, self._masks
        return [self._picture(entry, captions, masks) for entry in self._listing() if not entry["removed"]]

    @property
    def removed(self) -> list[Picture]:
        """The pictures in the trash, newest removal first."""
        captions, masks = self._captions, self._masks
        gone = sorted((entry for entry in self._listing() if entry["removed"]), key=lambda entry: entry["removed"], reverse=True)
        return [self._picture(entry, captions, masks) for entry in gone]

    def add(self, decoded: Decoded, folder: Path, source: str = "file") -> dict:
        """Take decoded pictures (their files are moved out of `folder`), captions and masks in. Returns what happened, as jobs report it.

        Caption files without a picture among the new ones are given to pictures already here with the same name.
        """
        notes, added, captions = list(decoded.notes), 0, {}
        with self._locked():
            listing = self._listing()
            known = {entry["id"]: entry for entry in listing}
            for picture in decoded.pictures:
                entry = known.get(picture.id)
                if entry is None or entry["removed"]:
                    os.replace(folder / f"{picture.id}.png", self.path / "pictures" / f"{picture.id}.png")
                    os.replace(folder / f"{picture.id}.jpg", self.path / "thumbs" / f"{picture.id}.jpg")
                    added += 1
                if entry is None:
                    name = picture.name.rpartition("/")[2]
                    facts = {"width": picture.width, "height": picture.height, "looks_like_photo": picture.looks_like_photo}
                    listing.append({"id": picture.id, "name": name, "removed": None, **facts})
                elif entry["removed"]:
                    entry["removed"] = None
                    notes.append(f"{picture.name} had been removed; it is back.")
                else:
                    notes.append(f"{picture.name} is the same picture as {entry['name']}, which is here already; it was not added again.")
                if picture.caption:
                    captions[picture.id] = picture.caption
            by_stem = {entry["name"].rpartition(".")[0]: entry["id"] for entry in listing if not entry["removed"]}
            for stem, text in decoded.captions.items():
                picture_id = by_stem.get(stem.rpartition("/")[2])
                if picture_id is None:
                    notes.append(f"{stem}.txt has no picture with the same name, so its caption was left out.")
                elif text:
                    captions[picture_id] = text
            self._write_listing(listing)
            now = self._captions
            kept = sum(now.is_kept(picture_id, source) and now.of(picture_id)[0] != clean_text(text) for picture_id, text in captions.items())
            written = sum(now.set(picture_id, text, source) for picture_id, text in captions.items())
            masks, said = self._masks.take(decoded.masks, folder, {entry["id"]: entry["name"] for entry in listing if not entry["removed"]})
            notes += said
        if kept == 1:
            notes.append("1 caption you wrote by hand was kept; empty it first to take the one in the file.")
        elif kept:
            notes.append(f"{kept} captions you wrote by hand were kept; empty them first to take the ones in the files.")
        return {"added": added, "captions": written, "masks": masks, "refused": decoded.refused, "notes": notes}

    def remove(self, picture_ids: Iterable[str]) -> int:
        """Move pictures to the trash; their captions and history stay. Returns how many."""
        return self._move(picture_ids, "pictures", "trash", removed=time.time())

    def restore(self, picture_ids: Iterable[str]) -> int:
        """Put removed pictures back to where they were in the order."""
        return self._move(picture_ids, "trash", "pictures", removed=None)

    def _move(self, picture_ids: Iterable[str], source: str, target: str, removed: float | None) -> int:
        wanted, moved = set(picture_ids), 0
        with self._locked():
            listing = self._listing()
            for entry in listing:
                if entry["id"] in wanted and bool(entry["removed"]) != bool(removed):
                    os.replace(self.path / source / f"{entry['id']}.png", self.path / target / f"{entry['id']}.png")
                    entry["removed"] = removed
                    moved += 1
            self._write_listing(listing)
        return moved

    def set_caption(self, picture_id: str, text: str, source: str = "hand", typing: bool = False) -> bool:
        """Write a caption; False when nothing was written: it is the same, or a captioner met one that a person made."""
        with self._locked():
            self._check_here(picture_id)
            # Within the lock: what a person made is looked up and kept in the same breath.
            return self._captions.set(picture_id, text, source, typing)

    def undo_caption(self, picture_id: str) -> str:
        """Back to the caption before the last change; returns it."""
        with self._locked():
            return self._captions.undo(picture_id)

    def mask(self, picture_id: str) -> Path | None:
        """The mask of a picture that is in use; None without one."""
        return next((picture.mask for picture in self.pictures if picture.id == picture_id), None)

    def remove_mask(self, picture_id: str) -> bool:
        """From now on the whole picture teaches; `undo_mask` puts the mask back. False when there is none."""
        with self._locked():
            self._check_here(picture_id)
            return self._masks.set(picture_id, None)

    def undo_mask(self, picture_id: str) -> Path | None:
        """Back to before the last change of a picture's mask; returns the mask that then counts."""
        with self._locked():
            self._check_here(picture_id)
            return self._masks.undo(picture_id)

    def sha256(self) -> str:
        """One hash over every picture, its caption and its mask, whatever their order."""
        lines = sorted(json.dumps([p.id, p.caption, *([p.mask.stem] if p.mask else [])]) for p in self.pictures)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def export(self, path: Path) -> Path:
        """A zip of pictures with a .txt and, where there is one, a mask beside each, as other trainers read them, and dataset.json.
        The same dataset gives the same bytes."""
        aside = path.with_name(f".{path.name}.part")
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_member("dataset.json"), json.dumps(self.facts, indent=1))
            for number, picture in enumerate(self.pictures, 1):
                name = f"{number:03d}-{slug(Path(picture.name).stem, 'picture')}"
                if masked_by(f"{name}.png"):
                    # "mask.png" would come back as the mask of a picture called by its number.
                    name += "-picture"
                archive.writestr(_member(f"{name}.png"), picture.file.read_bytes())
                archive.writestr(_member(f"{name}.txt"), picture.caption + "\n")
                if picture.mask:
                    archive.writestr(_member(name_for(name)), picture.mask.read_bytes())
        os.replace(aside, path)
        return path

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder for decoding on the same disk, gone afterwards."""
        folder = self.path / f"incoming-{os.getpid()}-{time.monotonic_ns()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _locked(self) -> FileLock:
        return FileLock(self.path / "lock", f"The dataset {self.id!r}", wait=True)

    def _check_here(self, picture_id: str) -> None:
        if picture_id not in {entry["id"] for entry in self._listing()}:
            raise StudioError("This picture is not in the dataset any more; reload the page.")

    def _listing(self) -> list[dict]:
        return json.loads((self.path / "pictures.json").read_text(encoding="utf-8"))

    def _write_listing(self, listing: list[dict]) -> None:
        write_atomically(self.path / "pictures.json", json.dumps(listing, indent=1).encode())

    def _picture(self, entry: dict, captions: Captions, masks: Masks) -> Picture:
        id = entry["id"]
        text, source = captions.of(id)
        file = self.path / ("trash" if entry["removed"] else "pictures") / f"{id}.png"
        thumb = self.path / "thumbs" / f"{id}.jpg"
        facts = {name: entry[name] for name in ("name", "width", "height", "looks_like_photo")}
        return Picture(
            id,
            file=file,
            thumb=thumb,
            caption=text,
            caption_source=source,
            mask=masks.of(id),
            mask_can_go_back=masks.can_go_back(id),
            **facts,
        )

    @property
    def _captions(self) -> Captions:
        return Captions(self.path / "captions.jsonl")

    @property
    def _masks(self) -> Masks:
        return Masks(self.path)


def _checked(subject: str, real_person: bool, consent: str, trigger_word: str) -> dict:
    if subject not in SUBJECTS:
        raise StudioError(f"A dataset cannot be about {subject!r}; choose one of {', '.join(SUBJECTS)}.")
    consent = clean_text(consent)
    if real_person and not consent:
        raise StudioError("These pictures show a real person: say that they agreed, or use pictures of someone who did.")
    return {
        "subject": subject,
        "real_person": bool(real_person),
        "consent": {"text": consent, "date": time.strftime("%Y-%m-%d")} if real_person else None,
        "trigger_word": clean_text(trigger_word, LONGEST_TRIGGER),
    }


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
