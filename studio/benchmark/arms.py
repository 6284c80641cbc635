"""Arms of the training benchmark: programs that step on request and take turns on one machine; two baselines and the studio's training."""

import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from studio.core import platform
from studio.runs.run import Run

HERE = Path(__file__).parent
WARM_UP_STEPS = 2


@dataclass
class Arm(ABC):
    """A program that steps on request. `seconds` holds the time of every timed step."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None

    @abstractmethod
    def take_turn(self, steps: int) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class Program(Arm):
    """The floor or the plain arm, controlled by lines on stdin and stdout."""

    def __init__(self, name: str, script: str, folder: Path):
        super().__init__(name)
        self.log = open(folder / f"{name}.log", "wb")  # noqa: SIM115 - as long as the program
        command = [sys.executable, str(HERE / script), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, preexec_fn=platform.be_nice
        )
        assert self.process.stdin is not None and self.process.stdout is not None, "The program is started with pipes."
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self._answer(folder)

    def _answer(self, folder: Path) -> dict:
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"The {self.name} arm ended: {(folder / f'{self.name}.log').read_text()[-2000:]}")
        return json.loads(line)

    def take_turn(self, steps: int) -> None:
        self._requests.write(f"steps {steps}\n")
        self._requests.flush()
        reply = self._answer(Path(self.log.name).parent)
        self.seconds += reply["seconds"]
        self.peak_mb = reply.get("peak_mb")

    def end(self) -> None:
        self._requests.write("end\n")
        self._requests.close()
        self.process.wait()
        self.log.close()


class Studio(Arm):
    """The studio's training process on a run of its own."""

    def __init__(self, name: str, run: Run, log: Path):
        super().__init__(name)
        self.run, self.log, self.started = run, log, time.time()
        environment = platform.environment(OMP_NUM_THREADS="1") if run.config.runtime.device == "cpu" else platform.environment()
        with open(log, "wb") as output:
            self.process = subprocess.Popen(platform.module_command("studio.training.loop", run.path), stdout=output, stderr=output, env=environment)
        self._wait_for(WARM_UP_STEPS)
        self.first_step_seconds = next(e["time"] for e in run.events()[0] if e["kind"] == "step") - self.started
        self._hold()

    def _steps(self) -> list[dict]:
        return [event for event in self.run.events()[0] if event["kind"] == "step"]

    def _wait_for(self, count: int) -> list[dict]:
        while len(steps := self._steps()) < count:
            if self.process.poll() is not None:
                raise SystemExit(f"The studio's arm ended: {self.run.events()[0][-1:]} {self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        return steps

    def _hold(self) -> None:
        self.run.request_pause()
        while self.run.state != "paused":
            time.sleep(0.02)

    def take_turn(self, steps: int) -> None:
        """Run one extra step, whose end starts the clock: step events record the time at which their step ended."""
        before = len(self._steps())
        self.run.clear_pause()
        times = [event["time"] for event in self._wait_for(before + steps + 1)[before:]]
        self._hold()
        self.seconds += [(times[-1] - times[0]) / (len(times) - 1)] if len(set(times)) < len(times) else [b - a for a, b in zip(times, times[1:])]

    def end(self) -> None:
        self.run.request_stop()
        self.run.clear_pause()
        self.process.wait()
        self.peak_mb = next((event["peak_mb"] for event in self.run.events()[0] if event["kind"] == "preflight"), None)
