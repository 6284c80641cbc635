"""Facts about base models as plain values: licences, recommended settings, offers, and a base model's folder. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio.core.errors import StudioError

Shapes = dict[str, tuple[int, ...]]

STUDIO = Path(__file__).resolve().parents[2]
AUTOENCODER_BILLIONS = 0.1
"""Parameters of any base's autoencoder, roughly: 0.08 to 0.13."""


@dataclass(frozen=True)
class Licence:
    """A licence as the model's own page states it."""

    id: str
    """The Hub's word for it; "other" for one that the Hub has no word for."""
    title: str
    link: str
    commercial: bool
    """Whether pictures and LoRAs made with the base may be sold."""
    words: str
    """What it asks for, in one plain sentence."""
    name: str = ""
    """What a card calls a licence whose id is "other"."""
    binds: Literal["nothing", "uses", "all"] = "nothing"
    """What of it a LoRA keeps that was made from such a base: nothing, its list of forbidden uses, or all of it."""
    capped: bool = False
    """Whether commercial use ends at some yearly revenue."""
    says: str = ""
    """Words that have to stand where the LoRA is passed on."""
    begins: str = ""
    """What the name of a LoRA has to begin with."""


@dataclass(frozen=True)
class Drawing:
    """What the makers of a base recommend for drawing with it."""

    num_inference_steps: int = 20
    guidance_scale: float = 5.0


@dataclass(frozen=True)
class Offer:
    """A base model the studio proposes by name; any other of the same layout works too. What is particular about one stands here."""

    id: str
    title: str
    """In a list of bases."""
    name: str
    """In a sentence, also one that is read far from the studio."""
    licence: Licence
    drawing: Drawing = Drawing()
    denoiser: dict[str, Any] | None = field(default=None, hash=False)
    """How its denoiser differs from the defaults of its class; None where its folder is at hand. What memory and file sizes are computed from
    before anything is fetched."""
    denoiser_billions: float = 0.0
    """Parameters of that denoiser, so that nobody has to build it to know."""
    encoder_billions: float = 0.0
    """Parameters of its text encoders, which are in memory only while prompts are encoded."""
    taught_encoders: tuple[tuple[int, int], ...] = ()
    """(layers, width) of each text encoder that can learn."""
    stored: tuple[int, int] = (2, 2)
    """Bytes a number of denoiser and text encoders takes on the Hub, in the files that are fetched."""
    width: int | None = None
    """What `Family.width` says of it."""
    resolution: int = 1024
    """What `Family.resolution` says of it."""
    gated: bool = False
    """Whether the Hub asks for a login and a click on its page."""
    folder: Path | None = None
    """Where it lies, for one that ships with the studio; the others are fetched from the Hub under their id."""
    shapes_only: bool = False
    """It draws simple shapes and nothing like a photograph."""
    note: str = ""
    """What a person should know before choosing it, in one sentence."""

    @property
    def gigabytes(self) -> float:
        """How much is fetched; nothing for one that ships."""
        if self.folder:
            return 0.0
        denoiser, encoders = self.stored
        return self.denoiser_billions * denoiser + self.encoder_billions * encoders + AUTOENCODER_BILLIONS * denoiser

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
    name that may go into a file that others see: an id, or a local folder's or file's bare name."""

    path: Path
    revision: str | None
    title: str
    id: str
    checkpoint: Path | None = None
    """A single file that holds the weights (all of them, or the denoiser's alone). `path` then has the rest, and `revision` is the rest's."""
    reference: str = ""
    """The base on the Hub that the rest of a single file is taken from; empty where it lies beside the file."""
    schedule: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What a single file says otherwise than the rest's scheduler config."""

    def component_config(self, component: str, file: str = "config.json") -> dict:
        """The config of one part, or StudioError when the folder is not a model of this layout."""
        try:
            config = json.loads((self.path / component / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            config = None
        if not isinstance(config, dict):
            raise StudioError(f"The base model {self.title!r} has no readable {component}/{file}; choose another base.")
        return config

    @property
    def scheduler_config(self) -> dict:
        return self.component_config("scheduler", "scheduler_config.json") | dict(self.schedule)

    @property
    def pipeline_name(self) -> str:
        """The diffusers class that its model_index.json names."""
        return str(self.component_config("", "model_index.json").get("_class_name"))
