"""Tiny members of every family as they come from disk, and what diffusers' own pipelines do with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from diffusers import AutoencoderKLQwenImage, DiffusionPipeline
from peft import LoraConfig, PeftConfig
from transformers import CLIPTextModel

from studio import families
from studio.adapters.format import adapter_metadata, load_adapter, write_adapter
from studio.adapters.layers import inject
from studio.benchmark.models import save_tiny
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.init_image import InitImage

VARIANTS = {
    "stable-diffusion: 2.x": {"prediction_type": "v_prediction"},
    "sd3: wider": {"heads": 3},
    "flux2: dev": {"member": "dev"},
    "krea-2: distilled": {"is_distilled": True},
}
"""Members that are made another way than the first of their family: kind -> how. They begin with the family's name."""
KINDS = [*(family.name for family in families.FAMILIES), *(kind for kind in VARIANTS if kind != "sd3: wider")]
"""What every promise is asked of; a wider one is made of the same code."""

TOKEN_SIDES = {"flux": 2, "flux2": 1, "qwen-image": 2, "krea-2": 2, "chroma": 2}
"""Side of the square of latents that a pipeline keeps as one token; the others keep latents as they are."""

Step = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Latents, their timestep, and what is predicted for them."""

HEIGHT, WIDTH = 64, 96
"""Of a picture, in pixels: not square, so that nothing is turned on its side unseen."""


@dataclass(frozen=True)
class Member:
    kind: str
    base: BaseFolder
    family: Family
    pipeline: DiffusionPipeline

    @property
    def denoiser(self) -> torch.nn.Module:
        return self.pipeline.components[self.family.denoiser_name]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.family.input_shapes(self.denoiser.config, (HEIGHT, WIDTH))["latents"]

    def packed(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        """As the pipeline keeps them from step to step: tokens, the numbers of a channel side by side, or the latents themselves."""
        if (side := TOKEN_SIDES.get(self.family.name)) is None:
            return latents_BCHW
        batch, channels, height, width = latents_BCHW.shape
        squares = latents_BCHW.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
        return squares.reshape(batch, -1, channels * side**2)

    def unpacked(self, kept: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The way back; `size` is the picture's (height, width)."""
        if (side := TOKEN_SIDES.get(self.family.name)) is None:
            return kept
        channels, height, width = self.family.input_shapes(self.denoiser.config, size)["latents"]
        squares = kept.reshape(-1, height // side, width // side, channels, side, side).permute(0, 3, 1, 4, 2, 5)
        return squares.reshape(-1, channels, height, width)


def load_member(kind: str, folder: Path) -> Member:
    family = families.get(kind.partition(":")[0])
    base = families.resolve_base(str(save_tiny(family, folder / kind.replace(": ", "-"), **VARIANTS.get(kind, {}))))
    return Member(kind, base, family, family.load(base, torch.float32))


def of_kinds(chosen: list[str]) -> pytest.MarkDecorator:
    """Marks a test of `member` that is about these alone."""
    return pytest.mark.parametrize("member", chosen, indirect=True)


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=chance(seed))


@torch.no_grad()
def spoken(member: Member, prompt: str) -> dict[str, torch.Tensor]:
    return member.family.encode_prompts(member.pipeline, [prompt])


