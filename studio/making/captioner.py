"""Trains the captioner: an ordinary BLIP, small, on rendered images and their canonical captions."""

from pathlib import Path

import numpy as np
import torch
from transformers import BlipForConditionalGeneration

from studio.making import architecture, pool
from studio.making.muon import split
from studio.making.progress import Average, Stage, cosine, generator, sixteen_bits, take_step, to_tensor
from studio.making.vocabulary import caption_tokenizer
from studio.making.world import caption

STEPS = 11_000
BATCH = 32
LEARNING_RATE = 8e-4
SHIFT = 5


def disturbed(images_BCHW: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Augment with mild noise, brightness and blur, so that generated images and re-saved JPEGs are captioned as well as rendered ones."""
    count = len(images_BCHW)
    light = 1 + 0.08 * (torch.rand(count, 1, 1, 1, generator=random) - 0.5)
    noise = 0.06 * torch.rand(count, 1, 1, 1, generator=random) * torch.randn(images_BCHW.shape, generator=random)
    blurred = torch.nn.functional.avg_pool2d(images_BCHW, 3, stride=1, padding=1, count_include_pad=False)
    share = (torch.rand(count, 1, 1, 1, generator=random) - 0.3).clamp(min=0)
    return ((images_BCHW * (1 - share) + blurred * share) * light + noise).clamp(-1, 1)


def shifted(images_BCHW: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Shift each image by up to SHIFT pixels with repeated edges, so that things fall differently on the patches. Positions stay correct."""
    count, _, height, width = images_BCHW.shape
    padded = torch.nn.functional.pad(images_BCHW, (SHIFT,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * SHIFT + 1, (count, 2), generator=random).tolist()
    return torch.stack([one[:, top : top + height, left : left + width] for one, (top, left) in zip(padded, offsets)])


def train(folder: Path, steps: int, seed: int) -> None:
    world, scenes = pool.load(folder, "world")
    tokenizer = caption_tokenizer()
    torch.manual_seed(seed)
    model = architecture.captioner(tokenizer).train()
    # Word and patch embeddings, and the head that shares its weights with the word embeddings, are tables rather than linear maps.
    muon, rest = split(model, LEARNING_RATE, apart=("vision_model.embeddings", "text_decoder.bert.embeddings", "text_decoder.cls"), weight_decay=0.05)
    average = Average(model, 0.998)
    stage = Stage(folder, "captioner", steps)
    parts = {"model": model, "muon": muon, "adamw": rest, "average": average}
    stage.resume(**parts)
    for step in stage.steps():
        chance = generator(seed, step)
        chosen = np.sort(torch.randint(len(world), (BATCH,), generator=chance).numpy())
        images = disturbed(shifted(to_tensor(world[chosen]), chance), chance)
        # BlipProcessor starts a text with [CLS]; training and generating both replace it by the decoder's start token, [DEC].
        tokens = tokenizer([caption(scenes[index]) for index in chosen], padding=True, return_tensors="pt")
        tokens["input_ids"][:, 0] = tokenizer.convert_tokens_to_ids("[DEC]")
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, -100)
        labels[:, 0] = -100
        with sixteen_bits():
            vision = model.vision_model(pixel_values=images).last_hidden_state
            logits = model.text_decoder(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=vision, return_dict=True
            ).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        take_step((muon, rest), cosine(step, steps, warmup=100))
        average.update(model, step)
        stage.note(loss=loss.item())
        if stage.due:
            stage.save(**parts)


def load(folder: Path) -> BlipForConditionalGeneration:
    model = architecture.captioner(caption_tokenizer())
    model.load_state_dict(torch.load(folder / "captioner.state", weights_only=True)["average"])
    return model.eval()


def write(folder: Path, target: Path) -> None:
    load(folder).half().save_pretrained(target)
    architecture.caption_processor(caption_tokenizer()).save_pretrained(target)
