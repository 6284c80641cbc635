"""Captioners: models that write captions for images. The list is plain data; torch and transformers are imported with the first captioner.

All are native transformers classes (no remote code) with safetensors weights; those on the Hub are downloaded once, at an exact commit.
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
from studio.datasets.dataset import Dataset, DatasetImage
from studio.datasets.trigger_words import add_trigger

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel

    from studio.jobs.progress import ProgressReporter

NEEDED_FILES = ("*.json", "*.txt", "*.safetensors")
BATCH = {"cpu": 4, "cuda": 16}
LONGEST_ANSWER = {"blip": 50, "florence-2": 160}
"""Kind -> maximum new tokens. What exceeds the base's prompt limit has no effect in training."""


@dataclass(frozen=True)
class CaptionerInfo:
    """A listed captioner: `folder` of the built-in one, else `repo_id`, a commit if the newest does not work, and the download size."""

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
    CaptionerInfo("builtin", "Built-in", "For images like the samples; no download.", "blip", "apache-2.0", folder=builtin.CAPTIONER_DIR),
    # The main branch of this repository has pickles only; this commit is the Hub's own conversion to safetensors.
    CaptionerInfo(
        "blip",
        "BLIP",
        "One short sentence per image.",
        "blip",
        "bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-base",
        revision="9cfcdbcaccbcadb2b53b36d4b50042c4eeaa0c25",
        size="about 990 MB",
    ),
    CaptionerInfo(
        "blip-large",
        "BLIP large",
        "Slightly more accurate, slower.",
        "blip",
        "bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-large",
        size="about 1.9 GB",
    ),
    CaptionerInfo("florence-2", "Florence-2", "Longer, detailed captions.", "florence-2", "mit", repo_id="florence-community/Florence-2-base"),
    CaptionerInfo(
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
    def describe(self, images: "list[Image.Image]") -> list[str]:
        """A caption for each RGB image, in order."""


class _Blip(Captioner):
    def __init__(self, folder: Path, device: str):
        super().__init__(folder, device)
        import torch
        from transformers import BlipForConditionalGeneration, BlipProcessor

        self.processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
        self.model = _loaded(BlipForConditionalGeneration, folder, device)
        self.inference_mode = torch.inference_mode

    def describe(self, images: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            inputs = self.processor(images=images, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_ANSWER["blip"], num_beams=1, do_sample=False)
        return [clean_caption(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]


class _Florence(Captioner):
    TASK = "<MORE_DETAILED_CAPTION>"

    def __init__(self, folder: Path, device: str):
        super().__init__(folder, device)
        import torch
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        self.processor = Florence2Processor.from_pretrained(folder, local_files_only=True)
        self.model = _loaded(Florence2ForConditionalGeneration, folder, device)
        self.inference_mode = torch.inference_mode

    def describe(self, images: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            # The task must be the only text (Florence2Processor).
            inputs = self.processor(text=[self.TASK] * len(images), images=images, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_ANSWER["florence-2"], num_beams=3, do_sample=False)
        texts = self.processor.batch_decode(tokens, skip_special_tokens=False)
        answers = [self.processor.post_process_generation(text=text, task=self.TASK, image_size=image.size) for text, image in zip(texts, images)]
        return [clean_caption(answer[self.TASK]) for answer in answers]


KINDS = {"blip": _Blip, "florence-2": _Florence}


def load(name: str, device: str = "cpu", on_progress: Callable[[int, int], None] | None = None) -> Captioner:
    """Load a captioner, downloaded from the Hub if necessary; on_progress(bytes done, total bytes)."""
    if name not in CAPTIONERS:
        raise StudioError(f"Unknown captioner {name!r}; known captioners: {', '.join(CAPTIONERS)}.")
    facts = CAPTIONERS[name]
    folder = facts.folder or _fetched(facts, on_progress)
    if not any(folder.glob("*.safetensors")):
        raise StudioError(f"{facts.title} has no safetensors weights in {folder}. Pickle files can run code and are never opened.")
    return KINDS[facts.kind](folder, device)


def _fetched(facts: CaptionerInfo, on_progress: Callable[[int, int], None] | None) -> Path:
    from studio.hub import client

    try:
        return client.download_model(facts.repo_id, NEEDED_FILES, facts.revision, on_progress=on_progress).path
    except StudioError as error:
        size = f" ({facts.size})" if facts.size else ""
        raise StudioError(f"{facts.title} has to be downloaded once from the Hub{size}. {error} The built-in captioner needs no download.") from None


def _loaded(model_class: "type[PreTrainedModel]", folder: Path, device: str):
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return model_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True).to(device).eval()


def clean_caption(text: str) -> str:
    """The caption without decoding artefacts: start tokens ([DEC] is not registered as special in BLIP's files) and BLIP's invented words
    ("arafed")."""
    text = re.sub(r"</?s>|<pad>|\[(?:DEC|CLS|SEP|PAD)\]", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:there is |there are )?(?:arafed|araffed|araffe|araffy)\b", " ", text)
    return " ".join(text.split()).strip(" .,")


def caption_dataset(dataset: Dataset, name: str, captioner: Captioner, only_empty: bool, report: "ProgressReporter", class_noun: str = "") -> dict:
    """Caption a dataset's pictures; each caption is saved as it comes, so that a stop or crash loses none. {"captioned", "kept", "failed"}.

    Typed and imported captions are never overwritten; `only_empty` also keeps those of other captioners.
    """
    from PIL import Image

    images = dataset.images
    todo = [p for p in images if not p.caption or (not only_empty and p.caption_source not in KEPT_SOURCES)]
    written = failed = 0
    subject, trigger_word = dataset.subject, dataset.trigger_word
    for start in range(0, len(todo), captioner.batch_size):
        report(start, len(todo), "Captioning images")
        batch: list[tuple[DatasetImage, Image.Image]] = []
        for image in todo[start : start + captioner.batch_size]:
            try:
                # The studio's canonical PNG, written by the decoder.
                with Image.open(image.file, formats=["PNG"]) as opened:
                    batch.append((image, opened.convert("RGB")))
            except OSError:
                failed += 1
        captions = captioner.describe([pixels for _, pixels in batch]) if batch else []
        for (image, _), caption in zip(batch, captions, strict=True):
            text = add_trigger(caption, trigger_word, subject, image.looks_like_photo, class_noun)
            written += dataset.set_caption(image.id, text, name)
    report(len(todo), len(todo), "Done")
    return {"captioned": written, "kept": len(images) - written - failed, "failed": failed}
