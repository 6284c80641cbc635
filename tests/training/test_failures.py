"""Settings that this computer cannot run, and operations that are not deterministic: the run ends with what to change."""

import pytest
import torch

from studio.families.objectives import Objective
from studio.training import loop
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures
from tests.training.test_engine import TWELVE


def failure(run) -> dict:
    """The last event of a run that fails."""
    assert loop.main([str(run.path)]) == 1
    last = run.events()[0][-1]
    assert last["kind"] == "failed"
    return last


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_a_quantised_base_is_refused_on_the_cpu_of_a_computer_with_a_gpu(quantisation, workspace, tiny_base, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = failure(tiny_run(workspace, tiny_base, *TWELVE, f"runtime.quantisation={quantisation}"))["message"]
    assert f"Quantisation {quantisation} needs a GPU, and this run uses the CPU (runtime.device is cpu)" in message
    assert "Set runtime.quantisation to one of: none, fp8; or set runtime.device to cuda" in message


def test_more_processes_than_gpus_are_refused_before_they_start(workspace, tiny_base, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    run = tiny_run(workspace, tiny_base, *TWELVE, "runtime.processes=3", "runtime.device=cuda")
    message = failure(run)["message"]
    assert message.startswith("This run is set to 3 processes (runtime.processes), and this computer has 2 GPUs: each process needs one of its own")
    assert "Set runtime.processes to 2 or less" in message
    monkeypatch.setenv("RANK", "1")
    before = run.events()[0]
    assert loop.main([str(run.path)]) == 0, "a process that fails would end the main one before it reports"
    assert run.events()[0] == before


def test_an_operation_without_a_deterministic_version_ends_the_run_with_its_name(workspace, tiny_base, monkeypatch):  # noqa: F811
    def scatter(*_):
        return torch.zeros(4, requires_grad=True).clone().put_(torch.tensor([0, 1]), torch.ones(2))

    monkeypatch.setattr(Objective, "losses", scatter)
    last = failure(tiny_run(workspace, tiny_base, *TWELVE))
    assert last["message"].startswith("The operation put_ has no deterministic version on this device (cpu)")
    assert "runtime.exact" in last["message"]
    assert last["retries"] == [{"title": "without exact resume", "set": {"runtime.exact": False}}]
