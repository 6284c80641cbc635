"""Choices made once, when a run first starts, and kept for every resume, so that its numbers stay the same."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RuntimeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    device: str | None = Field(None, title="Device")
    """Where it is computed: cpu or cuda. Empty takes the graphics card if there is one."""

    dtype: Literal["float32", "bfloat16"] | None = Field(None, title="Precision")
    """How finely numbers are kept. bfloat16 is about twice as fast where the processor has it; empty chooses and writes down which."""

    threads: int | None = Field(None, title="Processor threads", ge=1, le=256)
    """How many processor cores are used. Empty takes all but leaves room for the page."""

    exact: bool = Field(True, title="Exact")
    """A run that was stopped and resumed ends in the same bytes as one that was not. On a graphics card this costs some speed."""
