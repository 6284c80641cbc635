"""Pictures held back, to see whether it learns or copies."""

from pydantic import BaseModel, ConfigDict, Field


class ValidationConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    pictures: int = Field(0, title="Pictures held back", ge=0, le=1000)
    """So many pictures teach nothing and are only asked about. While their loss falls too it learns; when it rises again it copies. 0 is off; 2 to 5 of 25 are usual."""

    every: int = Field(50, title="Ask every (steps)", ge=1, le=100_000)
    """How often the held-back pictures are asked about, always with the same noise, so that only the learning changes the answer."""
