"""Decoding of untrusted bytes to an image with its opacity, or to a mask; StudioError with the reason otherwise. Decoder process only."""

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
"""Number of pixels above which LARGEST_RATIO limits the compression ratio; smaller flat artwork may compress better."""
NEARLY_OPAQUE = 250
"""Opacity of 255 from which an image counts as opaque; the difference is rounding."""
LEAST_MEAN = 0.001
"""Minimum mean of a mask; with less, the effect on training is not measurable."""
COLOURFUL = 40
"""Minimum difference of a pixel's channels, of 255, for a colour; less is JPEG noise around grey."""

# EXIF tag 0x0112, orientation (CIPA DC-008, 4.6.4).
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
"""Profiles that need no conversion, which would only add rounding. Others may start with sRGB but differ (sRGB-elle-V2-g10)."""
SIXTEEN_TO_EIGHT = [(value * 2 + 257) // 514 for value in range(65536)]
"""Rounds value / 257. Pillow's own conversion clips instead: 40000 becomes 255, and the image becomes white."""

# Exceptions of decoders on damaged files. Anything else ends this process, and only the current file is lost.
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError, AttributeError,
           RuntimeError, struct.error, ImageCms.PyCMSError)  # fmt: skip


def decode(data: bytes) -> tuple[Image.Image, Image.Image | None, list[str]]:
    """The upright image in 8-bit sRGB, without metadata; its opacity (L) unless opaque; and notes for the user."""
    notes = []
    image = _opened(data)
    width, height = image.size
    if width * height > RATIO_COUNTS_FROM and width * height * 3 > LARGEST_RATIO * len(data):
        raise StudioError(f"{width} x {height} pixels in {len(data) / 1000:,.0f} kB look like a decompression bomb; save it at 4096 pixels or less.")
    with _decode_errors():
        if _has_more_frames(data):
            notes.append("it has several frames or pages; the first one was used.")
        image.load()
        orientation = image.getexif().get(0x0112)
        icc = image.info.get("icc_profile")
        flat, opaque = _to_eight_bit(image, "white")
        rgb = _upright(_to_srgb(flat, icc, notes), orientation)
        opaque = _upright(opaque, orientation) if opaque else None
    rgb.info = {}
    if opaque and mean_weight(opaque) < LEAST_MEAN:
        notes.append("it is fully transparent, so its alpha channel is not used as a mask.")
        opaque = None
    return rgb, opaque, notes


def decode_mask(data: bytes) -> Image.Image:
    """The upright mask in 8-bit greyscale (L). Masks are flat, so their compression ratio is not limited; their number of pixels is."""
    image = _opened(data)
    with _decode_errors():
        image.load()
        orientation = image.getexif().get(0x0112)
        # Transparent parts of a mask count as dark.
        flat, _ = _to_eight_bit(image, "black")
        coloured = flat.mode != "L" and _has_colours(flat)
        mask = _upright(flat.convert("L"), orientation)
    if coloured:
        raise StudioError("it has colours, but a mask is greyscale. If it is a training image, rename it without “mask”.")
    if mean_weight(mask) < LEAST_MEAN:
        raise StudioError("it is completely dark, so nothing would be trained on; paint the parts to train on light, or leave it out.")
    mask.info = {}
    return mask


def mean_weight(mask: Image.Image) -> float:
    """The mean of a mask, 0 to 1."""
    counts = mask.histogram()
    return sum(value * count for value, count in enumerate(counts)) / (255 * sum(counts))


