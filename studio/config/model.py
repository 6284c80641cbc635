"""Which base model is taught."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studio.config.recipe import USUAL, follow_base


class ModelConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    family: str = Field("", title="Family")
    """The kind of base model. It follows from the base: empty is filled in as soon as that is known. A LoRA works only with the family it was trained on."""

    base_model: str = Field(USUAL.base_model, title="Base model", min_length=1, max_length=500)
    """The model that learns: the one that ships with the studio, a Hugging Face Hub id such as owner/name, or a folder or .safetensors file on this computer. It stays as it is; the LoRA is a small file on top."""

    revision: str | None = Field(None, title="Base revision", max_length=100)
    """Which version of the base on the Hub; for a single file, of the base that its other parts are taken from. Empty takes the newest and writes down exactly which one that was."""

    follow_base = model_validator(mode="before")(follow_base)
