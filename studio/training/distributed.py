"""Process group of a run: rank, barrier, broadcast of decisions, and averaged gradients.

Started by `accelerate launch`. A single process creates no torch process group, and every method returns at once.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from studio.core.errors import StudioError


@dataclass(frozen=True)
class Shard:
    """Part of every global batch that one process trains."""

    rank: int = 0
    processes: int = 1


SINGLE_PROCESS = Shard()


class ProcessGroup:
    """All processes of one run. The main process (rank 0) writes every file; the others only compute.

    StudioError if `accelerate launch` started another number of processes than the run's `runtime.processes`.
    """

    def __init__(self, processes: int = 1):
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != processes:
            raise StudioError(
                f"This run was made for {processes} processes and {started} were started. Start it with: "
                f"accelerate launch --num_processes {processes} -m studio.training.loop RUN"
            )
        self.processes, self.rank, self.cpu_group = processes, 0, None
        if processes > 1:
            from accelerate import PartialState

            # Selects this process's GPU and makes it the current one.
            self.rank = PartialState(cpu=not torch.cuda.is_available()).process_index
            # Decisions are exchanged between CPUs (gloo): over NCCL each one would synchronise the GPU.
            self.cpu_group = torch.distributed.new_group(backend="gloo")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        return Shard(self.rank, self.processes)

    def broadcast(self, value: int) -> int:
        """The main process's value, in every process."""
        if self.cpu_group is None:
            return value
        shared = torch.tensor([value])
        torch.distributed.broadcast(shared, 0, group=self.cpu_group)
        return int(shared.item())

    def barrier(self) -> None:
        """Block until every process gets here. The timeout is seven days, because the main process may sample or be paused for long."""
        if self.cpu_group is not None:
            torch.distributed.monitored_barrier(group=self.cpu_group, timeout=timedelta(days=7))

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor in place by its mean over all processes, in one all-reduce."""
        if self.cpu_group is None:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.processes
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(part.view_as(tensor))

    def close(self) -> None:
        """Destroy the torch process group."""
        if self.cpu_group is not None:
            torch.distributed.destroy_process_group()
