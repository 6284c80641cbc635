"""Captioners: pictures in, sentences out. Facts are plain values at the top; torch and transformers load with the first captioner.

All are native transformers classes (no remote code), from safetensors alone; those of the Hub are fetched once, at an exact commit.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import builtin
from studio.core.errors import StudioError
from studio.datasets.captions import KEPT_SOURCES
from studio.datasets.dataset import Dataset, Picture
from studio.datasets.trigger_words import with_trigger

if TYPE_CHECKING:
    from PIL import Image

    from studio.jobs.progress import ProgressReporter

NEEDED_FILES = ("*.json", "*.txt", "*.safetensors")
BATCH = {"cpu": 4, "cuda": 16}
LONGEST_ANSWER = {"blip": 50, "florence-2": 160}
"""New tokens at most. A caption longer than a diffusion model's prompt teaches nothing."""


@dataclass(frozen=True)
class Facts:
    """One captioner. `folder` for what ships; otherwise `repo_id`, with a commit where the newest one will not do, and its size as fetched."""

    name: str
    title: str
    about: str
    kind: str
    licence: str
    folder: Path | None = None
    repo_id: str = ""
    revision: str | None = None
    size: str = ""


_ALL = (
    Facts("builtin", "Built-in", "For pictures like the samples; works at once.", "blip", "apache-2.0", folder=builtin.CAPTIONER_DIR),
    # The main branch of this repository holds pickles only; this commit is the Hub's own conversion to safetensors.
    Facts(
        "blip",
        "BLIP",
        "One plain sentence a picture.",
        "blip",
        "bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-base",
        revision="9cfcdbcaccbcadb2b53b36d4b50042c4eeaa0c25",
        size="about 990 MB",
    ),
    Facts(
        "blip-large",
        "BLIP large",
        "A little more exact, slower.",
        "blip",
        "bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-large",
        size="about 1.9 GB",
    ),
    Facts("florence-2", "Florence-2", "Longer, detailed captions.", "florence-2", "mit", repo_id="florence-community/Florence-2-base"),
    Facts(
        "florence-2-large", "Florence-2 large", "The most detailed, the slowest.", "florence-2", "mit", repo_id="florence-community/Florence-2-large"
    ),
)
CAPTIONERS = {facts.name: facts for facts in _ALL}


class Captioner(ABC):
    """A loaded captioner on a device."""

    def __init__(self, folder: Path, device: str):
        self.device = device
        self.batch_size = BATCH[device]

    @abstractmethod
    def describe(self, pictures: "list[Image.Image]") -> list[str]:
        """One sentence for each RGB picture, in their order."""


class _Blip(Captioner):
    def __init__(self, folder: Path, device: str):
        super().__init__(folder, device)
        import torch
        from transformers import BlipForConditionalGeneration, BlipProcessor

        self.processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
        self.model = _loaded(BlipForConditionalGeneration, folder, device)
        self.inference_mode = torch.inference_mode

    def describe(self, pictures: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            inputs = self.processor(images=pictures, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_ANSWER["blip"], num_beams=1, do_sample=False)
        return [tidy(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]


class _Florence(Captioner):
    TASK = "<MORE_DETAILED_CAPTION>"

    def __init__(self, folder: Path, device: str):
        super().__init__(folder, device)
        import torch
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        self.processor = Florence2Processor.from_pretrained(folder, local_files_only=True)
        self.model = _loaded(Florence2ForConditionalGeneration, folder, device)
        self.inference_mode = torch.inference_mode

    def describe(self, pictures: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            # The task must be the only text (Florence2Processor).
            inputs = self.processor(text=[self.TASK] * len(pictures), images=pictures, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_ANSWER["florence-2"], num_beams=3, do_sample=False)
        texts = self.processor.batch_decode(tokens, skip_special_tokens=False)
        answers = [
            self.processor.post_process_generation(text=text, task=self.TASK, image_size=picture.size) for text, picture in zip(texts, pictures)
        ]
        return [tidy(answer[self.TASK]) for answer in answers]


KINDS = {"blip": _Blip, "florence-2": _Florence}


def load(name: str, device: str = "cpu", on_progress: Callable[[int, int], None] | None = None) -> Captioner:
    """The captioner of that name, fetched from the Hub if it is not here yet; on_progress(bytes done, bytes in all)."""
    if name not in CAPTIONERS:
        raise StudioError(f"Unknown captioner {name!r}; known captioners: {', '.join(CAPTIONERS)}.")
    facts = CAPTIONERS[name]
    folder = facts.folder or _fetched(facts, on_progress)
    if not any(folder.glob("*.safetensors")):
        raise StudioError(f"{facts.title} has no safetensors weights in {folder}; pickle files can run code and are never opened.")
    return KINDS[facts.kind](folder, device)


def _fetched(facts: Facts, on_progress: Callable[[int, int], None] | None) -> Path:
    from studio.hub import client

    try:
        return client.download_model(facts.repo_id, NEEDED_FILES, facts.revision, on_progress=on_progress).path
    except StudioError as error:
        size = f" ({facts.size})" if facts.size else ""
        raise StudioError(f"{facts.title} has to be fetched once from the Hub{size}. {error} The built-in captioner works without it.") from None


def _loaded(model_class: type, folder: Path, device: str):
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return model_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True).to(device).eval()


def tidy(text: str) -> str:
    """The sentence without what decoders leave behind: the start token ([DEC], not registered as special in BLIP's files), and BLIP's
    made-up words ("arafed")."""
    text = re.sub(r"</?s>|<pad>|\[(?:DEC|CLS|SEP|PAD)\]", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:there is |there are )?(?:arafed|araffed|araffe|araffy)\b", " ", text)
    return " ".join(text.split()).strip(" .,")


def caption_dataset(dataset: Dataset, name: str, captioner: Captioner, only_empty: bool, report: "ProgressReporter", class_noun: str = "") -> dict:
    """Caption a dataset's pictures; each caption is saved as it comes, so that a stop or crash loses none. {"captioned", "kept", "failed"}.

    What a person wrote or brought is never overwritten; `only_empty` keeps other captioners' words too.
    """
    from PIL import Image

    pictures = dataset.pictures
    wanted = [p for p in pictures if not p.caption or (not only_empty and p.caption_source not in KEPT_SOURCES)]
    written = failed = 0
    subject, trigger_word = dataset.subject, dataset.trigger_word
    for start in range(0, len(wanted), captioner.batch_size):
        report(start, len(wanted), "Looking at the pictures")
        batch: list[tuple[Picture, Image.Image]] = []
        for picture in wanted[start : start + captioner.batch_size]:
            try:
                # Our own canonical PNG, written by the decoder.
                with Image.open(picture.file, formats=["PNG"]) as opened:
                    batch.append((picture, opened.convert("RGB")))
            except OSError:
                failed += 1
        sentences = captioner.describe([image for _, image in batch]) if batch else []
        for (picture, _), sentence in zip(batch, sentences, strict=True):
            text = with_trigger(sentence, trigger_word, subject, picture.looks_like_photo, class_noun)
            written += dataset.set_caption(picture.id, text, name)
    report(len(wanted), len(wanted), "Done")
    return {"captioned": written, "kept": len(pictures) - written - failed, "failed": failed}
