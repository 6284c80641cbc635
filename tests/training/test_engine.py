"""The settings of the training engine, each on a real run of a tiny model: what turning it does, and that a resume ends in the same bytes."""

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
from studio.core import platform
from studio.core.errors import StudioError
from studio.devices import memory
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training import backends, batches, loop
from studio.training.checkpoints import Disk, load_newest, save
from studio.training.loop import learning_rate, train
from studio.training.parameters import Learner
from studio.training.step import Update
from tests.tiny import FAMILY, optimizer_settings, tiny_base, tiny_run  # noqa: F401 - fixtures

SQUARES = [(64, 64)] * 2
TWELVE = ("training.max_train_steps=12", "samples.every=6", "saving.checkpoint_every=4")


@pytest.fixture(autouse=True)
def keep_our_priority(monkeypatch):
    monkeypatch.setattr(platform, "be_nice", lambda: None)
    monkeypatch.setattr(platform, "prefer_as_oom_victim", lambda: None)


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
    **{entry.name: optimizer_settings(entry) for entry in optimizers.OPTIMIZERS[1:]},
    "accumulation and average": ["training.gradient_accumulation_steps=3", "training.ema_decay=0.9"],
    "sixteen bits": ["runtime.dtype=bfloat16"],
    "shuffled and mirrored words": ["dataset.caption_shuffle=true", "dataset.flip=true", "dataset.caption_dropout=0.2", "training.noise_offset=0.1"],
    "text encoder": ["lora.text_encoder=true", "lora.dropout=0.1"],
    "DoRA": ["lora.method=dora"],
    "held back": ["validation.pictures=1", "validation.every=5"],
    "regularisation": ["prior.prompt=a cat", "prior.pictures=2"],
    "checkpointing": ["runtime.gradient_checkpointing=true"],
    "half file": ["saving.dtype=float16", "lora.alpha=3"],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_stopped_anywhere_and_resumed_it_ends_in_the_same_bytes(settings, workspace, tiny_base):  # noqa: F811
    whole, halved = (tiny_run(workspace, tiny_base, *TWELVE, *settings) for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    stop_at(halved, 9)
    assert result(halved) == wanted
    assert numpy.isfinite([event["loss"] for event in halved.curve()]).all()


def earlier(name: str) -> str:
    """A name as versions before wrote it, which took the level `text_model` for one of transformers 4 alone."""
    return name.replace("text_encoder.text_model.", "text_encoder.")


def test_a_run_that_began_with_other_names_of_text_encoders_goes_on_to_the_same_bytes(workspace, tiny_base):  # noqa: F811
    whole, halved = (tiny_run(workspace, tiny_base, *TWELVE, "lora.text_encoder=true", "training.optimizer=prodigy") for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    step, tensors, facts = load_newest(halved.checkpoints_dir)
    assert any("text_model" in name for name in tensors) and any("text_model" in name for name in facts["numbers"])
    facts["numbers"] = {earlier(name): numbers for name, numbers in facts["numbers"].items()}
    save(halved.checkpoints_dir, step, {earlier(name): tensor for name, tensor in tensors.items()}, facts, Disk())
    assert result(halved) == wanted


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_run_starts_from_a_lora_with_other_names_of_text_encoders(method, workspace, tiny_base):  # noqa: F811
    asked = [*TWELVE, "lora.text_encoder=true", f"lora.method={method}"]
    first = tiny_run(workspace, tiny_base, *asked)
    result(first)
    written = load_file(first.latest_adapter())
    results = []
    for rename in (str, earlier):
        named = {rename(name): tensor for name, tensor in written.items()}
        second = tiny_run(workspace, tiny_base, *asked)
        write_adapter(second.start_file, named, read_header(first.latest_adapter()).metadata)
        results.append((len(named.keys() ^ written.keys()) > 0, result(second)))
    assert results == [(False, results[0][1]), (True, results[0][1])]


def test_eight_bit_adamw_resumes_to_the_same_bytes(workspace, tiny_base):  # noqa: F811
    """Rank 64 makes halves of 4,096 numbers and more, whose moments bitsandbytes keeps as uint8; smaller ones stay in 32 bits."""
    asked = [*TWELVE, "training.optimizer=adamw8bit", "lora.rank=64"]
    whole, halved = (tiny_run(workspace, tiny_base, *asked) for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    stop_at(halved, 9)
    _, state, _ = load_newest(halved.checkpoints_dir)
    assert {name.split("/")[1] for name, tensor in state.items() if tensor.dtype == torch.uint8} == {"state1", "state2"}
    assert result(halved) == wanted


def test_an_optimizer_is_one_entry(workspace, tiny_base, monkeypatch):  # noqa: F811
    """One that the studio does not have: chosen by its name, trained, saved, stopped, resumed to the same bytes, imported."""
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
    asked = [*TWELVE, "training.optimizer=made_up"]
    whole, halved = (tiny_run(workspace, tiny_base, *asked) for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    assert result(halved) == wanted != plain_result(workspace, tiny_base)
    facts = read_header(whole.latest_adapter()).metadata["studio"]
    assert json.loads(facts)["config"]["training"]["optimizer"] == "made_up"
    assert "made_up" in next(leaf.choices for leaf in fields.leaves(whole.config) if leaf.path == "training.optimizer")
    brought = (
        foreign.recognised({"network_dim": 4, "optimizer_type": "MadeUp"}),
        foreign.recognised({"config": {"process": [{"train": {"optimizer": "madeup"}}]}}),
    )
    assert [each.values["training.optimizer"] for each in brought] == ["made_up", "made_up"]


def plain_result(workspace, base) -> bytes:
    return result(tiny_run(workspace, base, *TWELVE))


@pytest.mark.parametrize("settings", [v for k, v in SETTINGS.items() if k not in ("held back", "checkpointing")], ids=str)
def test_every_setting_changes_what_is_learnt(settings, workspace, tiny_base):  # noqa: F811
    assert result(tiny_run(workspace, tiny_base, *TWELVE, *settings)) != plain_result(workspace, tiny_base)


def halves(run: Run) -> dict[str, torch.Tensor]:
    return {name: part.B for name, part in load_adapter(run.latest_adapter(), FAMILY).layers.items()}


def test_computing_twice_gives_the_same_numbers(workspace, tiny_base):  # noqa: F811
    plain, twice = tiny_run(workspace, tiny_base, *TWELVE), tiny_run(workspace, tiny_base, *TWELVE, "runtime.gradient_checkpointing=true")
    result(plain)
    result(twice)
    assert all(torch.equal(half, halves(twice)[name]) for name, half in halves(plain).items())


def test_accumulating_is_a_larger_batch(workspace, tiny_base):  # noqa: F811
    """One step of two pictures at once, or one after the other: the same loss and the same LoRA but for the order of a sum."""
    seed = next(s for s in range(99) if batches.batch_order(SQUARES, 2, s, 0)[0] == sum(batches.batch_order(SQUARES, 1, s, 0), []))
    only = ["training.max_train_steps=1", "samples.prompts=[]", "saving.checkpoint_every=9", f"training.seed={seed}"]
    together = tiny_run(workspace, tiny_base, *only, "training.train_batch_size=2")
    after_another = tiny_run(workspace, tiny_base, *only, "training.train_batch_size=1", "training.gradient_accumulation_steps=2")
    for run in (together, after_another):
        snapshot = run.snapshot
        snapshot["pictures"] = [{**picture, "width": 64, "height": 64} for picture in snapshot["pictures"][:2]]
        (run.dataset_dir / "dataset.json").write_text(json.dumps(snapshot))
        result(run)
    assert together.curve()[0]["loss"] == pytest.approx(after_another.curve()[0]["loss"], rel=1e-5)
    assert all(torch.allclose(half, halves(after_another)[name], atol=1e-6) for name, half in halves(together).items())


def test_pictures_held_back_are_asked_with_the_same_noise(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, "validation.pictures=2", "validation.every=3", "training.learning_rate=1e-9")
    result(run)
    asked = [event for event in run.events()[0] if event["kind"] == "validation"]
    assert [event["step"] for event in asked] == [3, 6, 9, 12]
    losses = [event["loss"] for event in asked]
    assert max(losses) - min(losses) < 1e-4 * max(losses), "nothing was learnt, so the same noise gives the same answer"


def test_regularisation_pictures_are_drawn_once_and_kept_in_the_run(workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, "prior.prompt=a cat", "prior.pictures=3")
    stop_at(run, 2)
    drawn = {path.name: path.stat().st_mtime_ns for path in run.prior_dir.iterdir()}
    assert sorted(drawn) == ["0000.png", "0001.png", "0002.png"]
    result(run)
    assert {path.name: path.stat().st_mtime_ns for path in run.prior_dir.iterdir()} == drawn


def test_it_starts_from_another_lora_and_refuses_one_of_another_rank(workspace, tiny_base):  # noqa: F811
    first = tiny_run(workspace, tiny_base, *TWELVE)
    result(first)
    second = tiny_run(workspace, tiny_base, *TWELVE, "training.learning_rate=1e-9", "training.weight_decay=0", "lora.alpha=2")
    shutil.copy(first.latest_adapter(), second.start_file)
    result(second)
    assert all(torch.allclose(half, halves(second)[name], atol=1e-6) for name, half in halves(first).items())
    third = tiny_run(workspace, tiny_base, *TWELVE, "lora.rank=2")
    shutil.copy(first.latest_adapter(), third.start_file)
    with pytest.raises(StudioError, match="has rank 4, this run 2. Set the rank to 4"):
        train(third, Disk())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.timestep_shift=3", "timestep shift 3 belongs to flow-matching"),
        ("lora.method=lokr", "reads no LoKr files of Stable Diffusion"),
        ("runtime.quantisation=nf4", "nf4 needs a GPU"),
        ("runtime.offload=true", "is for a graphics card"),
        ("runtime.processes=2", "made for 2 processes and 1 were started"),
    ],
)
def test_a_setting_that_has_no_place_here_is_refused_in_a_sentence(setting, words, workspace, tiny_base):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, setting)
    if "processes" in setting:
        with pytest.raises(StudioError, match=words):
            loop.main([str(run.path)])
        return
    assert loop.main([str(run.path)]) == 1
    assert words in run.events()[0][-1]["message"]


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_broken_step_offers_half_the_learning_rate_or_an_optimizer_that_reads_one(entry, workspace, tiny_base, monkeypatch):  # noqa: F811
    from studio.families.objectives import Objective

    monkeypatch.setattr(Objective, "losses", lambda *_: torch.full((2,), math.nan, requires_grad=True))
    run = tiny_run(workspace, tiny_base, *TWELVE, *optimizer_settings(entry))
    assert loop.main([str(run.path)]) == 1
    last, half = run.events()[0][-1], run.config.training.learning_rate / 2
    lower = {"title": f"learning rate {half:g}", "set": {"training.learning_rate": half}}
    other = {"title": "optimizer adamw", "set": {"training.optimizer": "adamw"}}
    assert last["retries"] == [other if entry.excludes_schedule else lower]


def test_too_little_memory_offers_what_costs_least_first(workspace, tiny_base, monkeypatch):  # noqa: F811
    from studio.families.objectives import Objective

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "losses", full)
    run = tiny_run(workspace, tiny_base, *TWELVE)
    assert loop.main([str(run.path)]) == 1
    offers = run.events()[0][-1]["retries"]
    assert offers[0]["set"] == {"training.train_batch_size": 1, "training.gradient_accumulation_steps": 2}
    assert offers[1]["set"] == {"runtime.gradient_checkpointing": True}


