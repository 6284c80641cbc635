"""Block offloading for training: the frozen weights of a block are in RAM and on the GPU only while it computes; trained weights stay there.

diffusers' group offloading is made for inference: it does not know layers that are injected later, such as a LoRA's, and a block whose
forward is recomputed by gradient checkpointing stays on the GPU, because torch aborts that forward once it has the tensors that it needs.
"""

import contextlib
import mmap
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from studio.config import TrainConfig
from studio.core import platform
from studio.core.errors import StudioError
from studio.families.base import Family

ALIGNMENT = 512
"""Bytes. Tensors that torch allocates on a GPU start at multiples of this; cuBLAS chooses its kernels by alignment too."""


@dataclass(frozen=True)
class FrozenTensor:
    """A frozen parameter or buffer of a block, its place in the block's flat buffer, and the empty tensor that replaces it while evicted."""

    module: nn.Module
    name: str
    tensor: Tensor
    placeholder: Tensor
    layout: Tensor
    """On the meta device: shape, strides and dtype."""
    start: int

    def view(self, buffer: Tensor) -> Tensor:
        """This tensor in a flat buffer of bytes."""
        flat = buffer[self.start : self.start + self.layout.nbytes].view(self.layout.dtype)
        return flat.as_strided(self.layout.shape, self.layout.stride())


@dataclass(frozen=True)
class OffloadedBlock:
    """The frozen tensors of one block and their bytes in RAM: one buffer, so that one copy loads the block."""

    frozen: list[FrozenTensor]
    buffer: Tensor
    pinned_by_torch: bool = False
    """Whether torch allocated the buffer as pinned memory."""

    def holds(self, found: list[tuple[nn.Module, str, Tensor]]) -> bool:
        """Whether these are its tensors, and lie in its buffer."""
        own = [(frozen.module, frozen.name, frozen.tensor) for frozen in self.frozen]
        same = [tuple(map(id, each)) for each in own] == [tuple(map(id, each)) for each in found]
        return same and all(frozen.tensor.data_ptr() == frozen.view(self.buffer).data_ptr() for frozen in self.frozen)


