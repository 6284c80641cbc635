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

    def __init__(self, folder: Path, device: str):
        self.device = device
        self.batch_size = BATCH[device]

    @abstractmethod
    def describe(self, images: "list[Image.Image]") -> list[str]:
        """A caption for each RGB image, in order."""


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


def clean_caption(text: str) -> str:
    """The caption without decoding artefacts: start tokens ([DEC] is not registered as special in BLIP's files) and BLIP's invented words
    ("arafed")."""
    text = re.sub(r"</?s>|<pad>|\[(?:DEC|CLS|SEP|PAD)\]", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:there is |there are )?(?:arafed|araffed|araffe|araffy)\b", " ", text)
    return " ".join(text.split()).strip(" .,")
