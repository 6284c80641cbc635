"""How often a run is made safe."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SavingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    checkpoint_every: int = Field(100, title="Make safe every (steps)", ge=1, le=100_000)
    """After a crash a run goes on from the last of these points and ends in the same file as if nothing had happened. Lower loses less time and writes more."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", title="Numbers in the file")
    """How finely the LoRA file keeps its numbers. bfloat16 and float16 halve its size; pictures change by less than the eye sees."""
