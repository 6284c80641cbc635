"""Any number of adapters with weights, applied as one low-rank pair per layer, set in place on a loaded base.

A layer's pair is the ranks of all adapters laid side by side, so four LoRAs cost what one of their total rank does. The base's
own weights are never touched: without a pair a layer is the base, bit for bit.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.format import Adapter, Kronecker, LowRank, spell
from studio.core.errors import Overflow, StudioError


class _Pair:
    """All plain LoRAs of one layer: B(A(input)), in the order PEFT computes it, so that a single adapter gives the same bits."""

    def __init__(self, module: nn.Module, parts: list[tuple[int, LowRank]]):
        self.module = module
        self.A = torch.cat([low_rank.A for _, low_rank in parts], dim=0)
        self.unscaled_B = torch.cat([low_rank.B for _, low_rank in parts], dim=1)
        self.B = torch.empty_like(self.unscaled_B)
        # Which adapter of the stack each rank column of B belongs to.
        self.owners = [index for index, low_rank in parts for _ in range(low_rank.A.shape[0])]

    def set(self, weights: Tensor) -> None:
        row = weights[self.owners].to(self.unscaled_B)
        torch.mul(self.unscaled_B, row.view(1, -1, *[1] * (self.unscaled_B.ndim - 2)), out=self.B)

    def change(self, x: Tensor, output: Tensor) -> Tensor:
        return self._between(x, self.A, self.B)

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        for owner in dict.fromkeys(self.owners):
            ranks = [rank for rank, each in enumerate(self.owners) if each == owner]
            yield owner, self._between(x, self.A[ranks], self.B[:, ranks])

    def _between(self, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        if isinstance(self.module, nn.Conv2d):
            layer = self.module
            inner = F.conv2d(x, A, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
            return F.conv2d(inner, B)
        return F.linear(F.linear(x, A), B)


class _Dora:
    """One DoRA of one layer (Liu et al. 2024, equation 5), as PEFT computes it: the weight scales the low-rank part, the lengths stay."""

    def __init__(self, module: nn.Module, owner: int, low_rank: LowRank):
        self.module, self.owner, self.low_rank = module, owner, low_rank
        eye = torch.eye(low_rank.A.shape[1], device=low_rank.A.device, dtype=low_rank.A.dtype)
        self.product = F.linear(F.linear(eye, low_rank.A), low_rank.B).T
        self.scale, self.ratio = 1.0, None

    def set(self, weights: Tensor) -> None:
        self.scale, self.ratio = weights[self.owner].item(), None

    def change(self, x: Tensor, output: Tensor) -> Tensor:
        if self.ratio is None:
            # Not before: a block that waits in main memory has its weight only while it computes.
            weight = whole_weight(self.module).to(self.product.dtype)
            lengths = torch.linalg.norm(weight + self.scale * self.product, dim=1).to(weight.dtype)
            self.ratio = (self.low_rank.magnitude / lengths).view(1, -1)
        result = F.linear(F.linear(x, self.low_rank.A), self.low_rank.B)
        without_bias = output if self.module.bias is None else output - self.module.bias
        return (self.ratio - 1) * without_bias + self.ratio * result * self.scale

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield self.owner, self.change(x, output)


class _Kron:
    """One LoKr of one layer. The product is made anew each time, as PEFT does: kept, it would be as large as the base."""

    def __init__(self, owner: int, factors: Kronecker):
        self.owner, self.factors, self.scale = owner, factors, 1.0

    def set(self, weights: Tensor) -> None:
        self.scale = weights[self.owner].item()

    def change(self, x: Tensor, output: Tensor) -> Tensor:
        return F.linear(x, torch.kron(self.factors.w1, self.factors.w2.contiguous()) * self.scale)

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield self.owner, self.change(x, output)


def whole_weight(module: nn.Module) -> Tensor:
    """A layer's weight as numbers, also where it is packed."""
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(module)


class _Layer:
    """Forward hook of one layer: what all its adapters add to its output."""

    def __init__(self, module: nn.Module, parts: list[tuple[int, LowRank | Kronecker]]):
        plain = [(index, part) for index, part in parts if isinstance(part, LowRank) and part.magnitude is None]
        self.changes: list[_Pair | _Dora | _Kron] = [_Pair(module, plain)] if plain else []
        self.changes += [_Dora(module, index, part) for index, part in parts if isinstance(part, LowRank) and part.magnitude is not None]
        self.changes += [_Kron(index, part) for index, part in parts if isinstance(part, Kronecker)]
        self.on_change: Callable[[int, float], None] | None = None
        """While the stack is watched: called with each adapter and how many times as large as the base's its output is."""
        self.handle = module.register_forward_hook(self)

    def set(self, weights: Tensor) -> None:
        for change in self.changes:
            change.set(weights)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        total = output
        for change in self.changes:
            total = total + change.change(inputs[0], output)
        # What comes in broken is no fault of this layer.
        if self.on_change and torch.isfinite(inputs[0]).all() and torch.isfinite(output).all():
            own = output.abs().max().item() or 1.0
            for owner, each in (each for change in self.changes for each in change.by_owner(inputs[0], output)):
                self.on_change(owner, each.abs().max().item() / own if torch.isfinite(output + each).all() else math.inf)
        return total


