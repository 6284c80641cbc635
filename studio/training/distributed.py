"""One process or several that share each step: who writes, who agrees on what, and gradients added up.

Started by `accelerate launch`; without it a team of one, for which nothing here costs anything.
"""

import os
from datetime import timedelta

import torch
from torch import Tensor

from studio.core.errors import StudioError
from studio.training.batches import Share


class Team:
    """The processes of one run. The first writes everything; the others compute and wait."""

    def __init__(self, processes: int = 1):
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != processes:
            raise StudioError(
                f"This run was made for {processes} processes and {started} were started. Start it with: "
                f"accelerate launch --num_processes {processes} -m studio.training.loop RUN"
            )
        self.processes, self.rank, self.wishes = processes, 0, None
        if processes > 1:
            from accelerate import PartialState

            # It names this process's card and makes it the current one.
            self.rank = PartialState(cpu=not torch.cuda.is_available()).process_index
            # Wishes travel between processors, whatever computes: asking a card would make it wait.
            self.wishes = torch.distributed.new_group(backend="gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(self.rank, self.processes)

    def agree(self, wish: int) -> int:
        """The first process's number, for all."""
        if self.wishes is None:
            return wish
        said = torch.tensor([wish])
        torch.distributed.broadcast(said, 0, group=self.wishes)
        return int(said.item())

    def wait(self) -> None:
        """Until all have come this far, however long the first one draws or writes."""
        if self.wishes is not None:
            torch.distributed.monitored_barrier(group=self.wishes, timeout=timedelta(days=7))

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one message."""
        if self.wishes is None:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.processes
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(part.view_as(tensor))

    def close(self) -> None:
        """Part from the others."""
        if self.wishes is not None:
            torch.distributed.destroy_process_group()
