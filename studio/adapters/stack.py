"""Stack of adapters with weights, applied to a loaded base as one low-rank pair per layer.

The LoRA matrices of all adapters are concatenated along the rank, so four LoRAs cost as much as one of their total rank. The base's weights are
never modified: without adapters a layer computes exactly what the base does.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.format import Adapter, Kronecker, LowRank, canonical_name
from studio.core.errors import Overflow, StudioError

Layer = nn.Linear | nn.Conv2d
"""Layers that adapters change; quantised ones are subclasses of nn.Linear."""


class _Pair:
    """All plain LoRAs of one layer: B(A(input)), in the order PEFT computes it, so that a single adapter gives the same bits."""

    def __init__(self, module: Layer, parts: list[tuple[int, LowRank]]):
        self.module = module
        self.A = torch.cat([low_rank.A for _, low_rank in parts], dim=0)
        self.unscaled_B = torch.cat([low_rank.B for _, low_rank in parts], dim=1)
        self.B = torch.empty_like(self.unscaled_B)
        # Index of the adapter that each rank column of B belongs to.
        self.owners = [index for index, low_rank in parts for _ in range(low_rank.A.shape[0])]

    def set(self, weights: Tensor) -> None:
        row = weights[self.owners].to(self.unscaled_B)
        torch.mul(self.unscaled_B, row.view(1, -1, *[1] * (self.unscaled_B.ndim - 2)), out=self.B)

    def delta(self, x: Tensor, output: Tensor) -> Tensor:
        return self._low_rank(x, self.A, self.B)

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        for owner in dict.fromkeys(self.owners):
            ranks = [rank for rank, each in enumerate(self.owners) if each == owner]
            yield owner, self._low_rank(x, self.A[ranks], self.B[:, ranks])

    def _low_rank(self, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        if isinstance(self.module, nn.Conv2d):
            layer = self.module
            inner = F.conv2d(x, A, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
            return F.conv2d(inner, B)
        return F.linear(F.linear(x, A), B)


class _Dora:
    """One DoRA of one layer (Liu et al. 2024, equation 5), as PEFT computes it: the weight scales the low-rank part, the magnitudes stay."""

    def __init__(self, module: Layer, owner: int, low_rank: LowRank):
        assert low_rank.magnitude is not None, "A layer without magnitudes is no DoRA."
        self.module, self.owner, self.low_rank, self.magnitude = module, owner, low_rank, low_rank.magnitude
        eye = torch.eye(low_rank.A.shape[1], device=low_rank.A.device, dtype=low_rank.A.dtype)
        self.product = F.linear(F.linear(eye, low_rank.A), low_rank.B).T
        self.scale = 1.0
        self._ratio: Tensor | None = None

    def set(self, weights: Tensor) -> None:
        self.scale, self._ratio = weights[self.owner].item(), None

    @property
    def ratio(self) -> Tensor:
        """Magnitude of each row of the weight, relative to the norm of the sum."""
        if self._ratio is None:
            # Lazily: an offloaded block has its weight only while it computes.
            weight = dequantised_weight(self.module).to(self.product.dtype)
            norms = torch.linalg.norm(weight + self.scale * self.product, dim=1).to(weight.dtype)
            self._ratio = (self.magnitude / norms).view(1, -1)
        return self._ratio

    def delta(self, x: Tensor, output: Tensor) -> Tensor:
        result = F.linear(F.linear(x, self.low_rank.A), self.low_rank.B)
        without_bias = output if self.module.bias is None else output - self.module.bias
        return (self.ratio - 1) * without_bias + self.ratio * result * self.scale

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield self.owner, self.delta(x, output)


class _Kron:
    """One LoKr of one layer. The product is computed each time, as in PEFT; cached, it would be as large as the base."""

    def __init__(self, owner: int, factors: Kronecker):
        self.owner, self.factors, self.scale = owner, factors, 1.0

    def set(self, weights: Tensor) -> None:
        self.scale = weights[self.owner].item()

    def delta(self, x: Tensor, output: Tensor) -> Tensor:
        return F.linear(x, torch.kron(self.factors.w1, self.factors.w2.contiguous()) * self.scale)

    def by_owner(self, x: Tensor, output: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield self.owner, self.delta(x, output)


def dequantised_weight(module: nn.Module) -> Tensor:
    """A layer's weight, dequantised if necessary."""
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(module)


