"""What a family's tests ask of diffusers' own pipeline: how it steps, what it decodes, what it reads back."""

from pathlib import Path

import diffusers.loaders.peft
import torch
from peft import PeftConfig

from studio.adapters import adapter_metadata, write_adapter
from studio.benchmark.models import save_tiny
from studio.families import resolve_base
from studio.families.base import BaseFolder, Family


def load_tiny(family: Family, folder: Path, **looks) -> tuple[BaseFolder, diffusers.DiffusionPipeline]:
    """A tiny member from its folder, as a person's own would be loaded."""
    base = resolve_base(str(save_tiny(family, folder, **looks)))
    return base, family.load(base, torch.float32)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def stepped_by_pipeline(pipeline, arguments: dict, start: torch.Tensor, size: tuple[int, int], steps: int) -> list[torch.Tensor]:
    """Latents after each step, as the pipeline keeps them; `arguments` are those of call_arguments, size is (height, width)."""
    kept = []

    def keep(_, step, timestep, now):
        kept.append(now["latents"].clone())
        return now

    pipeline(
        **arguments, latents=start.clone(), height=size[0], width=size[1], num_inference_steps=steps, output_type="latent", callback_on_step_end=keep
    )
    return kept


@torch.no_grad()
def stepped_by_hand(family: Family, pipeline, conditions, start_BCHW: torch.Tensor) -> list[torch.Tensor]:
    """The same with `predict` and Euler's rule, over the noise levels that the pipeline used last."""
    sigmas, kept = pipeline.scheduler.sigmas, [start_BCHW]
    for t, sigma, following in zip(pipeline.scheduler.timesteps, sigmas[:-1], sigmas[1:], strict=True):
        said_BCHW = family.predict(pipeline.components[family.denoiser_name], kept[-1], t.expand(len(start_BCHW)), conditions)
        kept.append(kept[-1] + (following - sigma) * said_BCHW)
    return kept[1:]


@torch.no_grad()
def decoded_by_pipeline(pipeline, arguments: dict, latents: torch.Tensor, monkeypatch) -> torch.Tensor:
    """What the pipeline hands to its autoencoder when its denoiser leaves the given latents alone; 64 x 64 pixels."""
    handed = []

    def leave_alone(x=None, *others, hidden_states=None, **more):
        return ([torch.zeros_like(row) for row in x],) if hidden_states is None else (torch.zeros_like(hidden_states),)

    def decode(latents_BCHW, return_dict=True, generator=None):
        handed.append(latents_BCHW)
        return (torch.zeros(1, 3, 64, 64),)

    monkeypatch.setattr(pipeline.transformer, "forward", leave_alone)
    monkeypatch.setattr(pipeline.vae, "decode", decode)
    pipeline(**arguments, latents=latents.clone(), height=64, width=64, num_inference_steps=1)
    return handed[0]


def picture(family: Family, pipeline, positive, negative, guidance_scale: float = 4.0, seed: int = 7) -> torch.Tensor:
    """One drawn picture of 64 x 64, as numbers from 0 to 255."""
    chance = torch.Generator().manual_seed(seed)
    drawn = family.draw(pipeline, positive, negative, (64, 64), 2, guidance_scale, chance, lambda step, steps: None)
    return torch.tensor(list(drawn.tobytes()), dtype=torch.float32)


def teach(family: Family, pipeline, config: PeftConfig) -> dict[str, torch.Tensor]:
    """Random numbers in fresh trainable halves; a copy of them by the names of an adapter file."""
    pipeline.transformer.add_adapter(config)
    chance, tensors = torch.Generator().manual_seed(5), {}
    for name, weight in pipeline.transformer.named_parameters():
        if ".lora_" in name or ".lokr_" in name:
            weight.data = torch.randn(weight.shape, generator=chance) * 0.4
            tensors[f"transformer.{name.replace('.default', '')}"] = weight.data.clone()
    return tensors


def save(family: Family, base: BaseFolder, path: Path, tensors: dict[str, torch.Tensor], rank: int = 4) -> Path:
    """A LoRA file as the studio writes it."""
    stated = {"architecture": family.architecture(base), "title": "tiny"}
    write_adapter(path, tensors, adapter_metadata({family.denoiser_name: list(family.target_modules)}, rank, {"family": family.name}, stated))
    return path


def read_back(pipeline, path: Path, monkeypatch) -> tuple[list[str], list[str]]:
    """Load an adapter into a plain pipeline; the keys that diffusers found missing and unexpected."""
    seen = []
    monkeypatch.setattr(diffusers.loaders.peft, "_maybe_warn_for_unhandled_keys", lambda keys, name: seen.append(keys))
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="read")
    return [key for key in seen[0].missing_keys if ".lora_" in key or ".lokr_" in key], list(seen[0].unexpected_keys)
