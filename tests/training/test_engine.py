"""Settings of the training engine, each on a real run of a tiny model: its effect, and that a resume ends in the same bytes."""

import contextlib
import json
import math
import shutil
from types import SimpleNamespace

import numpy
import pytest
import torch
from safetensors.torch import load_file

from studio import config as configs
from studio.adapters.format import load_adapter, read_header, write_adapter
from studio.config import fields, foreign, optimizers
from studio.config.recipe import Recipe
from studio.core.errors import StudioError
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training import backends, loop
from studio.training.checkpoints import Disk, load_newest, save
from studio.training.loop import learning_rate, train
from studio.training.order import FairOrder
from studio.training.step import FirstUseFailed, TrainingStep
from tests.tiny import FAMILY, optimizer_settings, tiny_base, tiny_run  # noqa: F401 - fixtures

SQUARES = [(64, 64)] * 2
SAMPLED = ("training.max_train_steps=12", "samples.every=6", "saving.checkpoint_every=4")
TWELVE = (*SAMPLED, "samples.prompts=[]")
"""Without samples, which are a third of such a run, where the test is about the weights."""


def result(run: Run) -> bytes:
    assert loop.main([str(run.path)]) == 0, run.events()[0][-1]
    return run.latest_adapter().read_bytes()


def stop_at(run: Run, step: int) -> None:
    class Stops(Run):
        def append(self, event):
            super().append(event)
            if event["kind"] == "step" and event["step"] == step:
                self.request_stop()

    train(Stops(run.path), Disk())
    assert run.state == "stopped"


