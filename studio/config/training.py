"""How it learns: length, pace, batch and seed."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from studio.config import optimizers, schedules
from studio.config.registry import OneOf, described


class TrainingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_train_steps: int = Field(1500, title="Steps", ge=1, le=200_000)
    """How long it learns. More steps come closer to your pictures; too many copy them and ignore the prompt. Watch the film and take an earlier column if it does."""

    train_batch_size: int = Field(1, title="Pictures at a time (batch size)", ge=1, le=64)
    """How many pictures are looked at in one step. Higher learns more evenly and takes more memory and time a step."""

    gradient_accumulation_steps: int = Field(1, title="Batches in one step (accumulation)", ge=1, le=256)
    """Adds up this many batches before each change. Acts like a larger batch without its memory; each step takes that much longer."""

    learning_rate: float = Field(1e-4, title="Strength of learning (learning rate)", gt=0, le=1)
    """How big each step is. Higher learns faster and breaks sooner; lower is slower and safer. If pictures turn to noise, halve it."""

    text_encoder_learning_rate: float | None = Field(None, title="Strength for the text encoder", gt=0, le=1)
    """How big each step is for the text encoder, where it learns too. Empty is a tenth of the learning rate; words break sooner than pictures."""

    optimizer: Annotated[str, OneOf(lambda: optimizers.OPTIMIZERS)] = Field(
        "adamw", title="Optimizer", description=described("How a step is computed from the gradient.", optimizers.OPTIMIZERS)
    )

    lr_scheduler: Annotated[str, OneOf(lambda: schedules.SCHEDULES)] = Field(
        "constant", title="Learning-rate schedule", description=described("How the learning rate goes on after warm-up.", schedules.SCHEDULES)
    )

    lr_num_cycles: int = Field(1, title="Cycles of the schedule", ge=1, le=1000)
    """How many cosines cosine_with_restarts has; 1 is one cosine without a restart. The other schedules do not read it."""

    lr_power: float = Field(1.0, title="Power of the schedule", gt=0, le=100)
    """How the schedule polynomial falls: 1 in a straight line, above 1 fast at first, below 1 late. The other schedules do not read it."""

    lr_warmup_steps: int = Field(0, title="Warm-up steps", ge=0, le=10_000)
    """The strength of learning grows from zero over this many steps. A few steps avoid a rough start."""

    weight_decay: float = Field(1e-2, title="Pull back to small (weight decay)", ge=0, le=1)
    """Keeps the learnt numbers small. Higher is more cautious."""

    max_grad_norm: float = Field(1.0, title="Limit of one step (max gradient norm)", gt=0, le=1000)
    """Caps how far a single odd picture can push. Lower is safer for pictures that differ a lot."""

    min_snr_gamma: float | None = Field(None, title="Even out easy and hard noise (min-SNR gamma)", gt=0, le=100)
    """Balances coarse and fine noise levels; 5 is usual, and often learns faster. Empty is off."""

    noise_offset: float = Field(0.0, title="Reach dark and bright (noise offset)", ge=0, le=1)
    """Lets it learn very dark and very bright pictures; 0.05 to 0.1 is usual for Stable Diffusion, too much greys everything. 0 is off."""

    timestep_density: Literal["uniform", "logit_normal"] | None = Field(None, title="Which noise levels are practised (timestep density)")
    """uniform practises all alike, logit_normal the middle ones most, where shapes are decided. Empty takes the family's own."""

    timestep_shift: float | None = Field(None, title="Towards more noise (timestep shift)", gt=0, le=100)
    """Above 1 practises noisier pictures, where layout is decided; below 1 cleaner ones, where texture is. Only flow-matching families; empty takes the base's own."""

    ema_decay: float | None = Field(None, title="Average the last steps (EMA decay)", gt=0, lt=1)
    """Saves a running average of the LoRA instead of its last state; 0.99 averages about 100 steps. Smoother, a little behind. Empty is off."""

    seed: int = Field(7, title="Seed", ge=0, le=2**32 - 1)
    """The number all chance comes from. The same seed and settings on the same machine give the same file, byte for byte."""
