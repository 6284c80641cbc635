"""Dataset: a folder of canonical images with captions and masks, with history and undo. No torch, no decoding.

dataset.json   title, subject, real_person, consent, trigger_word
pictures.json  the images in order of addition; removed ones stay listed and are in trash/ until restored
pictures/<id>.png  thumbs/<id>.jpg   an id is the sha256 of the pixels
captions.jsonl one change per line, append-only
masks.jsonl  masks/<sha256>.png  the same for masks, and the mask files
"""

import contextlib
import functools
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
from studio.core import damage, storage
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.core.workspace import Workspace, new_id, slug, write_atomically
from studio.datasets.captions import Caption, Captions, Edit
from studio.datasets.importing.images import clean_text, decode_files, require_images
from studio.datasets.importing.mask_names import mask_name, masked_stems
from studio.datasets.importing.matching import Decoded
from studio.datasets.masks import Masks
from studio.datasets.trigger_words import add_trigger, has_word

SUBJECTS = ("style", "character", "object")
LONGEST_TRIGGER = 60
FILES = ("dataset.json", "pictures.json", "captions.jsonl", "masks.jsonl")
FACTS = {"title": str, "created": damage.NUMBER, "subject": str, "real_person": bool, "consent": (dict, damage.ABSENT), "trigger_word": str}
ENTRY = {"id": str, "name": str, "removed": (*damage.NUMBER, damage.ABSENT), "width": int, "height": int, "looks_like_photo": bool}
"""What dataset.json and each entry of pictures.json must contain."""


class TriggerConflict(StudioError):
    """The trigger word was changed elsewhere since this edit began; `word` is the current one."""

    def __init__(self, word: str):
        super().__init__(f"The trigger word was changed elsewhere to {word!r}. Keep one of the two.")
        self.word = word


@dataclass(frozen=True)
class DatasetImage:
    """An image of a dataset. caption_source: hand, file (a .txt beside it), sample, a captioner's name, or "" for none.
    An empty caption with a captioner's name: that captioner does not know the image."""

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
    """Mask of the image's size; light parts are trained on. The file's name is the hash of its pixels."""
    mask_can_undo: bool = False
    """Whether the last change of the mask can be undone."""


