"""Training images and how they are fed to the model: resolution, captions, flips, repeats, masks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DatasetConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field("", title="Dataset", max_length=120)
    """The images, with their captions, that the LoRA is trained on."""

    subject: Literal["style", "character", "object"] = Field("style", title="Subject")
    """What the images have in common: a look (style), one person or figure (character), or a product, thing or outfit (object)."""

    trigger_word: str = Field("", title="Trigger word", max_length=60)
    """The rare word that activates the LoRA in a prompt. It should be in every caption."""

    resolution: int = Field(512, title="Resolution", ge=64, le=2048, multiple_of=8)
    """Side in pixels of the square whose area training images are scaled to; they keep their shape. Higher keeps finer detail and needs more time and memory. The base model's own resolution works best."""

    caption_dropout: float = Field(0.0, title="Caption dropout", ge=0, le=0.9)
    """Share of training examples whose caption is replaced by an empty one. Higher makes the LoRA take effect without the trigger word too; 0 ties it to the words. 0.05 to 0.1 is usual for styles."""

    flip: bool = Field(False, title="Flip augmentation")
    """Also trains on horizontally mirrored images, which helps a small dataset. Leave it off for asymmetric faces, text and logos."""

    repeats: int = Field(1, title="Repeats", ge=1, le=1000)
    """How often each image is used per epoch, in runs of engine version 1. Later runs use every image equally often, whatever the batch size, so it changes nothing."""

    caption_shuffle: bool = Field(False, title="Shuffle captions")
    """Shuffles the comma-separated parts of a caption at every step, so that their order is not learned. For tag captions. Keeps the text encoder in memory."""

    caption_keep: int = Field(1, title="Keep tokens", ge=0, le=50)
    """How many comma-separated parts at the start of a caption are not shuffled. 1 keeps the trigger word first."""

    masks: bool = Field(True, title="Masked training")
    """Restricts the loss to the light parts of an image's mask. A transparent image without a mask file uses its alpha channel. Images without a mask are trained on in full."""

    mask_floor: float = Field(0.0, title="Unmasked weight", ge=0, le=1)
    """Loss weight of the dark parts of a mask: 0 ignores them, 1 is the same as no mask. About 0.1 keeps backgrounds plausible."""
