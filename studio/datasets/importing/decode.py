"""The bytes of a stranger as pixels: a picture, how far it can be seen through, or a mask; else one reason. In the decoder child only."""

import contextlib
import io
import struct
from collections import Counter
from collections.abc import Iterator

from PIL import Image, ImageChops, ImageCms

from studio.core.errors import StudioError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 20_000
SMALLEST_SIDE = 16
LARGEST_RATIO = 200
RATIO_COUNTS_FROM = 20_000_000
"""Above so many pixels a picture must not be more than LARGEST_RATIO times its file; smaller flat artwork may pack as well as it likes."""
NEARLY_OPAQUE = 250
"""Of 255. What hides no more than this is rounding, not a hole."""
LEAST_LIGHT = 0.001
"""A mask with less light on average teaches nothing that could be measured."""
COLOURFUL = 40
"""How far a pixel's channels must lie apart, of 255, to be a colour and not JPEG's noise around grey."""

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


def decode(data: bytes) -> tuple[Image.Image, Image.Image | None, list[str]]:
    """The picture upright in 8-bit sRGB, without metadata; how opaque it is (L), where it is not everywhere; and what a person should know
    about the way there."""
    notes = []
    picture = _opened(data)
    width, height = picture.size
    if width * height > RATIO_COUNTS_FROM and width * height * 3 > LARGEST_RATIO * len(data):
        raise StudioError(f"{width} x {height} pixels in {len(data) / 1000:,.0f} kB look like a trap; save it at 4096 pixels or less.")
    with _damage_in_words():
        if _has_more_frames(data):
            notes.append("it has several frames or pages; the first one was taken.")
        picture.load()
        orientation = picture.getexif().get(0x0112)
        icc = picture.info.get("icc_profile")
        flat, opaque = _to_eight_bit(picture, "white")
        rgb = _upright(_to_srgb(flat, icc, notes), orientation)
        opaque = _upright(opaque, orientation) if opaque else None
    rgb.info = {}
    if opaque and light(opaque) < LEAST_LIGHT:
        notes.append("it is transparent everywhere, so no mask was made of that.")
        opaque = None
    return rgb, opaque, notes


def decode_mask(data: bytes) -> Image.Image:
    """A mask upright, as 8-bit grey: L. Flat as masks are, they may pack as tightly as they like; their pixels are limited all the same."""
    picture = _opened(data)
    with _damage_in_words():
        picture.load()
        orientation = picture.getexif().get(0x0112)
        # Painted on a transparent layer: what was not painted is dark.
        flat, _ = _to_eight_bit(picture, "black")
        coloured = flat.mode != "L" and _has_colours(flat)
        mask = _upright(flat.convert("L"), orientation)
    if coloured:
        raise StudioError("it has colours, and a mask is black, grey and white. If it is a picture of its own, rename it without “mask”.")
    if light(mask) < LEAST_LIGHT:
        raise StudioError("it is dark everywhere, so nothing would teach; paint light what should. Without it the whole picture teaches.")
    mask.info = {}
    return mask


def light(mask: Image.Image) -> float:
    """How much of a mask teaches: its mean, 0 to 1."""
    counts = mask.histogram()
    return sum(value * count for value, count in enumerate(counts)) / (255 * sum(counts))


def _opened(data: bytes) -> Image.Image:
    """Its header read and found fit to be decoded; no pixel so far."""
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
    return picture


@contextlib.contextmanager
def _damage_in_words() -> Iterator[None]:
    try:
        yield
    except StudioError:
        raise
    except MemoryError:
        raise StudioError("it needs too much memory; save it smaller.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StudioError(_too_large()) from None
    except DAMAGED:
        raise StudioError("it is cut off or damaged; save or copy it again.") from None


def _upright(picture: Image.Image, orientation: int | None) -> Image.Image:
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _has_colours(picture: Image.Image) -> bool:
    """Whether more than a hundredth of a picture is not grey; a sample of its pixels tells."""
    picked = picture.resize((min(512, picture.width), min(512, picture.height)), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = picked.split()
    apart = ImageChops.lighter(ImageChops.difference(red, green), ImageChops.difference(green, blue)).histogram()
    return sum(apart[COLOURFUL:]) > sum(apart) / 100


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


def _to_eight_bit(picture: Image.Image, ground: str) -> tuple[Image.Image, Image.Image | None]:
    """RGB, L or CMYK, 8 bits a channel, laid on a ground of one colour; and how opaque it was (L), where it was not everywhere."""
    mode = picture.mode
    if mode.startswith("I"):
        picture = picture.convert("I")
        if picture.getextrema()[1] > 65535:
            raise StudioError("it has 32 bits a channel; save it with 8 or 16.")
        return picture.point(SIXTEEN_TO_EIGHT, "L"), None
    if mode in ("F", "LAB", "HSV"):
        raise StudioError(f"its colours are stored as {mode}, which cannot be read here; save it as PNG in RGB.")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        opaque = picture.getchannel("A")
        flat = Image.new("RGB", picture.size, ground)
        flat.paste(picture, mask=opaque)
        return flat, opaque if opaque.getextrema()[0] < NEARLY_OPAQUE else None
    if mode in ("L", "RGB", "CMYK"):
        return picture, None
    return picture.convert("L" if mode == "1" else "RGB"), None


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
