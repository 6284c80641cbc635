"""Pictures by the base itself, learnt beside one's own, so that it does not forget what the rest of a kind looks like."""

from pydantic import BaseModel, ConfigDict, Field


class PriorConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompt: str = Field("", title="What the kind is called", max_length=400)
    """The prompt without the trigger word, such as “a photo of a dog”. The base draws these regularisation pictures before the start. Empty is off."""

    pictures: int = Field(50, title="Regularisation pictures", ge=1, le=1000)
    """How many the base draws, once, before the first step. More keep more of what it knew."""

    weight: float = Field(1.0, title="How much they count", ge=0, le=10)
    """Weight of the regularisation pictures beside yours. Higher forgets less and learns slower; every step takes about twice as long with them."""
