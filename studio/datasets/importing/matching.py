"""Results of decoding a batch of files, with captions and masks matched to images by name. No file is opened here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

SAME_SHAPE = 0.03
"""Maximum relative difference between the aspect ratios of a mask and its image: programs round sizes when scaling."""


@dataclass(frozen=True)
class NewImage:
    """A decoded image: `<id>.png` (canonical) and `<id>.jpg` (thumbnail) are in the folder it was decoded into."""

    id: str
    name: str
    width: int
    height: int
    looks_like_photo: bool
    caption: str | None = None


@dataclass(frozen=True)
class NewMask:
    """A decoded mask: `mask-<id>.png` is in that folder, scaled to its image."""

    id: str
    name: str
    width: int
    height: int
    transparent: bool = False
    """Whether it is the image's alpha channel instead of a file."""


class MaskTarget(Protocol):
    """A new or existing image that a mask can belong to."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


@dataclass
class Decoded:
    """Results of a batch. `captions`: name without suffix -> text, for caption files that match no image in the batch;
    `masks`: id of a new or existing image -> its mask."""

    images: list[NewImage] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)
    masks: dict[str, NewMask] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class BatchCollector:
    """Collects the decoder's messages, then matches captions and masks to images."""

    def __init__(self):
        self.decoded = Decoded()
        self.images: dict[str, dict] = {}
        self.stems: list[tuple[str, str]] = []
        """(name without suffix, id) of every image file, including duplicates."""
        self.texts: dict[str, str] = {}
        self.masks: list[tuple[dict, str | None]] = []

    def reject(self, name: str, reason: str) -> None:
        self.decoded.refused.append({"name": name, "reason": f"{name}: {reason}"})

    def add(self, message: dict, mask_of: str | None = None) -> None:
        """Add one message of the decoder; `mask_of` is the image that the user added this file to."""
        name = message["name"]
        if message["kind"] == "refused":
            self.reject(name, message["reason"])
        elif message["kind"] == "note":
            self.decoded.notes.append(f"{name}: {message['note']}")
        elif message["kind"] == "caption":
            self.texts[without_suffix(name)] = message["text"]
        elif message["kind"] == "mask":
            self.masks.append((message, mask_of))
        else:
            self._add_image(message)

    def _add_image(self, message: dict) -> None:
        name, id = message["name"], message["id"]
        self.stems.append((without_suffix(name), id))
        if id in self.images:
            self.decoded.notes.append(f"{name} is the same image as {self.images[id]['name']}; it was added once.")
            return
        self.images[id] = message
        if message["mask"]:
            self.decoded.masks[id] = NewMask(message["mask"], name, message["width"], message["height"], transparent=True)

    def pair(self, existing: Sequence[MaskTarget]) -> list[tuple[NewMask, MaskTarget]]:
        """Fill in images, captions and masks. Returns the masks that differ in size from their image, with the image.

        `existing` are the dataset's images, to which masks may belong as well.
        """
        self._pair_captions()
        new = {image.id: image for image in self.decoded.images}
        named: list[tuple[str, MaskTarget]] = [(stem, new[id]) for stem, id in self.stems]
        find = _Finder(named, existing)
        to_scale: list[tuple[NewMask, MaskTarget]] = []
        matched: dict[str, str] = {}
        for message, mask_of in self.masks:
            mask = NewMask(message["id"], message["name"], message["width"], message["height"])
            image = find.by_id(mask_of) if mask_of else find.by_name(message["of"])
            if isinstance(image, str):
                self.reject(mask.name, image)
            elif image.id in matched:
                self.reject(mask.name, f"{image.name} already has the mask {matched[image.id]}.")
            elif reason := _shape_differs(mask, image):
                self.reject(mask.name, reason)
            else:
                matched[image.id] = mask.name
                if image.id in self.decoded.masks:
                    self.decoded.notes.append(f"{image.name} has transparent parts and the mask {mask.name}; the mask file is used.")
                self.decoded.masks[image.id] = mask
                if (mask.width, mask.height) != (image.width, image.height):
                    to_scale.append((mask, image))
        return to_scale

    def _pair_captions(self) -> None:
        folded = {stem.casefold(): stem for stem in self.texts}
        used = set()
        for image in self.images.values():
            exact = without_suffix(image["name"])
            stem = exact if exact in self.texts else folded.get(exact.casefold())
            facts = {name: image[name] for name in ("id", "name", "width", "height", "looks_like_photo")}
            if stem is None:
                self.decoded.images.append(NewImage(**facts))
                continue
            used.add(stem)
            self.decoded.images.append(NewImage(**facts, caption=self.texts[stem]))
        self.decoded.captions = {stem: text for stem, text in self.texts.items() if stem not in used}


class _Finder:
    """Finds the image of a mask: the one beside it, else the only one of that name in its archive, in the batch, or in the dataset."""

    def __init__(self, new: list[tuple[str, MaskTarget]], existing: Sequence[MaskTarget]):
        self._existing = {image.id: image for image in existing}
        self._levels: list[tuple[Callable[[str], object], dict[object, dict[str, MaskTarget]]]] = [
            (str, _by(str, new)),
            (str.casefold, _by(str.casefold, new)),
            (str.casefold, _by(_one_folder_up, new)),
            (_in_archive, _by(_in_archive, new)),
            (_last, _by(_last, new)),
            (_last, _by(_last, [(without_suffix(image.name), image) for image in existing])),
        ]
        """Matching keys from strict to lenient, each with the images by that key."""

    def by_id(self, id: str) -> MaskTarget | str:
        return self._existing.get(id) or "its image is no longer in the dataset; reload the page."

    def by_name(self, stems: list[str]) -> MaskTarget | str:
        """The image, or the reason why there is none."""
        for key, images in self._levels:
            found = {id: image for stem in stems for id, image in images.get(key(stem), {}).items()}
            if len(found) == 1:
                return next(iter(found.values()))
            if found:
                names = " or ".join(sorted(image.name for image in found.values())[:3])
                return f"it matches {names}; put it beside its image and give it the image's name."
        return f"it is a mask by its name or folder, but there is no image {_last(stems[-1])}. If it is a training image, rename it."


def _by(key: Callable, named: Sequence[tuple[str, MaskTarget]]) -> dict[object, dict[str, MaskTarget]]:
    found: dict[object, dict[str, MaskTarget]] = {}
    for stem, image in named:
        found.setdefault(key(stem), {})[image.id] = image
    return found


def _shape_differs(mask: NewMask, image: MaskTarget) -> str:
    """The reason if a mask's aspect ratio differs from its image's, else empty."""
    if abs(mask.width * image.height / (mask.height * image.width) - 1) <= SAME_SHAPE:
        return ""
    sizes = f"it is {mask.width} x {mask.height} pixels and {image.name} {image.width} x {image.height}"
    return f"{sizes}, another aspect ratio; save it at the size of its image."


def without_suffix(name: str) -> str:
    """ "set.zip/dogs/rex.png" -> "set.zip/dogs/rex": captions match the image beside them."""
    folder, slash, last = name.rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return folder + slash + (stem if dot else last)


def _last(stem: str) -> str:
    return stem.rpartition("/")[2].casefold()


def _in_archive(stem: str) -> tuple[str, str]:
    return stem.partition("/")[0], _last(stem)


def _one_folder_up(stem: str) -> str:
    """ "set.zip/images/rex" -> "set.zip/rex", which matches "set.zip/masks/rex"."""
    folder = stem.casefold().rpartition("/")[0]
    return f"{folder.rpartition('/')[0]}/{_last(stem)}"
