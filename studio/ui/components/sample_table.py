"""Table of sample images: a row per prompt; the columns are checkpoints of one run, or several runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleImage:
    url: str
    alt: str


@dataclass(frozen=True)
class SampleRow:
    """A prompt with its image in each column; None where there is none. `kind` says what the prompt tests."""

    prompt: str
    images: list[SampleImage | None]
    kind: str = ""
