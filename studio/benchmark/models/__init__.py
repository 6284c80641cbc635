"""Models of every family with random weights: real classes, no downloads. One file per family, named after it.

`tiny() -> DiffusionPipeline` is about 100 kB; the benchmark's families also have `small()`, one second per step on one core, and `real()`.
"""

import importlib
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from studio.families.base import Family

SIZES = ("tiny", "small", "real")
SPREAD = 0.02
"""Standard deviation of random weights, as in the initialisation of transformers."""


def makers(family: Family) -> ModuleType:
    return importlib.import_module(f"studio.benchmark.models.{family.name.replace('-', '_')}")


def save_tiny(family: Family, folder: Path, **options) -> Path:
    """Save a tiny model folder of this family for `from_pretrained`; `options` are arguments of its `tiny`."""
    torch.manual_seed(0)
    makers(family).tiny(**options).save_pretrained(folder)
    return folder


def save_random(family: Family, size: str, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Path:
    """Save a model folder of a size with normally distributed weights: constant ones would make a GPU look faster. They are made on `device`."""
    torch.manual_seed(0)
    if size == "tiny":
        return save_tiny(family, folder)
    with torch.device("meta"):
        shapes = vars(makers(family))[size]()
    for part in shapes.components.values():
        if isinstance(part, nn.Module):
            # Cast before there is memory: in float32 a large base would take twice as much.
            fill(part.to(dtype), device)
    shapes.save_pretrained(folder)
    return folder


def fill(module: nn.Module, device: str) -> None:
    """Give a model on the meta device normal weights on `device`. Those of norms are around 1, so that activations keep their size: with smaller
    ones losses and images hardly depend on what was computed."""
    module.to_empty(device=device)
    for name, weight in module.named_parameters():
        # Vectors are biases and the weights of norms.
        weight.data.normal_(1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0, SPREAD)
    for buffer in module.buffers():
        buffer.zero_()