SETTINGS = {
    "accumulation and EMA": ["training.gradient_accumulation_steps=3", "training.ema_decay=0.9"],
    "bfloat16": ["runtime.dtype=bfloat16"],
    "shuffle and flip": ["dataset.caption_shuffle=true", "dataset.flip=true", "dataset.caption_dropout=0.2", "training.noise_offset=0.1"],
    "text encoder": ["lora.text_encoder=true", "lora.dropout=0.1"],
    "DoRA": ["lora.method=dora"],
    "validation": ["validation.pictures=1", "validation.every=5"],
    "validation of the EMA": ["validation.pictures=1", "validation.every=2", "training.ema_decay=0.9"],
    "validation of schedule-free": ["validation.pictures=1", "validation.every=2", "training.optimizer=schedulefree"],
    "prior images": ["prior.prompt=a cat", "prior.pictures=2"],
    "gradient checkpointing": ["runtime.gradient_checkpointing=true"],
    "float16 file": ["saving.dtype=float16", "lora.alpha=3"],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_stopped_anywhere_and_resumed_it_ends_in_the_same_bytes(settings, workspace, tiny_base):  # noqa: F811
    """Every optimizer is resumed in test_kill.py."""
    uninterrupted, interrupted = (tiny_run(workspace, tiny_base, *SAMPLED, *settings) for _ in range(2))
    expected = result(uninterrupted)
    stop_at(interrupted, 5)
    stop_at(interrupted, 9)
    assert result(interrupted) == expected
    assert numpy.isfinite([event["loss"] for event in interrupted.curve()]).all()


def earlier(name: str) -> str:
    """A name as earlier versions wrote it: without the level `text_model`."""
    return name.replace("text_encoder.text_model.", "text_encoder.")


def test_a_checkpoint_with_old_text_encoder_names_resumes_to_the_same_bytes(workspace, tiny_base):  # noqa: F811
    uninterrupted, interrupted = (tiny_run(workspace, tiny_base, *TWELVE, "lora.text_encoder=true", "training.optimizer=prodigy") for _ in range(2))
    expected = result(uninterrupted)
    stop_at(interrupted, 5)
    step, tensors, facts = load_newest(interrupted.checkpoints_dir)
    assert any("text_model" in name for name in tensors) and any("text_model" in name for name in facts["numbers"])
    facts["numbers"] = {earlier(name): numbers for name, numbers in facts["numbers"].items()}
    save(interrupted.checkpoints_dir, step, {earlier(name): tensor for name, tensor in tensors.items()}, facts, Disk())
    assert result(interrupted) == expected


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_run_starts_from_a_lora_with_old_text_encoder_names(method, workspace, tiny_base):  # noqa: F811
    settings = [*TWELVE, "lora.text_encoder=true", f"lora.method={method}"]
    first = tiny_run(workspace, tiny_base, *settings)
    result(first)
    written = load_file(first.latest_adapter())
    results = []
    for rename in (str, earlier):
        named = {rename(name): tensor for name, tensor in written.items()}
        second = tiny_run(workspace, tiny_base, *settings)
        write_adapter(second.start_file, named, read_header(first.latest_adapter()).metadata)
        results.append((len(named.keys() ^ written.keys()) > 0, result(second)))
    assert results == [(False, results[0][1]), (True, results[0][1])]


def test_eight_bit_adamw_resumes_to_the_same_bytes(workspace, tiny_base):  # noqa: F811
    """Rank 64 gives LoRA matrices of at least 4,096 parameters, whose moments bitsandbytes stores as uint8; smaller ones stay in float32."""
    settings = [*TWELVE, "training.optimizer=adamw8bit", "lora.rank=64"]
    uninterrupted, interrupted = (tiny_run(workspace, tiny_base, *settings) for _ in range(2))
    expected = result(uninterrupted)
    stop_at(interrupted, 5)
    stop_at(interrupted, 9)
    _, state, _ = load_newest(interrupted.checkpoints_dir)
    assert {name.split("/")[1] for name, tensor in state.items() if tensor.dtype == torch.uint8} == {"state1", "state2"}
    assert result(interrupted) == expected


def test_an_optimizer_is_one_entry(workspace, tiny_base, monkeypatch):  # noqa: F811
    """An optimizer that the studio does not have: selected by name, trained, saved, stopped, resumed to the same bytes, imported."""
    made_up = optimizers.Optimizer(
        name="made_up",
        title="Made up",
        help="averages its steps.",
        source="Polyak & Juditsky 1992",
        package="torch",
        class_path="torch.optim:ASGD",
        arguments={"t0": 4, "weight_decay": 0.0},
        state_bytes=4,
        names={"kohya": ("madeup",), "ai-toolkit": ("madeup",)},
    )
    monkeypatch.setattr(optimizers, "OPTIMIZERS", (*optimizers.OPTIMIZERS, made_up))
    settings = [*TWELVE, "training.optimizer=made_up"]
    uninterrupted, interrupted = (tiny_run(workspace, tiny_base, *settings) for _ in range(2))
    expected = result(uninterrupted)
    stop_at(interrupted, 5)
    assert result(interrupted) == expected != plain_result(workspace, tiny_base)
    facts = read_header(uninterrupted.latest_adapter()).metadata["studio"]
    assert json.loads(facts)["config"]["training"]["optimizer"] == "made_up"
    assert "made_up" in next(leaf.choices for leaf in fields.leaves(uninterrupted.config) if leaf.path == "training.optimizer")
    imported = (
        foreign.convert({"network_dim": 4, "optimizer_type": "MadeUp"}),
        foreign.convert({"config": {"process": [{"train": {"optimizer": "madeup"}}]}}),
    )
    assert [each.values["training.optimizer"] for each in imported] == ["made_up", "made_up"]


def plain_result(workspace, base) -> bytes:
    return result(tiny_run(workspace, base, *TWELVE))


@pytest.mark.parametrize("settings", [v for k, v in SETTINGS.items() if k != "gradient checkpointing" and not k.startswith("validation")], ids=str)
def test_every_setting_changes_the_adapter(settings, workspace, tiny_base):  # noqa: F811
    assert result(tiny_run(workspace, tiny_base, *TWELVE, *settings)) != plain_result(workspace, tiny_base)


def lora_b(run: Run) -> dict[str, torch.Tensor]:
    return {name: part.B for name, part in load_adapter(run.latest_adapter(), FAMILY).layers.items()}


def test_gradient_checkpointing_gives_the_same_weights(workspace, tiny_base):  # noqa: F811
    plain, twice = tiny_run(workspace, tiny_base, *TWELVE), tiny_run(workspace, tiny_base, *TWELVE, "runtime.gradient_checkpointing=true")
    result(plain)
    result(twice)
    assert all(torch.equal(half, lora_b(twice)[name]) for name, half in lora_b(plain).items())


def test_gradient_accumulation_equals_a_larger_batch(workspace, tiny_base):  # noqa: F811
    """A step on two images in one batch or in two: the same loss and LoRA except for the order of a sum."""
    both, one_by_one = ({seed: FairOrder(SQUARES, size, seed) for seed in range(99)} for size in (2, 1))
    seed = next(seed for seed in both if both[seed].batch(0) == one_by_one[seed].batch(0) + one_by_one[seed].batch(1))
    only = ["training.max_train_steps=1", "samples.prompts=[]", "saving.checkpoint_every=9", f"training.seed={seed}"]
    together = tiny_run(workspace, tiny_base, *only, "training.train_batch_size=2")
    after_another = tiny_run(workspace, tiny_base, *only, "training.train_batch_size=1", "training.gradient_accumulation_steps=2")
    for run in (together, after_another):
        snapshot = run.snapshot
        snapshot["pictures"] = [{**picture, "width": 64, "height": 64} for picture in snapshot["pictures"][:2]]
        (run.dataset_dir / "dataset.json").write_text(json.dumps(snapshot))
        result(run)
    assert together.curve()[0]["loss"] == pytest.approx(after_another.curve()[0]["loss"], rel=1e-5)
    # A step is 1e-3. Adam's first divides each gradient by itself plus an epsilon, so one near the epsilon shows the order of the sum.
    assert all(torch.allclose(half, lora_b(after_another)[name], atol=5e-5) for name, half in lora_b(together).items())


def test_validation_always_uses_the_same_noise(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, "validation.pictures=2", "validation.every=3", "training.learning_rate=1e-9")
    result(run)
    events = [event for event in run.events()[0] if event["kind"] == "validation"]
    assert [event["step"] for event in events] == [3, 6, 9, 12]
    losses = [event["loss"] for event in events]
    assert max(losses) - min(losses) < 1e-4 * max(losses), "the weights hardly change, so the same noise gives the same loss"


def test_prior_images_are_generated_once_and_kept_in_the_run(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, "prior.prompt=a cat", "prior.pictures=3")
    stop_at(run, 2)
    generated = {path.name: path.stat().st_mtime_ns for path in run.prior_dir.iterdir()}
    assert sorted(generated) == ["0000.png", "0001.png", "0002.png"]
    result(run)
    assert {path.name: path.stat().st_mtime_ns for path in run.prior_dir.iterdir()} == generated


def test_it_starts_from_another_lora_and_refuses_one_of_another_rank(workspace, tiny_base):  # noqa: F811
    first = tiny_run(workspace, tiny_base, *TWELVE)
    result(first)
    second = tiny_run(workspace, tiny_base, *TWELVE, "training.learning_rate=1e-9", "training.weight_decay=0", "lora.alpha=2")
    shutil.copy(first.latest_adapter(), second.start_file)
    result(second)
    assert all(torch.allclose(half, lora_b(second)[name], atol=1e-6) for name, half in lora_b(first).items())
    third = tiny_run(workspace, tiny_base, *TWELVE, "lora.rank=2")
    shutil.copy(first.latest_adapter(), third.start_file)
    with pytest.raises(StudioError, match="has rank 4, this run 2. Set the rank to 4"):
        train(third, Disk())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.timestep_shift=3", "timestep shift 3 is defined for flow-matching"),
        ("lora.method=lokr", "reads no LoKr files of Stable Diffusion"),
        ("runtime.quantisation=nf4", "nf4 needs a GPU"),
        ("runtime.offload=true", "needs a GPU; this run uses the CPU"),
        ("runtime.processes=2", "made for 2 processes and 1 were started"),
    ],
)
def test_a_setting_that_is_not_supported_is_an_error(setting, message, workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, setting)
    if "processes" in setting:
        with pytest.raises(StudioError, match=message):
            loop.main([str(run.path)])
        return
    assert loop.main([str(run.path)]) == 1
    assert message in run.events()[0][-1]["message"]


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_divergence_suggests_half_the_learning_rate_or_an_optimizer_that_reads_one(entry, workspace, tiny_base, monkeypatch):  # noqa: F811
    from studio.families.objectives import Objective

    monkeypatch.setattr(Objective, "losses", lambda *_: torch.full((2,), math.nan, requires_grad=True))
    run = tiny_run(workspace, tiny_base, *TWELVE, *optimizer_settings(entry))
    assert loop.main([str(run.path)]) == 1
    last, half = run.events()[0][-1], run.config.training.learning_rate / 2
    lower = {"title": f"learning rate {half:g}", "set": {"training.learning_rate": half}}
    other = {"title": "optimizer adamw", "set": {"training.optimizer": "adamw"}}
    assert last["retries"] == [other if entry.excludes_schedule else lower]


