"""Two processes that share every step: the loss curve equals that of one with twice the batch size, and resumes are exact."""

import multiprocessing
import os
import socket
import subprocess

import numpy
import pytest

from studio.core import platform
from studio.runs.run import Run
from studio.training import loop
from studio.training.checkpoints import Disk
from studio.training.loop import train
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures

STEPS = ("training.max_train_steps=6", "samples.every=3", "saving.checkpoint_every=2")


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in run.curve()]


def launch(run: Run) -> list[float]:
    """Train by the command that the studio starts, `accelerate launch`; returns the losses of the steps."""
    command = platform.module_command("studio.training.loop", run.path, count=run.config.runtime.processes)
    completed = subprocess.run(command, env=platform.environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=200)
    assert completed.returncode == 0, completed.stderr[-3000:]
    return losses(run)


def fork(run: Run) -> list[float]:
    """The same without the command: forked processes need not import torch again, which takes longer than these few steps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(run.config.runtime.processes)}
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_rank, args=(run, shared, rank)) for rank in range(run.config.runtime.processes)]
    for child in children:
        child.start()
    for child in children:
        child.join(200)
    assert [child.exitcode for child in children] == [0] * len(children)
    return losses(run)


def _rank(run: Run, shared: dict[str, str], rank: int) -> None:
    os.environ |= shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    os._exit(loop.main([str(run.path)]))


@pytest.mark.timeout(400)
def test_two_processes_train_as_one_with_twice_the_batch_and_resume_exactly(workspace, tiny_base):  # noqa: F811
    one = tiny_run(workspace, tiny_base, *STEPS, "training.train_batch_size=4")
    two, resumed = (tiny_run(workspace, tiny_base, *STEPS, "training.train_batch_size=2", "runtime.processes=2") for _ in range(2))
    train(one, Disk())
    together = launch(two)
    assert len(together) == 6
    assert numpy.allclose(losses(one), together, rtol=1e-4)
    assert [event["step"] for event in two.events()[0] if event["kind"] == "sample"] == [0, 3, 6], "written once, by the first"

    resumed.write_config(resumed.config.model_copy(update={"training": resumed.config.training.model_copy(update={"max_train_steps": 4})}))
    fork(resumed)
    resumed.write_config(resumed.config.model_copy(update={"training": resumed.config.training.model_copy(update={"max_train_steps": 6})}))
    assert fork(resumed) == together
    assert resumed.latest_adapter().read_bytes() == two.latest_adapter().read_bytes()
