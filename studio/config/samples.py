"""The pictures drawn while it learns."""

from pydantic import BaseModel, ConfigDict, Field

from studio.config.recipe import USUAL, Guidance, Seed, Steps


class SamplesConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompts: list[str] = Field(default_factory=list, title="Sample prompts", max_length=12)
    """One row of the film each: good ones are a prompt with the trigger word, the same without it, and a scene that no picture shows."""

    every: int = Field(250, title="Draw samples every (steps)", ge=1, le=100_000)
    """A new column of the film each so many steps. The LoRA of every column is kept, so you can take an earlier one."""

    seed: Seed = Field(USUAL.seed, title="Sample seed")
    """The same for every column, so that only the learning changes the picture."""

    num_inference_steps: Steps = Field(USUAL.num_inference_steps, title="Drawing steps (num_inference_steps)")
    """How carefully each sample is drawn. More is finer and slower."""

    resolution: int | None = Field(None, title="Sample size", ge=64, le=2048, multiple_of=8)
    """The side of the samples in pixels. Empty draws at the base model's own size; smaller is quicker."""

    guidance_scale: Guidance = Field(USUAL.guidance_scale, title="Obey the prompt (guidance scale)")
    """Higher follows the prompt more strictly with stronger contrast; too high looks burnt."""
