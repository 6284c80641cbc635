import json
import os
import subprocess
import sys

import pytest

from studio import config
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.runs import library
from studio.runs.creation import create_run, repeat_run
from studio.runs.run import Run
from tests.trained import finished_run, keep_state


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


@pytest.fixture
def run(workspace, dataset) -> Run:
    return create_run(workspace, config.build({}, f"dataset.id={dataset.id}", "dataset.trigger_word=ohwx"), dataset)


def test_a_run_holds_everything_to_train_again(run, dataset):
    assert run.config.dataset.id == dataset.id
    listed = run.snapshot["pictures"]
    assert [entry["sha256"] for entry in listed] == sorted(picture.id for picture in dataset.images)
    assert all((run.dataset_dir / "pictures" / entry["file"]).exists() and entry["caption"] for entry in listed)
    assert run.snapshot["sha256"] == dataset.sha256()


def test_later_edits_of_the_dataset_do_not_reach_the_run(run, dataset):
    before = run.snapshot
    dataset.set_caption(dataset.images[0].id, "something else", "hand")
    dataset.remove([dataset.images[1].id])
    assert run.snapshot == before
    assert all((run.dataset_dir / "pictures" / entry["file"]).exists() for entry in before["pictures"])


def test_a_run_needs_pictures(workspace):
    empty = Dataset.create(workspace, "Empty", "style", real_person=False, consent="")
    with pytest.raises(StudioError, match="no images"):
        create_run(workspace, config.build({}), empty)


def test_a_run_needs_a_caption_for_every_picture(workspace, dataset):
    dataset.set_caption(dataset.images[3].id, " ", "hand")
    with pytest.raises(StudioError, match="1 of 16 images have no caption"):
        create_run(workspace, config.build({}), dataset)


def test_half_a_line_is_not_read_until_it_is_whole(run):
    run.append({"kind": "started", "step": 0, "total": 10})
    with open(run.events_file, "ab") as file:
        file.write(b'{"kind": "step", "st')
    events, offset = run.events()
    assert [event["kind"] for event in events] == ["started"]
    with open(run.events_file, "ab") as file:
        file.write(b'ep": 1, "loss": 0.1}\n')
    assert [event["kind"] for event in run.events(offset)[0]] == ["step"]


def test_a_line_cut_by_a_kill_costs_only_that_line(run):
    run.append({"kind": "started", "step": 0, "total": 10})
    with open(run.events_file, "ab") as file:
        file.write(b'{"kind": "step", "st')
    run.append({"kind": "started", "step": 0, "total": 10})
    run.append({"kind": "finished", "step": 10})
    assert run.state == "finished"


def test_the_curve_counts_a_step_that_was_done_twice_once(run):
    run.append({"kind": "started", "step": 0, "total": 4})
    for step in (1, 2, 3):
        run.append({"kind": "step", "step": step, "loss": 9.0})
    run.append({"kind": "started", "step": 1, "total": 4, "resumed": True})
    for step in (2, 3, 4):
        run.append({"kind": "step", "step": step, "loss": 1.0})
    assert [(event["step"], event["loss"]) for event in run.curve()] == [(1, 9.0), (2, 1.0), (3, 1.0), (4, 1.0)]


def test_a_second_trainer_is_told_who_has_the_run(run):
    program = f"from pathlib import Path; from studio.runs.run import Run\nwith Run(Path({str(run.path)!r})).lock(): print('in', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd())
    try:
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(StudioError, match=f"in use by process {holder.pid}"), run.lock():
            pass
    finally:
        holder.kill()
        holder.wait()
    with run.lock():
        pass


def test_a_run_that_is_gone_is_named(workspace):
    with pytest.raises(StudioError, match="no run 'ink'"):
        Run.open(workspace, "ink")


def test_everything_in_a_run_is_plain_json(run):
    run.append({"kind": "step", "step": 1, "loss": 0.5})
    for path in (run.path / "config.json", run.dataset_dir / "dataset.json"):
        json.loads(path.read_text())