def update_of(run: Run, monkeypatch) -> Update:
    """The update of a run, as its loop made it."""
    kept = []

    class Kept(Update):
        def __init__(self, *parts):
            super().__init__(*parts)
            kept.append(self)

    monkeypatch.setattr(loop, "Update", Kept)
    result(run)
    return kept[0]


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_steps_that_are_timed_leave_no_trace_in_the_run(entry, workspace, tiny_base, monkeypatch):  # noqa: F811
    """Before the first step, when the optimizer has no state yet, and in the middle."""
    calm, timed = (tiny_run(workspace, tiny_base, *TWELVE, *optimizer_settings(entry), "training.ema_decay=0.9") for _ in range(2))
    wanted = result(calm)

    class Timed(Update):
        due = [0, 5]

        def __call__(self, step, batches, rate, how="eager"):
            if step in self.due:
                self.due.remove(step)
                kept = self.snapshot()
                before = {name: weight.detach().clone() for name, weight in self.learner.masters.items()}
                for _ in range(3):
                    super().__call__(0, batches, rate, how)
                assert not all(torch.equal(weight, before[name]) for name, weight in self.learner.masters.items())
                self.put_back(kept)
            return super().__call__(step, batches, rate, how)

    monkeypatch.setattr(loop, "Update", Timed)
    assert result(timed) == wanted and Timed.due == []


