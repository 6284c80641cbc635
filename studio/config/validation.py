"""Validation: the loss on images that are not trained on shows whether the LoRA learns or overfits."""

from pydantic import BaseModel, ConfigDict, Field


class ValidationConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    pictures: int = Field(0, title="Validation images", ge=0, le=1000)
    """Number of images that are not trained on and only used to measure the loss. When the validation loss rises again, the LoRA overfits. 0 is off; 2 to 5 of 25 are usual."""

    every: int = Field(50, title="Validate every N steps", ge=1, le=100_000)
    """How often the validation loss of the saved weights is measured. Noise and timesteps are always the same, so that differences come from training alone."""
