"""Training loop settings: steps, batch size, learning rate, loss and seed."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from studio.config import optimizers, schedules
from studio.config.extension import Extension
from studio.config.registry import NOT_A_SETTING, OneOf, described


class TrainingConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_train_steps: int = Field(1500, title="Training steps", ge=1, le=200_000)
    """Number of optimizer steps. More come closer to your images; too many overfit: images are copied and prompts ignored. Watch the sample grid and use an earlier step if that happens."""

    train_batch_size: int = Field(1, title="Batch size", ge=1, le=64)
    """Images per forward and backward pass. Higher gives smoother training and needs more memory and more time per step."""

    gradient_accumulation_steps: int = Field(1, title="Gradient accumulation steps", ge=1, le=256)
    """Sums the gradients of this many batches before each optimizer step. Acts like a larger batch without its memory; each step takes that many times longer."""

    learning_rate: float = Field(1e-4, title="Learning rate", gt=0, le=1)
    """How big each step is. Higher trains faster and becomes unstable sooner; lower is slower and safer. If samples turn to noise, halve it."""

    text_encoder_learning_rate: float | None = Field(None, title="Text encoder learning rate", gt=0, le=1)
    """Learning rate of the text encoders, if they are trained. Empty is a tenth of the learning rate, because text encoders overfit sooner."""

    optimizer: Annotated[str, OneOf(lambda: optimizers.OPTIMIZERS)] = Field(
        "adamw", title="Optimizer", description=described("How a step is computed from the gradient.", optimizers.OPTIMIZERS)
    )

    lr_scheduler: Annotated[str, OneOf(lambda: schedules.SCHEDULES)] = Field(
        "constant", title="LR scheduler", description=described("How the learning rate changes after warm-up.", schedules.SCHEDULES)
    )

    lr_num_cycles: int = Field(1, title="LR scheduler cycles", ge=1, le=1000)
    """Number of cosine cycles of cosine_with_restarts; 1 is one cosine without a restart. Other schedulers ignore it."""

    lr_power: float = Field(1.0, title="LR scheduler power", gt=0, le=100)
    """Exponent of polynomial: 1 decays linearly, above 1 faster at first, below 1 later. Other schedulers ignore it."""

    lr_warmup_steps: int = Field(0, title="Warm-up steps", ge=0, le=10_000)
    """The learning rate grows linearly from zero over this many steps. A short warm-up avoids an unstable start. 0 is off."""

    extensions: Annotated[tuple[Extension, ...], NOT_A_SETTING] = ()
    """Steps that were added after the run had finished, in order. Runs extended by version 0.1 have no entry: their schedule is stretched."""

    weight_decay: float = Field(1e-2, title="Weight decay", ge=0, le=1)
    """Pulls the trained weights towards zero at every step. Higher regularises more. 0.01 is usual."""

    max_grad_norm: float = Field(1.0, title="Max gradient norm", gt=0, le=1000)
    """Gradients are clipped to this norm, which limits the effect of a single unusual image. Lower is safer for datasets that vary a lot. 1 is usual."""

    min_snr_gamma: float | None = Field(None, title="Min-SNR gamma", gt=0, le=100)
    """Weights the loss of noise levels by their signal-to-noise ratio, which often converges faster. 5 is usual. Empty is off."""

    noise_offset: float = Field(0.0, title="Noise offset", ge=0, le=1)
    """Adds a random brightness shift to the noise, so that very dark and very bright images can be learned. 0.05 to 0.1 is usual for Stable Diffusion; too much makes images grey. 0 is off."""

    timestep_density: Literal["uniform", "logit_normal"] | None = Field(None, title="Timestep density")
    """Distribution of the training timesteps. uniform samples all noise levels equally; logit_normal favours the middle ones, where shapes are decided. Empty is the family's default."""

    timestep_shift: float | None = Field(None, title="Timestep shift", gt=0, le=100)
    """Above 1 trains more on high noise levels, where layout is decided; below 1 on low ones, where texture is. Flow-matching families only. Empty is the base's own shift."""

    ema_decay: float | None = Field(None, title="EMA decay", gt=0, lt=1)
    """Saves an exponential moving average of the LoRA weights instead of the last ones. 0.99 averages about 100 steps: smoother, slightly behind. The first steps average fewer. Empty is off."""

    seed: int = Field(7, title="Seed", ge=0, le=2**32 - 1)
    """Seed of all random numbers. The same seed and settings on the same machine produce the same file, byte for byte."""