class Replayed:
    """Stands in for a CUDA graph where no card is: what was recorded is computed anew, and recording computes too, as a warm-up does."""

    def __init__(self):
        self.update, self.inputs = None, None

    def pool(self):
        return None

    def replay(self) -> None:
        self.update._compute([(self.inputs, 1.0)])


@pytest.fixture
def card_of_paper(monkeypatch):
    """The ways of a card on a processor: blocks run uncompiled, a recording is computed anew at every replay, nothing waits for a device."""
    record = Update._record

    def recorded(self, inputs):
        made = record(self, inputs)
        made.graph.update, made.graph.inputs = self, made.inputs
        return made

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: setattr(self, "_compiled_call_impl", self._call_impl))
    monkeypatch.setattr(Update, "_record", recorded)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: SimpleNamespace(wait_stream=lambda other: None))
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: contextlib.nullcontext())


def everything(update: Update) -> dict[str, object]:
    """All that the next step depends on, as values to compare: weights, average, optimizer, learning rate, gradients, torch's chance."""
    learner = update.learner
    tensors, facts = learner.state()
    working = {f"working/{name}": weight for name, weight in learner.working.items()}
    grads = {f"grad/{name}": weight.grad for name, weight in [*learner.masters.items(), *learner.working.items()]}
    bits = {name: None if tensor is None else tensor.detach().clone() for name, tensor in {**tensors, **working, **grads}.items()}
    groups = [
        {key: value.clone() if torch.is_tensor(value) else value for key, value in each.items() if key != "params"}
        for each in learner.optimizer.param_groups
    ]
    return {**bits, "numbers": facts["numbers"], "groups": groups, "rng": torch.get_rng_state(), "recordings": dict(update.recordings)}


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Names of what is not the same to the last bit."""

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


def fresh_update(workspace, base, monkeypatch, *settings: str) -> tuple[Update, list]:
    """An update before its first step, and the batches of that step."""

    class AtTheStart(Exception):
        pass

    def stop(run, update, batches, rate, step, extra):
        kept.append((update, batches))
        raise AtTheStart

    kept = []
    with monkeypatch.context() as patched:
        leave_execution_open(patched)
        patched.setattr(loop, "settle_execution", stop)
        with pytest.raises(AtTheStart):
            train(tiny_run(workspace, base, *TWELVE, *settings), Disk())
    return kept[0]


def leave_execution_open(monkeypatch) -> None:
    """As on a card, where the ways are timed; a processor runs eager."""
    filled = memory.resolve

    def choose(*asked):
        chosen, reasons = filled(*asked)
        return chosen.model_copy(update={"execution": None}), reasons

    monkeypatch.setattr(memory, "resolve", choose)


def warm_up(entry: optimizers.Optimizer) -> list[str]:
    """A learning rate that changes with each step, where the optimizer reads one."""
    return [] if entry.excludes_schedule else ["training.lr_warmup_steps=3"]


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "in the middle"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_timing_leaves_the_run_as_it_was(entry, dtype, trained, workspace, tiny_base, card_of_paper, monkeypatch):  # noqa: F811
    settings = [*optimizer_settings(entry), f"runtime.dtype={dtype}"]
    update, batches = fresh_update(workspace, tiny_base, monkeypatch, *settings, "training.ema_decay=0.9", *warm_up(entry))
    rate = learning_rate(update.config.training, 0)
    for step in range(2 if trained else 0):
        update(step, batches, learning_rate(update.config.training, step))
    before = everything(update)
    ways = backends.possible(fields.replace(update.config, {"runtime.device": "cuda"}), False)
    assert ways == ["eager", "compiled", *(["graph"] if entry.recordable else [])]
    _, sentence = backends.fastest(update, batches, rate * 2, 1000, ways)
    assert all(way in sentence for way in ways) and "not possible" not in sentence
    assert differing(before, everything(update)) == []


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_run_that_was_timed_ends_in_the_bytes_of_one_that_was_not(entry, workspace, tiny_base, card_of_paper, monkeypatch):  # noqa: F811
    settings = [*TWELVE, *optimizer_settings(entry), *warm_up(entry)]
    settings += ["lora.text_encoder=true", "lora.dropout=0.1"]
    plain = result(tiny_run(workspace, tiny_base, *settings))
    monkeypatch.setattr(backends, "possible", lambda config, extra: ["eager", "compiled"])
    # Eager stays, whatever the clock says: compiled is not what it says here.
    monkeypatch.setattr(backends, "WORTH", 0.0)
    leave_execution_open(monkeypatch)
    run = tiny_run(workspace, tiny_base, *settings)
    assert result(run) == plain
    assert any("Steps are run eager" in event.get("message", "") for event in run.events()[0])


def test_a_way_that_breaks_in_the_middle_of_a_step_leaves_no_gradient(workspace, tiny_base, card_of_paper, monkeypatch):  # noqa: F811
    update, batches = fresh_update(workspace, tiny_base, monkeypatch)
    before = everything(update)
    honest = Learner.step

    def breaks(learner):
        if any(block._compiled_call_impl for block in update.family.blocks(update.denoiser)):
            raise RuntimeError("no kernel for this")
        return honest(learner)

    monkeypatch.setattr(Learner, "step", breaks)
    _, sentence = backends.fastest(update, batches, 1e-3, 1000, ["eager", "compiled"])
    assert "compiled was not possible here (no kernel for this)" in sentence
    assert differing(before, everything(update)) == []


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "in the middle"])
def test_recording_a_step_changes_nothing_but_the_step_itself(trained, workspace, tiny_base, card_of_paper, monkeypatch):  # noqa: F811
    """A recording is made in the middle of a run whenever a new shape comes; one step by it equals one eager step."""
    ends = []
    for how in ("eager", "graph"):
        update, batches = fresh_update(workspace, tiny_base, monkeypatch, "training.ema_decay=0.9")
        for step in range(2 if trained else 0):
            update(step, batches, 1e-3)
        for step in (2, 3):
            update(step, batches, 1e-3, how)
        ends.append({**everything(update), "recordings": None, "rng": None})
    assert differing(*ends) == []


def test_blocks_are_compiled_and_taken_back(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE)
    update = update_of(run, monkeypatch)
    blocks = update.family.blocks(update.denoiser)
    assert len(blocks) == 4 and all(block._compiled_call_impl is None for block in blocks)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: setattr(self, "_compiled_call_impl", self._call_impl))
    backends.prepare(update, "compiled")
    assert all(block._compiled_call_impl is not None for block in blocks)
    backends.prepare(update, "eager")
    assert all(block._compiled_call_impl is None for block in blocks)


@pytest.mark.parametrize(
    ("settings", "ways"),
    [
        ([], ["eager", "compiled", "graph"]),
        (["runtime.device=cpu"], ["eager"]),
        (["runtime.quantisation=nf4"], ["eager"]),
        (["runtime.gradient_checkpointing=true"], ["eager", "compiled"]),
        (["lora.dropout=0.1"], ["eager", "compiled"]),
        *(([f"training.optimizer={entry.name}"], ["eager", "compiled"]) for entry in optimizers.OPTIMIZERS if not entry.recordable),
        (["training.gradient_accumulation_steps=2"], ["eager", "compiled"]),
        (["runtime.processes=2"], ["eager", "compiled"]),
    ],
)
def test_a_whole_step_is_recorded_only_where_nothing_asks_the_host(settings, ways):
    config = configs.build({"runtime": {"device": "cuda", "quantisation": "none", "offload": False}}, *settings)
    assert backends.possible(config, False) == ways
    assert "graph" not in backends.possible(config, True)


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_three_interruptions_to_draw_equal_none(entry, workspace, tiny_base):  # noqa: F811
    """Each lends the newest weights as a file and lets another pipeline draw with them, in this very process, before the run goes on."""
    settings = [*TWELVE, *optimizer_settings(entry), "lora.dropout=0.1" if entry.has_modes else "training.ema_decay=0.9"]
    calm, asked = tiny_run(workspace, tiny_base, *settings), tiny_run(workspace, tiny_base, *settings)
    wanted = result(calm)
    drawn = []

    class Lent(Run):
        due = [2, 5, 9]

        @property
        def pause_requested(self):
            steps = [event["step"] for event in self.events()[0] if event["kind"] == "step"]
            return bool(self.due) and bool(steps) and steps[-1] >= self.due[0]

        def append(self, event):
            super().append(event)
            if event["kind"] == "pausing":
                drawn.append(Generator(tiny_base, FAMILY).generate(Recipe(prompt="a cat", num_inference_steps=2), [(self.latest_adapter(), 1.0)]))
                self.due.pop(0)

    train(Lent(asked.path), Disk())
    assert len(drawn) == 3 and asked.state == "finished"
    assert asked.latest_adapter().read_bytes() == wanted


def test_a_packed_base_learns_resumes_and_its_lora_fits_the_whole_base(workspace, tiny_base):  # noqa: F811
    """In 8-bit floats, which torchao packs on a processor as well; bitsandbytes wants a card."""
    packed = [*TWELVE, "runtime.quantisation=fp8", "runtime.dtype=bfloat16"]
    whole, halved = (tiny_run(workspace, tiny_base, *packed) for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    assert result(halved) == wanted
    first, last = (event["loss"] for event in (whole.curve()[0], whole.curve()[-1]))
    assert math.isfinite(first) and math.isfinite(last)
    recipe = Recipe(prompt="a cat", num_inference_steps=2)
    with_it, without = (Generator(tiny_base, FAMILY).generate(recipe, stack) for stack in ([(whole.latest_adapter(), 1.0)], []))
    assert not numpy.array_equal(numpy.asarray(with_it), numpy.asarray(without))
