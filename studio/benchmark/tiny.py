"""A Stable Diffusion model of real classes and random weights, some 100 kB: what tests and the kill benchmark compute with, offline."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = ("a", "red", "blue", "house", "cat", "picture", "of", "ohwx", "sks")


def save_tiny_model(folder: Path, prompt_width: int = 32, prediction_type: str = "epsilon") -> Path:
    """A model folder as `from_pretrained` reads it. Pictures are 64 x 64, latents 8 x 8."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=prompt_width,
            intermediate_size=2 * prompt_width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=24,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=prompt_width,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, prediction_type=prediction_type
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer over single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24, pad_token="<|endoftext|>")


@dataclass(frozen=True)
class TinyPicture:
    id: str
    file: Path
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class TinyDataset:
    """What `Run.create` needs of a dataset: pictures of coloured noise with captions."""

    folder: Path
    count: int = 5
    id: str = "tiny"
    title: str = "Tiny"
    subject: str = "style"
    real_person: bool = False
    consent: str = ""
    sizes: tuple[tuple[int, int], ...] = field(default=((70, 70), (90, 54)))

    @property
    def pictures(self) -> list[TinyPicture]:
        self.folder.mkdir(parents=True, exist_ok=True)
        made = []
        for index in range(self.count):
            width, height = self.sizes[index % len(self.sizes)]
            file = self.folder / f"{index}.png"
            if not file.exists():
                pixels = numpy.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(file)
            made.append(TinyPicture(f"{index:064x}", file, f"ohwx a {WORDS[1 + index % 4]}", width, height))
        return made

    def sha256(self) -> str:
        return f"{self.count:064x}"
