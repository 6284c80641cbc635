"""What the tests of the flow families share: a tiny member as it comes from disk, and the pipeline's own single step to compare with."""

from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from safetensors.torch import load_file

from studio import families
from studio.adapters import adapter_metadata, load_adapter, serialise
from studio.benchmark.models import save_tiny
from studio.families.base import BaseFolder, Family
from studio.stack import Stack
from tests.tiny import lora_tensors

HEIGHT, WIDTH = 64, 96
"""Of a picture, in pixels: not square, so that nothing is turned on its side unseen."""


@dataclass(frozen=True)
class Member:
    base: BaseFolder
    family: Family
    pipeline: DiffusionPipeline

    @property
    def denoiser(self) -> torch.nn.Module:
        return self.pipeline.components[self.family.denoiser_name]


def member(name: str, folder: Path, **looks) -> Member:
    family = families.get(name)
    base = families.resolve_base(str(save_tiny(family, folder / name, **looks)))
    return Member(base, family, family.load(base, torch.float32))


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Latents of nothing: B16HW."""
    return torch.randn(batch, 16, HEIGHT // 8, WIDTH // 8, generator=chance(seed))


def packed(latents_BCHW: torch.Tensor) -> torch.Tensor:
    """2 x 2 latents as one token, channels first: BTD, as the pipelines of Qwen-Image and Krea 2 take them."""
    batch, channels, height, width = latents_BCHW.shape
    tokens = latents_BCHW.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(batch, height * width // 4, channels * 4)


@torch.no_grad()
def one_step(member: Member, latents: torch.Tensor, sigma: float, arguments: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """(velocity, timestep) of the pipeline's own step from noise level `sigma` to nothing, whatever its scheduler makes of that level."""
    after = member.pipeline(
        **arguments, height=HEIGHT, width=WIDTH, latents=latents, num_inference_steps=1, sigmas=[sigma], output_type="latent"
    ).images
    scheduler = member.pipeline.scheduler
    assert len(scheduler.timesteps) == 1 and scheduler.sigmas[-1] == 0
    return (latents - after) / scheduler.sigmas[0], scheduler.timesteps


@torch.no_grad()
def decoded_by_the_pipeline(member: Member, latents: torch.Tensor, arguments: dict) -> torch.Tensor:
    """What the pipeline makes of finished latents: BCHW in 0..1."""

    def replaced(pipeline, step, timestep, kept):
        return {"latents": latents}

    drawing = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 1, "output_type": "pt", "callback_on_step_end": replaced}
    return member.pipeline(**arguments, **drawing).images


def draw(member: Member, prompt: str, negative_prompt: str = "", guidance_scale: float = 4.0, seed: int = 1) -> torch.Tensor:
    """The pixels of a picture drawn through the contract: HWC."""
    with torch.no_grad():
        positive, negative = (member.family.encode_prompts(member.pipeline, [text]) for text in (prompt, negative_prompt))
        picture = member.family.draw(member.pipeline, positive, negative, (WIDTH, HEIGHT), 2, guidance_scale, chance(seed), lambda done, total: None)
    return torch.from_numpy(numpy.asarray(picture).copy())


def save_lora(member: Member, path: Path, parts: dict[str, tuple[str, ...]]) -> Path:
    """A LoRA file as the studio writes it, for these parts and their layers; diffusers wants a configuration for each."""
    tensors = {}
    for part, targets in parts.items():
        tensors |= lora_tensors(member.pipeline, targets=tuple(f".{end}" for end in targets), part=part, size=0.5)
    path.write_bytes(serialise(tensors, adapter_metadata({part: list(targets) for part, targets in parts.items()}, 4, {}, {})))
    return path


def assert_diffusers_reads(member: Member, path: Path, prompt: str, guidance_scale: float = 4.0) -> None:
    """Plain diffusers takes every tensor of the file and no other, and then draws another picture, the one the studio's stack draws."""
    plain = draw(member, prompt, guidance_scale=guidance_scale)
    adapter = load_adapter(path, member.family)
    parts = {name.partition(".")[0] for name in adapter.layers}
    member.pipeline.load_lora_weights(str(path), adapter_name="theirs")
    placed = {
        f"{part}.{name.replace('.theirs.', '.')}": weight.detach().clone()
        for part in parts
        for name, weight in member.pipeline.components[part].named_parameters()
        if ".lora_" in name
    }
    theirs = draw(member, prompt, guidance_scale=guidance_scale)
    member.pipeline.unload_lora_weights()
    stored = load_file(path)
    assert set(placed) == set(stored) and all(torch.equal(placed[name], stored[name]) for name in stored)

    stack = Stack({part: member.pipeline.components[part] for part in parts})
    assert stack.set([(adapter, 1.0)]).unmatched == {}
    ours = draw(member, prompt, guidance_scale=guidance_scale)
    stack.clear()
    assert not torch.equal(theirs, plain) and torch.equal(draw(member, prompt, guidance_scale=guidance_scale), plain)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1)


def learning_layers(member: Member) -> set[str]:
    """Names of the denoiser's layers that PEFT finds for the family's targets; the member is spoilt afterwards."""
    member.denoiser.add_adapter(LoraConfig(target_modules=list(member.family.target_modules)))
    return {name.partition(".lora_")[0] for name, weight in member.denoiser.named_parameters() if weight.requires_grad}
