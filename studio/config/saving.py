"""Checkpoint interval and precision of the LoRA file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SavingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    checkpoint_every: int = Field(100, title="Checkpoint every N steps", ge=1, le=100_000)
    """Saves the full training state every N steps. After a crash the run resumes from the last checkpoint and produces the same file. Lower loses less work and writes more."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", title="Save precision")
    """Data type of the LoRA file. bfloat16 and float16 halve its size, without a visible difference in images."""
