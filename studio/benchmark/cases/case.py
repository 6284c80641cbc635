"""A case of the GPU benchmark: its entry in the registry, the machine that it runs on, and the lines that it reports."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """Device and folder of a benchmark. A rehearsal runs on the CPU with tiny models: it checks the cases and measures nothing."""

    device: str
    folder: Path
    """Bases, images and runs; cases share the bases."""
    start_method: str = "fork"
    """How processes are started: fork, which inherits all imports, or spawn where they have used CUDA."""

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"

    @property
    def dtype(self) -> str:
        return "float32" if self.rehearsal else "bfloat16"

    def side(self, pixels: int) -> int:
        """Side of the images of a case."""
        return 64 if self.rehearsal else pixels


OK, FAILED, SKIPPED, NOT_RUN = "ok", "failed", "skipped", "not run"
STATUSES = (OK, FAILED, SKIPPED, NOT_RUN)


@dataclass(frozen=True)
class Line:
    """One result. `note` is the reason of a status other than ok, or a remark."""

    name: str
    status: str = OK
    figures: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def as_json(self, case: str) -> dict[str, Any]:
        return {"case": case, **asdict(self)}

    def describe(self) -> str:
        """Status, figures and note in one line."""
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        return "; ".join(part for part in (f"{self.status}: {self.note}" if self.note else self.status, figures) if part)


Report = Callable[[Line], None]


class Skipped(Exception):
    """The case cannot run here; the message is the reason."""


@dataclass(frozen=True)
class Case:
    """An entry of the registry."""

    name: str
    about: str
    seconds: int
    """Rough duration on an H100; it is not started if less time is left."""
    run: Callable[[Machine, Report], None]
    needs: tuple[str, ...] = ()
    """Packages besides those of every training."""
    gpu_only: bool = False
    """Whether a rehearsal skips it, because a CPU has nothing like it."""
