"""Two processes that share every step: the loss curve equals that of one with twice the batch size, and resumes are exact."""

import subprocess

import numpy
import pytest

from studio.core import platform
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.loop import train
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures

STEPS = ("training.max_train_steps=6", "samples.every=3", "saving.checkpoint_every=2")


def trained(run: Run) -> list[float]:
    """Train with `runtime.processes` processes; returns the losses of the steps."""
    if run.config.runtime.processes == 1:
        train(run, Disk())
    else:
        command = platform.module_command("studio.training.loop", run.path, count=run.config.runtime.processes)
        completed = subprocess.run(command, env=platform.environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=200)
        assert completed.returncode == 0, completed.stderr[-3000:]
    return [event["loss"] for event in run.curve()]


@pytest.mark.timeout(400)
def test_two_processes_train_as_one_with_twice_the_batch_and_resume_exactly(workspace, tiny_base):  # noqa: F811
    one = tiny_run(workspace, tiny_base, *STEPS, "training.train_batch_size=4")
    two, resumed = (tiny_run(workspace, tiny_base, *STEPS, "training.train_batch_size=2", "runtime.processes=2") for _ in range(2))
    alone, together = trained(one), trained(two)
    assert len(together) == 6
    assert numpy.allclose(alone, together, rtol=1e-4)
    assert [event["step"] for event in two.events()[0] if event["kind"] == "sample"] == [0, 3, 6], "written once, by the first"

    resumed.write_config(resumed.config.model_copy(update={"training": resumed.config.training.model_copy(update={"max_train_steps": 4})}))
    trained(resumed)
    resumed.write_config(resumed.config.model_copy(update={"training": resumed.config.training.model_copy(update={"max_train_steps": 6})}))
    assert trained(resumed) == together
    assert resumed.latest_adapter().read_bytes() == two.latest_adapter().read_bytes()
