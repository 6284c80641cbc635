"""Peak RAM of offloading a base, measured in processes of their own: `python -m tests.devices.offload_memory FOLDER`.

The last line of the output is JSON: how the base is loaded and pinned (files|cast registered|allocated) -> figures. Each is measured in a fork of
one process that has imported torch and loaded nothing.

The base has blocks of odd sizes. CUDA is replaced by functions that take the RAM which CUDA's would: registering takes none, and torch's
allocator of pinned memory rounds up to a power of two.
"""

import json
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from studio.devices.offload import Offload

WIDTHS = [(1531, 4099), (2063, 6151), (1021, 9001), (3001, 3011)] * 8
FILES = 3


def status(field: str) -> int:
    """Bytes in a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def make(folder: Path) -> None:
    """Write the base's files: block number i is in file i * FILES // (number of blocks)."""
    for number in range(FILES):
        blocks = [index for index in range(len(WIDTHS)) if index * FILES // len(WIDTHS) == number]
        tensors = {f"{i}.weight": random_weight(*WIDTHS[i]) for i in blocks}
        tensors |= {f"{i}.bias": torch.randn(WIDTHS[i][1], dtype=torch.bfloat16) for i in blocks}
        save_file(tensors, folder / f"{number}.safetensors")


def random_weight(width: int, height: int) -> torch.Tensor:
    """Each row is the one above moved by a number: as telling as random numbers, and made in a fraction of the time."""
    return torch.randn(width + height, dtype=torch.bfloat16).unfold(0, width, 1)[:height].contiguous()


def load(folder: Path, cast: bool) -> nn.ModuleList:
    with torch.device("meta"):
        base = nn.ModuleList(nn.Linear(*widths, dtype=torch.bfloat16) for widths in WIDTHS)
    for number in range(FILES):
        tensors = load_file(folder / f"{number}.safetensors")
        base.load_state_dict({name: tensor.clone() if cast else tensor for name, tensor in tensors.items()}, assign=True, strict=False)
    return base.requires_grad_(False)


def measure(folder: Path, how: str, pinning: str) -> dict:
    pinned: dict[int, int] = {}

    def register(address: int, size: int, flags: int) -> int:
        if pinning == "allocated":
            return 801  # cudaErrorNotSupported
        assert all(address + size <= start or start + length <= address for start, length in pinned.items()), "registered twice"
        pinned[address] = size
        return 0

    def unregister(address: int) -> int:
        del pinned[address]
        return 0

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        size = max(512, tensor.nbytes)
        buffer = torch.ones(1 << (size - 1).bit_length(), dtype=torch.uint8)
        pinned[buffer.data_ptr()] = buffer.nbytes
        return buffer[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)

    torch.cuda.cudart = lambda: SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=unregister)
    torch.Tensor.pin_memory = pin_memory
    torch.cuda.synchronize = lambda device: None
    before = status("VmRSS")
    base = load(folder, how == "cast")
    # Only now: while the weights of a file are cast, the file itself is mapped too.
    Path("/proc/self/clear_refs").write_text("5")
    loaded = status("VmRSS") - before
    size = sum(weight.nbytes for weight in base.parameters())
    sums = [float(weight.sum()) for weight in base.parameters()] if how == "cast" else []
    offload = Offload(base, list(base), torch.device("cpu"))
    offload.pins = True
    offload.enable()
    found = {"base": size, "loaded": loaded, "enabled": status("VmHWM") - before, "pinned": sum(pinned.values())}
    offload.disable()
    registered = sum(pinned.values())
    offload.enable()
    found["notes"] = offload.notes
    found |= {"again": status("VmHWM") - before, "registered while disabled": registered}
    offload.disable()
    assert not sums or sums == [float(weight.sum()) for weight in base.parameters()]
    return found


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fork of this process, which keeps nothing of what it loads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    in_fork(make, folder)
    ways = [("files", "registered"), ("cast", "registered"), ("files", "allocated")]
    print(json.dumps({" ".join(way): in_fork(measure, folder, *way) for way in ways}))
