"""Which pictures teach, and how they are shown to the model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DatasetConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field("", title="Dataset", max_length=120)
    """The captioned pictures that this LoRA learns from."""

    subject: Literal["style", "character", "object"] = Field("style", title="What it learns")
    """What the pictures have in common: a look (style), somebody (character), or a product, object or outfit (object)."""

    trigger_word: str = Field("", title="Trigger word", max_length=60)
    """The rare word that calls the LoRA in a prompt. It should stand in every caption."""

    resolution: int = Field(512, title="Picture size (resolution)", ge=64, le=2048, multiple_of=8)
    """The size in pixels at which pictures are learnt. Larger keeps finer detail and takes more time and memory; the base model's own size is best."""

    caption_dropout: float = Field(0.0, title="Hide captions (caption dropout)", ge=0, le=0.9)
    """How often a picture is shown without its caption. Higher makes the look appear without the trigger word too; 0 ties it to the words."""

    flip: bool = Field(False, title="Mirror pictures (flip)")
    """Also learn from mirrored copies. Doubles few pictures; wrong for faces with a side parting, text and logos."""

    repeats: int = Field(1, title="Show each picture (repeats)", ge=1, le=1000)
    """How often a picture comes in one round through all of them. Matters when pictures have many shapes: a rare shape fills its batches with itself."""

    caption_shuffle: bool = Field(False, title="Shuffle captions")
    """Mixes the parts between commas anew each time, so that their order teaches nothing. For captions made of tags; the text encoder stays in memory for it."""

    caption_keep: int = Field(1, title="Parts that stay in front", ge=0, le=50)
    """How many of the first parts of a caption are not shuffled. 1 keeps the trigger word in its place."""

    masks: bool = Field(True, title="Use masks")
    """Where a picture has a mask, only its light parts teach; where it is transparent, that is its mask. Pictures without one teach as a whole."""

    mask_floor: float = Field(0.0, title="Outside the mask", ge=0, le=1)
    """How much the dark parts of a mask still teach: 0 is nothing, 1 as if there were no mask. A little (0.1) keeps backgrounds sane."""