def _opened(data: bytes) -> Image.Image:
    """Open an image and check its size; pixels are not decoded yet."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StudioError(_too_large()) from None
    except DAMAGED:
        raise StudioError(_unreadable_reason(data)) from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise StudioError(_too_large(width, height))
    if max(width, height) > LONGEST_SIDE:
        raise StudioError(f"it is {width} x {height} pixels; a side may have at most {LONGEST_SIDE:,}. Crop it.")
    if min(width, height) < SMALLEST_SIDE:
        raise StudioError(f"it is only {width} x {height} pixels; each side needs at least {SMALLEST_SIDE}.")
    return image


@contextlib.contextmanager
def _decode_errors() -> Iterator[None]:
    try:
        yield
    except StudioError:
        raise
    except MemoryError:
        raise StudioError("it needs too much memory; save it at a lower resolution.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StudioError(_too_large()) from None
    except DAMAGED:
        raise StudioError("it is truncated or damaged; save or copy it again.") from None


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _has_colours(image: Image.Image) -> bool:
    """Whether more than 1 % of an image's pixels, by a sample, are not grey."""
    sampled = image.resize((min(512, image.width), min(512, image.height)), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = sampled.split()
    differences = ImageChops.lighter(ImageChops.difference(red, green), ImageChops.difference(green, blue)).histogram()
    return sum(differences[COLOURFUL:]) > sum(differences) / 100


def _has_more_frames(data: bytes) -> bool:
    # On a copy: seeking back to frame 0 is not exact in every format.
    copy = Image.open(io.BytesIO(data), formats=FORMATS)
    if copy.format == "MPO":
        # A phone's JPEG with a depth map or preview counts as one image.
        return False
    try:
        copy.seek(1)
    except (EOFError, *DAMAGED):
        return False
    return True


def _to_eight_bit(image: Image.Image, background: str) -> tuple[Image.Image, Image.Image | None]:
    """The image as RGB, L or CMYK with 8 bits per channel on a background colour; and its opacity (L) unless it is opaque."""
    mode = image.mode
    if mode.startswith("I"):
        image = image.convert("I")
        if _extremes(image)[1] > 65535:
            raise StudioError("it has 32 bits per channel; save it with 8 or 16.")
        return image.point(SIXTEEN_TO_EIGHT, "L"), None
    if mode in ("F", "LAB", "HSV"):
        raise StudioError(f"its colour mode {mode} is not supported; save it as an RGB PNG.")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = image.getchannel("A")
        flat = Image.new("RGB", image.size, background)
        flat.paste(image, mask=opaque)
        return flat, opaque if _extremes(opaque)[0] < NEARLY_OPAQUE else None
    if mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if mode == "1" else "RGB"), None


def _extremes(channel: Image.Image) -> tuple[float, float]:
    """The lowest and the highest value of an image with one channel."""
    low, high = channel.getextrema()
    assert not isinstance(low, tuple) and not isinstance(high, tuple), "An image with several channels has a pair for each."
    return low, high


def _to_srgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            if ImageCms.getProfileDescription(profile).strip() not in SRGB_NAMES:
                converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert converted is not None, "profileToProfile returns None only if it converts in place."
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("its colour profile is not valid and was ignored.")
    return image.convert("RGB")


def looks_like_photo(thumbnail: Image.Image) -> bool:
    """Fast heuristic: photos have many colours and grain everywhere, drawings have a few flat colours.

    Tuned on the built-in world (no drawing is a false positive) and on a few photos (all pass, most of them in greyscale too).
    """
    pixels = thumbnail.resize((64, 64), Image.Resampling.NEAREST).tobytes()
    colours = Counter((r >> 4, g >> 4, b >> 4) for r, g, b in zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True))
    rare = 1 - sum(count for _, count in colours.most_common(24)) / 64**2
    grey, (width, height) = thumbnail.convert("L"), thumbnail.size
    steps = ImageChops.difference(grey.crop((0, 0, width - 1, height)), grey.crop((1, 0, width, height))).histogram()
    grain = sum(steps[2:31]) / sum(steps)
    return grain > 0.5 or (grain > 0.36 and rare > 0.25)


def _too_large(width: int = 0, height: int = 0) -> str:
    size = f"{width} x {height} pixels" if width else "its size"
    return f"{size} exceeds the limit of {MOST_PIXELS // 1_000_000} megapixels; save it smaller (4096 pixels on the long side are enough)."


def _unreadable_reason(data: bytes) -> str:
    """Why these bytes cannot be read as an image."""
    head = data[:64].lstrip().lower()
    if not data:
        return "the file is empty."
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC is not supported; save it as JPEG or PNG."
    if data[4:8] == b"ftyp" and data[8:12] != b"avif":
        return "it is a video; save single frames as PNG or JPEG."
    if data.startswith(b"8BPS"):
        return "Photoshop files are not supported; export it as PNG."
    if data.startswith(b"%PDF"):
        return "it is a PDF; export its images as PNG."
    if head.startswith((b"<svg", b"<?xml", b"<!doctype", b"<html")):
        return "it is text (a web page or SVG drawing), not a raster image; export it as PNG."
    return "it is damaged or not a supported image; PNG, JPEG, WEBP, BMP, GIF, TIFF and AVIF are."
