"""Trains the U-Net on cached latents: v-prediction (arXiv 2202.00512), caption dropout, averaged weights (EMA).

All timesteps have equal weight. Min-SNR weights (arXiv 2303.09556) would almost ignore the noisiest steps, which determine the colours of
background and thing.

The text encoder is trained further at a smaller learning rate: contrastive training gave one good vector per prompt, while the U-Net reads
every token. Matrices are trained with Muon, the rest with AdamW.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from studio.making import architecture, pool, text_encoder
from studio.making.muon import split
from studio.making.progress import Average, Stage, cosine, generator, sixteen_bits, take_step
from studio.making.prompts import training_prompt
from studio.making.vocabulary import prompt_tokenizer

STEPS = 16_000
BATCH = 32
LEARNING_RATE = 8e-4
TEXT_SHARE = 0.2
"""The text encoder's learning rate, as a share of the U-Net's."""
UNCONDITIONAL_SHARE = 0.1


def noise_schedule() -> DDPMScheduler:
    """The noise schedule for training, matching the pipeline's scheduler."""
    return DDPMScheduler.from_config(architecture.scheduler().config)


def timesteps(count: int, random: torch.Generator) -> torch.Tensor:
    """Stratified timesteps: a batch is spread evenly over the schedule, which reduces the variance of the loss at no cost."""
    even = (torch.arange(count) + torch.rand(count, generator=random)) / count
    return (even * 1000).long().clamp(max=999)


def compiled(unet: UNet2DConditionModel) -> Callable:
    """The compiled function, if a C++ compiler is available."""
    return torch.compile(unet) if shutil.which(os.environ.get("CXX", "c++")) else unet


def train(folder: Path, steps: int, seed: int, preview=None) -> None:
    """`preview(folder)` is called after every saved state, to inspect images during training."""
    _, scenes = pool.load(folder, "world")
    latents = torch.from_numpy(np.load(folder / "latents.npy"))
    tokenizer, schedule = prompt_tokenizer(), noise_schedule()
    torch.manual_seed(seed)
    unet, text = architecture.denoiser().to(memory_format=torch.channels_last).train(), text_encoder.load(folder).train()
    predict = compiled(unet)
    # The first and last layers of the U-Net convert from and to latents; they are not maps between features.
    muon, rest = split(unet, LEARNING_RATE, apart=("conv_in", "conv_out"), more=[(text, LEARNING_RATE * TEXT_SHARE)])
    averages = {"unet_average": Average(unet, 0.999), "text_average": Average(text, 0.999)}
    parts = {"unet": unet, "text": text, "muon": muon, "adamw": rest, **averages}
    stage = Stage(folder, "unet", steps)
    stage.resume(**parts)
    for step in stage.steps():
        chance, rng = generator(seed, step), random.Random(f"unet {seed} {step}")
        chosen = torch.randint(len(latents), (BATCH,), generator=chance)
        prompts = ["" if rng.random() < UNCONDITIONAL_SHARE else training_prompt(scenes[index], rng) for index in chosen.tolist()]
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=chance)
        times = timesteps(BATCH, chance)
        target = schedule.get_velocity(clean, noise, times)
        noisy = schedule.add_noise(clean, noise, times).contiguous(memory_format=torch.channels_last)
        with sixteen_bits():
            conditions = text(**text_encoder.tokenize(tokenizer, prompts, whole=True)).last_hidden_state
            predicted = predict(noisy, times, conditions, return_dict=False)[0]
        loss = F.mse_loss(predicted.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_([*unet.parameters(), *text.parameters()], 1.0)
        take_step((muon, rest), cosine(step, steps, warmup=100))
        averages["unet_average"].update(unet, step)
        averages["text_average"].update(text, step)
        stage.note(loss=loss.item())
        if stage.due:
            stage.save(**parts)
            if preview:
                preview(folder)
