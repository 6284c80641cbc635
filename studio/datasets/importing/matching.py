"""What came of a batch of files, and what belongs together in it: captions and masks find their pictures by name. Nothing is opened here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

SAME_SHAPE = 0.03
"""How far the shapes (width / height) of a mask and its picture may lie apart: programs round sizes when they scale."""


@dataclass(frozen=True)
class NewPicture:
    """A decoded picture: `<id>.png` (canonical) and `<id>.jpg` (thumbnail) lie in the folder it was decoded into."""

    id: str
    name: str
    width: int
    height: int
    looks_like_photo: bool
    caption: str | None = None


@dataclass(frozen=True)
class NewMask:
    """A decoded mask: `mask-<id>.png` lies in that folder, once it is as large as its picture."""

    id: str
    name: str
    width: int
    height: int
    transparent: bool = False
    """It did not come as a file: it is where its picture cannot be seen through."""


class Here(Protocol):
    """As much of a picture, new or of a dataset, as its mask must know."""

    id: str
    name: str
    width: int
    height: int


@dataclass
class Decoded:
    """What came of a batch of files. `captions`: name without suffix -> text, of caption files that no picture in the batch claimed;
    `masks`: id of a picture, new or here before -> its mask."""

    pictures: list[NewPicture] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)
    masks: dict[str, NewMask] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Found:
    """Gathers what the decoder says; pairs captions and masks with pictures once all are there."""

    def __init__(self):
        self.decoded = Decoded()
        self.pictures: dict[str, dict] = {}
        self.came_as: list[tuple[str, str]] = []
        """(name without suffix, id) of every picture, also where two files were the same one."""
        self.texts: dict[str, str] = {}
        self.masks: list[tuple[dict, str | None]] = []

    def refuse(self, name: str, reason: str) -> None:
        self.decoded.refused.append({"name": name, "reason": f"{name}: {reason}"})

    def take(self, message: dict, mask_of: str | None = None) -> None:
        """One message of the decoder; `mask_of` is the picture that somebody brought this very file for."""
        name = message["name"]
        if message["kind"] == "refused":
            self.refuse(name, message["reason"])
        elif message["kind"] == "note":
            self.decoded.notes.append(f"{name}: {message['note']}")
        elif message["kind"] == "caption":
            self.texts[without_suffix(name)] = message["text"]
        elif message["kind"] == "mask":
            self.masks.append((message, mask_of))
        else:
            self._take_picture(message)

    def _take_picture(self, message: dict) -> None:
        name, id = message["name"], message["id"]
        self.came_as.append((without_suffix(name), id))
        if id in self.pictures:
            self.decoded.notes.append(f"{name} is the same picture as {self.pictures[id]['name']}; it was added once.")
            return
        self.pictures[id] = message
        if message["mask"]:
            self.decoded.masks[id] = NewMask(message["mask"], name, message["width"], message["height"], transparent=True)

    def pair(self, here: Sequence[Here]) -> list[tuple[NewMask, Here]]:
        """Fill in pictures, captions and masks. Returns the masks that are not as large as their picture yet, with it.

        `here` are the pictures that a mask may belong to besides the new ones.
        """
        self._pair_captions()
        new = {picture.id: picture for picture in self.decoded.pictures}
        find = _Finder([(stem, new[id]) for stem, id in self.came_as], here)
        to_fit, came = [], {}
        for message, mask_of in self.masks:
            mask = NewMask(message["id"], message["name"], message["width"], message["height"])
            picture = find.given(mask_of) if mask_of else find.named(message["of"])
            if isinstance(picture, str):
                self.refuse(mask.name, picture)
            elif picture.id in came:
                self.refuse(mask.name, f"{picture.name} has a mask already: {came[picture.id]}.")
            elif reason := _shape_differs(mask, picture):
                self.refuse(mask.name, reason)
            else:
                came[picture.id] = mask.name
                if picture.id in self.decoded.masks:
                    self.decoded.notes.append(f"{picture.name} is transparent in places and has a mask, {mask.name}; the mask counts.")
                self.decoded.masks[picture.id] = mask
                if (mask.width, mask.height) != (picture.width, picture.height):
                    to_fit.append((mask, picture))
        return to_fit

    def _pair_captions(self) -> None:
        folded = {stem.casefold(): stem for stem in self.texts}
        used = set()
        for picture in self.pictures.values():
            stem = without_suffix(picture["name"])
            stem = stem if stem in self.texts else folded.get(stem.casefold())
            used.add(stem)
            facts = {name: picture[name] for name in ("id", "name", "width", "height", "looks_like_photo")}
            self.decoded.pictures.append(NewPicture(**facts, caption=self.texts.get(stem)))
        self.decoded.captions = {stem: text for stem, text in self.texts.items() if stem not in used}


class _Finder:
    """Which picture a mask belongs to: the one beside it; else the only one of that name in its archive, then in the batch, then here."""

    def __init__(self, came: list[tuple[str, Here]], here: Sequence[Here]):
        self._here = {picture.id: picture for picture in here}
        self._levels = [
            (str, _by(str, came)),
            (str.casefold, _by(str.casefold, came)),
            (str.casefold, _by(_one_folder_up, came)),
            (_in_archive, _by(_in_archive, came)),
            (_last, _by(_last, came)),
            (_last, _by(_last, [(without_suffix(picture.name), picture) for picture in here])),
        ]
        """How a picture's name must look to a mask, from strict to lenient, and the pictures by that."""

    def given(self, id: str) -> Here | str:
        return self._here.get(id) or "its picture is not in the dataset any more; reload the page."

    def named(self, stems: list[str]) -> Here | str:
        """The picture, or why there is none."""
        for key, pictures in self._levels:
            found = {id: picture for stem in stems for id, picture in pictures.get(key(stem), {}).items()}
            if len(found) == 1:
                return next(iter(found.values()))
            if found:
                names = " or ".join(sorted(picture.name for picture in found.values())[:3])
                return f"it could be the mask of {names}; put it beside its picture, with the picture's name."
        return f"its name or folder says that it is a mask, and there is no picture {_last(stems[-1])}. If it is a picture, rename it."


def _by(key: Callable, named: Sequence[tuple[str, Here]]) -> dict[object, dict[str, Here]]:
    found: dict[object, dict[str, Here]] = {}
    for stem, picture in named:
        found.setdefault(key(stem), {})[picture.id] = picture
    return found


def _shape_differs(mask: NewMask, picture: Here) -> str:
    """A reason, or nothing when the mask can be laid over its picture."""
    if abs(mask.width * picture.height / (mask.height * picture.width) - 1) <= SAME_SHAPE:
        return ""
    sizes = f"it is {mask.width} x {mask.height} pixels and {picture.name} {picture.width} x {picture.height}"
    return f"{sizes}, another shape, so it does not fit over it; save it as large as its picture."


def without_suffix(name: str) -> str:
    """ "set.zip/dogs/rex.png" -> "set.zip/dogs/rex": captions belong to the picture beside them."""
    folder, slash, last = name.rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return folder + slash + (stem if dot else last)


def _last(stem: str) -> str:
    return stem.rpartition("/")[2].casefold()


def _in_archive(stem: str) -> tuple[str, str]:
    return stem.partition("/")[0], _last(stem)


def _one_folder_up(stem: str) -> str:
    """ "set.zip/images/rex" -> "set.zip/rex", as "set.zip/masks/rex" wants it."""
    folder = stem.casefold().rpartition("/")[0]
    return f"{folder.rpartition('/')[0]}/{_last(stem)}"
