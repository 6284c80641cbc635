"""Any number of adapters with weights, applied as one low-rank pair per layer, set in place on a loaded base.

A layer's pair is the ranks of all adapters laid side by side, so four LoRAs cost what one of their total rank does. The base's
own weights are never touched: without a pair a layer is the base, bit for bit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from studio.adapters import Adapter, LowRank
from studio.errors import StudioError


class _Pair:
    """Forward hook of one layer: output + B(A(input)), in the order PEFT computes it, so that a single adapter gives the same bits."""

    def __init__(self, A: Tensor, B: Tensor):
        self.A, self.B = A, B

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if isinstance(layer, nn.Conv2d):
            inner = functional.conv2d(x, self.A, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
            return output + functional.conv2d(inner, self.B)
        return output + functional.linear(functional.linear(x, self.A), self.B)


@dataclass
class _Layer:
    module: nn.Module
    pair: _Pair
    unscaled_B: Tensor
    owners: list[int]
    """Which adapter of the stack each rank column of B belongs to."""
    handle: torch.utils.hooks.RemovableHandle


@dataclass(frozen=True)
class Report:
    """What a stack did: layers changed, and for each adapter the names of its layers that this base does not have."""

    layers: int
    unmatched: dict[str, list[str]]


class Stack:
    """The one place where adapters meet a base. `parts` are the modules by their prefix in adapter files (unet, text_encoder)."""

    def __init__(self, parts: dict[str, nn.Module]):
        self._modules = {}
        for part, root in parts.items():
            for name, module in root.named_modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)) and ".lora_" not in name:
                    # While PEFT trains a layer it wraps it; the layer itself is then called base_layer.
                    self._modules[f"{part}.{name.removesuffix('.base_layer')}"] = module
        self._layers: dict[str, _Layer] = {}
        self._adapters: list[Adapter] = []
        self._report = Report(0, {})

    def set(self, stack: list[tuple[Adapter, float]]) -> Report:
        """Show exactly these adapters at these weights. Moving a weight only rescales the B halves; 0 takes an adapter away."""
        for adapter, weight in stack:
            if not math.isfinite(weight):
                raise StudioError(f"The weight of {adapter.title} is {weight}; weights are numbers from -4 to 4.")
        active = [(adapter, weight) for adapter, weight in stack if weight != 0]
        if [id(adapter) for adapter, _ in active] != [id(adapter) for adapter in self._adapters]:
            self._rebuild([adapter for adapter, _ in active])
        weights = torch.tensor([weight for _, weight in active])
        for layer in self._layers.values():
            row = weights[layer.owners].to(layer.unscaled_B)
            torch.mul(layer.unscaled_B, row.view(1, -1, *[1] * (layer.unscaled_B.ndim - 2)), out=layer.pair.B)
        return self._report

    def clear(self) -> None:
        """The base alone, bit for bit."""
        self.set([])

    def _rebuild(self, adapters: list[Adapter]) -> None:
        found: dict[str, list[tuple[int, LowRank]]] = {}
        unmatched: dict[str, list[str]] = {}
        for index, adapter in enumerate(adapters):
            matched = 0
            for name, low_rank in adapter.layers.items():
                place = self._place(name)
                if place is None:
                    unmatched.setdefault(adapter.title, []).append(name)
                    continue
                found.setdefault(place, []).append((index, _fitted(adapter.title, name, low_rank, self._modules[place])))
                matched += 1
            if not matched:
                raise StudioError(f"{adapter.title} matches no layer of this base, so it would change nothing. Choose a LoRA made for this base.")
        for layer in self._layers.values():
            layer.handle.remove()
        self._layers = {place: self._attached(self._modules[place], parts) for place, parts in found.items()}
        self._adapters = adapters
        self._report = Report(len(found), unmatched)

    def _place(self, name: str) -> str | None:
        """transformers 5 dropped CLIP's `text_model.` level; older adapter files still have it, newer ones may not."""
        part, _, module = name.partition(".")
        spellings = (name, f"{part}.{module.removeprefix('text_model.')}", f"{part}.text_model.{module}")
        return next((spelling for spelling in spellings if spelling in self._modules), None)

    def _attached(self, module: nn.Module, parts: list[tuple[int, LowRank]]) -> _Layer:
        A = torch.cat([low_rank.A for _, low_rank in parts], dim=0)
        B = torch.cat([low_rank.B for _, low_rank in parts], dim=1)
        owners = [index for index, low_rank in parts for _ in range(low_rank.A.shape[0])]
        pair = _Pair(A, torch.empty_like(B))
        return _Layer(module, pair, B, owners, module.register_forward_hook(pair))


def _fitted(title: str, name: str, low_rank: LowRank, module: nn.Module) -> LowRank:
    """The halves in the layer's own dtype and number of axes, or StudioError when sizes differ."""
    weight = module.weight
    A, B = low_rank.A, low_rank.B
    if A.ndim == 4 and weight.ndim == 2 and A.shape[2:] == (1, 1):
        A, B = A.flatten(1), B.flatten(1)  # kohya saves 1x1 convolutions of SD 1.x; 2.x made them linear
    elif A.ndim == 2 and weight.ndim == 4:
        A, B = A[:, :, None, None], B[:, :, None, None]
    if A.shape[1:] != weight.shape[1:] or B.shape[0] != weight.shape[0]:
        raise StudioError(
            f"{title} does not fit this base: layer {name} takes {weight.shape[1]} numbers and gives {weight.shape[0]}, "
            f"the LoRA has {A.shape[1]} and {B.shape[0]}. Choose a LoRA made for this base."
        )
    return LowRank(A.to(weight.device, weight.dtype).contiguous(), B.to(weight.device, weight.dtype).contiguous())