@torch.no_grad()
def predicted(member: Member, latents_BCHW: torch.Tensor, t: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
    return member.family.predict(member.denoiser, latents_BCHW, t.expand(len(latents_BCHW)), conditions)


@torch.no_grad()
def steps_of(
    member: Member, arguments: dict, size: tuple[int, int], count: int, monkeypatch
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Every step of the pipeline, as it hands it to its scheduler; size is (height, width)."""
    steps, step = [], member.pipeline.scheduler.step

    def seen(predicted, t, latents, return_dict):
        steps.append((member.unpacked(latents, size), t, member.unpacked(predicted, size)))
        return step(predicted, t, latents, return_dict=return_dict)

    with monkeypatch.context() as patched:
        patched.setattr(member.pipeline.scheduler, "step", seen)
        drawing = {"height": size[0], "width": size[1], "num_inference_steps": count, "output_type": "latent"}
        member.pipeline(**arguments, **drawing, generator=chance(0))
    return steps


@torch.no_grad()
def decoded_by_the_pipeline(member: Member, latents_BCHW: torch.Tensor, monkeypatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline hands to its autoencoder when it ends with these latents, and the picture it makes of them: BCHW in 0..1."""
    handed, decode = [], member.pipeline.vae.decode

    def seen(latents, return_dict=True, generator=None):
        handed.append(latents)
        return decode(latents, return_dict=return_dict)

    def replaced(pipeline, step, timestep, kept):
        return {"latents": member.packed(latents_BCHW)}

    with monkeypatch.context() as patched:
        patched.setattr(member.pipeline.vae, "decode", seen)
        drawing = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 1, "output_type": "pt", "callback_on_step_end": replaced}
        shown = member.pipeline(prompt="a cat", **drawing).images
    return handed[0], shown


def frames(member: Member, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """Pictures as the autoencoder takes them: one for video takes films, of one frame here."""
    return pixels_BCHW[:, :, None] if isinstance(member.pipeline.vae, AutoencoderKLQwenImage) else pixels_BCHW


def draw(
    member: Member, prompt: str = "a cat", negative_prompt: str = "", guidance_scale: float = 4.0, steps: int = 2, init: InitImage | None = None
) -> torch.Tensor:
    """The pixels of a picture drawn through the contract: HWC."""
    conditions = spoken(member, prompt), spoken(member, negative_prompt)
    with torch.no_grad():
        picture = member.family.draw(member.pipeline, *conditions, (WIDTH, HEIGHT), steps, guidance_scale, chance(1), lambda done, total: None, init)
    return torch.from_numpy(numpy.asarray(picture).copy())


def learning_parts(member: Member) -> dict[str, tuple[str, ...]]:
    """part -> its layers that learn, of everything that can."""
    return {member.family.denoiser_name: member.family.target_modules, **member.family.text_encoder_targets}


def in_file(part: str, module: torch.nn.Module, name: str) -> str:
    """A parameter's name in an adapter file: CLIP's layers stand below `text_model`, which transformers 5 dropped from one of its two classes."""
    return f"{part}.{'text_model.' if isinstance(module, CLIPTextModel) else ''}{name}"


@contextmanager
def taught(member: Member, configs: dict[str, PeftConfig]) -> Iterator[dict[str, torch.Tensor]]:
    """The member with random trainable halves of PEFT's in these parts, which come with their names in an adapter file; afterwards as before."""
    random, tensors = chance(5), {}
    try:
        for part, config in configs.items():
            module = member.pipeline.components[part]
            inject(module, config)
            for name, weight in module.named_parameters():
                if weight.requires_grad:
                    weight.data = torch.randn(weight.shape, generator=random) * 0.4
                    tensors[in_file(part, module, name.replace(".default", ""))] = weight.data.clone()
        yield tensors
    finally:
        member.pipeline.unload_lora_weights()


def low_rank(member: Member, rank: int = 4) -> dict[str, LoraConfig]:
    """Plain LoRA of every part that learns, at its usual layers."""
    parts = learning_parts(member)
    return {part: LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)) for part, targets in parts.items()}


def save_lora(member: Member, path: Path, tensors: dict[str, torch.Tensor], rank: int = 4) -> Path:
    """A LoRA file as the studio writes it."""
    stated = {"architecture": member.family.architecture(member.base), "title": "tiny"}
    parts = {part: list(targets) for part, targets in learning_parts(member).items() if any(name.startswith(f"{part}.") for name in tensors)}
    write_adapter(path, tensors, adapter_metadata(parts, rank, {"family": member.family.name}, stated))
    return path


@contextmanager
def read_by_diffusers(member: Member, path: Path) -> Iterator[dict[str, torch.Tensor]]:
    """The member's plain pipeline with a file in it, and the numbers that diffusers put in place by their names in a file; afterwards as before."""
    member.pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="theirs")
    try:
        yield {
            in_file(part, member.pipeline.components[part], name.replace(".theirs", "")): weight.detach().clone()
            for part in learning_parts(member)
            for name, weight in member.pipeline.components[part].named_parameters()
            if ".lora_" in name or ".lokr_" in name
        }
    finally:
        member.pipeline.unload_lora_weights()


def is_whole(block: torch.nn.Module) -> bool:
    """Whether its frozen numbers are there."""
    return all(weight.numel() for weight in block.parameters() if not weight.requires_grad)


def learning_layers(member: Member) -> set[str]:
    """Names of the denoiser's layers that PEFT finds for the family's targets."""
    part = member.family.denoiser_name
    with taught(member, {part: low_rank(member)[part]}) as tensors:
        return {name.removeprefix(f"{part}.").partition(".lora_")[0] for name in tensors}


def assert_read_as(path: Path, family: Family, tensors: dict[str, torch.Tensor]) -> None:
    """The file is a LoRA of the family with exactly these halves."""
    layers = load_adapter(path, family).layers
    assert {f"{name}.lora_{half}.weight" for name in layers for half in "AB"} == set(tensors)
    for name, pair in layers.items():
        assert torch.equal(pair.A, tensors[f"{name}.lora_A.weight"]) and torch.equal(pair.B, tensors[f"{name}.lora_B.weight"])


def assert_changes(path: Path, family: Family, layer: str, change: torch.Tensor) -> None:
    """The file is a LoRA of the family that changes this layer alone, by these numbers."""
    layers = load_adapter(path, family).layers
    assert list(layers) == [layer]
    torch.testing.assert_close(layers[layer].B @ layers[layer].A, change)
