"""Runtime choices: made once, at the first start of a run, and kept for every resume, so that results stay bit-identical."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ENGINE = 2
"""Newest engine version: what changes the bytes of a result, although no other setting says so.

1 is that of studio 0.1. What is different since then:
- 2: dropped captions get the family's unconditional input also while text encoders are trained.
- 2: the decay of the EMA warms up.
- 2: aspect-ratio buckets up to 4:1 (`datasets.buckets`), not the table of diffusers up to 2:1.
- 2: every image is used equally often (`training.order`), not those of small buckets more often.
- 2: an image whose mask has no light part in its bucket is left out.
- 2: prompts whose padding is masked are padded no further than a batch needs, and without padding there is no mask.
"""

EXECUTIONS = {"eager": "eager", "compiled": "torch.compile", "graph": "CUDA graph"}
"""`runtime.execution` -> what messages call it."""


class RuntimeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    device: str | None = Field(None, title="Device")
    """Device to train on: cpu or cuda. Empty uses the GPU if there is one."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(None, title="Precision")
    """Data type of computation. bfloat16 is about twice as fast as float32 where the hardware supports it; float16, with loss scaling, is for GPUs before RTX 30, which do not. Empty chooses one and records it."""

    threads: int | None = Field(None, title="CPU threads", ge=1, le=256)
    """How many CPU cores to use. Empty uses all of them, or all but one where waiting threads would slow down the page."""

    exact: bool = Field(True, title="Exact resume (deterministic)")
    """A run that was stopped and resumed produces the same bytes as one that was not. On a GPU this costs some speed."""

    engine: int | None = Field(None, title="Engine version", ge=1, le=ENGINE)
    """Version of the training code's arithmetic. A run keeps the one that it started with, so that a newer studio resumes it to the same bytes; 1 is that of studio 0.1. Empty is the newest."""

    attention: Literal["fused", "math"] | None = Field(None, title="Attention")
    """Which kernels compute attention on a GPU. fused (FlashAttention and memory-efficient) needs far less memory; math is what exact runs of version 0.1 used. Empty is fused."""

    gradient_checkpointing: bool | None = Field(None, title="Gradient checkpointing")
    """Recomputes activations in the backward pass instead of keeping them: far less memory, a third to a half slower. Empty decides by the free memory."""

    quantisation: Literal["none", "int8", "fp8", "nf4"] | None = Field(None, title="Quantisation")
    """Keeps the frozen base model in 8 bits (int8, fp8) or 4 bits (nf4), so that large models fit a small GPU. Slower on fast GPUs. Empty decides by the free memory."""

    offload: bool | None = Field(None, title="Offload blocks to RAM")
    """Keeps the base model in RAM and moves it to the GPU block by block. Slow; for models that do not fit even when quantised. Empty decides by the free memory."""

    execution: Literal["eager", "compiled", "graph"] | None = Field(None, title="Execution")
    """eager runs each operation on its own; compiled uses torch.compile; graph records a step as a CUDA graph. On a GPU, empty tries them before the run, in a process of its own, and keeps the fastest."""

    processes: int = Field(1, title="Processes", ge=1, le=64)
    """Number of processes for data-parallel training, usually one per GPU. Each computes its part of the batch."""

    # The settings that may be left empty, in the config of a run that has started: `training.resolve` has filled them in.

    @property
    def filled_device(self) -> str:
        return _filled(self.device)

    @property
    def filled_dtype(self) -> str:
        return _filled(self.dtype)

    @property
    def filled_engine(self) -> int:
        """The engine version; the newest before a run starts."""
        return self.engine or ENGINE

    @property
    def filled_quantisation(self) -> str:
        return _filled(self.quantisation)

    @property
    def filled_execution(self) -> str:
        return _filled(self.execution)


def _filled(value: str | None) -> str:
    assert value is not None, "Empty settings are filled in before a run starts."
    return value
