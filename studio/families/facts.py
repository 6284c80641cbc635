"""Facts about base models as plain values: licences, sampling defaults, listed bases, and a base model's folder. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio.core.errors import StudioError

Shapes = dict[str, tuple[int, ...]]

STUDIO = Path(__file__).resolve().parents[2]
AUTOENCODER_BILLIONS = 0.1
"""Approximate parameters of any base's autoencoder: 0.08 to 0.13 billion."""


@dataclass(frozen=True)
class Licence:
    """A licence, as stated on the model's page."""

    id: str
    """The Hub's licence id; "other" for a licence without one."""
    title: str
    link: str
    commercial: bool
    """Whether images and LoRAs made with the base may be sold."""
    summary: str
    """Summary of its conditions in one sentence."""
    name: str = ""
    """`license_name` on a model card, for a licence whose id is "other"."""
    inherits: Literal["nothing", "uses", "all"] = "nothing"
    """What a LoRA of such a base inherits: nothing, the list of forbidden uses, or the whole licence."""
    capped: bool = False
    """Whether commercial use is limited to some yearly revenue."""
    notice: str = ""
    """Text that has to accompany the LoRA when it is distributed."""
    name_prefix: str = ""
    """Required prefix of a LoRA's name."""


@dataclass(frozen=True)
class SamplingDefaults:
    """Sampling settings that the publisher of a base recommends."""

    num_inference_steps: int = 20
    guidance_scale: float = 5.0


@dataclass(frozen=True)
class Autoencoder:
    """The autoencoder of a family's bases."""

    class_name: str = "AutoencoderKL"
    """Its diffusers class."""
    config: Mapping[str, Any] = field(
        default_factory=lambda: {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
        hash=False,
    )
    """How its config differs from the defaults of its class, where that changes its memory. Used before a base is downloaded."""
    video: bool = False
    """Whether it expects a dimension for frames: an image is a video of one frame."""


@dataclass(frozen=True)
class Offer:
    """A listed base model with its particular facts; any other base of the same layout works too."""

    id: str
    title: str
    """Title in a list of bases."""
    name: str
    """Full name, in messages and on model cards."""
    licence: Licence
    sampling: SamplingDefaults = SamplingDefaults()
    denoiser: dict[str, Any] | None = field(default=None, hash=False)
    """How its denoiser's config differs from the defaults of its class; None for the built-in base. Memory and file sizes are computed from it
    before a download."""
    denoiser_billions: float = 0.0
    """Parameters of the denoiser, so that it need not be built to count them."""
    encoder_billions: float = 0.0
    """Parameters of the text encoders, which are in memory only while prompts are encoded."""
    trainable_encoders: tuple[tuple[int, int], ...] = ()
    """(layers, width) of each text encoder that can be trained."""
    stored: tuple[int, int] = (2, 2)
    """Bytes per parameter of denoiser and text encoders in the downloaded files."""
    width: int | None = None
    """Its `Family.width`."""
    resolution: int = 1024
    """Its `Family.resolution`."""
    gated: bool = False
    """Whether the Hub requires a login and acceptance of terms."""
    folder: Path | None = None
    """Folder of the built-in base; the others are downloaded from the Hub by their id."""
    shapes_only: bool = False
    """It can generate simple shapes only, nothing like a photograph."""
    note: str = ""
    """Advice on choosing it, in one sentence."""

    @property
    def gigabytes(self) -> float:
        """Download size; 0 for the built-in base."""
        if self.folder:
            return 0.0
        denoiser, encoders = self.stored
        return self.denoiser_billions * denoiser + self.encoder_billions * encoders + AUTOENCODER_BILLIONS * denoiser

    @property
    def shipped(self) -> "BaseFolder | None":
        return BaseFolder(self.folder, None, self.name, self.id) if self.folder else None

    @property
    def hint(self) -> str:
        """Path of the built-in base inside the repository, for others to find it. Empty for a base on the Hub."""
        return self.folder.relative_to(STUDIO).as_posix() if self.folder else ""


@dataclass(frozen=True)
class BaseFolder:
    """A local base model: its folder, commit (None for a local folder), title for messages, and the id for published files: a Hub id, or
    the name of a local folder or file without its path."""

    path: Path
    revision: str | None
    title: str
    id: str
    checkpoint: Path | None = None
    """A single file with the weights (all, or the denoiser's only). `path` and `revision` are then those of the other parts."""
    reference: str = ""
    """The Hub base that the other parts of a single file come from; empty if they are beside the file."""
    schedule: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Scheduler settings in the single file's header that override the scheduler config."""

    def is_same(self, other: "BaseFolder") -> bool:
        """Whether both load the same weights and schedule, however they are named."""
        mine, theirs = ((each.path.resolve(), each.revision, each.checkpoint, dict(each.schedule)) for each in (self, other))
        return mine == theirs

    def component_config(self, component: str, file: str = "config.json") -> dict:
        """The config of one part; StudioError if the folder is not a model of this layout."""
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
        """The diffusers class in its model_index.json."""
        return str(self.component_config("", "model_index.json").get("_class_name"))
