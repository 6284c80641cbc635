"""The settings of the training engine, each on a real run of a tiny model: what turning it does, and that a resume ends in the same bytes."""

import json
import math
import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file

from studio import config as configs
from studio.adapters.format import load_adapter, read_header, write_adapter
from studio.config.recipe import Recipe
from studio.core import platform
from studio.core.errors import StudioError
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training import backends, batches, loop
from studio.training.checkpoints import Disk, load_newest, save
from studio.training.loop import train
from studio.training.step import Update
from tests.tiny import FAMILY, tiny_base, tiny_run  # noqa: F401 - fixtures

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
    "prodigy": ["training.optimizer=prodigy", "training.learning_rate=1.0"],
    "schedule-free": ["training.optimizer=schedulefree"],
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
    pytest.importorskip("bitsandbytes")
    asked = [*TWELVE, "training.optimizer=adamw8bit", "lora.rank=64"]
    whole, halved = (tiny_run(workspace, tiny_base, *asked) for _ in range(2))
    wanted = result(whole)
    stop_at(halved, 5)
    stop_at(halved, 9)
    _, state, _ = load_newest(halved.checkpoints_dir)
    assert {name.split("/")[1] for name, tensor in state.items() if tensor.dtype == torch.uint8} == {"state1", "state2"}
    assert result(halved) == wanted


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


def test_a_broken_step_offers_half_the_learning_rate(workspace, tiny_base, monkeypatch):  # noqa: F811
    from studio.families.objectives import Objective

    monkeypatch.setattr(Objective, "losses", lambda *_: torch.full((2,), math.nan, requires_grad=True))
    run = tiny_run(workspace, tiny_base, *TWELVE)
    assert loop.main([str(run.path)]) == 1
    last = run.events()[0][-1]
    assert last["retries"] == [{"title": "learning rate 0.0005", "set": {"training.learning_rate": 0.0005}}]


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


def test_what_was_timed_is_put_back_to_the_last_bit(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *TWELVE, "training.ema_decay=0.9")
    update = update_of(run, monkeypatch)
    examples = batches.Examples([], run.config.dataset, run.config.training)
    before = {name: tensor.clone() for name, tensor in update.learner.state()[0].items()}
    kept = update.snapshot()
    example = batches.Example((64, 64), torch.randn(4, 8, 8), torch.rand(4, 8, 8), "")
    examples = batches.Examples([example] * 2, run.config.dataset, run.config.training)
    update(3, [(batch, 1.0) for batch in examples.batches(3)], 1e-3)
    changed = update.learner.state()[0]
    assert any(not torch.equal(changed[name], before[name]) for name in before)
    update.put_back(kept)
    after = update.learner.state()[0]
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


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
        (["training.optimizer=prodigy"], ["eager", "compiled"]),
        (["training.gradient_accumulation_steps=2"], ["eager", "compiled"]),
        (["runtime.processes=2"], ["eager", "compiled"]),
    ],
)
def test_a_whole_step_is_recorded_only_where_nothing_asks_the_host(settings, ways):
    config = configs.build({"runtime": {"device": "cuda", "quantisation": "none", "offload": False}}, *settings)
    assert backends.possible(config, False) == ways
    assert "graph" not in backends.possible(config, True)


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree"])
def test_three_interruptions_to_draw_equal_none(optimizer, workspace, tiny_base):  # noqa: F811
    """Each lends the newest weights as a file and lets another pipeline draw with them, in this very process, before the run goes on."""
    settings = [*TWELVE, f"training.optimizer={optimizer}", "training.ema_decay=0.9" if optimizer == "adamw" else "lora.dropout=0.1"]
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
                drawn.append(Generator(tiny_base, FAMILY).draw(Recipe(prompt="a cat", num_inference_steps=2), [(self.latest_adapter(), 1.0)]))
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
    with_it, without = (Generator(tiny_base, FAMILY).draw(recipe, stack) for stack in ([(whole.latest_adapter(), 1.0)], []))
    assert not numpy.array_equal(numpy.asarray(with_it), numpy.asarray(without))
