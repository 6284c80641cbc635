"""LoRA settings: rank, alpha, layers, kind of adapter."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoraConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(16, title="Rank", ge=1, le=512)
    """Size of the LoRA matrices, and so how much the LoRA can learn. Higher learns finer detail, makes a larger file and overfits sooner. 8 to 32 suits most datasets."""

    alpha: float | None = Field(None, title="Alpha", gt=0, le=2048)
    """Scales the LoRA by alpha / rank. Higher trains faster and becomes unstable sooner. Empty is equal to the rank, a scale of 1."""

    target_modules: list[str] | None = Field(None, title="Target modules")
    """Names, or ends of names, of the layers that get LoRA matrices. Empty is the family's default: attention and feed-forward."""

    dropout: float = Field(0.0, title="LoRA dropout", ge=0, le=0.9)
    """Probability of dropping each input of the LoRA during training. 0.05 to 0.1 delays overfitting on few images. 0 is off."""

    method: Literal["lora", "dora", "lokr"] = Field("lora", title="Adapter type")
    """lora is read by every program. dora also trains the magnitude of each layer: better at low rank, a third slower. lokr makes a smaller file, for the families that can load it."""

    text_encoder: bool = Field(False, title="Train text encoder")
    """Also trains a LoRA on the text encoders (CLIP). Binds a new word to its meaning more firmly. Needs more memory, because the text encoders stay loaded."""

    start_from: str | None = Field(None, title="Start from a LoRA", max_length=300)
    """Initial weights: training continues from this LoRA, which must have the same rank and layers. Empty starts a new LoRA."""

    @model_validator(mode="before")
    @classmethod
    def alpha_follows_rank(cls, values):
        """Fill in a missing alpha with the rank, so that a stored config contains the value that was used."""
        if isinstance(values, dict) and values.get("alpha") is None:
            values = {**values, "alpha": values.get("rank", cls.model_fields["rank"].default)}
        return values

    @property
    def filled_alpha(self) -> float:
        """Alpha as a number, for arithmetic."""
        assert self.alpha is not None, "alpha_follows_rank fills it in."
        return self.alpha

    @property
    def scale(self) -> float:
        return self.filled_alpha / self.rank
