"""Facts of a base model from its name alone: family, sampling defaults, sizes, compatible LoRAs. Nothing is downloaded.

They come from the list of bases or from a local folder; of any other base nothing is known before it is downloaded. No torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from studio import families
from studio.core.errors import StudioError
from studio.families.base import Family
from studio.families.facts import BaseFolder, Offer, SamplingDefaults

Fact = TypeVar("Fact")
SIDE_STEP = 64
"""Multiple that suits every family, for a base whose own is not known yet."""
PORTRAIT = 2 / 3
"""Aspect ratio, width to height, of photo prints."""


@dataclass(frozen=True)
class Base:
    """A base model; `family` is None if it is only known after a download."""

    base_model: str
    family: Family | None
    offer: Offer | None
    folder: BaseFolder | None

    @property
    def title(self) -> str:
        """Name in messages."""
        if self.offer:
            return self.offer.name
        if self.folder:
            return self.folder.title
        file = families.as_file(self.base_model)
        return file.name if file else self.base_model

    @property
    def is_local(self) -> bool:
        """Whether all weights are on this computer, so that nothing has to be downloaded."""
        if not (self.folder and self.family):
            return False
        in_the_file = self.family.checkpoint_parts if self.folder.checkpoint else ()
        return all(part in in_the_file or any((self.folder.path / part).glob("*.safetensors")) for part in self.family.models)

    @property
    def sampling(self) -> SamplingDefaults:
        """Sampling settings that the publisher recommends; for the user's own base those of the first Hub base of its family."""
        if self.offer:
            return self.offer.sampling
        if like := self.folder and families.offer(self.folder.reference):
            return like.sampling
        known_by = next((offer for offer in self.family.offers if not offer.folder), None) if self.family else None
        return known_by.sampling if known_by else SamplingDefaults()

    def sampling_settings(self, num_inference_steps: int | None, guidance_scale: float | None) -> dict:
        """Steps and guidance scale of a recipe: the given values, else the recommended ones."""
        recommended = self.sampling
        steps = recommended.num_inference_steps if num_inference_steps is None else num_inference_steps
        return {"num_inference_steps": steps, "guidance_scale": recommended.guidance_scale if guidance_scale is None else guidance_scale}

    @property
    def uses_negative_prompt(self) -> bool:
        if not self.family:
            return True
        if self.folder:
            return self.family.uses_negative_prompt(self._config("", "model_index.json"), self._config(self.family.denoiser_name))
        return self.family.uses_negative_prompt({}, (self.offer and self.offer.denoiser) or {})

    @property
    def width(self) -> int | None:
        """The width that distinguishes its LoRAs from those of other bases of its family."""
        return self.offer.width if self.offer else self._read(self.family.width, None) if self.family else None

    @property
    def resolution(self) -> int | None:
        """Its native resolution: the side of its images in pixels."""
        return self.offer.resolution if self.offer else self._read(self.family.resolution, None) if self.family else None

    @property
    def bucket_step(self) -> int:
        """Sides of training images are multiples of this."""
        return self._read(self.family.bucket_step, SIDE_STEP) if self.family else SIDE_STEP

    @property
    def longest_side(self) -> int | None:
        """Longest side of a training image in pixels; None without a limit, or while that is unknown."""
        return self._read(self.family.longest_side, None) if self.family else None

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Format -> (width, height), each with about the base's native number of pixels; empty while that is unknown."""
        side = self.resolution
        if side is None or self.family is None:
            return {}
        step = self.bucket_step
        narrow = max(step, round(side * math.sqrt(PORTRAIT) / step) * step)
        tall = side * side // narrow // step * step
        return {"square": (side, side), "portrait": (narrow, tall), "landscape": (tall, narrow)}

    def fits(self, family: str, width: int | None) -> bool | None:
        """Whether a LoRA of this family and width works on this base; None while that is unknown."""
        if self.family is None:
            return None
        return family == self.family.name and (None in (width, self.width) or width == self.width)

    def _config(self, component: str, file: str = "config.json") -> dict[str, Any]:
        return self._read(lambda folder: folder.component_config(component, file), {})

    def _read(self, fact: Callable[[BaseFolder], Fact], otherwise: Fact) -> Fact:
        """A fact from its folder; `otherwise` while a download is incomplete."""
        try:
            return fact(self.folder) if self.folder else otherwise
        except (StudioError, KeyError):
            return otherwise


def get_base(base_model: str, revision: str | None = None) -> Base:
    name = (base_model or "").strip()
    return Base(name, families.detect(name, revision), families.offer(name), families.locate_base(name, revision))


def suggest_offer(family: str, width: int | None, stated: str = "") -> Offer | None:
    """The listed base to use a LoRA of this family and width with: the one stated in the LoRA, else a local one, else any."""
    fitting = [offer for known in families.FAMILIES for offer in known.offers if get_base(offer.id).fits(family, width)]
    first = [offer for offer in fitting if offer.id == stated] or [offer for offer in fitting if get_base(offer.id).is_local] or fitting
    return first[0] if first else None