@dataclass(frozen=True)
class Seen:
    """How much one adapter changes one layer: its output is `times` as large as the base's, infinity where it overflows."""

    layer: str
    title: str
    times: float


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
                    self._modules[spell(f"{part}.{name.removesuffix('.base_layer')}")] = module
        self._layers: dict[str, _Layer] = {}
        self._adapters: list[Adapter] = []
        self._report = Report(0, {})

    def set(self, stack: list[tuple[Adapter, float]]) -> Report:
        """Show exactly these adapters at these weights. Moving a weight only rescales the B halves; 0 takes an adapter away."""
        for adapter, weight in stack:
            if not math.isfinite(weight):
                raise StudioError(f"The weight of {adapter.title} is {weight}; weights are numbers from -4 to 4.")
        active = [(adapter, weight) for adapter, weight in stack if weight != 0]
        for adapter, weight in active:
            self._refuse_overflow(adapter, weight)
        if [adapter for adapter, _ in active] != self._adapters:
            self._rebuild([adapter for adapter, _ in active])
        weights = torch.tensor([weight for _, weight in active])
        for layer in self._layers.values():
            layer.set(weights)
        return self._report

    def clear(self) -> None:
        """The base alone, bit for bit."""
        self.set([])

    @contextmanager
    def watched(self) -> Iterator[list[Seen]]:
        """Meanwhile what each adapter does to each layer is measured, in the order of computation. Slow."""
        seen: list[Seen] = []

        def note(place: str, owner: int, times: float) -> None:
            seen.append(Seen(place, self._adapters[owner].title, times))

        for place, layer in self._layers.items():
            layer.on_change = functools.partial(note, place)
        try:
            yield seen
        finally:
            for layer in self._layers.values():
                layer.on_change = None

    def _refuse_overflow(self, adapter: Adapter, weight: float) -> None:
        """Overflow where numbers would be infinite in the base's own precision."""
        for name, (largest, weighed) in adapter.largest.items():
            if name not in self._modules:
                continue
            dtype = _dtype(self._modules[name])
            most = torch.finfo(dtype).max
            limit = f"the {str(dtype).removeprefix('torch.')} that this base draws in holds at most {f'{most:,.0f}' if most < 1e6 else f'{most:.3g}'}"
            if largest > most:
                raise Overflow(
                    f"{adapter.title}: layer {name} holds numbers up to {largest:.3g}; {limit}, so the image would be black. "
                    "Get another version of this LoRA, or ask its maker."
                )
            if weighed * abs(weight) > most:
                raise Overflow(
                    f"{adapter.title}: layer {name} holds numbers up to {weighed:.3g}, too large at weight {weight:g}; {limit}, so the image "
                    "would be black. Choose a smaller weight, or get another version of this LoRA."
                )

    def _rebuild(self, adapters: list[Adapter]) -> None:
        found: dict[str, list[tuple[int, LowRank | Kronecker]]] = {}
        unmatched: dict[str, list[str]] = {}
        for index, adapter in enumerate(adapters):
            matched = 0
            for name, low_rank in adapter.layers.items():
                if name not in self._modules:
                    unmatched.setdefault(adapter.title, []).append(name)
                    continue
                found.setdefault(name, []).append((index, _fitted(adapter.title, name, low_rank, self._modules[name])))
                matched += 1
            if not matched:
                raise StudioError(f"{adapter.title} matches no layer of this base, so it would change nothing. Choose a LoRA made for this base.")
        for layer in self._layers.values():
            layer.handle.remove()
        self._layers = {name: _Layer(self._modules[name], parts) for name, parts in found.items()}
        self._adapters = adapters
        self._report = Report(len(found), unmatched)


def _fitted(title: str, name: str, part: LowRank | Kronecker, module: nn.Module) -> LowRank | Kronecker:
    """The halves in the layer's own dtype and number of axes, or StudioError when sizes differ."""
    # The weight itself does not say it: packed it has another shape and dtype than what it stands for, in a block that waits it has none.
    linear = isinstance(module, nn.Linear)
    size = (module.out_features, module.in_features) if linear else (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    device, dtype = module.weight.device, _dtype(module)
    if isinstance(part, Kronecker):
        gives, takes = (part.w1.shape[axis] * part.w2.shape[axis] for axis in (0, 1))
        if (gives, takes) != size:
            raise StudioError(_misfit(title, name, size, takes, gives))
        return Kronecker(part.w1.to(device, dtype), part.w2.to(device, dtype))
    A, B = part.A, part.B
    if A.ndim == 4 and len(size) == 2 and A.shape[2:] == (1, 1):
        A, B = A.flatten(1), B.flatten(1)  # kohya saves 1x1 convolutions of SD 1.x; 2.x made them linear
    elif A.ndim == 2 and len(size) == 4:
        A, B = A[:, :, None, None], B[:, :, None, None]
    if tuple(A.shape[1:]) != size[1:] or B.shape[0] != size[0]:
        raise StudioError(_misfit(title, name, size, A.shape[1], B.shape[0]))
    magnitude = None if part.magnitude is None else part.magnitude.to(device, dtype)
    return LowRank(A.to(device, dtype).contiguous(), B.to(device, dtype).contiguous(), magnitude)


def _dtype(module: nn.Module) -> torch.dtype:
    """What a layer computes in; packed weights are whole numbers."""
    return module.weight.dtype if module.weight.is_floating_point() else torch.bfloat16


def _misfit(title: str, name: str, size: tuple[int, ...], takes: int, gives: int) -> str:
    return (
        f"{title} does not fit this base: layer {name} takes {size[1]} numbers and gives {size[0]}, "
        f"the LoRA has {takes} and {gives}. Choose a LoRA made for this base."
    )
