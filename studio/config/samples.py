"""Sample images generated during training."""

from pydantic import BaseModel, ConfigDict, Field

from studio.config.recipe import DEFAULT_RECIPE, Guidance, Seed, Steps

SHARES = (0.1, 0.25, 0.5, 0.75)
"""Columns before the last one, as shares of the steps."""
CLOSEST = 10
"""Fewest steps between two of these columns: a very short run would spend most of its time on samples."""


class SamplesConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompts: list[str] = Field(default_factory=list, title="Sample prompts", max_length=12)
    """One row of the sample grid per prompt. Useful ones: a prompt with the trigger word, the same without it, and a scene that no training image shows."""

    every: int | None = Field(None, title="Sample every N steps", ge=1, le=100_000)
    """Adds a column to the sample grid every N steps. The LoRA of each column is saved, so that you can use an earlier one. Empty: at 10, 25, 50, 75 and 100 % of the steps."""

    seed: Seed = Field(DEFAULT_RECIPE.seed, title="Sample seed")
    """Seed of every sample. It is the same for all columns, so that differences come from training alone."""

    num_inference_steps: Steps = Field(DEFAULT_RECIPE.num_inference_steps, title="Sample inference steps")
    """Denoising steps per sample (num_inference_steps). More is finer and slower."""

    resolution: int | None = Field(None, title="Sample resolution", ge=64, le=2048, multiple_of=8)
    """Side of the samples in pixels. Empty is the base model's own resolution; smaller is faster."""

    guidance_scale: Guidance = Field(DEFAULT_RECIPE.guidance_scale, title="Sample guidance scale")
    """How strictly samples follow the prompt (classifier-free guidance). Higher also raises contrast; too high looks oversaturated."""

    def columns(self, total: int) -> list[int]:
        """Steps after which an adapter is saved and a column generated, for `total` steps of training. The last step is one of them."""
        if self.every:
            return [*range(self.every, total, self.every), total]
        columns = [0]
        for share in SHARES:
            step = round(total * share)
            if step - columns[-1] >= CLOSEST and total - step >= CLOSEST:
                columns.append(step)
        return [*columns[1:], total]
