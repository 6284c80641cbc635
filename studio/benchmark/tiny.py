"""Tiny model and dataset for tests and the kill benchmark: a Stable Diffusion model of about 100 kB, and images of coloured noise."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy
from PIL import Image

from studio import families
from studio.benchmark.models import save_tiny

WORDS = ("a", "red", "blue", "house", "cat", "picture", "of", "ohwx", "sks")


def save_tiny_model(folder: Path, width: int = 32, prediction_type: str = "epsilon") -> Path:
    """Save a model folder for `from_pretrained`. Images are 64 x 64, latents 8 x 8."""
    return save_tiny(families.get("stable-diffusion"), folder, width=width, prediction_type=prediction_type)


@dataclass(frozen=True)
class TinyPicture:
    id: str
    file: Path
    caption: str
    width: int
    height: int
    mask: Path | None = None

    @property
    def name(self) -> str:
        return self.file.name


@dataclass(frozen=True)
class TinyDataset:
    """The part of the dataset interface that `create_run` needs, with images of coloured noise and captions."""

    folder: Path
    count: int = 5
    id: str = "tiny"
    title: str = "Tiny"
    subject: str = "style"
    real_person: bool = False
    consent: dict | None = None
    sizes: tuple[tuple[int, int], ...] = field(default=((70, 70), (90, 54)))
    masked: bool = False
    """Whether only the left half of each image is trained on."""

    @property
    def images(self) -> list[TinyPicture]:
        self.folder.mkdir(parents=True, exist_ok=True)
        made = []
        for index in range(self.count):
            width, height = self.sizes[index % len(self.sizes)]
            file = self.folder / f"{index}.png"
            if not file.exists():
                pixels = numpy.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(file)
            mask = self.folder / f"{index}-mask.png" if self.masked else None
            if mask and not mask.exists():
                pixels = numpy.zeros((height, width), dtype=numpy.uint8)
                pixels[:, : width // 2] = 255
                Image.fromarray(pixels).save(mask)
            made.append(TinyPicture(f"{index:064x}", file, f"ohwx a {WORDS[1 + index % 4]}", width, height, mask))
        return made

    def sha256(self) -> str:
        return f"{self.count:064x}"