def test_out_of_memory_suggests_the_cheapest_saving_first(workspace, tiny_base, monkeypatch):  # noqa: F811
    from studio.families.objectives import Objective

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "losses", full)
    run = tiny_run(workspace, tiny_base, *TWELVE)
    assert loop.main([str(run.path)]) == 1
    offers = run.events()[0][-1]["retries"]
    assert offers[0]["set"] == {"training.train_batch_size": 1, "training.gradient_accumulation_steps": 2}
    assert offers[1]["set"] == {"runtime.gradient_checkpointing": True}


def training_step_of(run: Run, monkeypatch) -> TrainingStep:
    """The training step of a run, as its loop created it."""
    kept = []

    class Kept(TrainingStep):
        def __init__(self, *parts):
            super().__init__(*parts)
            kept.append(self)

    monkeypatch.setattr(loop, "TrainingStep", Kept)
    result(run)
    return kept[0]


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_timed_steps_do_not_change_the_result(entry, workspace, tiny_base, monkeypatch):  # noqa: F811
    """Timed before the first step, when the optimizer has no state, and in the middle of the run."""
    plain, timed = (tiny_run(workspace, tiny_base, *TWELVE, *optimizer_settings(entry), "training.ema_decay=0.9") for _ in range(2))
    expected = result(plain)

    class Timed(TrainingStep):
        due = [0, 5]

        def __call__(self, step, batches, rate, how="eager"):
            if step in self.due:
                self.due.remove(step)
                kept = self.snapshot()
                before = {name: weight.detach().clone() for name, weight in self.parameters.masters.items()}
                for _ in range(3):
                    super().__call__(0, batches, rate, how)
                assert not all(torch.equal(weight, before[name]) for name, weight in self.parameters.masters.items())
                self.restore(kept)
            return super().__call__(step, batches, rate, how)

    monkeypatch.setattr(loop, "TrainingStep", Timed)
    assert result(timed) == expected and Timed.due == []


