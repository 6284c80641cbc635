"""Processes of the GPU benchmark. A process that has used CUDA cannot fork a child that does, so those that start others never use it."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from studio.benchmark.cases.case import Machine
from studio.runs.run import Run


class ChildFailed(Exception):
    """A child process raised an exception, was killed, or took too long."""


def start(machine: Machine, function: Callable[..., Any], *arguments: Any, log: Path | None = None) -> tuple[BaseProcess, Connection]:
    """Run a function in a child; the connection receives ("result", value) or ("error", text)."""
    context = multiprocessing.get_context(machine.start_method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(function, arguments, sender, log))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    return process, receiver


def _call(function: Callable[..., Any], arguments: tuple, sender: Connection, log: Path | None) -> None:
    if log:
        redirect_output(log)
    try:
        sender.send(("result", function(*arguments)))
    except BaseException as error:
        traceback.print_exc()
        sender.send(("error", summary(error)))
        raise


def redirect_output(log: Path) -> None:
    """Append stdout and stderr of this process, and of its children, to a file."""
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(file, stream)


def summary(error: BaseException) -> str:
    """Class and first line of an exception."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])[:300]


def finish(process: BaseProcess, receiver: Connection, seconds: float | None = None) -> Any:
    """The result of a child; ChildFailed with the reason if there is none."""
    try:
        if not receiver.poll(seconds):
            process.kill()
            raise ChildFailed(f"It was killed after {seconds:.0f} seconds.")
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        raise ChildFailed(f"The process ended with code {process.exitcode}.") from None
    finally:
        process.join()
    if kind == "error":
        raise ChildFailed(value)
    return value


def in_child(machine: Machine, function: Callable[..., Any], *arguments: Any, log: Path | None = None) -> Any:
    """Call a function in a child and return its result, which has to be picklable."""
    return finish(*start(machine, function, *arguments, log=log))


def is_gpu_usable() -> bool:
    """Whether this process can compute on a GPU."""
    import torch

    try:
        return torch.cuda.is_available() and bool(torch.ones(1, device="cuda").sum().item() == 1)
    except RuntimeError:
        return False


def train_run(path: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Train a run as the worker does; returns exit status and peak memory in bytes."""
    os.environ.update(variables)
    import torch

    from studio.training import loop

    status = loop.main([str(path)])
    on_gpu = torch.cuda.is_available()
    return {
        "status": status,
        "allocated": torch.cuda.max_memory_allocated() if on_gpu else None,
        "reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def start_run(machine: Machine, run: Run, variables: dict[str, str] | None = None) -> tuple[BaseProcess, Connection]:
    """Start the training process of a run, with more environment variables; its output goes to the file log in the run's folder."""
    return start(machine, train_run, run.path, variables or {}, log=run.path / "log")


def finish_run(run: Run, process: BaseProcess, receiver: Connection, seconds: float | None = None) -> dict[str, Any]:
    """What `train_run` returned; ChildFailed with the run's message if the run failed."""
    result = finish(process, receiver, seconds)
    if result["status"]:
        messages = [event["message"] for event in run.events()[0] if event["kind"] == "failed"]
        raise ChildFailed(messages[-1] if messages else "The run failed without a message.")
    return result


def wait_for(condition: Callable[[], bool], process: BaseProcess, seconds: float = 300) -> bool:
    """Wait until a condition holds; False if the process ended or the time passed before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not process.is_alive() or time.monotonic() > deadline:
            return condition()
        time.sleep(0.002)
    return True
