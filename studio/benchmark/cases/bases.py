"""Bases with random weights for the GPU benchmark, filled on the device, and runs on them."""

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from studio import config as configs
from studio import families
from studio.benchmark.cases.case import Machine
from studio.benchmark.cases.children import in_child
from studio.benchmark.models import fill, makers, save_random
from studio.benchmark.tiny import TinyDataset
from studio.config import TrainConfig
from studio.core.workspace import Home
from studio.devices import runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.loading import denoiser_class
from studio.runs.creation import create_run
from studio.runs.run import Run

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PROMPT = "ohwx a red house"
NO_SAVINGS = ("runtime.gradient_checkpointing=false", "runtime.quantisation=none", "runtime.offload=false")
"""For runs whose results are compared: left open, these follow the free memory, which differs between runs side by side."""


@cache
def real_families() -> tuple[Family, ...]:
    """The families that have a base of real size for benchmarks."""
    return tuple(family for family in families.FAMILIES if "real" in vars(makers(family)))


def real_offer(family: Family) -> families.Offer:
    """The listed base that the real size of a family stands for."""
    return next(offer for offer in family.offers if offer.denoiser is not None)


def random_pipeline(machine: Machine, family: Family) -> "DiffusionPipeline":
    """A pipeline with the random denoiser of a listed base on the device, in 16 bits on a GPU. Its other parts are tiny and not meant to be used."""
    pipeline = makers(family).tiny()
    known = real_offer(family).denoiser
    stated = dict(pipeline.components[family.denoiser_name].config) if machine.rehearsal or known is None else known
    with torch.device("meta"):
        denoiser = denoiser_class(family).from_config({name: value for name, value in stated.items() if not name.startswith("_")})
    for weight in denoiser.parameters():
        # The method `to` of diffusers' models warns, although nothing has been computed yet.
        weight.data = weight.data.to(runtime.torch_dtype(machine.dtype))
    torch.manual_seed(0)
    fill(denoiser, machine.device)
    pipeline.register_modules(**{family.denoiser_name: denoiser.requires_grad_(False)})
    return pipeline


def saved_base(machine: Machine, family: Family, size: str) -> BaseFolder:
    """A base of this size as a folder, made once for all cases. Its text encoders have few layers."""
    folder = machine.folder / "bases" / f"{family.name}-{size}"
    if not (folder / "complete").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        in_child(machine, _save, machine, family, "tiny" if machine.rehearsal else size, folder)
    return families.resolve_base(str(folder))


def _save(machine: Machine, family: Family, size: str, folder) -> None:
    save_random(family, size, folder, runtime.torch_dtype(machine.dtype), machine.device)
    (folder / "complete").touch()


def settings(machine: Machine, family: Family, base_model: str, pixels: int, *overrides: str) -> TrainConfig:
    """Settings of a short run at this resolution, rank 16 and batch 1; every 6 steps a LoRA, every 3 a checkpoint."""
    side = machine.side(pixels)
    values: dict[str, Any] = {
        "model": {"family": family.name, "base_model": base_model},
        "dataset": {"resolution": side, "trigger_word": "ohwx"},
        "training": {"max_train_steps": 12, "learning_rate": 1e-3},
        "samples": {"every": 6, "num_inference_steps": 4, "resolution": side},
        "saving": {"checkpoint_every": 3},
        "runtime": {"device": machine.device},
    }
    if machine.rehearsal:
        values["lora"] = {"rank": 4}
        values["runtime"]["threads"] = 1
    return configs.build(values, *overrides)


def make_run(machine: Machine, home: str, family: Family, base: BaseFolder, pixels: int, *overrides: str, title: str = "") -> Run:
    """A run on images of noise. Runs of one home share encoded images."""
    side = machine.side(pixels)
    images = TinyDataset(machine.folder / f"images-{side}", count=3, sizes=((side, side),))
    workspace = Home(machine.folder / "homes" / home).workspace("bench")
    return create_run(workspace, settings(machine, family, str(base.path), pixels, *overrides), images, title)
