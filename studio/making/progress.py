"""Shared by the training stages: per-step RNG, resumable states, cosine schedule, average of weights (EMA)."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from studio.core.storage import replace_file


def generator(seed: int, step: int) -> torch.Generator:
    """RNG keyed by (seed, step), so that a resumed stage gives the same result."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def cosine(step: int, total: int, warmup: int, floor: float = 0.02) -> float:
    """Learning rate factor at a step: linear warm-up, then half a cosine down to the floor."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Average:
    """Exponential moving average of a module's floating-point weights; with a smaller decay at first, when recent weights are better."""

    def __init__(self, module: nn.Module, decay: float):
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        names = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in names], [current[name] for name in names], share)


class Stage:
    """Steps, progress bar and resumable state (`<folder>/<name>.state`) of one training stage."""

    def __init__(self, folder: Path, name: str, total: int, every: int = 250):
        self.path, self.name, self.total, self.every = folder / f"{name}.state", name, total, every
        self.step = 0
        self.losses: dict[str, float] = {}

    def resume(self, **parts) -> None:
        """Restore every part to the last saved step; a new stage changes nothing."""
        if not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True)
        self.step, self.losses = state["step"], state["losses"]
        for name, part in parts.items():
            if isinstance(part, Average):
                part.weights = state[name]
            else:
                part.load_state_dict(state[name])

    def save(self, **parts) -> None:
        """Save the state; call it at the end of a step. Resuming starts with the next step."""
        state = {name: part.weights if isinstance(part, Average) else part.state_dict() for name, part in parts.items()}
        aside = self.path.with_suffix(".part")
        torch.save({**state, "step": self.step + 1, "losses": self.losses}, aside)
        replace_file(aside, self.path)

    def steps(self) -> Iterator[int]:
        with tqdm(total=self.total, initial=self.step, desc=self.name, mininterval=5) as bar:
            while self.step < self.total:
                yield self.step
                self.step += 1
                bar.update()
                bar.set_postfix({name: f"{value:.4f}" for name, value in self.losses.items()}, refresh=False)

    def note(self, **losses: float) -> None:
        """Losses, smoothed over about fifty steps."""
        for name, value in losses.items():
            self.losses[name] = value if name not in self.losses else 0.98 * self.losses[name] + 0.02 * value

    @property
    def due(self) -> bool:
        """Whether to save the state after this step."""
        return (self.step + 1) % self.every == 0 or self.step + 1 == self.total


def sixteen_bits() -> torch.autocast:
    """bfloat16 autocast if the CPU has instructions for it: a U-Net step takes four fifths of the time."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.backends.cpu.get_cpu_capability() == "AVX512")


def take_step(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Step all optimizers with this learning rate factor, then clear the gradients."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        optimizer.step()
        optimizer.zero_grad()


def adamw(groups: list[tuple[nn.Module, float]], weight_decay: float = 0.01) -> torch.optim.AdamW:
    parameters = [{"params": list(module.parameters()), "lr": rate, "initial_lr": rate} for module, rate in groups]
    return torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) from -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()