class _Layer:
    """Forward hook of one layer that adds the output of all its adapters."""

    def __init__(self, module: Layer, parts: list[tuple[int, LowRank | Kronecker]]):
        plain = [(index, part) for index, part in parts if isinstance(part, LowRank) and part.magnitude is None]
        self.changes: list[_Pair | _Dora | _Kron] = [_Pair(module, plain)] if plain else []
        self.changes += [_Dora(module, index, part) for index, part in parts if isinstance(part, LowRank) and part.magnitude is not None]
        self.changes += [_Kron(index, part) for index, part in parts if isinstance(part, Kronecker)]
        self.on_change: Callable[[int, float], None] | None = None
        """Called, while measuring, with the index of each adapter and the ratio of its output to the base's."""
        self.handle = module.register_forward_hook(self)

    def set(self, weights: Tensor) -> None:
        for change in self.changes:
            change.set(weights)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        total = output
        for change in self.changes:
            total = total + change.delta(inputs[0], output)
        # Inputs that are already not finite are not caused by this layer.
        if self.on_change and torch.isfinite(inputs[0]).all() and torch.isfinite(output).all():
            own = output.abs().max().item() or 1.0
            for owner, each in (each for change in self.changes for each in change.by_owner(inputs[0], output)):
                self.on_change(owner, each.abs().max().item() / own if torch.isfinite(output + each).all() else math.inf)
        return total


@dataclass(frozen=True)
class LayerEffect:
    """Effect of one adapter on one layer: its output is `times` as large as the base's, infinity if it overflows."""

    layer: str
    title: str
    times: float


@dataclass(frozen=True)
class Report:
    """Result of setting a stack: number of changed layers, and for each adapter its layers that this base lacks."""

    layers: int
    unmatched: dict[str, list[str]]


