"""Pretraining of the text encoder before the denoiser: contrastive training as in CLIP (arXiv 2103.00020).

The image encoder is a small convolutional network on images at half size, discarded afterwards. Hard negatives (one wrong word) are
among the negatives: without them 'a red cat and a blue boat' and its swap would have almost the same vector.
"""

import random
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from studio.making import architecture, pool
from studio.making.progress import Stage, adamw, cosine, generator, take_step, to_tensor
from studio.making.prompts import near_miss, training_prompt
from studio.making.vocabulary import prompt_tokenizer
from studio.making.world import paraphrase

STEPS = 500
BATCH = 64
MISSES = 2
LEARNING_RATE = 6e-4


class ImageEncoder(nn.Module):
    """Images (B, 3, 64, 64) -> one vector each; the last feature map is flattened, not pooled, since left and right matter."""

    def __init__(self, width: int = architecture.TEXT_WIDTH):
        super().__init__()
        channels = (3, 32, 64, 128, 160)
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:]):
            layers += [
                nn.Conv2d(before, after, 5 if before == 3 else 3, stride=2, padding=2 if before == 3 else 1),
                nn.GroupNorm(16, after),
                nn.SiLU(),
            ]
        layers += [nn.Conv2d(160, 160, 3, padding=1), nn.GroupNorm(16, 160), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(160 * 16, width))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(F.avg_pool2d(images_BCHW, 2))


class Pair(nn.Module):
    """The text encoder, the image encoder, and the learned temperature."""

    def __init__(self, text: CLIPTextModel):
        super().__init__()
        self.text, self.picture = text, ImageEncoder()
        self.projection = nn.Linear(architecture.TEXT_WIDTH, architecture.TEXT_WIDTH, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.6))

    def loss(self, images_BCHW: torch.Tensor, tokens: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
        """tokens: the B true prompts first, then the hard negatives. Returns the loss and the accuracy."""
        images = F.normalize(self.picture(images_BCHW), dim=-1)
        texts = F.normalize(self.projection(self.text(**tokens).pooler_output), dim=-1)
        scores = self.log_scale.exp().clamp(max=60) * images @ texts.T
        right = torch.arange(len(images))
        loss = F.cross_entropy(scores, right) + F.cross_entropy(scores[:, : len(images)].T, right)
        return loss / 2, (scores.argmax(1) == right).float().mean().item()


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str], whole: bool) -> dict[str, torch.Tensor]:
    """`whole` pads to the model's length, as the pipeline does; otherwise to the longest prompt, which is cheaper and pools to the same output."""
    batch = tokenizer(
        prompts, padding="max_length" if whole else "longest", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return {"input_ids": batch["input_ids"]}


def train(folder: Path, steps: int, seed: int) -> None:
    world, scenes = pool.load(folder, "world")
    tokenizer = prompt_tokenizer()
    torch.manual_seed(seed)
    pair = Pair(architecture.text_encoder(tokenizer)).train()
    optimizer = adamw([(pair, LEARNING_RATE)], weight_decay=0.05)
    stage = Stage(folder, "text", steps)
    stage.resume(model=pair, optimizer=optimizer)
    for step in stage.steps():
        rng = random.Random(f"text {seed} {step}")
        chosen = torch.randint(len(world), (BATCH,), generator=generator(seed, step)).numpy()
        shown = [scenes[index] for index in chosen]
        prompts = [training_prompt(scene, rng) for scene in shown]
        prompts += [paraphrase(near_miss(scene, rng), rng) for _ in range(MISSES) for scene in shown]
        loss, right = pair.loss(to_tensor(world[chosen]), tokenize(tokenizer, prompts, whole=False))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        take_step([optimizer], cosine(step, steps, warmup=60))
        stage.note(loss=loss.item(), right=right)
        if stage.due:
            stage.save(model=pair, optimizer=optimizer)


def load(folder: Path) -> CLIPTextModel:
    text = architecture.text_encoder(prompt_tokenizer())
    weights = torch.load(folder / "text.state", weights_only=True)["model"]
    text.load_state_dict({name.removeprefix("text."): value for name, value in weights.items() if name.startswith("text.")})
    return text
