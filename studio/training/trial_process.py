"""Child process that tries executions, as its parent sees it: it reports one by one, may crash, hang or run out of memory, and never outlives the
parent.

An error of CUDA cannot be recovered in the process where it happened, so after each failure a new child tries the remaining executions. A child has
ended, and its GPU memory is free, before the next one starts and before this module returns.
"""

import contextlib
import json
import logging
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from studio.core import platform
from studio.core.errors import StudioError
from studio.training.verdicts import Result

log = logging.getLogger(__name__)

SILENCE_SECONDS = 180.0
"""A child that reports nothing for so long hangs. A large base takes a minute to build, and the blocks of one shape a minute to compile."""
POLL_SECONDS = 0.1
END_SECONDS = 60.0
LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which `accelerate launch` numbers the processes of a run. The child is none of them."""


@dataclass
class Trials:
    """Tries executions in child processes. `on_result` gets each result as soon as it is known, `on_start` the executions that remain.

    `should_stop` is asked all the time. `command`: argument list of the child.
    """

    request: dict
    on_result: Callable[[str, Result], None]
    on_start: Callable[[list[str]], None] = lambda remaining: None
    should_stop: Callable[[], bool] = lambda: False
    command: list[str] = field(default_factory=lambda: platform.module_command("studio.training.trial"))
    silence_seconds: float = SILENCE_SECONDS
    failure: str = ""
    """Why no child could begin to try anything."""

    def run(self, executions: list[str]) -> bool:
        """Try all `executions`, in this order; False if a stop was requested. If a child fails before its first try, `failure` has the reason."""
        remaining = list(executions)
        while remaining and not self.failure:
            if not self._run_child(remaining):
                return False
        return True

    def _run_child(self, remaining: list[str]) -> bool:
        """Take from `remaining` what one child tries; False if a stop was requested."""
        self.on_start(list(remaining))
        variables = {name: value for name, value in platform.environment().items() if name not in LAUNCHER}
        # Its log is this process's: stderr is inherited.
        child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
        reports: queue.Queue[dict] = queue.Queue()
        reader = threading.Thread(target=_read, args=(child, reports), name=f"trial-{child.pid}", daemon=True)
        reader.start()
        try:
            self._send({**self.request, "executions": remaining}, child)
            ready, reason = self._follow(child, reader, reports, remaining)
            if reason is None:
                return False
        finally:
            end(child)
            reader.join(POLL_SECONDS)
        if reason and not ready:
            self.failure = reason
        elif reason and remaining:
            self._report(remaining, Result(failed=reason))
        return True

    def _follow(self, child: subprocess.Popen, reader: threading.Thread, reports: queue.Queue, remaining: list[str]) -> tuple[bool, str | None]:
        """(whether it began to try, why it ended early); the reason is empty if all is as planned, and None if a stop was requested."""
        ready, heard = False, time.monotonic()
        while True:
            if self.should_stop():
                return ready, None
            try:
                report = reports.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if child.poll() is not None:
                    reader.join(POLL_SECONDS)
                    if reports.empty():
                        return ready, _reason(child.returncode)
                elif time.monotonic() - heard > self.silence_seconds:
                    return ready, f"no answer within {self.silence_seconds:g} seconds"
                continue
            heard = time.monotonic()
            if report.get("ready"):
                ready = True
            if "execution" not in report:
                if "failed" in report:
                    return ready, str(report["failed"])
                continue
            if report["execution"] != remaining[0]:
                return ready, f"its process reported {report['execution']!r} instead"
            self._report(remaining, Result.model_validate({name: value for name, value in report.items() if name != "execution"}))
            if "failed" in report or not remaining:
                return True, ""
            self.on_start(list(remaining))

    def _report(self, remaining: list[str], result: Result) -> None:
        execution = remaining.pop(0)
        log.info("tried %s: %s", execution, result.failed or f"{result.seconds_per_step:.4f} s per step, {result.preparation_seconds:.1f} s before")
        self.on_result(execution, result)

    def _send(self, request: dict, child: subprocess.Popen) -> None:
        """Write the request as one line. Its stdin stays open: when it closes, because this process ended, the child ends itself."""
        assert child.stdin is not None
        # It may have crashed already; that is noticed while waiting for its reports.
        with contextlib.suppress(OSError):
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()


def end(child: subprocess.Popen) -> None:
    """End the child and wait for it. StudioError if it does not end, for example inside a driver that hangs: it would keep the GPU's memory."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    if child.poll() is None:
        platform.end(child.pid, platform.start_mark(child.pid))
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        raise StudioError(
            f"The process {child.pid} that tried how to run a step does not end, which is a fault of the GPU's driver. Restart the computer, "
            "then resume the run."
        ) from None


def _read(child: subprocess.Popen, reports: queue.Queue) -> None:
    """Queue the child's lines; those that are no JSON object are not its own."""
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                report = json.loads(line)
                if isinstance(report, dict):
                    reports.put(report)


def _reason(status: int) -> str:
    """How a child ended, in words; negative for a signal."""
    if status >= 0:
        return f"its process ended with the exit status {status}"
    name = {each.value: each.name for each in signal.Signals}.get(-status, str(-status))
    return "its process was killed, as Linux does when RAM runs out of memory" if name == "SIGKILL" else f"its process crashed with the signal {name}"
