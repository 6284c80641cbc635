"""The GPU benchmark: a rehearsal of its cases on the CPU, time limits, and children that fail, hang or die."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studio.benchmark import gpu, peer
from studio.benchmark.cases import first_step
from studio.benchmark.cases.bases import real_families
from studio.benchmark.cases.case import FAILED, NOT_RUN, OK, SKIPPED, STATUSES, Case, Line, Machine
from studio.benchmark.cases.registry import registry
from studio.benchmark.cases.resume import EXECUTIONS
from studio.benchmark.models import SPREAD, fill
from studio.config import optimizers
from tests import forked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@pytest.fixture
def machine(tmp_path):
    return Machine("cpu", tmp_path)


def result(capsys) -> dict:
    """The JSON line of a benchmark."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rehearse(capsys, *patterns: str) -> dict[tuple[str, str], dict]:
    """(case, line) -> line of a rehearsal of these cases."""
    gpu.main(["--rehearsal", "--minutes", "60", "--cases", *patterns])
    return {(line["case"], line["name"]): line for line in result(capsys)["lines"]}


def statuses(lines: dict[tuple[str, str], dict]) -> dict[str, str]:
    """Line -> its status, or the status with a note if it failed."""
    return {name: f"{line['status']}: {line['note']}" if line["status"] == FAILED else line["status"] for (_, name), line in lines.items()}


def test_the_registry_has_a_case_for_every_execution_optimizer_and_real_family():
    names = [case.name for case in registry()]
    assert len(names) == len(set(names))
    others = [entry.name for entry in optimizers.OPTIMIZERS if entry.name != "adamw"]
    assert {f"resume {name}" for name in (*EXECUTIONS, *others)} <= set(names)
    assert {f"{kind} {family.name}" for kind in ("ways", "floor") for family in real_families()} <= set(names)
    assert names[0] == "resume eager" and all(case.seconds < 480 for case in registry())


def test_without_a_gpu_every_case_is_skipped(capsys):
    assert gpu.main([]) == 0
    found = result(capsys)
    assert found["gpu"] is None and {(line["status"], line["note"]) for line in found["lines"]} == {(SKIPPED, "no GPU")}
    assert [line["case"] for line in found["lines"]] == [case.name for case in registry()]


def finish_at_once(machine, report):
    report(Line("first", figures={"value": 1}))


def hang(machine, report):
    report(Line("before"))
    time.sleep(600)


def die(machine, report):
    report(Line("before"))
    os.kill(os.getpid(), signal.SIGKILL)


def fail(machine, report):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_case_that_fails_hangs_or_dies_costs_itself_alone(machine, capsys):
    cases = [
        Case("fails", "", 5, fail),
        Case("dies", "", 5, die),
        Case("hangs", "", 1, hang),
        Case("too long", "", 500, finish_at_once),
        Case("needs more", "", 1, finish_at_once, needs=("no-such-package",)),
        Case("GPU only", "", 1, finish_at_once, gpu_only=True),
        Case("good", "", 1, finish_at_once),
    ]
    assert gpu.run_cases(cases, machine, 1, True) == 1
    output = capsys.readouterr().out
    assert "good, first: ok; value 1" in output
    found = json.loads(output.splitlines()[-1])
    lines = [(line["case"], line["name"], line["status"]) for line in found["lines"]]
    assert lines == [
        ("fails", "all", FAILED),
        ("dies", "before", OK),
        ("dies", "all", FAILED),
        ("hangs", "before", OK),
        ("hangs", "all", FAILED),
        ("too long", "all", NOT_RUN),
        ("needs more", "all", SKIPPED),
        ("GPU only", "all", SKIPPED),
        ("good", "first", OK),
    ]
    notes = {line["case"]: line["note"] for line in found["lines"]}
    assert "illegal memory access" in notes["fails"] and "code -9" in notes["dies"] and "killed after 2 s" in notes["hangs"]
    assert notes["too long"] == "no time left" and notes["needs more"] == "not installed: no-such-package"
    assert {line["status"] for line in found["lines"]} == set(STATUSES) and found["versions"]["torch"]


def test_random_weights_are_normal_and_those_of_norms_around_one():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.BatchNorm1d(64))
    fill(model, "cpu")
    linear, norm, batch_norm = model
    assert linear.weight.std().item() == pytest.approx(SPREAD, rel=0.1) and abs(linear.bias.mean().item()) < SPREAD
    assert norm.weight.mean().item() == pytest.approx(1, abs=SPREAD) and abs(norm.bias.mean().item()) < SPREAD
    assert batch_norm.running_mean.eq(0).all()


def test_a_start_method_is_tried_before_it_is_used(machine):
    assert gpu.fastest_start_method(replace(machine, start_method="spawn")).start_method == "fork"
    without_gpu = Machine("cuda", machine.folder, "spawn")
    assert torch.cuda.is_available() or gpu.fastest_start_method(without_gpu) == without_gpu


def test_a_killed_run_is_resumed_to_the_same_bytes(capsys):
    lines = rehearse(capsys, "resume eager", "resume lion", "resume graph")
    assert lines.pop(("resume graph", "all"))["status"] == SKIPPED
    assert [line["figures"]["equal"] for line in lines.values()] == [True] * 4


