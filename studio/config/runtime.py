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

    attention: Literal["fused", "math"] | None = Field(None, title="Attention")
    """Which kernels compute attention on a GPU. fused (FlashAttention and memory-efficient) needs far less memory; math is what exact runs of version 0.1 used. Empty takes fused."""

    gradient_checkpointing: bool | None = Field(None, title="Compute twice to save memory (gradient checkpointing)")
    """Forgets most of what was computed and computes it again when needed: a third to a half slower, far less memory. Empty chooses from the memory that is free."""

    quantisation: Literal["none", "int8", "fp8", "nf4"] | None = Field(None, title="Pack the base (quantisation)")
    """Keeps the frozen base in 8 or 4 bits, so that large models fit a small card. Slower on fast cards. Empty chooses from the memory that is free."""

    offload: bool | None = Field(None, title="Keep blocks in main memory (offload)")
    """Moves the base to the card block by block. For models that do not fit even when packed; slow. Empty chooses from the memory that is free."""

    execution: Literal["eager", "compiled", "graph"] | None = Field(None, title="How steps are run")
    """eager runs each operation as it comes; compiled and graph prepare them first, on a graphics card. Empty times them and keeps the fastest."""

    processes: int = Field(1, title="Processes", ge=1, le=64)
    """How many processes share each step, usually one a graphics card. Each takes its part of the batch."""
