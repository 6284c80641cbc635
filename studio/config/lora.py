"""The shape of the small file that is learnt."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoraConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: int = Field(16, title="Detail it can hold (rank)", ge=1, le=512)
    """How much the LoRA can remember. Higher learns finer detail, makes a larger file and copies the pictures sooner; 8 to 32 suits most."""

    alpha: float | None = Field(None, title="Push (alpha)", gt=0, le=2048)
    """How strongly what was learnt is applied: scale = alpha / rank. Higher learns faster and breaks sooner; leave it equal to the rank unless you know why."""

    target_modules: list[str] | None = Field(None, title="Layers to teach (target modules)")
    """Names of the layers that learn. Empty takes the family's usual ones: attention and feed-forward."""

    dropout: float = Field(0.0, title="Forget a little (LoRA dropout)", ge=0, le=0.9)
    """Randomly switches off part of the LoRA while it learns. A little (0.05 to 0.1) delays copying when there are few pictures."""

    method: Literal["lora", "dora", "lokr"] = Field("lora", title="Kind of adapter")
    """lora is what every program reads. dora also learns each layer's length: finer at low rank, a third slower. lokr is a smaller file, for families that can read it back."""

    text_encoder: bool = Field(False, title="Teach the text encoder too")
    """Also teaches the part that reads the prompt (CLIP). Helps a new word to mean one thing; takes memory, since that part must stay loaded."""

    start_from: str | None = Field(None, title="Start from a LoRA", max_length=300)
    """Goes on learning from this LoRA instead of from nothing. It must have the same rank and layers; empty starts fresh."""

    @model_validator(mode="before")
    @classmethod
    def alpha_follows_rank(cls, values):
        """An alpha that was not given is the rank, so that a stored config always says the number that was used."""
        if isinstance(values, dict) and values.get("alpha") is None:
            values = {**values, "alpha": values.get("rank", cls.model_fields["rank"].default)}
        return values

    @property
    def scale(self) -> float:
        return self.alpha / self.rank