class SimulatedGraph:
    """Replaces a CUDA graph on a CPU: a replay computes the captured step again, and so does the capture, as a warm-up does."""

    def __init__(self):
        self.training_step, self.inputs = None, None

    def pool(self):
        return None

    def replay(self) -> None:
        self.training_step._compute([(self.inputs, 1.0)])


@pytest.fixture
def simulated_gpu(monkeypatch):
    """Every execution on a CPU: blocks stay uncompiled, a replay computes the captured step again, and synchronising does nothing."""
    record = TrainingStep._capture

    def recorded(self, inputs):
        made = record(self, inputs)
        made.graph.training_step, made.graph.inputs = self, made.inputs
        return made

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: setattr(self, "_compiled_call_impl", self._call_impl))
    monkeypatch.setattr(TrainingStep, "_capture", recorded)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimulatedGraph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: SimpleNamespace(wait_stream=lambda other: None))
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: contextlib.nullcontext())


def everything(training_step: TrainingStep) -> dict[str, object]:
    """All that the next step depends on, as values to compare: weights, EMA, optimizer, learning rate, gradients, torch's RNG."""
    parameters = training_step.parameters
    tensors, facts = parameters.state()
    working = {f"working/{name}": weight for name, weight in parameters.working.items()}
    grads = {f"grad/{name}": weight.grad for name, weight in [*parameters.masters.items(), *parameters.working.items()]}
    bits = {name: None if tensor is None else tensor.detach().clone() for name, tensor in {**tensors, **working, **grads}.items()}
    groups = [
        {key: value.clone() if torch.is_tensor(value) else value for key, value in each.items() if key != "params"}
        for each in parameters.optimizer.param_groups
    ]
    return {**bits, "numbers": facts["numbers"], "groups": groups, "rng": torch.get_rng_state(), "captured": dict(training_step.captured)}


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Names of the values that are not bit-identical."""

    def bits(tensor) -> bytes:
        return tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()

    def same(one, other) -> bool:
        if torch.is_tensor(one) and torch.is_tensor(other):
            return (one.dtype, one.shape) == (other.dtype, other.shape) and bits(one) == bits(other)
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        if isinstance(one, list | tuple) and isinstance(other, list | tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return type(one) is type(other) and one == other

    return sorted(name for name in before.keys() | after.keys() if name not in before or name not in after or not same(before[name], after[name]))


def fresh_training_step(workspace, base, monkeypatch, *settings: str) -> tuple[TrainingStep, list]:
    """A training step before the first call, and the batches of that step."""

    class AtTheStart(Exception):
        pass

    class Kept(loop.BatchLoader):
        def __init__(self, *parts, **named):
            super().__init__(*parts, **named)
            loaders.append(self)

    def stop(training_step, execution, shapes, on_fallback):
        kept.append(training_step)
        raise AtTheStart

    kept, loaders = [], []
    with monkeypatch.context() as patched:
        patched.setattr(loop, "BatchLoader", Kept)
        patched.setattr(backends, "StepRunner", stop)
        with pytest.raises(AtTheStart):
            train(tiny_run(workspace, base, *TWELVE, *settings), Disk())
    return kept[0], [(batch, 1.0) for batch in loaders[0].batches(0)]


def warm_up(entry: optimizers.Optimizer) -> list[str]:
    """A learning rate that changes with each step, where the optimizer reads one."""
    return [] if entry.excludes_schedule else ["training.lr_warmup_steps=3"]


@pytest.fixture
def breaks_after_the_update(monkeypatch) -> list[str]:
    """While this list has an error, the optimizer step of an execution other than eager raises it, when everything has changed already."""
    errors: list[Exception] = []
    execute = TrainingStep._execute

    def breaking(self, inputs, execution):
        result = execute(self, inputs, execution)
        if errors and execution != "eager":
            raise errors[0]
        return result

    monkeypatch.setattr(TrainingStep, "_execute", breaking)
    return errors


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "in the middle"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_first_use_that_fails_restores_the_state_bit_for_bit(
    entry,
    dtype,
    trained,
    workspace,
    tiny_base,  # noqa: F811
    simulated_gpu,
    breaks_after_the_update,
    monkeypatch,
):
    settings = [*optimizer_settings(entry), f"runtime.dtype={dtype}"]
    training_step, batches = fresh_training_step(workspace, tiny_base, monkeypatch, *settings, "training.ema_decay=0.9", *warm_up(entry))
    for step in range(2 if trained else 0):
        training_step(step, batches, learning_rate(training_step.config.training, step))
    rate = learning_rate(training_step.config.training, 0)
    training_step.parameters.set_rate(rate * 2)
    before = everything(training_step)
    breaks_after_the_update.append(RuntimeError("no kernel for this"))
    for execution in ["compiled", *(["graph"] if entry.capturable else [])]:
        with pytest.raises(FirstUseFailed, match="no kernel for this"):
            training_step(0, batches, rate * 2, execution)
        backends.apply(training_step, "eager")
        assert differing(before, everything(training_step)) == []


@pytest.mark.parametrize("execution", ["compiled", "graph"])
def test_a_run_whose_execution_fails_at_its_first_use_continues_eagerly_to_the_same_bytes(
    execution,
    workspace,
    tiny_base,  # noqa: F811
    simulated_gpu,
    breaks_after_the_update,
):
    plain = plain_result(workspace, tiny_base)
    breaks_after_the_update.append(RuntimeError("no kernel for this.\nand more"))
    run = tiny_run(workspace, tiny_base, *TWELVE, f"runtime.execution={execution}")
    assert result(run) == plain
    assert run.config.runtime.execution == "eager"
    attempt = {"compiled": "compiling", "graph": "recording a CUDA graph"}[execution]
    notes = [event["message"] for event in run.events()[0] if event["kind"] == "note"]
    assert notes == [f"Running eagerly from here on: {attempt} failed: no kernel for this."]


@pytest.mark.parametrize("error", [torch.AcceleratorError("CUDA error: an illegal memory access"), RuntimeError("CUDA error: misaligned")], ids=str)
def test_an_error_of_cuda_fails_the_run_and_offers_to_run_eagerly(error, workspace, tiny_base, simulated_gpu, breaks_after_the_update):  # noqa: F811
    breaks_after_the_update.append(error)
    run = tiny_run(workspace, tiny_base, *TWELVE, "runtime.execution=graph")
    assert loop.main([str(run.path)]) == 1
    last = run.events()[0][-1]
    assert "the steps of this run are executed as CUDA graph: CUDA error: " in last["message"]
    assert last["retries"] == [{"title": "run eagerly", "set": {"runtime.execution": "eager"}}]
    assert run.config.runtime.execution == "graph" and run.latest_adapter() is None


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "in the middle"])
def test_capturing_a_step_changes_only_what_one_step_changes(trained, workspace, tiny_base, simulated_gpu, monkeypatch):  # noqa: F811
    """A graph is captured in the middle of a run when a new shape occurs; one replayed step equals one eager step."""
    ends = []
    for how in ("eager", "graph"):
        training_step, batches = fresh_training_step(workspace, tiny_base, monkeypatch, "training.ema_decay=0.9")
        for step in range(2 if trained else 0):
            training_step(step, batches, 1e-3)
        for step in (2, 3):
            training_step(step, batches, 1e-3, how)
        ends.append({**everything(training_step), "captured": None, "rng": None})
    assert differing(*ends) == []


def test_blocks_are_compiled_and_restored(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE)
    training_step = training_step_of(run, monkeypatch)
    blocks = training_step.family.blocks(training_step.denoiser)
    assert len(blocks) == 4 and all(block._compiled_call_impl is None for block in blocks)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: setattr(self, "_compiled_call_impl", self._call_impl))
    backends.apply(training_step, "compiled")
    assert all(block._compiled_call_impl is not None for block in blocks)
    backends.apply(training_step, "eager")
    assert all(block._compiled_call_impl is None for block in blocks)


@pytest.mark.parametrize(
    ("settings", "executions"),
    [
        ([], ["eager", "graph", "compiled"]),
        (["prior.prompt=a cat"], ["eager", "compiled"]),
        (["runtime.device=cpu"], ["eager"]),
        (["runtime.quantisation=nf4"], ["eager"]),
        (["runtime.gradient_checkpointing=true"], ["eager", "compiled"]),
        (["lora.dropout=0.1"], ["eager", "compiled"]),
        *(([f"training.optimizer={entry.name}"], ["eager", "compiled"]) for entry in optimizers.OPTIMIZERS if not entry.capturable),
        (["training.gradient_accumulation_steps=2"], ["eager", "compiled"]),
        (["runtime.processes=2"], ["eager", "compiled"]),
    ],
)
def test_a_step_is_captured_only_without_transfers_to_the_host(settings, executions):
    config = configs.build({"runtime": {"device": "cuda", "quantisation": "none", "offload": False}}, *settings)
    assert backends.available(config) == executions


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_pauses_to_generate_images_do_not_change_the_result(entry, workspace, tiny_base):  # noqa: F811
    """Each pause saves the newest weights, and another pipeline generates with them in this process before the run continues."""
    settings = [*TWELVE, *optimizer_settings(entry), "lora.dropout=0.1" if entry.has_modes else "training.ema_decay=0.9"]
    plain, paused = tiny_run(workspace, tiny_base, *settings), tiny_run(workspace, tiny_base, *settings)
    expected = result(plain)
    generated = []

    class PausesThreeTimes(Run):
        due = [2, 5, 9]

        @property
        def pause_requested(self):
            steps = [event["step"] for event in self.events()[0] if event["kind"] == "step"]
            return bool(self.due) and bool(steps) and steps[-1] >= self.due[0]

        def append(self, event):
            super().append(event)
            if event["kind"] == "pausing":
                generated.append(Generator(tiny_base, FAMILY).generate(Recipe(prompt="a cat", num_inference_steps=2), [(self.latest_adapter(), 1.0)]))
                self.due.pop(0)

    train(PausesThreeTimes(paused.path), Disk())
    assert len(generated) == 3 and paused.state == "finished"
    assert paused.latest_adapter().read_bytes() == expected


def test_a_quantised_base_trains_and_resumes_and_its_lora_fits_the_original_base(workspace, tiny_base):  # noqa: F811
    """With fp8, which torchao also supports on a CPU; bitsandbytes needs a GPU."""
    settings = [*TWELVE, "runtime.quantisation=fp8", "runtime.dtype=bfloat16"]
    uninterrupted, interrupted = (tiny_run(workspace, tiny_base, *settings) for _ in range(2))
    expected = result(uninterrupted)
    stop_at(interrupted, 5)
    assert result(interrupted) == expected
    first, last = (event["loss"] for event in (uninterrupted.curve()[0], uninterrupted.curve()[-1]))
    assert math.isfinite(first) and math.isfinite(last)
    recipe = Recipe(prompt="a cat", num_inference_steps=2)
    with_it, without = (Generator(tiny_base, FAMILY).generate(recipe, stack) for stack in ([(uninterrupted.latest_adapter(), 1.0)], []))
    assert not numpy.array_equal(numpy.asarray(with_it), numpy.asarray(without))


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "schedulefree", "adafactor_relative"])
def test_an_extended_run_goes_on_at_its_last_rate_and_resumes_to_the_same_bytes(workspace, tiny_base, optimizer):  # noqa: F811
    entry = optimizers.get(optimizer)
    schedule = [] if entry.excludes_schedule else ["training.lr_scheduler=cosine"]
    twins = [tiny_run(workspace, tiny_base, *optimizer_settings(entry), *schedule, "samples.prompts=[]") for _ in range(2)]
    for run in twins:
        result(run)
        run.extend(4)
        result(run)
        run.extend(6, "new")
    stop_at(twins[0], 13)
    assert result(twins[0]) == result(twins[1])
    rates = [event["lr"] for event in twins[0].curve()]
    assert len(rates) == 16 and (rates[6:10] == [rates[5]] * 4 or entry.excludes_schedule)
