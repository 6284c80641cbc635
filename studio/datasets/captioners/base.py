"""The contract of a captioner: its facts, and a class that loads it and writes captions. No torch at import."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin

BATCH = {"cpu": 4, "cuda": 16}


class Captioner(ABC):
    """A loaded captioner on a device."""

    least_likelihood = 0.0
    """Geometric mean of the probabilities of a caption's tokens below which the image is not known; see CaptionerInfo."""

    def __init__(self, folder: Path, device: str):
        self.device = device
        self.batch_size = BATCH[device]

    @abstractmethod
    def describe(self, images: "list[Image.Image]") -> list[str]:
        """A caption for each RGB image, in order; empty for an image that the captioner does not know."""


class TransformersCaptioner(Captioner):
    """A captioner with a model and a processor of transformers, from safetensors only; in 16 bits on a GPU."""

    def __init__(self, folder: Path, device: str, model_class: "type[PreTrainedModel]", processor_class: "type[ProcessorMixin]"):
        super().__init__(folder, device)
        import torch

        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.processor = processor_class.from_pretrained(folder, local_files_only=True)
        model = model_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        self.model = model.to(device).eval()
        self.inference_mode = torch.inference_mode


@dataclass(frozen=True, kw_only=True)
class CaptionerInfo:
    """A listed captioner: a folder of this installation, or a repository on the Hub."""

    name: str
    """Its value in commands, jobs and datasets, so it never changes."""
    title: str
    about: str
    """One sentence for the form and the documents."""
    model: type[Captioner]
    licence: str
    """As the Hub spells it."""
    folder: Path | None = None
    repo_id: str = ""
    revision: str | None = None
    """A commit, if the main branch has no safetensors."""
    size: str = ""
    """Of the download. Empty if it is not known."""
    seconds: int = 0
    """For an image on two CPU cores, measured with random weights and captions of 12 tokens. 0 if it is not known."""
    least_likelihood: float = 0.0
    """For a captioner that knows a small world only: captions less likely than this, or with a repetition, are discarded."""


LONGEST_LOOP = 8
"""Words of the longest repeated phrase that is looked for."""
LEAST_REPEATS = 3
"""A phrase that follows itself this often is a loop: "very very" and "a cat and a cat" are not."""


def without_loops(text: str) -> str:
    """The caption with each repetition loop of the decoder shortened to one: "a large large large cat" -> "a large cat"."""
    words = text.split()
    start = 0
    while start < len(words):
        for length in range(1, LONGEST_LOOP + 1):
            phrase = _plain(words[start : start + length])
            end = start + length
            while _plain(words[end : end + length]) == phrase:
                end += length
            if end - start >= LEAST_REPEATS * length:
                # A caption that was cut at the limit ends within its phrase.
                cut = len(words) - end
                if 0 < cut < length and _plain(words[end:]) == phrase[:cut]:
                    end = len(words)
                del words[start + length : end]
        start += 1
    return " ".join(words).strip(" ,")


def _plain(words: list[str]) -> list[str]:
    return [word.strip(",.;").lower() for word in words]


def clean_caption(text: str) -> str:
    """The caption without decoding artefacts: start tokens ([DEC] is not registered as special in BLIP's files) and BLIP's invented words
    ("arafed")."""
    text = re.sub(r"</?s>|<pad>|\[(?:DEC|CLS|SEP|PAD)\]", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:there is |there are )?(?:arafed|araffed|araffe|araffy)\b", " ", text)
    return " ".join(text.split()).strip(" .,")
