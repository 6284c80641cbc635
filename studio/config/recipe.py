"""What made an image: everything needed to draw the same picture again, carried inside its PNG. No decoder here."""

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
PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"sRGB", b"IDAT", b"IEND")

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Steps = Annotated[int, Field(ge=1, le=200)]
Guidance = Annotated[float, Field(ge=0, le=30)]
"""What these may be, for a picture and for the samples of a training."""


def follow_base(values):
    """Before a model with `family` and `base_model` is checked: a base that the studio proposes brings its family. Of any other base its
    model_index.json tells, once it is here; StudioError where both are said and do not agree."""
    if not isinstance(values, dict):
        return values
    return {**values, "family": families.named(values.get("base_model", BUILTIN_ID), values.get("family") or "")}


class StackEntry(BaseModel):
    """One LoRA of a stack: which file, and how strongly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str = Field(max_length=300)
    weight: float = Field(1.0, ge=-4, le=4)
    on: bool = True
    title: str = Field("", max_length=200)
    sha256: str | None = Field(None, max_length=64)


class Recipe(BaseModel):
    """The docstrings are the help of the command line; `USUAL` below holds the defaults that other doors offer."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompt: str = Field("", max_length=4000)
    """What to draw."""
    negative_prompt: str = Field("", max_length=4000)
    """What should not be seen."""
    family: str = Field("", max_length=100)
    """The kind of base model; empty takes the base's own."""
    base_model: str = Field(BUILTIN_ID, max_length=500)
    """The model that draws: the one that ships with the studio, owner/name on the Hub, or a folder or .safetensors file on this computer."""
    revision: str | None = Field(None, max_length=100)
    """Which version of a base on the Hub: a branch, a tag or a commit. Empty takes the newest."""
    stack: list[StackEntry] = Field(default_factory=list, max_length=32)
    """The LoRAs on top, each with its weight."""
    seed: Seed = 7
    """The same seed and settings give the same picture."""
    num_inference_steps: Steps = 20
    """How carefully it is drawn; more is finer and slower."""
    guidance_scale: Guidance = 5.0
    """How strictly the prompt is followed."""
    width: int | None = Field(None, ge=64, le=4096, multiple_of=8)
    """In pixels; empty takes the base's own."""
    height: int | None = Field(None, ge=64, le=4096, multiple_of=8)
    """In pixels; empty takes the base's own."""

    follow_base = model_validator(mode="before")(follow_base)

    def to_json(self) -> str:
        """Canonical: the same recipe is always the same text."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the recipe"
            raise StudioError(f"This picture's recipe cannot be used: {where} is {first['input']!r}. {first['msg']}.") from None

    def without_stack(self) -> "Recipe":
        """The same picture by the base model alone."""
        return self.model_copy(update={"stack": []})


USUAL = Recipe()


def add_recipe(png: bytes, recipe: Recipe) -> bytes:
    """The same PNG with the recipe in a text chunk right before the picture data (PNG specification, iTXt is not needed: ASCII)."""
    text = KEY + b"\0" + recipe.to_json().encode("ascii")
    kept = [(kind, body) for kind, body in _chunks(png) if not (kind == b"tEXt" and body.startswith(KEY + b"\0"))]
    first_data = next(i for i, (kind, _) in enumerate(kept) if kind == b"IDAT")
    kept.insert(first_data, (b"tEXt", text))
    return PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in kept)


def read_recipe(png: bytes) -> Recipe:
    """The recipe inside a PNG made by this studio. Reads the chunk list by hand, so no picture is decoded."""
    for kind, body in _chunks(png):
        if kind == b"tEXt" and body.startswith(KEY + b"\0"):
            if len(body) > LARGEST_RECIPE:
                raise StudioError(f"This picture's recipe is {len(body):,} bytes long; the studio writes at most {LARGEST_RECIPE:,}.")
            return Recipe.from_json(body[len(KEY) + 1 :].decode("ascii", "replace"))
    raise StudioError("This picture carries no recipe; only PNG files saved by the studio do (messengers and web pages often strip it).")


def bare_png(png: bytes) -> bytes:
    """The picture and nothing else: recipe, texts, EXIF and times are left out, pixels stay as they are."""
    return PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in _chunks(png) if kind in PICTURE_CHUNKS)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    if not png.startswith(PNG_SIGNATURE):
        raise StudioError("This is not a PNG file, and only the studio's own PNG files carry a recipe.")
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
    raise StudioError("This PNG file is cut off; save or copy it again.")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
