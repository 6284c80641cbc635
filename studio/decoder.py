"""The child that looks at untrusted bytes: `python -m studio.decoder FOLDER`, one JSON request a line in, JSON messages out.

It limits itself before the first byte, holds no secrets, and is thrown away after a batch or when it dies. Nobody else may import this.
"""

import hashlib
import io
import json
import os
import struct
import sys
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image, ImageChops, ImageCms, ImageFile

from studio import processes
from studio.archives import Archive
from studio.errors import StudioError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 20_000
SMALLEST_SIDE = 16
LARGEST_FILE = 200 * 1000**2
LARGEST_ARCHIVE = 2 * 1000**3
LARGEST_TEXT = 1 << 20
MEMORY = 1 << 30
LARGEST_OUTPUT = 400 << 20
CPU_SECONDS = 30
LARGEST_RATIO = 200
RATIO_COUNTS_FROM = 20_000_000
"""Above so many pixels a picture must not be more than LARGEST_RATIO times its file; smaller flat artwork may pack as well as it likes."""
THUMBNAIL = 384
TEXT_SUFFIXES = (".txt", ".caption")

# EXIF tag 0x0112 (CIPA DC-008, 4.6.4): how the camera was held.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SRGB_NAMES = ("sRGB", "sRGB built-in", "sRGB IEC61966-2.1")
"""Profiles that need no conversion, which would only round. Others may begin with sRGB and mean something else (sRGB-elle-V2-g10)."""
SIXTEEN_TO_EIGHT = [(value * 2 + 257) // 514 for value in range(65536)]
"""Rounds value / 257. Pillow's own conversion clips instead: 40000 becomes 255, and the picture white."""

# What decoders raise on damaged files. Whatever else they do ends this process, and with it only the file at hand.
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError, AttributeError,
           RuntimeError, struct.error, ImageCms.PyCMSError)  # fmt: skip


def say(kind: str, name: str, **facts) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "name": name, **facts}) + "\n")
    sys.stdout.flush()


