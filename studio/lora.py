"""What is learnt: fresh trainable halves in a denoiser, and the adapter file they become."""

import math
from pathlib import Path

import torch
from peft import LoraConfig
from torch import Tensor, nn

from studio.adapters import adapter_metadata, serialise
from studio.chance import Purpose, draw
from studio.checkpoints import Disk
from studio.config import TrainConfig, fields
from studio.errors import StudioError
from studio.families.base import BaseFolder, Family
from studio.runs import Run


def add_lora(denoiser: nn.Module, config: TrainConfig, family: Family) -> dict[str, Tensor]:
    """Fresh trainable halves by file name: A uniform as PEFT makes it (Kaiming, a = sqrt 5), B zero, both functions of the seed alone."""
    targets = config.lora.target_modules or list(family.target_modules)
    try:
        denoiser.add_adapter(LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout, target_modules=targets))
    except ValueError as error:
        raise StudioError(f"These layers cannot be taught: {', '.join(targets)}. Leave the field empty for the usual ones. ({error})") from None
    weights = {}
    for index, (name, weight) in enumerate(sorted(denoiser.named_parameters())):
        if weight.requires_grad:
            weight.data = weight.data.float()
            if ".lora_A." in name:
                bound = 1 / math.sqrt(weight[0].numel())
                values = draw(Purpose.INIT, config.training.seed, 0, index).uniform(-bound, bound, tuple(weight.shape))
                weight.data.copy_(torch.from_numpy(values))
            else:
                weight.data.zero_()
            weights[f"{family.denoiser_name}.{name.replace('.default.', '.')}"] = weight
    return weights


def save_adapter(run: Run, step: int, config: TrainConfig, base: BaseFolder, family: Family, weights: dict[str, Tensor], disk: Disk) -> Path:
    """The LoRA as people get it: float32, alpha folded into B so that the file's alpha is its rank, the whole story in its header."""
    path = run.adapter_at(step)
    tensors = {name: weight.detach() * (config.lora.scale if ".lora_B." in name else 1.0) for name, weight in weights.items()}
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise StudioError(
            f"Learning broke at step {step}: the LoRA holds numbers that are not finite, so it was not saved. "
            f"Start again with half the strength of learning (learning rate {config.training.learning_rate / 2:g})."
        )
    # Neither the dataset's random id nor a folder's path: two people with the same pictures get the same bytes, and no path leaks.
    shared = fields.replace(config, {"dataset.id": "", "model.base_model": base.id})
    facts = {
        "trained_alpha": config.lora.alpha,
        "rank": config.lora.rank,
        "step": step,
        "trigger_word": config.dataset.trigger_word,
        "family": family.name,
        "base_model": base.id,
        "base_revision": base.revision,
        "dataset_sha256": run.snapshot["sha256"],
        "config": shared.model_dump(mode="json"),
    }
    modelspec = {
        "sai_model_spec": "1.0.0",
        "architecture": family.architecture(base),
        "implementation": "diffusers",
        "title": run.title,
        "trigger_phrase": config.dataset.trigger_word,
        "resolution": f"{config.dataset.resolution}x{config.dataset.resolution}",
        "prediction_type": "v" if family.prediction_type(base) == "v_prediction" else "epsilon",
    }
    targets = config.lora.target_modules or list(family.target_modules)
    disk.replace(path, serialise(tensors, adapter_metadata(family.denoiser_name, config.lora.rank, targets, facts, modelspec)))
    run.append({"kind": "adapter", "step": step, "file": path.name})
    return path
