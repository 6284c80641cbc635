"""Compiled blocks on real runs with many buckets, counted by a backend that compiles nothing: every shape once, and nothing else."""

import functools
import json

import pytest
import torch
from torch._dynamo.utils import counters

from studio import config as configs
from studio import families
from studio.benchmark.models import save_tiny
from studio.benchmark.tiny import TinyDataset
from studio.datasets.buckets import bucket_table
from studio.families.base import Family
from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.training import backends, trial
from studio.training.checkpoints import Disk
from studio.training.loop import train
from studio.training.step import TrainingStep

RESOLUTION, BUCKETS, STEPS = 320, 5, 6
"""Enough to reach torch's default limit of 8 graphs for a function: the blocks of the U-Net are of one class, and of several sizes."""


@pytest.fixture(scope="module")
def base(request, tmp_path_factory):
    """A U-Net and a transformer."""
    family = families.get(request.param)
    return family, families.resolve_base(str(save_tiny(family, tmp_path_factory.mktemp("base") / family.name)))


@pytest.fixture
def compiled_graphs(monkeypatch):
    """The number of graphs that torch.compile has made since the test began, as a list of one entry each."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(backends, "apply", functools.partial(backends.apply, backend=count))
    torch._dynamo.reset()
    limits = {name: getattr(torch._dynamo.config, name) for name in ("recompile_limit", "accumulated_recompile_limit", "fail_on_recompile_limit_hit")}
    counters.clear()
    yield graphs
    torch._dynamo.reset()
    for name, value in limits.items():
        setattr(torch._dynamo.config, name, value)


def run_of(workspace, base, execution: str, *overrides: str) -> Run:
    family, folder = base
    # Portraits: the same upside down has as many tokens.
    sizes = [size for size in bucket_table(RESOLUTION, family.bucket_step(folder)).sizes if size[0] >= size[1]][:BUCKETS]
    values = {
        "model": {"base_model": str(folder.path)},
        "dataset": {"resolution": RESOLUTION},
        "lora": {"rank": 4},
        "training": {"max_train_steps": STEPS, "train_batch_size": 1},
        "samples": {"prompts": ["a cat"], "every": STEPS, "num_inference_steps": 2, "resolution": 64},
        "saving": {"checkpoint_every": STEPS},
        "validation": {"pictures": 1, "every": 5},
        "runtime": {"threads": 1, "device": "cpu", "execution": execution},
    }
    images = TinyDataset(workspace.root / "pictures", count=BUCKETS + 1, sizes=tuple((width, height) for height, width in sizes))
    run = create_run(workspace, configs.build(values, *overrides), images)
    assert len(trial.bucket_sizes(run, run.config, folder, family)) == BUCKETS
    return run


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in run.events()[0] if event["kind"] in ("step", "validation")]


def block_inputs(family: Family, monkeypatch) -> set:
    """Fills with everything that tells the inputs of the denoiser's blocks apart in training, when an eager run trains."""
    seen: set = set()
    original = TrainingStep._compute

    def watched(self, inputs):
        def look(block, arguments, named):
            given = [*arguments, *(value for _, value in sorted(named.items()))]
            tensors = [(tuple(each.shape), each.requires_grad) for each in given if torch.is_tensor(each)]
            seen.add(json.dumps([type(block).__name__, [list(weight.shape) for weight in block.parameters()], tensors]))

        hooks = [block.register_forward_pre_hook(look, with_kwargs=True) for block in family.blocks(self.denoiser)]
        try:
            return original(self, inputs)
        finally:
            for hook in hooks:
                hook.remove()

    monkeypatch.setattr(TrainingStep, "_compute", watched)
    return seen


@pytest.mark.parametrize("base", ["stable-diffusion"], indirect=True)
def test_each_shape_is_compiled_once_and_nothing_falls_back(base, workspace, compiled_graphs, monkeypatch):
    eager, compiled = (run_of(workspace, base, execution, "runtime.gradient_checkpointing=true") for execution in ("eager", "compiled"))
    with monkeypatch.context() as watching:
        expected = block_inputs(base[0], watching)
        train(eager, Disk())
    assert compiled_graphs == []
    train(compiled, Disk())
    assert len(compiled_graphs) == len(expected) > 8
    assert not counters["graph_break"] and not counters["recompile_limit"]
    assert [event for event in compiled.events()[0] if event["kind"] == "note"] == []
    assert losses(compiled) == losses(eager)


@pytest.mark.parametrize("base", ["flux"], indirect=True)
def test_beyond_the_limit_of_graphs_a_run_continues_eagerly_and_says_so(base, workspace, compiled_graphs, monkeypatch):
    """torch would run every further shape eagerly in silence. Here the run stores the change with a checkpoint, so that a resume repeats no step."""
    monkeypatch.setattr(backends, "GRAPHS_PER_SHAPE", 0)
    torch._dynamo.config.recompile_limit = 3
    eager, compiled = (run_of(workspace, base, execution) for execution in ("eager", "compiled"))
    train(eager, Disk())
    train(compiled, Disk())
    notes = [event["message"] for event in compiled.events()[0] if event["kind"] == "note"]
    assert len(notes) == 1 and notes[0].startswith("Running eagerly from here on: compiling failed: ") and "recompile_limit" in notes[0]
    assert compiled.config.runtime.execution == "eager"
    assert next(event["step"] for event in compiled.events()[0] if event["kind"] == "checkpoint") < STEPS
    assert losses(compiled) == losses(eager)
