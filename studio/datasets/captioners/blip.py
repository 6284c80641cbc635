"""BLIP (Li et al. 2022, arXiv:2201.12086): one short sentence per image. The built-in captioner is a small one of the same architecture."""

from pathlib import Path
from typing import TYPE_CHECKING

from studio import builtin
from studio.datasets.captioners.base import CaptionerInfo, TransformersCaptioner, clean_caption, without_loops

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

LONGEST_CAPTION = 50
"""Maximum new tokens. What exceeds the base's prompt limit has no effect in training."""
THUMBNAIL = (384, 384)
"""Size for which looks_like_photo was tuned."""


class Blip(TransformersCaptioner):
    def __init__(self, folder: Path, device: str):
        from transformers import BlipForConditionalGeneration, BlipProcessor

        super().__init__(folder, device, BlipForConditionalGeneration, BlipProcessor)

    def describe(self, images: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            inputs = self.processor(images=images, return_tensors="pt").to(self.device, self.model.dtype)
            options = {"max_new_tokens": LONGEST_CAPTION, "num_beams": 1, "do_sample": False}
            written = self.model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
        texts = [clean_caption(text) for text in self.processor.batch_decode(written.sequences, skip_special_tokens=True)]
        if not self.least_likelihood:
            return texts
        likelihoods = _likelihoods(written.sequences, written.logits)
        return [text if self._knows(*each) else "" for text, each in zip(texts, zip(images, texts, likelihoods))]

    def _knows(self, image: "Image.Image", text: str, likelihood: float) -> bool:
        """Whether the image is of the captioner's small world: no photograph, and a caption that is likely and does not repeat itself."""
        # Imports Pillow, which the web process does not.
        from studio.datasets.importing.decode import looks_like_photo

        thumbnail = image.copy()
        thumbnail.thumbnail(THUMBNAIL)
        return likelihood >= self.least_likelihood and text == without_loops(text) and not looks_like_photo(thumbnail)


def _likelihoods(sequences_BT: "Tensor", logits: "tuple[Tensor, ...]") -> list[float]:
    """Geometric mean of the probabilities of each caption's tokens, from its first word to its end."""
    import torch

    logits_BTV = torch.stack(logits, dim=1).float()
    tokens_BT = sequences_BT[:, -logits_BTV.shape[1] :]
    log_probabilities_BT = logits_BTV.log_softmax(-1).gather(-1, tokens_BT.unsqueeze(-1)).squeeze(-1)
    # Shorter captions of a batch are padded after their end with the token 0 of BERT's vocabulary.
    written_BT = tokens_BT != 0
    return ((log_probabilities_BT * written_BT).sum(1) / written_BT.sum(1).clamp(min=1)).exp().tolist()


MODELS = (
    CaptionerInfo(
        name="builtin",
        title="Built-in",
        about="For images like the samples; no download.",
        model=Blip,
        licence="apache-2.0",
        folder=builtin.CAPTIONER_DIR,
        least_likelihood=0.7,
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
        seconds=2,
    ),
    CaptionerInfo(
        name="blip-large",
        title="BLIP large",
        about="Slightly more accurate, slower.",
        model=Blip,
        licence="bsd-3-clause",
        repo_id="Salesforce/blip-image-captioning-large",
        size="about 1.9 GB",
        seconds=5,
    ),
)
