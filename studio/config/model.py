"""Base model."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studio.config.recipe import DEFAULT_RECIPE, resolve_family


class ModelConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    family: str = Field("", title="Family")
    """Architecture of the base model. Filled in from the base when empty. A LoRA works only with the family it was trained on."""

    base_model: str = Field(DEFAULT_RECIPE.base_model, title="Base model", min_length=1, max_length=500)
    """The model that the LoRA is trained on: the built-in one, a Hugging Face Hub id such as owner/name, or a folder or .safetensors file on this computer. Its own weights are not changed."""

    revision: str | None = Field(None, title="Base revision", max_length=100)
    """Branch, tag or commit of the base on the Hub; for a single file, of the base that its other parts come from. Empty uses the newest commit and records it."""

    resolve_family = model_validator(mode="before")(resolve_family)
