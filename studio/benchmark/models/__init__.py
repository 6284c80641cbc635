"""Members of every family made here: real classes, random weights, nothing fetched. One file a family, named as it.

`tiny() -> DiffusionPipeline` is some 100 kB; the benchmark's families also have `small()`, a second a step on one core, and `real()`.
"""

import importlib
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from studio.families.base import Family

SIZES = ("tiny", "small", "real")
SPREAD = 0.02
"""Standard deviation of random weights, as transformers are begun with."""


def makers(family: Family) -> ModuleType:
    return importlib.import_module(f"studio.benchmark.models.{family.name.replace('-', '_')}")


def save_tiny(family: Family, folder: Path, **looks) -> Path:
    """A model folder of this family as `from_pretrained` reads it; `looks` are arguments of its `tiny`."""
    torch.manual_seed(0)
    makers(family).tiny(**looks).save_pretrained(folder)
    return folder


def save_random(family: Family, size: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A member of a size as a model folder, its denoiser filled with normal numbers: other ones would flatter a card's clock."""
    torch.manual_seed(0)
    if size == "tiny":
        return save_tiny(family, folder)
    with torch.device("meta"):
        shapes = vars(makers(family))[size]()
    for part in shapes.components.values():
        if isinstance(part, nn.Module):
            part.to_empty(device="cpu").to(dtype)
            for weight in part.parameters():
                weight.data.normal_(std=SPREAD)
            for buffer in part.buffers():
                buffer.zero_()
    shapes.save_pretrained(folder)
    return folder
