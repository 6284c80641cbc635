"""What a family of base models must say and do. Facts are plain values; torch is imported only by the methods that compute."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import StudioError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image

    from studio.diffusion import Objective


STUDIO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Licence:
    """A licence as the model's own page states it."""

    id: str
    title: str
    link: str


@dataclass(frozen=True)
class Offer:
    """A base model the studio proposes by name; any other of the same layout works too. What is particular about one stands here."""

    id: str
    title: str
    """In a list of bases."""
    name: str
    """In a sentence, also one that is read far from the studio."""
    licence: Licence
    folder: Path | None = None
    """Where it lies, for one that ships with the studio; the others are fetched from the Hub under their id."""
    shapes_only: bool = False
    """It draws simple shapes and nothing like a photograph."""

    @property
    def shipped(self) -> "BaseFolder | None":
        return BaseFolder(self.folder, None, self.name, self.id) if self.folder else None

    @property
    def hint(self) -> str:
        """Where others find one that ships: its folder among the studio's own files. Empty for one on the Hub."""
        return self.folder.relative_to(STUDIO).as_posix() if self.folder else ""


@dataclass(frozen=True)
class BaseFolder:
    """A base model on this disk: its folder, the exact commit it came from (None for a local folder), its name for people, and the
    name that may go into a file that others see: an id, or a local folder's bare name."""

    path: Path
    revision: str | None
    title: str
    id: str

    def component_config(self, component: str) -> dict:
        """The config.json of one part, or StudioError when the folder is not a model of this layout."""
        try:
            return json.loads((self.path / component / "config.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise StudioError(f"The base model {self.title!r} has no readable {component}/config.json; choose another base.") from None


class Family(ABC):
    """One file per family implements this; the training loop, the stack and the generator know nothing else about it."""

    name: str
    title: str
    offers: tuple[Offer, ...]
    tags: tuple[str, ...]
    """What the Hub calls LoRAs of this family, for the model card."""
    pipeline_name: str
    """The diffusers class a reader of the card would use."""
    components: tuple[str, ...]
    """Folders that are fetched; everything else of a repository (safety checker, single-file copies) is left there."""
    denoiser_name: str
    """Prefix of the denoiser's keys in an adapter file."""
    text_encoder_names: tuple[str, ...]
    target_modules: tuple[str, ...]

    @abstractmethod
    def prompt_width(self, base: BaseFolder) -> int:
        """How wide a prompt's embedding is: what tells the members of a family apart, from config.json alone."""

    @abstractmethod
    def resolution(self, base: BaseFolder) -> int:
        """The side of the pictures this base was made for, in pixels."""

    @abstractmethod
    def bucket_step(self, base: BaseFolder) -> int:
        """Sides of training pictures are multiples of this, so that every level of the denoiser halves evenly."""

    @abstractmethod
    def architecture(self, base: BaseFolder) -> str:
        """What ModelSpec 1.0.0 calls a LoRA of this base."""

    @abstractmethod
    def prediction_type(self, base: BaseFolder) -> str:
        """What the denoiser predicts, in diffusers' words (epsilon, v_prediction)."""

    @abstractmethod
    def member_title(self, prompt_width: int | None) -> str:
        """The name of the family member whose prompts have this width, such as Stable Diffusion 1.5."""

    def base_title(self, base: BaseFolder) -> str:
        """What a base is called in a sentence: one that the studio offers by its name, any other by the member it is."""
        known = next((offer.name for offer in self.offers if offer.id == base.id), None)
        return known or self.member_title(self.prompt_width(base))

    @abstractmethod
    def load(self, base: BaseFolder, dtype: "torch.dtype") -> "DiffusionPipeline":
        """The pipeline with all parts in memory, in eval mode, nothing trainable; safetensors only, no remote code, no network."""

    @abstractmethod
    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective": ...

    @abstractmethod
    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """(mean, std) of the latents, scaled as the denoiser wants them; pixels lie in -1..1."""

    @abstractmethod
    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "dict[str, torch.Tensor]":
        """Conditions by name, one row per prompt."""

    @abstractmethod
    def beyond_limit(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        """The end of a prompt that the text encoder will not read, empty when all of it fits."""

    @abstractmethod
    def predict(
        self, denoiser: "torch.nn.Module", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "dict[str, torch.Tensor]"
    ) -> "torch.Tensor":
        """What the denoiser says about noisy latents, of their shape."""

    @abstractmethod
    def draw(
        self,
        pipeline: "DiffusionPipeline",
        positive: "dict[str, torch.Tensor]",
        negative: "dict[str, torch.Tensor]",
        size: tuple[int | None, int | None],
        num_inference_steps: int,
        guidance_scale: float,
        generator: "torch.Generator",
        on_step: Callable[[int, int], None],
    ) -> "Image.Image":
        """One picture; size is (width, height), None for the base's own."""

    @abstractmethod
    def foreign_layers(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Keys of other trainers in the spelling of diffusers and PEFT (<part>.<module>.lora_A.weight); alphas are folded already."""
