"""Peak memory of a computation, counted on torch's meta device: tensors have shapes and lifetimes there, but no data.

Operators that CUDA computes in one fused kernel are replaced, because torch composes them from many tensors on the meta device.
"""

import contextlib
import functools
import weakref
from collections.abc import Hashable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATION = 512
"""The CUDA allocator rounds every tensor up to a multiple of this, in bytes."""


class PeakCounter(TorchDispatchMode):
    """Counts the bytes of all tensors that are created while it is active, and their peak. A storage is freed when its last tensor is.

    `existing`: tensors that are not counted, such as weights; views of them are not counted either.
    """

    def __init__(self, existing: Iterable[Tensor]):
        super().__init__()
        self.live = self.peak = 0
        self._existing = {tensor.untyped_storage()._cdata for tensor in existing}
        self._sizes: dict[int, tuple[int, weakref.ref]] = {}
        self._layouts: dict[tuple, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # Meta kernels are Python code in torch. A transformer calls each with the same shapes in every block, so their result is remembered.
        key = (func, _layout(args), _layout(kwargs)) if _creates(func) else None
        if key in self._layouts:
            size, stride, dtype = self._layouts[key]
            result = torch.empty_strided(size, stride, dtype=dtype, device="meta")
        else:
            result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor):
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self._add(tensor.untyped_storage())
        # The schema of `_unsafe_view` does not say that it returns a view: only a tensor with a new storage is remembered.
        elif self._add(result.untyped_storage()) and key and result.is_meta:
            self._layouts[key] = result.size(), result.stride(), result.dtype
        return result

    def _add(self, storage: torch.UntypedStorage) -> bool:
        """Count a storage; returns whether it is a new one."""
        # A storage's Python object lives as long as the storage itself, so a weak reference to it reports when the memory is freed.
        key = storage._cdata
        if key in self._existing or key in self._sizes:
            return False
        size = -(-storage.nbytes() // ALLOCATION) * ALLOCATION
        self.live += size
        self.peak = max(self.peak, self.live)
        self._sizes[key] = size, weakref.ref(storage, lambda _: self._free(key))
        return True

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)[0]


@functools.cache
def _creates(operator: torch._ops.OpOverload) -> bool:
    """Whether the operator returns new tensors and changes none: no view, nothing in place, no `out`."""
    schema = operator._schema
    return not schema.is_mutable and all(each.alias_info is None for each in schema.returns)


def _layout(value: object) -> Hashable:
    """Arguments of an operator with the layout of each tensor in its place."""
    if isinstance(value, Tensor):
        return value.size(), value.stride(), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return tuple(map(_layout, value))
    if isinstance(value, dict):
        return tuple((name, _layout(each)) for name, each in value.items())
    # 1 and 1.0 are equal, and give other dtypes.
    return type(value), value


class LargestAttention:
    """Largest attention of a computation: bytes of its query in float32, which the backward pass accumulates its gradient in, and its heads."""

    def __init__(self) -> None:
        self.bytes = self.heads = 0

    def update(self, query: Tensor) -> None:
        if 4 * query.numel() > self.bytes:
            self.bytes, self.heads = 4 * query.numel(), query.shape[-3]


@contextlib.contextmanager
def fused_kernels(attention: bool = True) -> Iterator[LargestAttention]:
    """Replace attention (unless the math kernel is used) and RMS norm by stand-ins with the memory of the CUDA kernels."""
    largest = LargestAttention()

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Tensor:
        largest.update(query)
        return _Attention.apply(query, key, value)

    def normalise(input, normalized_shape, weight=None, eps=None) -> Tensor:
        return _RMSNorm.apply(input, weight)

    functional = nn.functional
    originals = functional.scaled_dot_product_attention, functional.rms_norm
    if attention:
        functional.scaled_dot_product_attention = attend
    functional.rms_norm = normalise
    try:
        yield largest
    finally:
        functional.scaled_dot_product_attention, functional.rms_norm = originals


class _Attention(torch.autograd.Function):
    """Attention that saves its inputs, its output and one value per row; the backward pass accumulates the query's gradient in float32
    (Dao et al. 2022, FlashAttention; memory-efficient attention does the same)."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient: Tensor):
        query, key, value, *_ = ctx.saved_tensors
        accumulated = torch.empty_like(query, dtype=torch.float32)
        gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del accumulated
        return gradients


class _RMSNorm(torch.autograd.Function):
    """RMS norm as one kernel: saves its input and one value per row."""

    @staticmethod
    def forward(ctx, input: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, input.new_empty(input.shape[:-1], dtype=torch.float32))
        return torch.empty_like(input)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return torch.empty_like(gradient), None
