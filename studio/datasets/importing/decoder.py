"""Decoder process for untrusted files: `python -m studio.datasets.importing.decoder FOLDER`; one JSON request per line in, JSON messages out.

It limits its own memory and time first, has no secrets, and lives for one batch at most. No other process imports this module.
"""

import hashlib
import io
import json
import sys
import warnings
from pathlib import Path

from PIL import Image, ImageFile

from studio.core import platform, storage
from studio.core.errors import StudioError
from studio.datasets.importing.decode import MOST_PIXELS, decode, decode_mask, looks_like_photo
from studio.datasets.importing.mask_names import masked_stems
from studio.datasets.importing.zip_reader import Archive

LARGEST_FILE = 200 * 1000**2
LARGEST_ARCHIVE = 2 * 1000**3
LARGEST_TEXT = 1 << 20
MEMORY = 1 << 30
LARGEST_OUTPUT = 400 << 20
CPU_SECONDS = 30
THUMBNAIL = 384
TEXT_SUFFIXES = (".txt", ".caption")

DISK_FULL = "the disk is full, so it could not be saved; free some space and import it again."


def send(kind: str, name: str, **facts) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "name": name, **facts}) + "\n")
    sys.stdout.flush()


def read_text(data: bytes) -> str:
    if len(data) > LARGEST_TEXT:
        raise StudioError(f"the caption file has {len(data) / 1000:,.0f} kB; at most {LARGEST_TEXT // 1024} kB are allowed.")
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def decode_file(name: str, data: bytes, folder: Path, of: list[str] | None) -> None:
    """Decode one file and send the result. `of`: images that it may be the mask of; None if it is not a mask."""
    platform.limit_cpu(CPU_SECONDS)
    try:
        if of is not None:
            write_mask(name, decode_mask(data), folder, of)
        elif name.lower().endswith(TEXT_SUFFIXES):
            send("caption", name, text=read_text(data))
        else:
            write_image(name, *decode(data), folder)
    except storage.DiskFull:
        send("refused", name, reason=DISK_FULL)
    except StudioError as error:
        send("refused", name, reason=str(error))
    except MemoryError:
        send("refused", name, reason="it needs too much memory; save it at a lower resolution.")


def write_image(name: str, image: Image.Image, opaque: Image.Image | None, notes: list[str], folder: Path) -> None:
    """Save an image and its thumbnail, and its opacity as its mask."""
    id = hash_pixels(image)
    save(image, folder / f"{id}.png", format="PNG", compress_level=3)
    thumbnail = image.copy() if max(image.size) <= 2 * THUMBNAIL else image.reduce(max(1, max(image.size) // (2 * THUMBNAIL)))
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    save(thumbnail, folder / f"{id}.jpg", format="JPEG", quality=90)
    mask = save_mask(opaque, folder) if opaque else None
    for note in notes:
        send("note", name, note=note)
    size = {"width": image.width, "height": image.height}
    send("picture", name, id=id, **size, looks_like_photo=looks_like_photo(thumbnail), mask=mask)


def write_mask(name: str, mask: Image.Image, folder: Path, of: list[str]) -> None:
    send("mask", name, id=save_mask(mask, folder), width=mask.width, height=mask.height, of=of)


def save_mask(mask: Image.Image, folder: Path) -> str:
    id = hash_pixels(mask)
    save(mask, folder / f"mask-{id}.png", format="PNG")
    return id


def scale_mask(path: Path, name: str, size: tuple[int, int], folder: Path) -> None:
    """Scale a saved mask to its image, which may have been decoded later."""
    platform.limit_cpu(CPU_SECONDS)
    with Image.open(path, formats=["PNG"]) as opened:
        write_mask(name, opened.resize(size, Image.Resampling.BILINEAR), folder, [])


def hash_pixels(image: Image.Image) -> str:
    """The id of an image or mask: a hash of its pixels, independent of the PNG encoder."""
    digest = hashlib.sha256(f"{image.width} x {image.height} {image.mode}\n".encode())
    for top in range(0, image.height, 256):
        digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.hexdigest()


def save(image: Image.Image, path: Path, **how) -> None:
    aside = path.with_suffix(path.suffix + ".part")
    with storage.saving(path.name, aside):
        if how["format"] == "JPEG":
            # Pillow 12 writes a JPEG to the file itself and reports a full disk as an encoder error.
            data = io.BytesIO()
            image.save(data, **how)
            aside.write_bytes(data.getbuffer())
        else:
            image.save(aside, **how)
        storage.replace_file(aside, path)


def handle(request: dict, folder: Path) -> None:
    """Handle one request: scale a mask to `size`, or decode an image, mask or caption file, or an archive of these from member `skip` on.
    `mask`: the file is a mask, whatever its name."""
    path, name = Path(request["path"]), request["name"]
    try:
        if "size" in request:
            scale_mask(path, name, tuple(request["size"]), folder)
            return
        size = path.stat().st_size
        with open(path, "rb") as file:
            is_archive = file.read(4) in (b"PK\3\4", b"PK\5\6")
        if size > (LARGEST_ARCHIVE if is_archive else LARGEST_FILE):
            raise StudioError(f"it has {size / 1000**2:,.0f} MB; at most {LARGEST_FILE // 1000**2} MB per image are allowed.")
        if is_archive and request["mask"]:
            raise StudioError("a mask must be a single image, not an archive; unpack it, or import the archive for the whole dataset.")
        if is_archive:
            read_archive(path, name, folder, request["skip"])
        else:
            decode_file(name, path.read_bytes(), folder, [] if request["mask"] else mask_names(name))
    except StudioError as error:
        send("refused", name, reason=str(error))
    except OSError as error:
        send("refused", name, reason=DISK_FULL if storage.is_full(error) else "the file could not be read; upload it again.")
    except MemoryError:
        send("refused", name, reason="it needs too much memory; save it at a lower resolution, or put fewer files into an archive.")


def read_archive(path: Path, name: str, folder: Path, skip: int) -> None:
    archive = Archive(path)
    for index, member in enumerate(archive):
        if index < skip:
            continue
        full_name = f"{name}/{printable(member.name)}"
        send("begin", full_name, index=index)
        try:
            data = member.read()
            if data[:4] == b"PK\3\4" or full_name.lower().endswith((".zip", ".7z", ".rar", ".gz", ".tar")):
                raise StudioError("nested archives are not opened; unpack it and archive the images.")
        except StudioError as error:
            send("refused", full_name, reason=str(error))
        else:
            # From the full name: the displayed one may be truncated.
            of = mask_names(f"{name}/{member.name}")
            decode_file(full_name, data, folder, of and [f"{name}/{printable(stem.partition('/')[2])}" for stem in of])


def mask_names(name: str) -> list[str] | None:
    """Images that a file may be the mask of, by its name; None if the name is not a mask's."""
    return None if name.lower().endswith(TEXT_SUFFIXES) else masked_stems(name) or None


def printable(name: str) -> str:
    """A member's name for display and caption matching; it is never used as a path."""
    return "".join(character if character.isprintable() else "?" for character in name)[-160:]


def main() -> None:
    folder = Path(sys.argv[1])
    platform.limit_self(MEMORY, LARGEST_OUTPUT)
    platform.prefer_as_oom_victim()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    for line in sys.stdin:
        request = json.loads(line)
        handle(request, folder)
        send("end", request["name"])


if __name__ == "__main__":
    main()
