"""LoRA of a run: trainable layers injected into the denoiser and text encoders, and the adapter file written from them."""

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from studio.adapters.format import adapter_metadata, adapter_tensors, canonical_name, load_adapter, serialise
from studio.adapters.layers import inject, peft_config
from studio.config import TrainConfig, fields
from studio.core import hashes
from studio.core.errors import StudioError
from studio.devices import runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.rng import Purpose, make_rng

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

MAGNITUDE = ".lora_magnitude_vector"
"""Suffix of DoRA's magnitude vector (Liu et al. 2024), as PEFT names it in files."""


def targets(config: TrainConfig, family: Family) -> dict[str, list[str]]:
    """Model component -> its target modules. StudioError if a text encoder should be trained that diffusers cannot load a LoRA for."""
    components = {family.denoiser_name: config.lora.target_modules or list(family.target_modules)}
    if config.lora.text_encoder:
        if not family.text_encoder_targets:
            raise StudioError(
                f"The text encoder of {family.title} cannot be trained: diffusers loads no LoRA for it. Switch its training off (lora.text_encoder)."
            )
        components |= {part: list(modules) for part, modules in family.text_encoder_targets.items()}
    return components


def add_lora(pipeline: "DiffusionPipeline", config: TrainConfig, family: Family, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    """Inject trainable layers; returns their parameters by their names in the adapter file, in `dtype`.

    A is uniform as in PEFT (Kaiming, a = sqrt 5) and depends on the seed only; B is zero.
    """
    lora, working, index = config.lora, {}, 0
    for part, modules in targets(config, family).items():
        module = pipeline.components[part]
        inject(module, peft_config(lora.method, lora.rank, lora.filled_alpha, lora.dropout, modules))
        for name, weight in sorted(module.named_parameters()):
            if weight.requires_grad:
                weight.data = weight.data.to(dtype)
                if ".lora_A." in name or ".lokr_w2" in name:
                    bound = 1 / math.sqrt(weight[0].numel())
                    values = make_rng(Purpose.INIT, config.training.seed, 0, index).uniform(-bound, bound, tuple(weight.shape))
                    weight.data.copy_(torch.from_numpy(values))
                elif ".lora_B." in name or ".lokr_w1" in name:
                    weight.data.zero_()
                working[canonical_name(f"{part}.{_file_name(name)}")] = weight
            index += 1
    return working


def _file_name(name: str) -> str:
    """Name of a PEFT parameter in the file: without PEFT's adapter name "default", magnitude vectors also without the suffix "weight"."""
    return name.removesuffix(".default.weight") if MAGNITUDE in name else name.replace(".default", "")


def _has_alpha(name: str) -> bool:
    """Whether alpha / rank is multiplied into this tensor: one factor of each product."""
    return ".lora_B." in name or ".lokr_w1" in name


def load_start_weights(run: Run, config: TrainConfig, family: Family, working: dict[str, nn.Parameter]) -> dict[str, Tensor] | None:
    """Weights of the LoRA that a run starts from, float32, without the factor alpha / rank; None for a new LoRA.

    StudioError if its layers or its rank differ from those of `working`, the parameters to train.
    """
    if not run.start_file.exists():
        return None
    adapter = load_adapter(run.start_file, family)
    # Only the file has LoKr's factors separately (the loaded layers hold their product); its names fit if the studio wrote them.
    lokr = config.lora.method == "lokr"
    tensors = {name: tensor.float() for name, tensor in load_file(run.start_file).items()} if lokr else adapter_tensors(adapter)
    if differing := sorted(working.keys() ^ tensors.keys()):
        raise StudioError(
            f"The LoRA to start from has other layers than this run; the first difference is {differing[0]}. "
            "Choose the same layers, or start a new LoRA."
        )
    if any(tensors[name].shape != weight.shape for name, weight in working.items()):
        rank = adapter.fingerprint.rank
        raise StudioError(f"The LoRA to start from has rank {rank}, this run {config.lora.rank}. Set the rank to {rank}, or start a new LoRA.")
    return {name: tensor / config.lora.scale if _has_alpha(name) else tensor for name, tensor in tensors.items()}


def save_adapter(run: Run, step: int, config: TrainConfig, base: BaseFolder, family: Family, masters: dict[str, Tensor], disk: Disk) -> Path:
    """Write the adapter of `step`: alpha is multiplied into B in float32, so the file's alpha equals its rank; the config is in the header.

    `masters`: float32 weights by their names in the file. StudioError if a weight is not finite in `saving.dtype`.
    """
    path, dtype = run.adapter_at(step), runtime.torch_dtype(config.saving.dtype)
    tensors = {name: (weight * (config.lora.scale if _has_alpha(name) else 1.0)).to(dtype) for name, weight in masters.items()}
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise StudioError(
            f"Training diverged at step {step}: weights of the LoRA are not finite, so it was not saved. "
            f"Start again with half the learning rate ({config.training.learning_rate / 2:g})."
        )
    # Without the dataset's random id and the folder's path: the same images give the same bytes anywhere, and no path becomes public.
    shared = fields.replace(config, {"dataset.id": "", "model.family": family.name, "model.base_model": base.id})
    facts = {
        "trained_alpha": config.lora.alpha,
        "rank": config.lora.rank,
        "step": step,
        "trigger_word": config.dataset.trigger_word,
        "family": family.name,
        "base_model": base.id,
        # A single file has no revision; that of the base its other parts come from is named with it.
        "base_revision": None if base.checkpoint else base.revision,
        **({"base_parts": {"id": base.reference, "revision": base.revision, "schedule": dict(base.schedule)}} if base.checkpoint else {}),
        "dataset_sha256": run.snapshot["sha256"],
        "config": shared.model_dump(mode="json"),
    }
    modelspec = {
        "sai_model_spec": "1.0.0",
        "architecture": family.architecture(base),
        "implementation": "diffusers",
        "title": run.original_title,
        "trigger_phrase": config.dataset.trigger_word,
        "resolution": f"{config.dataset.resolution}x{config.dataset.resolution}",
        "prediction_type": {"v_prediction": "v"}.get(family.prediction_type(base), family.prediction_type(base)),
    }
    header = adapter_metadata(targets(config, family), config.lora.rank, facts, modelspec, config.lora.method)
    path.parent.mkdir(exist_ok=True)
    data = serialise(tensors, header)
    disk.replace(path, data)
    hashes.keep(path, hashlib.sha256(data).hexdigest())
    run.append({"kind": "adapter", "step": step, "file": path.name})
    return path