class Stack:
    """Adapters applied to a base. `parts` are the modules by their prefix in adapter files (unet, text_encoder)."""

    def __init__(self, parts: dict[str, nn.Module]):
        self._modules: dict[str, Layer] = {}
        for part, root in parts.items():
            for name, module in root.named_modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)) and ".lora_" not in name:
                    # During training PEFT wraps a layer, whose own name is then base_layer.
                    self._modules[canonical_name(f"{part}.{name.removesuffix('.base_layer')}")] = module
        self._layers: dict[str, _Layer] = {}
        self._adapters: list[Adapter] = []
        self._report = Report(0, {})

    def set(self, stack: list[tuple[Adapter, float]]) -> Report:
        """Apply exactly these adapters at these weights. A changed weight only rescales the B matrices; 0 removes an adapter."""
        for adapter, weight in stack:
            if not math.isfinite(weight):
                raise StudioError(f"The weight of {adapter.title} is {weight}; allowed are numbers from -4 to 4.")
        active = [(adapter, weight) for adapter, weight in stack if weight != 0]
        for adapter, weight in active:
            self._check_overflow(adapter, weight)
        if [adapter for adapter, _ in active] != self._adapters:
            self._rebuild([adapter for adapter, _ in active])
        weights = torch.tensor([weight for _, weight in active])
        for layer in self._layers.values():
            layer.set(weights)
        return self._report

    def clear(self) -> None:
        """Remove all adapters; the base is then unchanged, bit for bit."""
        self.set([])

    @contextmanager
    def measuring(self) -> Iterator[list[LayerEffect]]:
        """Context in which the effect of each adapter on each layer is measured, in order of computation. Slow."""
        seen: list[LayerEffect] = []

        def note(name: str, owner: int, times: float) -> None:
            seen.append(LayerEffect(name, self._adapters[owner].title, times))

        for name, layer in self._layers.items():
            layer.on_change = functools.partial(note, name)
        try:
            yield seen
        finally:
            for layer in self._layers.values():
                layer.on_change = None

    def _check_overflow(self, adapter: Adapter, weight: float) -> None:
        """Raise Overflow if values exceed the range of the base's dtype."""
        for name, (largest, scaled) in adapter.largest.items():
            if name not in self._modules:
                continue
            dtype = _dtype(self._modules[name])
            most = torch.finfo(dtype).max
            limit = f"the {str(dtype).removeprefix('torch.')} of this base holds at most {f'{most:,.0f}' if most < 1e6 else f'{most:.3g}'}"
            if largest > most:
                raise Overflow(
                    f"{adapter.title}: layer {name} has values up to {largest:.3g}; {limit}, so the image would be black. "
                    "Use another version of this LoRA, or ask its author."
                )
            if scaled * abs(weight) > most:
                raise Overflow(
                    f"{adapter.title}: layer {name} has values up to {scaled:.3g}, too large at weight {weight:g}; {limit}, so the image "
                    "would be black. Choose a smaller weight, or use another version of this LoRA."
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
                found.setdefault(name, []).append((index, _fit_to_layer(adapter.title, name, low_rank, self._modules[name])))
                matched += 1
            if not matched:
                raise StudioError(f"{adapter.title} matches no layer of this base, so it would change nothing. Choose a LoRA made for this base.")
        for layer in self._layers.values():
            layer.handle.remove()
        self._layers = {name: _Layer(self._modules[name], parts) for name, parts in found.items()}
        self._adapters = adapters
        self._report = Report(len(found), unmatched)


def _fit_to_layer(title: str, name: str, part: LowRank | Kronecker, module: Layer) -> LowRank | Kronecker:
    """The matrices in the layer's dtype and number of dimensions; StudioError if sizes differ."""
    # Sizes come from the module: a quantised weight has another shape and dtype, and an offloaded block has none.
    size: tuple[int, ...]
    if isinstance(module, nn.Linear):
        size = (module.out_features, module.in_features)
    else:
        size = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    device, dtype = module.weight.device, _dtype(module)
    if isinstance(part, Kronecker):
        outputs, inputs = (part.w1.shape[axis] * part.w2.shape[axis] for axis in (0, 1))
        if (outputs, inputs) != size:
            raise StudioError(_mismatch_message(title, name, size, inputs, outputs))
        return Kronecker(part.w1.to(device, dtype), part.w2.to(device, dtype))
    A, B = part.A, part.B
    if A.ndim == 4 and len(size) == 2 and A.shape[2:] == (1, 1):
        A, B = A.flatten(1), B.flatten(1)  # kohya saves 1x1 convolutions of SD 1.x; 2.x made them linear
    elif A.ndim == 2 and len(size) == 4:
        A, B = A[:, :, None, None], B[:, :, None, None]
    if tuple(A.shape[1:]) != size[1:] or B.shape[0] != size[0]:
        raise StudioError(_mismatch_message(title, name, size, A.shape[1], B.shape[0]))
    magnitude = None if part.magnitude is None else part.magnitude.to(device, dtype)
    return LowRank(A.to(device, dtype).contiguous(), B.to(device, dtype).contiguous(), magnitude)


def _dtype(module: Layer) -> torch.dtype:
    """The dtype that a layer computes in; quantised weights are integers."""
    return module.weight.dtype if module.weight.is_floating_point() else torch.bfloat16


def _mismatch_message(title: str, name: str, size: tuple[int, ...], inputs: int, outputs: int) -> str:
    return (
        f"{title} does not fit this base: layer {name} has {size[1]} inputs and {size[0]} outputs, "
        f"the LoRA {inputs} and {outputs}. Choose a LoRA made for this base."
    )
