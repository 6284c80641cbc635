"""Block offloading for training: the frozen weights of a block are in RAM and on the GPU only while it computes; trained weights stay there.

diffusers' group offloading is made for inference: it does not know layers that are injected later, such as a LoRA's, and a block whose
forward is recomputed by gradient checkpointing stays on the GPU, because torch aborts that forward once it has the tensors that it needs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from studio.config import TrainConfig
from studio.core.errors import StudioError
from studio.families.base import Family


@dataclass(frozen=True)
class FrozenTensor:
    """A frozen parameter or buffer of a block, its copy in RAM, and the empty tensor that replaces it while the block is evicted."""

    module: nn.Module
    name: str
    tensor: Tensor
    in_ram: Tensor
    placeholder: Tensor


class Offload:
    """Between `enable` and `disable` the frozen tensors of `blocks` are in RAM; everything else is on `device`.

    Each load creates new tensors: autograd may hold them for backward after the block is evicted, and they are freed when neither needs
    them. A block without gradient checkpointing (torch's, with use_reentrant=False) would stay on the GPU as a whole that way.
    """

    def __init__(self, model: nn.Module, blocks: list[nn.Module], device: torch.device):
        self.model, self.blocks, self.device = model, blocks, device
        self.frozen: list[list[FrozenTensor]] = []
        self.prefetched: dict[int, tuple[list[Tensor], torch.cuda.Event | None]] = {}
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.last_two: tuple[int | None, int | None] = (None, None)
        self.successors: dict[tuple[int | None, int | None], int] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def enable(self) -> None:
        """Evict all blocks to RAM, move the rest of the model to the device, and register the hooks that load and evict."""
        self.frozen = [[self._to_ram(*found) for found in _find_frozen(block)] for block in self.blocks]
        offloaded = {id(frozen.tensor) for block in self.frozen for frozen in block}
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if id(tensor) not in offloaded:
                tensor.data = tensor.data.to(self.device)
        for index, block in enumerate(self.blocks):
            self._evict(index)
            self.hooks.append(block.register_forward_pre_hook(lambda module, inputs, index=index: self._load(index)))
            # Called also if the forward is aborted.
            self.hooks.append(block.register_forward_hook(lambda module, inputs, output, index=index: self._evict(index), always_call=True))

    def disable(self) -> None:
        """Remove the hooks and put the frozen tensors back into the blocks; they stay in RAM."""
        for hook in self.hooks:
            hook.remove()
        for block in self.frozen:
            for frozen in block:
                frozen.tensor.data = frozen.in_ram
                setattr(frozen.module, frozen.name, frozen.tensor)
        self.hooks, self.frozen, self.prefetched = [], [], {}

    def _to_ram(self, module: nn.Module, name: str, tensor: Tensor) -> FrozenTensor:
        in_ram = tensor.data.to("cpu")
        # From pinned memory the next block is copied while this one computes.
        in_ram = in_ram.pin_memory() if self.stream else in_ram
        return FrozenTensor(module, name, tensor, in_ram, _like(tensor, torch.empty(0, dtype=in_ram.dtype, device=self.device)))

    def _load(self, index: int) -> None:
        """Put a block's tensors on the device, and prefetch the block that probably follows."""
        self._prefetch(index)
        tensors, ready = self.prefetched.pop(index)
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
            for tensor in tensors:
                tensor.record_stream(torch.cuda.current_stream(self.device))
        for frozen, loaded in zip(self.frozen[index], tensors):
            setattr(frozen.module, frozen.name, _like(frozen.tensor, loaded))
        # The next block is predicted from the last two: these distinguish forward from backward.
        self.successors[self.last_two] = index
        self.last_two = (self.last_two[1], index)
        following = self.successors.get(self.last_two)
        if self.stream is not None and following not in (None, index):
            self._prefetch(following)

    def _prefetch(self, index: int) -> None:
        if index in self.prefetched:
            return
        # Frees a block that was predicted wrongly.
        self.prefetched.clear()
        if self.stream is None:
            self.prefetched[index] = ([frozen.in_ram.to(self.device, copy=True) for frozen in self.frozen[index]], None)
            return
        with torch.cuda.stream(self.stream):
            tensors = [frozen.in_ram.to(self.device, non_blocking=True) for frozen in self.frozen[index]]
            self.prefetched[index] = (tensors, self.stream.record_event())

    def _evict(self, index: int) -> None:
        """Replace a block's tensors by placeholders. Nothing is copied back: frozen tensors do not change."""
        for frozen in self.frozen[index]:
            frozen.tensor.data = frozen.placeholder.data
            setattr(frozen.module, frozen.name, frozen.placeholder)


def _find_frozen(block: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """(module, name, tensor) of every parameter and buffer in it that is not trained."""
    return [
        (module, name, tensor)
        for module in block.modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if not tensor.requires_grad
    ]


def _like(original: Tensor, data: Tensor) -> Tensor:
    """`data` as a tensor of the class of `original`, with the attributes of a quantised one (bitsandbytes' quant_state)."""
    if type(original) is Tensor:
        return data
    made = Tensor._make_subclass(type(original), data, False)
    made.__dict__.update(original.__dict__)
    return made


def place_denoiser(denoiser: nn.Module, family: Family, config: TrainConfig, device: torch.device) -> Offload | None:
    """Move the denoiser to the device, as a whole or with its blocks offloaded to RAM; returns the enabled Offload, None without one.

    StudioError if the settings cannot be combined with `runtime.offload`.
    """
    runtime = config.runtime
    if not runtime.offload:
        if runtime.quantisation not in ("nf4", "int8"):
            denoiser.to(device)
        return None
    if device.type == "cpu":
        raise StudioError("Offloading blocks to RAM (runtime.offload) needs a GPU; this run uses the CPU. Switch offload off.")
    if not runtime.gradient_checkpointing:
        raise StudioError("Offloading blocks to RAM (runtime.offload) needs gradient checkpointing; switch runtime.gradient_checkpointing on.")
    if runtime.quantisation not in ("none", "nf4"):
        raise StudioError(
            f"A base quantised to {runtime.quantisation} cannot be offloaded to RAM (runtime.offload); set runtime.quantisation to nf4 or none."
        )
    if runtime.quantisation == "nf4" and config.lora.method == "dora":
        raise StudioError(
            "DoRA reads the weights of the base, which nf4 quantises and runtime.offload moves to RAM. Switch one of DoRA, nf4 and offload off."
        )
    offload = Offload(denoiser, family.blocks(denoiser), device)
    offload.enable()
    return offload
