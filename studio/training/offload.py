"""Blocks that wait in main memory and are on the card only while they compute; what learns stays there.

diffusers' group offloading is made for drawing: it does not know layers that join a model later, as a LoRA's halves do, and a block that
is computed twice stays on the card the second time, because torch cuts that forward short once it has what it needs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.families.base import Family


@dataclass(frozen=True)
class Home:
    """Where a frozen tensor of a block belongs, its numbers in main memory, and what stands in its place meanwhile."""

    module: nn.Module
    name: str
    own: Tensor
    numbers: Tensor
    nothing: Tensor


class Offload:
    """Between `begin` and `end` the frozen numbers of `blocks` are at home in main memory; everything else is on `device`.

    What comes is a tensor of its own each time: autograd may keep it for the way back after the block has let it go, and it is freed when
    neither needs it. A block that is not computed twice (torch's checkpointing, without reentry) would be kept whole that way.
    """

    def __init__(self, model: nn.Module, blocks: list[nn.Module], device: torch.device):
        self.model, self.blocks, self.device = model, blocks, device
        self.homes: list[list[Home]] = []
        self.coming: dict[int, tuple[list[Tensor], torch.cuda.Event | None]] = {}
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.path: tuple[int | None, int | None] = (None, None)
        self.known: dict[tuple[int | None, int | None], int] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def begin(self) -> None:
        self.homes = [[self._home(*frozen) for frozen in _frozen(block)] for block in self.blocks]
        inside = {id(home.own) for homes in self.homes for home in homes}
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if id(tensor) not in inside:
                tensor.data = tensor.data.to(self.device)
        for index, block in enumerate(self.blocks):
            self._leave(index)
            self.hooks.append(block.register_forward_pre_hook(lambda module, inputs, index=index: self._come(index)))
            # Also when the forward is cut short.
            self.hooks.append(block.register_forward_hook(lambda module, inputs, output, index=index: self._leave(index), always_call=True))

    def end(self) -> None:
        """Everything of the blocks that waited is in them again, in main memory."""
        for hook in self.hooks:
            hook.remove()
        for homes in self.homes:
            for home in homes:
                home.own.data = home.numbers
                setattr(home.module, home.name, home.own)
        self.hooks, self.homes, self.coming = [], [], {}

    def _home(self, module: nn.Module, name: str, own: Tensor) -> Home:
        numbers = own.data.to("cpu")
        # Out of pinned memory the next block comes while this one computes.
        numbers = numbers.pin_memory() if self.stream else numbers
        return Home(module, name, own, numbers, _like(own, torch.empty(0, dtype=numbers.dtype, device=self.device)))

    def _come(self, index: int) -> None:
        self._fetch(index)
        tensors, ready = self.coming.pop(index)
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
            for tensor in tensors:
                tensor.record_stream(torch.cuda.current_stream(self.device))
        for home, numbers in zip(self.homes[index], tensors):
            setattr(home.module, home.name, _like(home.own, numbers))
        # Which block comes next is learnt from the last time: the two before it tell a forward from the way back.
        self.known[self.path] = index
        self.path = (self.path[1], index)
        following = self.known.get(self.path)
        if self.stream is not None and following not in (None, index):
            self._fetch(following)

    def _fetch(self, index: int) -> None:
        if index in self.coming:
            return
        # What was expected and did not come makes room.
        self.coming.clear()
        if self.stream is None:
            self.coming[index] = ([home.numbers.to(self.device, copy=True) for home in self.homes[index]], None)
            return
        with torch.cuda.stream(self.stream):
            tensors = [home.numbers.to(self.device, non_blocking=True) for home in self.homes[index]]
            self.coming[index] = (tensors, self.stream.record_event())

    def _leave(self, index: int) -> None:
        """Nothing is copied back: frozen numbers are the same at home."""
        for home in self.homes[index]:
            home.own.data = home.nothing.data
            setattr(home.module, home.name, home.nothing)


def _frozen(block: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """(module, name, tensor) of everything in it that does not learn."""
    return [
        (module, name, tensor)
        for module in block.modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if not tensor.requires_grad
    ]


def _like(own: Tensor, numbers: Tensor) -> Tensor:
    """The numbers as the same kind of tensor, with what a packed one knows of itself."""
    if type(own) is Tensor:
        return numbers
    made = Tensor._make_subclass(type(own), numbers, False)
    made.__dict__.update(own.__dict__)
    return made


def place(denoiser: nn.Module, family: Family, config: TrainConfig, device: torch.device) -> Offload | None:
    """Bring the denoiser to where it computes: whole, or with its blocks waiting in main memory, which are then begun."""
    runtime = config.runtime
    if not runtime.offload:
        if runtime.quantisation not in ("nf4", "int8"):
            denoiser.to(device)
        return None
    if device.type == "cpu":
        raise StudioError("Keeping blocks in main memory (offload) is for a graphics card; this run computes on the processor. Switch it off.")
    if not runtime.gradient_checkpointing:
        raise StudioError("Keeping blocks in main memory (offload) needs them computed twice (gradient checkpointing); switch that on too.")
    if runtime.quantisation not in ("none", "nf4"):
        raise StudioError(f"A base packed as {runtime.quantisation} cannot wait in main memory (offload); pack it as nf4, or not at all.")
    if runtime.quantisation == "nf4" and config.lora.method == "dora":
        raise StudioError("DoRA measures the base's own numbers, which are packed (nf4) in main memory (offload); switch one of the three off.")
    offload = Offload(denoiser, family.blocks(denoiser), device)
    offload.begin()
    return offload
