"""Members of every family made here: real classes, random weights, nothing fetched. `tiny` ones are some 100 kB; the benchmark also makes
denoisers of real size. One file a family, named as it, with `tiny() -> DiffusionPipeline`.
"""

import importlib
from pathlib import Path

import torch

from studio.families.base import Family


def save_tiny(family: Family, folder: Path, **looks) -> Path:
    """A model folder of this family as `from_pretrained` reads it; `looks` are arguments of its `tiny`."""
    torch.manual_seed(0)
    module = importlib.import_module(f"studio.benchmark.models.{family.name.replace('-', '_')}")
    module.tiny(**looks).save_pretrained(folder)
    return folder