def decode(data: bytes) -> tuple[Image.Image, list[str]]:
    """The picture upright in 8-bit sRGB, without metadata, and what a person should know about the way there."""
    notes = []
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StudioError(_too_large()) from None
    except DAMAGED:
        raise StudioError(_what_it_is(data)) from None
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise StudioError(_too_large(width, height))
    if max(width, height) > LONGEST_SIDE:
        raise StudioError(f"it is {width} x {height} pixels; a side may have {LONGEST_SIDE:,} at most. Cut it into pieces.")
    if min(width, height) < SMALLEST_SIDE:
        raise StudioError(f"it is only {width} x {height} pixels; at least {SMALLEST_SIDE} on each side are needed.")
    if width * height > RATIO_COUNTS_FROM and width * height * 3 > LARGEST_RATIO * len(data):
        raise StudioError(f"{width} x {height} pixels in {len(data) / 1000:,.0f} kB look like a trap; save it at 4096 pixels or less.")
    try:
        if _has_more_frames(data):
            notes.append("it has several frames or pages; the first one was taken.")
        picture.load()
        orientation = picture.getexif().get(0x0112)
        icc = picture.info.get("icc_profile")
        rgb = _to_srgb(_to_eight_bit(picture), icc, notes)
    except StudioError:
        raise
    except MemoryError:
        raise StudioError("it needs too much memory; save it smaller.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StudioError(_too_large()) from None
    except DAMAGED:
        raise StudioError("it is cut off or damaged; save or copy it again.") from None
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    rgb.info = {}
    return rgb, notes


def _has_more_frames(data: bytes) -> bool:
    # On a copy: seeking back to frame 0 is not exact in every format.
    copy = Image.open(io.BytesIO(data), formats=FORMATS)
    if copy.format == "MPO":
        # A phone's JPEG with a depth map or preview behind it is still one picture to its owner.
        return False
    try:
        copy.seek(1)
    except (EOFError, *DAMAGED):
        return False
    return True


def _to_eight_bit(picture: Image.Image) -> Image.Image:
    """RGB, L or CMYK, 8 bits a channel, opaque on white."""
    mode = picture.mode
    if mode.startswith("I"):
        picture = picture.convert("I")
        if picture.getextrema()[1] > 65535:
            raise StudioError("it has 32 bits a channel; save it with 8 or 16.")
        return picture.point(SIXTEEN_TO_EIGHT, "L")
    if mode in ("F", "LAB", "HSV"):
        raise StudioError(f"its colours are stored as {mode}, which cannot be read here; save it as PNG in RGB.")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    if mode in ("L", "RGB", "CMYK"):
        return picture
    return picture.convert("L" if mode == "1" else "RGB")


def _to_srgb(picture: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            if ImageCms.getProfileDescription(profile).strip() not in SRGB_NAMES:
                return ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("its colour profile could not be used, so its colours were taken as they are.")
    return picture.convert("RGB")


def looks_like_photo(thumbnail: Image.Image) -> bool:
    """A cheap guess for a plain word on the page: photographs have many colours and grain everywhere, drawings a few flat ones.

    Tuned on the built-in world (no drawing of any place or weather passes) and on a handful of photographs (all do, most of them in grey too).
    """
    picked = thumbnail.resize((64, 64), Image.Resampling.NEAREST).tobytes()
    colours = Counter((r >> 4, g >> 4, b >> 4) for r, g, b in zip(picked[::3], picked[1::3], picked[2::3], strict=True))
    rare = 1 - sum(count for _, count in colours.most_common(24)) / 64**2
    grey, (width, height) = thumbnail.convert("L"), thumbnail.size
    steps = ImageChops.difference(grey.crop((0, 0, width - 1, height)), grey.crop((1, 0, width, height))).histogram()
    grain = sum(steps[2:31]) / sum(steps)
    return grain > 0.5 or (grain > 0.36 and rare > 0.25)


def _too_large(width: int = 0, height: int = 0) -> str:
    size = f"{width} x {height} pixels" if width else "its size"
    return f"{size} is more than the {MOST_PIXELS // 1_000_000} megapixels that are read; save it smaller (4096 pixels on the long side are plenty)."


def _what_it_is(data: bytes) -> str:
    """Why these bytes are no picture that can be read here."""
    head = data[:64].lstrip().lower()
    if not data:
        return "the file is empty."
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC pictures cannot be read here; save it as JPEG or PNG."
    if data[4:8] == b"ftyp" and data[8:12] != b"avif":
        return "it is a video; save single pictures from it as PNG or JPEG."
    if data.startswith(b"8BPS"):
        return "Photoshop files cannot be read here; export it as PNG."
    if data.startswith(b"%PDF"):
        return "it is a PDF; export its pictures as PNG."
    if head.startswith((b"<svg", b"<?xml", b"<!doctype", b"<html")):
        return "it is text (a web page or SVG drawing), not a picture of pixels; export it as PNG."
    return "it is not a picture that can be read, or it is damaged; PNG, JPEG, WEBP, BMP, GIF, TIFF and AVIF can."


def read_text(data: bytes) -> str:
    if len(data) > LARGEST_TEXT:
        raise StudioError(f"a caption file of {len(data) / 1000:,.0f} kB is no caption; at most {LARGEST_TEXT // 1024} kB are read.")
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def take(name: str, data: bytes, folder: Path) -> None:
    """Decode one file's bytes and say what became of it."""
    processes.limit_cpu(CPU_SECONDS)
    try:
        if name.lower().endswith(TEXT_SUFFIXES):
            say("caption", name, text=read_text(data))
            return
        picture, notes = decode(data)
        # The name of a picture is the hash of its pixels, not of a PNG encoder's output.
        digest = hashlib.sha256(f"{picture.width} x {picture.height} RGB\n".encode())
        for top in range(0, picture.height, 256):
            digest.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
        save(picture, folder / f"{digest.hexdigest()}.png", format="PNG", compress_level=3)
        thumbnail = picture.copy() if max(picture.size) <= 2 * THUMBNAIL else picture.reduce(max(1, max(picture.size) // (2 * THUMBNAIL)))
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        save(thumbnail, folder / f"{digest.hexdigest()}.jpg", format="JPEG", quality=90)
    except StudioError as error:
        say("refused", name, reason=str(error))
        return
    except MemoryError:
        say("refused", name, reason="it needs too much memory; save it smaller.")
        return
    for note in notes:
        say("note", name, note=note)
    size = {"width": picture.width, "height": picture.height}
    say("picture", name, id=digest.hexdigest(), **size, looks_like_photo=looks_like_photo(thumbnail))


def save(picture: Image.Image, path: Path, **how) -> None:
    aside = path.with_suffix(path.suffix + ".part")
    picture.save(aside, **how)
    os.replace(aside, path)


def answer(request: dict, folder: Path) -> None:
    """One request: a picture, a caption file, or an archive of both from member number `skip` on."""
    path, name = Path(request["path"]), request["name"]
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            is_archive = file.read(4) in (b"PK\3\4", b"PK\5\6")
        if size > (LARGEST_ARCHIVE if is_archive else LARGEST_FILE):
            raise StudioError(f"it is {size / 1000**2:,.0f} MB large; at most {LARGEST_FILE // 1000**2} MB a picture are read.")
        if is_archive:
            read_archive(path, name, folder, request["skip"])
        else:
            take(name, path.read_bytes(), folder)
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
            take(full_name, data, folder)


def printable(name: str) -> str:
    """A member's name to show and to pair captions by; it never becomes a path."""
    return "".join(character if character.isprintable() else "?" for character in name)[-160:]


def main() -> None:
    folder = Path(sys.argv[1])
    processes.limit_self(MEMORY, LARGEST_OUTPUT)
    processes.be_first_to_die()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    for line in sys.stdin:
        request = json.loads(line)
        answer(request, folder)
        say("end", request["name"])


if __name__ == "__main__":
    main()