class Offload:
    """Between `enable` and `disable` the frozen tensors of `blocks` are in RAM; everything else is on `device`.

    Each load creates new tensors: autograd may hold them for backward after the block is evicted, and they are freed when neither needs
    them. A block without gradient checkpointing (torch's, with use_reentrant=False) would stay on the GPU as a whole that way.
    """

    def __init__(self, model: nn.Module, blocks: list[nn.Module], device: torch.device):
        self.model, self.blocks, self.device = model, blocks, device
        self.offloaded: list[OffloadedBlock] = []
        self.packed: list[OffloadedBlock] = []
        """While disabled: the blocks, to be offloaded again without a copy."""
        self.prefetched: dict[int, tuple[Tensor, torch.cuda.Event | None]] = {}
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.pins = device.type == "cuda"
        """Whether the buffers are pinned. From pinned memory the next block is copied while this one computes."""
        self.can_register = True
        self.notes: list[str] = []
        """For the run's events."""
        self.registered: list[Tensor] = []
        self.last_two: tuple[int | None, int | None] = (None, None)
        self.successors: dict[tuple[int | None, int | None], int] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def enable(self) -> None:
        """Evict all blocks to RAM, move the rest of the model to the device, and register the hooks that load and evict."""
        found = [_find_frozen(block) for block in self.blocks]
        # A tensor that several modules share stays on the device.
        uses = Counter(id(tensor) for block in found for _, _, tensor in block)
        found = [[each for each in block if uses[id(each[2])] == 1] for block in found]
        in_blocks = {id(tensor) for block in found for _, _, tensor in block}
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if id(tensor) not in in_blocks:
                tensor.data = tensor.data.to(self.device)
        for index, block in enumerate(self.blocks):
            # One after the other, so that only one block is in RAM twice.
            packed = self.packed.pop(0) if self.packed else None
            if packed is None or not packed.holds(found[index]):
                packed = None
                packed = self._pack(found[index])
            self.offloaded.append(self._pin(packed) if self.pins else packed)
            self._evict(index)
            self.hooks.append(block.register_forward_pre_hook(lambda module, inputs, index=index: self._load(index)))
            # Called also if the forward is aborted.
            self.hooks.append(block.register_forward_hook(lambda module, inputs, output, index=index: self._evict(index), always_call=True))

    def disable(self) -> None:
        """Remove the hooks and put the frozen tensors back into the blocks; they stay in RAM."""
        for hook in self.hooks:
            hook.remove()
        for block in self.offloaded:
            for frozen in block.frozen:
                frozen.tensor.data = frozen.view(block.buffer)
                setattr(frozen.module, frozen.name, frozen.tensor)
        if self.registered:
            # A prefetch may still be reading.
            torch.cuda.synchronize(self.device)
        for buffer in self.registered:
            torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())
        self.packed, self.offloaded = self.offloaded, []
        self.hooks, self.registered, self.prefetched = [], [], {}

    def _pack(self, found: list[tuple[nn.Module, str, Tensor]]) -> OffloadedBlock:
        """Copy the tensors of one block into one buffer, and free their own memory."""
        frozen, size = [], 0
        for module, name, tensor in found:
            layout = torch.empty_like(tensor.data, device="meta")
            placeholder = _like(tensor, torch.empty(0, dtype=layout.dtype, device=self.device))
            frozen.append(FrozenTensor(module, name, tensor, placeholder, layout, size))
            size += -(-layout.nbytes // ALIGNMENT) * ALIGNMENT
        buffer = _page_aligned(size)
        for each in frozen:
            each.view(buffer).copy_(each.tensor.data)
        # Weights loaded from a file are a mapping of the whole file, which stays until its last tensor is freed.
        platform.page_out_files((each.tensor.data_ptr(), each.layout.nbytes) for each in frozen if each.tensor.device.type == "cpu")
        for each in frozen:
            each.tensor.data = each.placeholder.data
        return OffloadedBlock(frozen, buffer)

    def _pin(self, block: OffloadedBlock) -> OffloadedBlock:
        """The block in pinned memory. Its buffer is registered with CUDA where it is: torch's allocator of pinned memory would round its size up to
        a power of two."""
        if block.pinned_by_torch or not block.buffer.nbytes:
            return block
        if self.can_register:
            status = int(torch.cuda.cudart().cudaHostRegister(block.buffer.data_ptr(), block.buffer.nbytes, 0))
            if status == 0:
                self.registered.append(block.buffer)
                return block
            self.can_register = False
            self.notes.append(f"CUDA cannot register RAM (error {status}), so torch allocates the offloaded blocks: they need up to twice the RAM.")
            # Otherwise the next kernel would raise the failed call's error.
            with contextlib.suppress(RuntimeError):
                torch.ones(1, device=self.device)
        return replace(block, buffer=block.buffer.pin_memory(), pinned_by_torch=True)

    def _load(self, index: int) -> None:
        """Put a block's tensors on the device, and prefetch the block that probably follows."""
        self._prefetch(index)
        buffer, ready = self.prefetched.pop(index)
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
            buffer.record_stream(torch.cuda.current_stream(self.device))
        for frozen in self.offloaded[index].frozen:
            setattr(frozen.module, frozen.name, _like(frozen.tensor, frozen.view(buffer)))
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
            self.prefetched[index] = (self.offloaded[index].buffer.to(self.device, copy=True), None)
            return
        with torch.cuda.stream(self.stream):
            buffer = self.offloaded[index].buffer.to(self.device, non_blocking=True)
            self.prefetched[index] = (buffer, self.stream.record_event())

    def _evict(self, index: int) -> None:
        """Replace a block's tensors by placeholders. Nothing is copied back: frozen tensors do not change."""
        for frozen in self.offloaded[index].frozen:
            frozen.tensor.data = frozen.placeholder.data
            setattr(frozen.module, frozen.name, frozen.placeholder)


def _page_aligned(size: int) -> Tensor:
    """A buffer of bytes in whole pages of RAM: CUDA registers pages, and refuses one that is registered already."""
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = torch.empty(pages + mmap.PAGESIZE, dtype=torch.uint8)
    return memory[-memory.data_ptr() % mmap.PAGESIZE :][:pages]


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
