"""The child that looks at untrusted bytes: `python -m studio.datasets.importing.decoder FOLDER`, one JSON request a line in, JSON messages out.

It limits itself before the first byte, holds no secrets, and is thrown away after a batch or when it dies. Nobody else may import this.
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

from PIL import Image, ImageFile

from studio.core import platform
from studio.core.errors import StudioError
from studio.datasets.importing.decode import MOST_PIXELS, decode, decode_mask, looks_like_photo
from studio.datasets.importing.mask_names import masked_by
from studio.datasets.importing.zip_reader import Archive

LARGEST_FILE = 200 * 1000**2
LARGEST_ARCHIVE = 2 * 1000**3
LARGEST_TEXT = 1 << 20
MEMORY = 1 << 30
LARGEST_OUTPUT = 400 << 20
CPU_SECONDS = 30
THUMBNAIL = 384
TEXT_SUFFIXES = (".txt", ".caption")


def say(kind: str, name: str, **facts) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "name": name, **facts}) + "\n")
    sys.stdout.flush()


def read_text(data: bytes) -> str:
    if len(data) > LARGEST_TEXT:
        raise StudioError(f"a caption file of {len(data) / 1000:,.0f} kB is no caption; at most {LARGEST_TEXT // 1024} kB are read.")
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def take(name: str, data: bytes, folder: Path, of: list[str] | None) -> None:
    """Decode one file's bytes and say what became of it. `of`: what pictures it may be the mask of; None when it is no mask."""
    platform.limit_cpu(CPU_SECONDS)
    try:
        if of is not None:
            take_mask(name, decode_mask(data), folder, of)
        elif name.lower().endswith(TEXT_SUFFIXES):
            say("caption", name, text=read_text(data))
        else:
            take_picture(name, *decode(data), folder)
    except StudioError as error:
        say("refused", name, reason=str(error))
    except MemoryError:
        say("refused", name, reason="it needs too much memory; save it smaller.")


def take_picture(name: str, picture: Image.Image, opaque: Image.Image | None, notes: list[str], folder: Path) -> None:
    """Keep a picture and its thumbnail; where it cannot be seen through is its mask."""
    id = hash_pixels(picture)
    save(picture, folder / f"{id}.png", format="PNG", compress_level=3)
    thumbnail = picture.copy() if max(picture.size) <= 2 * THUMBNAIL else picture.reduce(max(1, max(picture.size) // (2 * THUMBNAIL)))
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    save(thumbnail, folder / f"{id}.jpg", format="JPEG", quality=90)
    mask = keep_mask(opaque, folder) if opaque else None
    for note in notes:
        say("note", name, note=note)
    size = {"width": picture.width, "height": picture.height}
    say("picture", name, id=id, **size, looks_like_photo=looks_like_photo(thumbnail), mask=mask)


def take_mask(name: str, mask: Image.Image, folder: Path, of: list[str]) -> None:
    say("mask", name, id=keep_mask(mask, folder), width=mask.width, height=mask.height, of=of)


def keep_mask(mask: Image.Image, folder: Path) -> str:
    id = hash_pixels(mask)
    save(mask, folder / f"mask-{id}.png", format="PNG")
    return id


def fit_mask(path: Path, name: str, size: tuple[int, int], folder: Path) -> None:
    """One of the masks kept above, scaled to its picture, which may have come later."""
    platform.limit_cpu(CPU_SECONDS)
    with Image.open(path, formats=["PNG"]) as opened:
        take_mask(name, opened.resize(size, Image.Resampling.BILINEAR), folder, [])


def hash_pixels(picture: Image.Image) -> str:
    """The name of a picture or mask: a hash of its pixels, not of a PNG encoder's output."""
    digest = hashlib.sha256(f"{picture.width} x {picture.height} {picture.mode}\n".encode())
    for top in range(0, picture.height, 256):
        digest.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
    return digest.hexdigest()


def save(picture: Image.Image, path: Path, **how) -> None:
    aside = path.with_suffix(path.suffix + ".part")
    picture.save(aside, **how)
    os.replace(aside, path)


def answer(request: dict, folder: Path) -> None:
    """One request: a mask to be scaled to `size`; else a picture, mask or caption file, or an archive of these from member number `skip` on.
    `mask`: the file is one, whatever its name says."""
    path, name = Path(request["path"]), request["name"]
    try:
        if "size" in request:
            fit_mask(path, name, tuple(request["size"]), folder)
            return
        size = path.stat().st_size
        with open(path, "rb") as file:
            is_archive = file.read(4) in (b"PK\3\4", b"PK\5\6")
        if size > (LARGEST_ARCHIVE if is_archive else LARGEST_FILE):
            raise StudioError(f"it is {size / 1000**2:,.0f} MB large; at most {LARGEST_FILE // 1000**2} MB a picture are read.")
        if is_archive and request["mask"]:
            raise StudioError("a mask is one picture, not an archive; unpack it, or add the archive to all pictures.")
        if is_archive:
            read_archive(path, name, folder, request["skip"])
        else:
            take(name, path.read_bytes(), folder, [] if request["mask"] else mask_names(name))
    except StudioError as error:
        say("refused", name, reason=str(error))
    except OSError:
        say("refused", name, reason="the file could not be read; upload it again.")
    except MemoryError:
        say("refused", name, reason="it needs too much memory; save it smaller, or pack fewer files in an archive.")


def read_archive(path: Path, name: str, folder: Path, skip: int) -> None:
    archive = Archive(path)
    for index, member in enumerate(archive):
        if index < skip:
            continue
        full_name = f"{name}/{printable(member.name)}"
        say("begin", full_name, index=index)
        try:
            data = member.read()
            if data[:4] == b"PK\3\4" or full_name.lower().endswith((".zip", ".7z", ".rar", ".gz", ".tar")):
                raise StudioError("archives inside an archive are not opened; unpack it and pack the pictures.")
        except StudioError as error:
            say("refused", full_name, reason=str(error))
        else:
            # From the whole name: what is shown of it may be cut.
            of = mask_names(f"{name}/{member.name}")
            take(full_name, data, folder, of and [f"{name}/{printable(stem.partition('/')[2])}" for stem in of])


def mask_names(name: str) -> list[str] | None:
    """What pictures a file may be the mask of, by its name; None when that says nothing of a mask."""
    return None if name.lower().endswith(TEXT_SUFFIXES) else masked_by(name) or None


def printable(name: str) -> str:
    """A member's name to show and to pair captions by; it never becomes a path."""
    return "".join(character if character.isprintable() else "?" for character in name)[-160:]


def main() -> None:
    folder = Path(sys.argv[1])
    platform.limit_self(MEMORY, LARGEST_OUTPUT)
    platform.be_first_to_die()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    for line in sys.stdin:
        request = json.loads(line)
        answer(request, folder)
        say("end", request["name"])


if __name__ == "__main__":
    main()
