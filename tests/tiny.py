"""Real classes at tiny size for the tests of the engine: a Stable Diffusion model, adapters with visible effect, a run ready to train."""

import dataclasses
from pathlib import Path

import pytest
import torch

from studio import config as configs
from studio.adapters.format import adapter_metadata, write_adapter
from studio.benchmark.tiny import TinyDataset, save_tiny_model
from studio.config.optimizers import Optimizer
from studio.devices.footprint import Footprint
from studio.families import get, resolve_base
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.runs.creation import create_run
from studio.runs.run import Run

FAMILY = get("stable-diffusion")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A BaseFolder of the tiny model."""
    return resolve_base(str(save_tiny_model(tmp_path_factory.mktemp("base") / "tiny-model")))


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_base):
    """The loaded pipeline; tests leave it as they found it."""
    return FAMILY.load(tiny_base, torch.float32)


def lora_tensors(
    pipeline, rank: int = 4, seed: int = 0, targets=FAMILY.target_modules, part: str = "unet", size: float = 0.3
) -> dict[str, torch.Tensor]:
    """Halves of random numbers for every targeted layer, large enough to change a picture."""
    chance = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in pipeline.components[part].named_modules():
        if f".{name}".endswith(tuple(targets)) and isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            inner = module.weight.shape[1:]
            outer = (1,) * (module.weight.ndim - 2)
            tensors[f"{part}.{name}.lora_A.weight"] = torch.randn(rank, *inner, generator=chance) * size
            tensors[f"{part}.{name}.lora_B.weight"] = torch.randn(module.weight.shape[0], rank, *outer, generator=chance) * size
    return tensors


def save_lora(path: Path, tensors: dict[str, torch.Tensor], rank: int = 4, family: Family = FAMILY, base: BaseFolder | None = None) -> Path:
    """An adapter file as the studio writes it."""
    targets = {family.denoiser_name: list(family.target_modules)}
    modelspec = {"title": "tiny"} | ({"architecture": family.architecture(base)} if base else {})
    write_adapter(path, tensors, adapter_metadata(targets, rank, {"trigger_word": "ohwx"}, modelspec))
    return path


def optimizer_settings(entry: Optimizer) -> list[str]:
    """Overrides with which an optimizer learns in a few steps."""
    return [f"training.optimizer={entry.name}", *(["training.learning_rate=1.0"] if entry.finds_rate else [])]


def tiny_run(workspace, base, *overrides: str, masked: bool = False) -> Run:
    """A run of six steps with a film and resume states, ready to train."""
    values = {
        "model": {"base_model": str(base.path)},
        "dataset": {"resolution": 64, "trigger_word": "ohwx"},
        "lora": {"rank": 4, "alpha": 8.0},
        "training": {"max_train_steps": 6, "train_batch_size": 2, "learning_rate": 1e-3},
        "samples": {"prompts": ["[trigger] picture of a cat"], "every": 3, "num_inference_steps": 2},
        "saving": {"checkpoint_every": 2},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    return create_run(workspace, configs.build(values, *overrides), TinyDataset(workspace.root / "pictures", masked=masked))


def footprint(**bytes_and_parameters: int) -> Footprint:
    """A memory footprint with these values, and 0 elsewhere."""
    return Footprint(**dict.fromkeys((field.name for field in dataclasses.fields(Footprint)), 0) | bytes_and_parameters)
