"""BLIP (Li et al. 2022, arXiv:2201.12086): one short sentence per image. The built-in captioner is a small one of the same architecture."""

from pathlib import Path
from typing import TYPE_CHECKING

from studio import builtin
from studio.datasets.captioners.base import CaptionerInfo, TransformersCaptioner, clean_caption

if TYPE_CHECKING:
    from PIL import Image

LONGEST_CAPTION = 50
"""Maximum new tokens. What exceeds the base's prompt limit has no effect in training."""


class Blip(TransformersCaptioner):
    def __init__(self, folder: Path, device: str):
        from transformers import BlipForConditionalGeneration, BlipProcessor

        super().__init__(folder, device, BlipForConditionalGeneration, BlipProcessor)

    def describe(self, images: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            inputs = self.processor(images=images, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_CAPTION, num_beams=1, do_sample=False)
        return [clean_caption(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]


MODELS = (
    CaptionerInfo(
        name="builtin",
        title="Built-in",
        about="For images like the samples; no download.",
        model=Blip,
        licence="apache-2.0",
        folder=builtin.CAPTIONER_DIR,
    ),
    CaptionerInfo(
        name="blip",
        title="BLIP",
        about="One short sentence per image.",
        model=Blip,
        licence="bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-base",
        # The main branch of this repository has pickles only; this commit is the Hub's own conversion to safetensors.
        revision="9cfcdbcaccbcadb2b53b36d4b50042c4eeaa0c25",
        size="about 990 MB",
    ),
    CaptionerInfo(
        name="blip-large",
        title="BLIP large",
        about="Slightly more accurate, slower.",
        model=Blip,
        licence="bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-large",
        size="about 1.9 GB",
    ),
)
