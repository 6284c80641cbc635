"""Recipe of an image: everything needed to generate it again, stored inside its PNG. Images are not decoded here."""

import json
import struct
import zlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from studio import families
from studio.core.errors import StudioError
from studio.families import BUILTIN_ID

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEY = b"lora_studio"
LARGEST_RECIPE = 256 * 1024
IMAGE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"sRGB", b"IDAT", b"IEND")

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Steps = Annotated[int, Field(ge=1, le=200)]
Strength = Annotated[float, Field(gt=0, le=1)]
Guidance = Annotated[float, Field(ge=0, le=30)]
"""Bounds of these parameters, for images and for the samples of a run."""

DEFAULT_STRENGTH = 0.6
FROM_AN_IMAGE = {"init_image", "strength"}
"""Fields that only a recipe with an init image writes."""


def resolve_family(values):
    """Pydantic validator that fills in `family` if the base is a listed one. For any other base the family is read from model_index.json once
    the base is downloaded. StudioError if both are given and contradict each other."""
    if not isinstance(values, dict):
        return values
    return {**values, "family": families.resolve_name(values.get("base_model", BUILTIN_ID), values.get("family") or "")}


class StackEntry(BaseModel):
    """One LoRA of a stack: its file and its weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str = Field(max_length=300)
    weight: float = Field(1.0, ge=-4, le=4)
    on: bool = True
    title: str = Field("", max_length=200)
    sha256: str | None = Field(None, max_length=64)


class Recipe(BaseModel):
    """Field docstrings are the help of the command line; `DEFAULT_RECIPE` below has the defaults of the page and the API."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompt: str = Field("", max_length=4000)
    """What the image shows."""
    negative_prompt: str = Field("", max_length=4000)
    """What the image should not show."""
    family: str = Field("", max_length=100)
    """Family of the base model; empty is derived from the base."""
    base_model: str = Field(BUILTIN_ID, max_length=500)
    """Base model: the built-in one, owner/name on the Hub, or a folder or .safetensors file on this computer."""
    revision: str | None = Field(None, max_length=100)
    """Branch, tag or commit of a base on the Hub. Empty is the newest."""
    stack: list[StackEntry] = Field(default_factory=list, max_length=32)
    """LoRAs to apply, each with its weight."""
    seed: Seed = 7
    """The same seed and settings give the same image."""
    num_inference_steps: Steps = 20
    """Denoising steps; more is finer and slower."""
    guidance_scale: Guidance = 5.0
    """How strictly the image follows the prompt."""
    width: int | None = Field(None, ge=64, le=4096, multiple_of=8)
    """In pixels; empty is the base's own resolution."""
    height: int | None = Field(None, ge=64, le=4096, multiple_of=8)
    """In pixels; empty is the base's own resolution."""

    init_image: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Image that generation begins from; the hash of its pixels."""
    strength: Strength | None = None
    """How much may differ from the init image: the share of the steps that are run. Needs an init image."""

    resolve_family = model_validator(mode="before")(resolve_family)

    @model_validator(mode="before")
    @classmethod
    def settle_strength(cls, values):
        """A strength belongs to an init image, so that equal images have equal recipes."""
        if not isinstance(values, dict):
            return values
        strength = values.get("strength")
        return {**values, "strength": (DEFAULT_STRENGTH if strength is None else strength) if values.get("init_image") else None}

    def to_json(self) -> str:
        """Canonical JSON: equal recipes give equal text."""
        values = self.model_dump(exclude=None if self.init_image else FROM_AN_IMAGE)
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the recipe"
            raise StudioError(f"The recipe of this image is not valid: {where} is {first['input']!r}. {first['msg']}.") from None

    def without_stack(self) -> "Recipe":
        """The recipe of the same image from the base model alone."""
        return self.model_copy(update={"stack": []})


DEFAULT_RECIPE = Recipe()


def add_recipe(png: bytes, recipe: Recipe) -> bytes:
    """The PNG with the recipe in a tEXt chunk before the image data (PNG specification; the recipe is ASCII, so iTXt is not needed)."""
    text = KEY + b"\0" + recipe.to_json().encode("ascii")
    kept = [(kind, body) for kind, body in _chunks(png) if not (kind == b"tEXt" and body.startswith(KEY + b"\0"))]
    first_data = next(i for i, (kind, _) in enumerate(kept) if kind == b"IDAT")
    kept.insert(first_data, (b"tEXt", text))
    return PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in kept)


def read_recipe(png: bytes) -> Recipe:
    """The recipe in a PNG that the studio saved. Only the chunk list is read; no image is decoded."""
    for kind, body in _chunks(png):
        if kind == b"tEXt" and body.startswith(KEY + b"\0"):
            if len(body) > LARGEST_RECIPE:
                raise StudioError(f"The recipe of this image has {len(body):,} bytes; at most {LARGEST_RECIPE:,} are allowed.")
            return Recipe.from_json(body[len(KEY) + 1 :].decode("ascii", "replace"))
    raise StudioError("This image contains no recipe. Only PNG files saved by the studio do, and messengers and web pages often strip it.")


def strip_metadata(png: bytes) -> bytes:
    """The PNG without metadata: recipe, text, EXIF and times are removed, pixels are unchanged."""
    return PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in _chunks(png) if kind in IMAGE_CHUNKS)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    if not png.startswith(PNG_SIGNATURE):
        raise StudioError("This is not a PNG file. Only PNG files saved by the studio contain a recipe.")
    found, position = [], len(PNG_SIGNATURE)
    while position + 12 <= len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        body = png[position + 8 : position + 8 + length]
        if len(body) < length:
            break
        found.append((kind, body))
        position += 12 + length
        if kind == b"IEND":
            return found
    raise StudioError("This PNG file is truncated; save or copy it again.")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
