"""What is known of a base model from its name alone: family, how it is drawn with, which sizes it draws, whose LoRAs it takes. Nothing is fetched.

An offer says it of itself; a folder on this computer is looked into; of anything else nothing is known before it is here. No torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from studio import families
from studio.core.errors import StudioError
from studio.families.base import Family
from studio.families.facts import BaseFolder, Drawing, Offer

Fact = TypeVar("Fact")
SIDE_STEP = 64
"""Suits every family, for a base whose own step cannot be looked up yet."""
PORTRAIT = 2 / 3
"""Width to height, as printed photographs have it."""


@dataclass(frozen=True)
class Base:
    """One base model that somebody may choose; `family` is None where only fetching it would tell."""

    base_model: str
    family: Family | None
    offer: Offer | None
    folder: BaseFolder | None

    @property
    def title(self) -> str:
        """In a sentence."""
        if self.offer:
            return self.offer.name
        if self.folder:
            return self.folder.title
        file = families.as_file(self.base_model)
        return file.name if file else self.base_model

    @property
    def here(self) -> bool:
        """Whether its weights are on this computer, so that nothing has to be fetched."""
        if not (self.folder and self.family):
            return False
        in_the_file = self.family.checkpoint_parts if self.folder.checkpoint else ()
        return all(part in in_the_file or any((self.folder.path / part).glob("*.safetensors")) for part in self.family.models)

    @property
    def drawing(self) -> Drawing:
        """Of the makers; for somebody's own base those of the base that its family is known by."""
        if self.offer:
            return self.offer.drawing
        if like := self.folder and families.offer(self.folder.reference):
            return like.drawing
        known_by = next((offer for offer in self.family.offers if not offer.folder), None) if self.family else None
        return known_by.drawing if known_by else Drawing()

    def drawn(self, num_inference_steps: int | None, guidance_scale: float | None) -> dict:
        """A recipe's two numbers: those that somebody gave, else the makers'."""
        usual = self.drawing
        steps = usual.num_inference_steps if num_inference_steps is None else num_inference_steps
        return {"num_inference_steps": steps, "guidance_scale": usual.guidance_scale if guidance_scale is None else guidance_scale}

    @property
    def uses_negative_prompt(self) -> bool:
        if not self.family:
            return True
        if self.folder:
            index = self._read(lambda folder: folder.component_config("", "model_index.json"), {})
            return self.family.uses_negative_prompt(index, self._read(lambda folder: folder.component_config(self.family.denoiser_name), {}))
        return self.family.uses_negative_prompt({}, (self.offer and self.offer.denoiser) or {})

    @property
    def width(self) -> int | None:
        """What tells its LoRAs from those of the other members of its family."""
        return self.offer.width if self.offer else self._read(self.family.width, None) if self.family else None

    @property
    def resolution(self) -> int | None:
        """The side of the pictures it was made for."""
        return self.offer.resolution if self.offer else self._read(self.family.resolution, None) if self.family else None

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """(width, height) by what it is called, each of about as many pixels as the base was made for; empty while that is not known."""
        side = self.resolution
        if side is None or self.family is None:
            return {}
        step = self._read(self.family.bucket_step, SIDE_STEP)
        narrow = max(step, round(side * math.sqrt(PORTRAIT) / step) * step)
        tall = side * side // narrow // step * step
        return {"square": (side, side), "portrait": (narrow, tall), "landscape": (tall, narrow)}

    def fits(self, family: str, width: int | None) -> bool | None:
        """Whether a LoRA of this family and width does something on this base; None where that cannot be told yet."""
        if self.family is None:
            return None
        return family == self.family.name and (None in (width, self.width) or width == self.width)

    def _read(self, fact: Callable[[BaseFolder], Fact], otherwise: Fact) -> Fact:
        """A fact from its folder. Of a base that is only half fetched some parts are not there yet."""
        try:
            return fact(self.folder) if self.folder else otherwise
        except (StudioError, KeyError):
            return otherwise


def look_up(base_model: str, revision: str | None = None) -> Base:
    name = (base_model or "").strip()
    return Base(name, families.of(name, revision), families.offer(name), families.locate_base(name, revision))


def suggested(family: str, width: int | None, stated: str = "") -> Offer | None:
    """The offer that a LoRA of this family and width is best drawn with: the one that it says it was made for, one that is here, any."""
    fitting = [offer for known in families.FAMILIES for offer in known.offers if look_up(offer.id).fits(family, width)]
    first = [offer for offer in fitting if offer.id == stated] or [offer for offer in fitting if look_up(offer.id).here] or fitting
    return first[0] if first else None
