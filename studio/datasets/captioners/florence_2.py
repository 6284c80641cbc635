"""Florence-2 (Xiao et al. 2023, arXiv:2311.06242): long, detailed captions."""

from pathlib import Path
from typing import TYPE_CHECKING

from studio.datasets.captioners.base import CaptionerInfo, TransformersCaptioner, clean_caption

if TYPE_CHECKING:
    from PIL import Image

LONGEST_CAPTION = 160
"""Maximum new tokens. What exceeds the base's prompt limit has no effect in training."""


class Florence2(TransformersCaptioner):
    TASK = "<MORE_DETAILED_CAPTION>"

    def __init__(self, folder: Path, device: str):
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        super().__init__(folder, device, Florence2ForConditionalGeneration, Florence2Processor)

    def describe(self, images: "list[Image.Image]") -> list[str]:
        with self.inference_mode():
            # The task must be the only text (Florence2Processor).
            inputs = self.processor(text=[self.TASK] * len(images), images=images, return_tensors="pt").to(self.device, self.model.dtype)
            tokens = self.model.generate(**inputs, max_new_tokens=LONGEST_CAPTION, num_beams=3, do_sample=False)
        texts = self.processor.batch_decode(tokens, skip_special_tokens=False)
        answers = [self.processor.post_process_generation(text=text, task=self.TASK, image_size=image.size) for text, image in zip(texts, images)]
        return [clean_caption(answer[self.TASK]) for answer in answers]


MODELS = (
    CaptionerInfo(
        name="florence-2",
        title="Florence-2",
        about="Longer, detailed captions.",
        model=Florence2,
        licence="mit",
        repo_id="florence-community/Florence-2-base",
    ),
    CaptionerInfo(
        name="florence-2-large",
        title="Florence-2 large",
        about="The most detailed, the slowest.",
        model=Florence2,
        licence="mit",
        repo_id="florence-community/Florence-2-large",
    ),
)