def test_a_finished_run_is_made_longer_and_can_go_on(workspace):
    run = finished_run(workspace)
    with pytest.raises(StudioError, match="no checkpoint to resume from"):
        run.extend(100)
    keep_state(run, 200)
    run.extend(100)
    assert (run.config.training.max_train_steps, run.state) == (300, "stopped")
    told = run.events()[0][-1]
    assert (told["kind"], told["from"], told["to"], told["schedule"], told["lr"]) == ("extended", 200, 300, "keep", 1e-4)
    (added,) = run.config.training.extensions
    assert (added.from_step, added.schedule) == (200, "keep") and run.requested.training.extensions == ()
    assert run.requested.training.max_train_steps == 300
    with pytest.raises(StudioError, match="is stopped; only a finished run"):
        run.extend(100)


@pytest.mark.parametrize("more", [0, -5, 2.5, None, 500_000])
def test_a_number_of_steps_that_cannot_be_added_changes_nothing(workspace, more):
    run = finished_run(workspace)
    keep_state(run, 200)
    with pytest.raises(StudioError, match="not a valid number of steps|does not fit"):
        run.extend(more)
    assert (run.config.training.max_train_steps, run.state) == (200, "finished")


def test_a_run_whose_rate_has_fallen_to_nothing_goes_on_with_a_new_schedule(workspace):
    run = finished_run(workspace, "training.lr_scheduler=cosine")
    keep_state(run, 200)
    with pytest.raises(StudioError, match="'stretch' is not a way to extend a run; choose keep"):
        run.extend(100, "stretch")
    assert run.state == "finished" and run.config.training.extensions == ()
    run.extend(100)
    assert [each.model_dump() for each in run.config.training.extensions] == [{"from_step": 200, "schedule": "new", "lr_warmup_steps": 5}]
    assert run.events()[0][-1]["schedule"] == "new"
    run.append({"kind": "finished", "step": 300})
    run.extend(50, "keep")
    assert [each.schedule for each in run.config.training.extensions] == ["new", "keep"] and run.config.training.max_train_steps == 350


def test_a_run_that_starts_from_a_lora_keeps_a_copy_of_it(workspace, dataset):
    first = finished_run(workspace)
    rank = library.find(workspace, f"run:{first.id}").rank
    settings = (f"lora.rank={rank}", f"lora.start_from=run:{first.id}@100")
    run = create_run(workspace, config.build({}, *settings), dataset)
    assert run.start_file.read_bytes() == first.adapter_at(100).read_bytes()
    first.adapter_at(100).write_bytes(b"trained over")
    assert run.start_file.read_bytes() != b"trained over"
    workspace.remove(first.path)
    assert repeat_run(run, workspace, run.config, "Again").start_file.read_bytes() == run.start_file.read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("lora.start_from=run:gone",), "no run 'gone'"),
        (("lora.start_from=file:gone",), "There is no LoRA"),
        (("lora.start_from=starter:style", "lora.rank=64"), "has rank 8, and this run has rank 64"),
        (("lora.start_from=starter:style", "lora.rank=8", "model.base_model=black-forest-labs/FLUX.1-dev"), "another family or size"),
    ],
)
def test_a_lora_that_cannot_be_started_from_is_refused_in_a_sentence(workspace, dataset, settings, words):
    with pytest.raises(StudioError, match=words):
        create_run(workspace, config.build({}, *settings), dataset)
    assert not list(workspace.runs.iterdir())


def test_the_loss_of_pictures_held_back_is_a_curve_of_its_own(run):
    run.append({"kind": "started", "step": 0, "total": 4})
    for step in (2, 4):
        run.append({"kind": "validation", "step": step, "loss": step / 10})
    run.append({"kind": "started", "step": 2, "total": 4})
    assert [(event["step"], event["loss"]) for event in run.curve("validation")] == [(2, 0.2)]
    assert run.curve() == []
