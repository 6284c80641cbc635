"""How it learns: length, pace, batch and seed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_train_steps: int = Field(1500, title="Steps", ge=1, le=200_000)
    """How long it learns. More steps come closer to your pictures; too many copy them and ignore the prompt. Watch the film and take an earlier column if it does."""

    train_batch_size: int = Field(1, title="Pictures at a time (batch size)", ge=1, le=64)
    """How many pictures are looked at in one step. Higher learns more evenly and takes more memory and time a step."""

    learning_rate: float = Field(1e-4, title="Strength of learning (learning rate)", gt=0, le=1)
    """How big each step is. Higher learns faster and breaks sooner; lower is slower and safer. If pictures turn to noise, halve it."""

    lr_scheduler: Literal["constant", "cosine", "linear"] = Field("constant", title="Slow down towards the end (scheduler)")
    """Whether the strength of learning stays (constant) or fades out smoothly (cosine) or evenly (linear)."""

    lr_warmup_steps: int = Field(0, title="Warm-up steps", ge=0, le=10_000)
    """The strength of learning grows from zero over this many steps. A few steps avoid a rough start."""

    weight_decay: float = Field(1e-2, title="Pull back to small (weight decay)", ge=0, le=1)
    """Keeps the learnt numbers small. Higher is more cautious."""

    max_grad_norm: float = Field(1.0, title="Limit of one step (max gradient norm)", gt=0, le=1000)
    """Caps how far a single odd picture can push. Lower is safer for pictures that differ a lot."""

    min_snr_gamma: float | None = Field(None, title="Even out easy and hard noise (min-SNR gamma)", gt=0, le=100)
    """Balances coarse and fine noise levels; 5 is usual, and often learns faster. Empty is off."""

    seed: int = Field(7, title="Seed", ge=0, le=2**32 - 1)
    """The number all chance comes from. The same seed and settings on the same machine give the same file, byte for byte."""