class Dataset:
    def __init__(self, path: Path):
        self.path = path
        self.id = path.name

    @classmethod
    def create(
        cls, workspace: Workspace, title: str, subject: str = "style", real_person: bool = False, consent: str = "", trigger_word: str = ""
    ) -> "Dataset":
        """Create an empty dataset. Images of a real person need a statement of consent, which is stored with today's date."""
        title = clean_text(title, 120) or "My images"
        dataset = cls(workspace.dataset_path(new_id(title)))
        stated = _statement(real_person, consent)
        if real_person and not stated:
            raise StudioError("These images show a real person. State that they agreed, or use images of someone who did.")
        facts = {"version": 1, "title": title, "created": time.time(), "subject": _checked_subject(subject)}
        facts |= {"real_person": bool(real_person), "consent": stated, "trigger_word": clean_text(trigger_word, LONGEST_TRIGGER)}
        for folder in ("pictures", "thumbs", "trash"):
            (dataset.path / folder).mkdir(parents=True)
        write_atomically(dataset.path / "pictures.json", b"[]")
        write_atomically(dataset.path / "dataset.json", json.dumps(facts, indent=1).encode())
        return dataset

    @classmethod
    def open(cls, workspace: Workspace, dataset_id: str) -> "Dataset":
        dataset = cls(workspace.dataset_path(dataset_id))
        if not (dataset.path / "dataset.json").exists():
            raise StudioError("This dataset no longer exists. Choose one from the list, or restore it under Removed.")
        return dataset

    @classmethod
    def all(cls, workspace: Workspace) -> list["Dataset"]:
        """Every dataset of a workspace that can be read, newest first; runs/damage.py lists the others."""
        found = [dataset for dataset in cls.folders(workspace) if not dataset.damage]
        return sorted(found, key=lambda dataset: dataset.facts["created"], reverse=True)

    @classmethod
    def folders(cls, workspace: Workspace) -> list["Dataset"]:
        """Every dataset, readable or not."""
        return [cls(path) for path in sorted(workspace.datasets.iterdir()) if (path / "dataset.json").exists()]

    @property
    def damage(self) -> str:
        """Why this dataset cannot be read; empty if it can. Read again only when one of its files has changed."""
        return _damage(self.path, damage.stamps(*(self.path / name for name in FILES)))

    @classmethod
    def from_samples(cls, workspace: Workspace, name: str) -> "Dataset":
        """Create a dataset with the built-in sample images: "style" or "character"."""
        if name not in builtin.SAMPLES:
            raise StudioError(f"Unknown sample images {name!r}; known: {', '.join(builtin.SAMPLES)}.")
        files = sorted(path for path in builtin.SAMPLES[name].iterdir() if path.suffix in (".png", ".txt"))
        dataset = cls.create(workspace, f"Sample {name}", subject=name, trigger_word=builtin.TRIGGER_WORDS[name])
        with dataset.incoming() as folder:
            decoded = decode_files([{"path": path, "name": path.name} for path in files], folder)
            require_images(decoded)
            dataset.add(decoded, folder, source="sample")
        return dataset

    @property
    def facts(self) -> dict:
        return damage.read_object(self.path / "dataset.json", FACTS)

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
        """{"text", "date"} of the consent statement; None if no real person is shown."""
        return self.facts["consent"]

    @property
    def trigger_word(self) -> str:
        return self.facts["trigger_word"]

    def update_facts(
        self,
        title: str | None = None,
        subject: str | None = None,
        trigger_word: str | None = None,
        trigger_base: str | None = None,
    ) -> None:
        """Change the dataset's facts; None leaves one unchanged. `trigger_base` as in `set_trigger_word`."""
        with self._locked():
            facts = self.facts
            if trigger_base is not None and facts["trigger_word"] not in (trigger_base, clean_text(trigger_word or "", LONGEST_TRIGGER)):
                raise TriggerConflict(facts["trigger_word"])
            changed = {"subject": _checked_subject(subject)} if subject is not None else {}
            if trigger_word is not None:
                changed["trigger_word"] = clean_text(trigger_word, LONGEST_TRIGGER)
            if title := clean_text(title or "", 120):
                changed["title"] = title
            self._write_facts(facts | changed)

    def set_person(self, real_person: bool, consent: str = "") -> None:
        """Note whether the images show a real person, and their statement of consent. Without the statement no training starts."""
        with self._locked():
            self._write_facts({**self.facts, "real_person": real_person, "consent": _statement(real_person, consent)})

    def set_trigger_word(self, word: str, base: str | None = None) -> None:
        """Set the trigger word. `base`: the word that the edit began from; TriggerConflict if it was changed to another one elsewhere."""
        self.update_facts(trigger_word=word, trigger_base=base)

    @property
    def images(self) -> list[DatasetImage]:
        """Images in use, in order of addition."""
        captions, masks = self._captions, self._masks
        return [self._image(entry, captions, masks) for entry in self._listing() if not entry["removed"]]

    @property
    def removed(self) -> list[DatasetImage]:
        """Removed images, latest removal first."""
        captions, masks = self._captions, self._masks
        entries = sorted((entry for entry in self._listing() if entry["removed"]), key=lambda entry: entry["removed"], reverse=True)
        return [self._image(entry, captions, masks) for entry in entries]

    def add(self, decoded: Decoded, folder: Path, source: str = "file") -> dict:
        """Add decoded images (their files are moved out of `folder`), captions and masks. Returns a report in the form of a job's result.

        Caption files that match no new image are assigned to existing images of the same name.
        """
        notes, added, captions = list(decoded.notes), 0, {}
        with self._locked():
            listing = self._listing()
            known = {entry["id"]: entry for entry in listing}
            for image in decoded.images:
                entry = known.get(image.id)
                if entry is None or entry["removed"]:
                    storage.replace_file(folder / f"{image.id}.png", self.path / "pictures" / f"{image.id}.png")
                    storage.replace_file(folder / f"{image.id}.jpg", self.path / "thumbs" / f"{image.id}.jpg")
                    added += 1
                if entry is None:
                    name = image.name.rpartition("/")[2]
                    facts = {"width": image.width, "height": image.height, "looks_like_photo": image.looks_like_photo}
                    listing.append({"id": image.id, "name": name, "removed": None, **facts})
                elif entry["removed"]:
                    entry["removed"] = None
                    notes.append(f"{image.name} had been removed; it was restored.")
                else:
                    notes.append(f"{image.name} is the same image as {entry['name']} in this dataset; it was not added again.")
                if image.caption:
                    captions[image.id] = image.caption
            by_stem = {entry["name"].rpartition(".")[0]: entry["id"] for entry in listing if not entry["removed"]}
            for stem, text in decoded.captions.items():
                image_id = by_stem.get(stem.rpartition("/")[2])
                if image_id is None:
                    notes.append(f"{stem}.txt matches no image by name; its caption was skipped.")
                elif text:
                    captions[image_id] = text
            self._write_listing(listing)
            current = self._captions
            kept = sum(current.is_kept(image_id, source) and current.of(image_id)[0] != clean_text(text) for image_id, text in captions.items())
            written = sum(current.set(image_id, text, source) for image_id, text in captions.items())
            masks, mask_notes = self._masks.add(decoded.masks, folder, {entry["id"]: entry["name"] for entry in listing if not entry["removed"]})
            notes += mask_notes
        if kept == 1:
            notes.append("1 caption that you typed was kept. Clear it first to import the one in the file.")
        elif kept:
            notes.append(f"{kept} captions that you typed were kept. Clear them first to import those in the files.")
        return {"added": added, "captions": written, "masks": masks, "refused": decoded.refused, "notes": notes}

    def remove(self, image_ids: Iterable[str]) -> int:
        """Move images to the trash and keep their captions and history. Returns how many."""
        return self._move(image_ids, "pictures", "trash", removed=time.time())

    def restore(self, image_ids: Iterable[str]) -> int:
        """Restore removed images to their former positions. Returns how many."""
        return self._move(image_ids, "trash", "pictures", removed=None)

    def _move(self, image_ids: Iterable[str], source: str, target: str, removed: float | None) -> int:
        requested, moved = set(image_ids), 0
        with self._locked():
            listing = self._listing()
            for entry in listing:
                if entry["id"] in requested and bool(entry["removed"]) != bool(removed):
                    storage.replace_file(self.path / source / f"{entry['id']}.png", self.path / target / f"{entry['id']}.png")
                    entry["removed"] = removed
                    moved += 1
            self._write_listing(listing)
        return moved

    def set_caption(self, image_id: str, text: str, source: str = "hand", edit: Edit | None = None) -> bool:
        """Set a caption; False if it is unchanged, or if it is protected from this source. CaptionConflict if it is not what `edit` began from."""
        with self._locked():
            self._check_exists(image_id)
            # Within the lock, so that a caption that the user types meanwhile is not overwritten.
            return self._captions.set(image_id, text, source, edit)

    def leave_uncaptioned(self, image_id: str, captioner: str) -> bool:
        """Note that a captioner does not know the image. False if another caption stands there, which stays."""
        with self._locked():
            self._check_exists(image_id)
            return self._captions.leave_empty(image_id, captioner)

    def pass_over_caption(self, image_id: str, text: str) -> None:
        """Keep the current caption; undo brings back `text`, which was typed against it."""
        with self._locked():
            self._check_exists(image_id)
            self._captions.pass_over(image_id, text)

    def caption(self, image_id: str) -> Caption:
        """Text and source of an image's caption."""
        return self._captions.of(image_id)

    @property
    def version(self) -> str:
        """Changes when a file of the dataset changes: facts, images, captions or masks. Four calls of `stat`, so it may be asked for often."""
        stats = [os.stat(path) if (path := self.path / name).exists() else None for name in FILES]
        return hashlib.sha256(repr([stat and (stat.st_mtime_ns, stat.st_size) for stat in stats]).encode()).hexdigest()[:16]

    def undo_caption(self, image_id: str) -> str:
        """Undo the last change of a caption; returns the restored one."""
        with self._locked():
            return self._captions.undo(image_id)

    @property
    def lacking_trigger(self) -> list[DatasetImage]:
        """Images whose caption lacks the trigger word; none without a trigger word."""
        word = self.trigger_word
        return [image for image in self.images if word and image.caption.strip() and not has_word(image.caption, word)]

    def put_trigger_into_captions(self, class_noun: str = "") -> tuple[int, str]:
        """Put the trigger word into every caption that lacks it: how many, and the id with which `undo_captions` undoes it."""
        with self._locked():
            word, subject, batch = self.trigger_word, self.subject, new_id("trigger")
            texts = {each.id: add_trigger(each.caption, word, subject, each.looks_like_photo, class_noun) for each in self.lacking_trigger}
            return self._captions.change_all(texts, batch), batch

    def undo_captions(self, batch: str) -> tuple[int, int]:
        """Undo a change of many captions: how many were restored, and how many were edited since and stay as they are."""
        with self._locked():
            return self._captions.undo_all(batch)

    def mask(self, image_id: str) -> Path | None:
        """The mask of an image in use; None without one."""
        return next((image.mask for image in self.images if image.id == image_id), None)

    def remove_mask(self, image_id: str) -> bool:
        """Remove an image's mask, so that it is trained on in full; `undo_mask` restores it. False if there is none."""
        with self._locked():
            self._check_exists(image_id)
            return self._masks.set(image_id, None)

    def undo_mask(self, image_id: str) -> Path | None:
        """Undo the last change of an image's mask; returns the restored one."""
        with self._locked():
            self._check_exists(image_id)
            return self._masks.undo(image_id)

    def sha256(self) -> str:
        """Hash of all images, captions and masks, independent of their order."""
        lines = sorted(json.dumps([p.id, p.caption, *([p.mask.stem] if p.mask else [])]) for p in self.images)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def export(self, path: Path) -> Path:
        """Write a zip with images, a .txt and, if it exists, a mask beside each, as other trainers expect them, and dataset.json.
        The same dataset gives the same bytes."""
        aside = path.with_name(f".{path.name}.part")
        with storage.saving(path.name, aside):
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_member("dataset.json"), json.dumps(self.facts, indent=1))
                for number, image in enumerate(self.images, 1):
                    name = f"{number:03d}-{slug(Path(image.name).stem, 'picture')}"
                    if masked_stems(f"{name}.png"):
                        # "mask.png" would be imported again as the mask of an image named by its number.
                        name += "-picture"
                    archive.writestr(_member(f"{name}.png"), image.file.read_bytes())
                    archive.writestr(_member(f"{name}.txt"), image.caption + "\n")
                    if image.mask:
                        archive.writestr(_member(mask_name(name)), image.mask.read_bytes())
            storage.replace_file(aside, path)
        return path

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """Temporary folder for decoding, on the same disk."""
        folder = self.path / f"incoming-{os.getpid()}-{time.monotonic_ns()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _locked(self) -> FileLock:
        return FileLock(self.path / "lock", f"The dataset {self.id!r}", wait=True)

    def _check_exists(self, image_id: str) -> None:
        if image_id not in {entry["id"] for entry in self._listing()}:
            raise StudioError("This image is no longer in the dataset; reload the page.")

    def _listing(self) -> list[dict]:
        return damage.read_list(self.path / "pictures.json", ENTRY)

    def _write_listing(self, listing: list[dict]) -> None:
        write_atomically(self.path / "pictures.json", json.dumps(listing, indent=1).encode())

    def _write_facts(self, facts: dict) -> None:
        write_atomically(self.path / "dataset.json", json.dumps(facts, indent=1).encode())

    def _image(self, entry: dict, captions: Captions, masks: Masks) -> DatasetImage:
        id = entry["id"]
        text, source = captions.of(id)
        file = self.path / ("trash" if entry["removed"] else "pictures") / f"{id}.png"
        thumb = self.path / "thumbs" / f"{id}.jpg"
        facts = {name: entry[name] for name in ("name", "width", "height", "looks_like_photo")}
        return DatasetImage(
            id,
            file=file,
            thumb=thumb,
            caption=text,
            caption_source=source,
            mask=masks.of(id),
            mask_can_undo=masks.can_undo(id),
            **facts,
        )

    @property
    def _captions(self) -> Captions:
        return Captions(self.path / "captions.jsonl")

    @property
    def _masks(self) -> Masks:
        return Masks(self.path)


@functools.lru_cache(maxsize=1024)
def _damage(path: Path, stamps: tuple) -> str:
    dataset = Dataset(path)
    try:
        dataset.facts, dataset.images  # noqa: B018 - reading is the check
    except damage.Damaged as error:
        return str(error)
    return ""


def _checked_subject(subject: str) -> str:
    if subject not in SUBJECTS:
        raise StudioError(f"{subject!r} is not a subject; choose one of {', '.join(SUBJECTS)}.")
    return subject


def _statement(real_person: bool, consent: str) -> dict[str, str] | None:
    """The statement of consent with today's date; None without a real person or without a statement."""
    consent = clean_text(consent)
    return {"text": consent, "date": time.strftime("%Y-%m-%d")} if real_person and consent else None


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