def test_every_way_has_its_seconds_losses_and_peak_in_processes_that_are_spawned(capsys):
    lines = rehearse(capsys, "ways stable-diffusion", "--start-method", "spawn")
    found = statuses(lines)
    assert found.pop("graph") == found.pop("graph exact") == SKIPPED
    assert set(found.values()) == {OK} and len(found) == 6
    keys = {"ms_per_step", "first_step_s", "allocated_gb", "reserved_gb", "plan_gb", "peak_to_plan", "loss_difference"}
    assert all(keys <= line["figures"].keys() for line in lines.values() if line["status"] == OK)
    assert lines["ways stable-diffusion", "eager"]["figures"]["loss_difference"] == 0
    assert all(line["figures"]["loss_difference"] < 1e-3 for line in lines.values() if line["status"] == OK)
    assert "exact_costs_percent" in lines["ways stable-diffusion", "compiled"]["figures"]


def test_a_small_gpu_is_compared_with_the_whole_one(capsys):
    lines = rehearse(capsys, "small GPU flux *")
    assert statuses(lines) == {"16 GB": OK, "12 GB": OK, "whole GPU": OK}
    small, whole = lines["small GPU flux 16 GB", "16 GB"]["figures"], lines["small GPU flux 12 GB", "whole GPU"]["figures"]
    assert small["free_gb"] == 15 and small["images"] == 2 and whole["capped_step_to_this"] > 0


def test_runs_with_savings_learn_and_sample_and_draw(capsys):
    lines = rehearse(capsys, "savings", "draw during training")
    found = statuses(lines)
    skipped = {name for name, status in found.items() if status == SKIPPED}
    assert {"nf4", "int8", "fp8", "offload", "offload nf4"} == skipped
    assert {status for name, status in found.items() if name not in skipped} == {OK}
    assert lines["savings", "samples"]["figures"]["samples"] == 3 and lines["draw during training", "paused run"]["figures"]["equal"]


def test_running_out_of_memory_is_handled_in_the_process(capsys):
    lines = rehearse(capsys, "out of memory")
    assert statuses(lines) == {"too large": OK}
    assert lines["out of memory", "too large"]["figures"]["then"] == "finished"


def test_the_first_step_is_timed_phase_by_phase(capsys, monkeypatch):
    exec(first_step.IMPORTS)
    # A child of the benchmark inherits this.
    monkeypatch.setattr(first_step, "IMPORTS", "import time; time.sleep(0.2)")
    lines = rehearse(capsys, "first step")
    assert statuses(lines) == {"not encoded yet": OK, "encoded": OK}
    assert all(value > 0 for line in lines.values() for value in line["figures"].values())


def test_the_floor_is_timed_and_compared_with_our_ways(capsys):
    lines = rehearse(capsys, "floor stable-diffusion")
    assert statuses(lines) == {"eager": OK, "compiled": OK, "graph": SKIPPED}
    ours = [("ways sdxl", Line("eager exact", figures={"ms_per_step": 10})), ("ways sdxl", Line("compiled", figures={"ms_per_step": 8}))]
    floor = [("floor sdxl", Line("eager", figures={"ms_per_step": 9})), ("floor flux", Line("eager", figures={"ms_per_step": 9}))]
    [(case, line)] = gpu.efficiencies([*ours, *floor])
    assert (case, line.figures) == ("floor sdxl", {"efficiency": 1.125})


PEER = """
import sys, time, pathlib
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert pathlib.Path(arguments["--base"], "model_index.json").exists() and len(list(pathlib.Path(arguments["--images"]).glob("*.txt"))) == 3
time.sleep(0.05 * int(arguments["--steps"]))
pathlib.Path(arguments["--output"], "lora.safetensors").write_bytes(b"")
"""
PEER_ARGUMENTS = ["--base", "{base}", "--images", "{images}", "--output", "{output}", "--steps", "{steps}"]


def test_a_peer_trains_in_turns_with_us_on_the_same_base_and_images(machine, tmp_path, capsys, monkeypatch):
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    whole_program = peer.timed

    def timed(command, log, *environment):
        if forked.TRAINING not in command:
            return whole_program(command, log, *environment)
        # Without the imports, which take longer than the steps and vary more.
        began, process = time.perf_counter(), forked.start_training(command[3:], log)
        process.join()
        assert process.exitcode == 0, log.read_text()
        return time.perf_counter() - began

    monkeypatch.setattr(peer, "timed", timed)
    assert peer.compare(machine, script, sys.executable, "stable-diffusion", PEER_ARGUMENTS, few=2, many=22, rounds=1) == 0
    found = result(capsys)
    assert found["peer_ms_per_step"] == pytest.approx(50, rel=0.4) and found["steps"] == [2, 22] and len(found["ours_seconds"]) == 1
    assert found["ratio"] == pytest.approx(found["peer_ms_per_step"] / found["ours_ms_per_step"], rel=0.1)


def test_a_peer_without_a_number_of_steps_or_with_another_family_is_an_error(machine, capsys):
    assert peer.compare(machine, Path("peer.py"), sys.executable, "sdxl", ["--fast"]) == 2
    assert "lack {steps}" in capsys.readouterr().out
    assert gpu.main(["--rehearsal", "--peer", "peer.py", "--peer-family", "chroma", "--", "--steps", "{steps}"]) == 2
    assert "'chroma'; there are models of real size of: stable-diffusion, sdxl, flux" in capsys.readouterr().out
