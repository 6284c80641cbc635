import json
import os
import subprocess
import sys

import pytest

from studio import config
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.runs import Run


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


@pytest.fixture
def run(workspace, dataset) -> Run:
    return Run.create(workspace, config.build({}, f"dataset.id={dataset.id}", "dataset.trigger_word=ohwx"), dataset)


def test_a_run_holds_everything_to_train_again(run, dataset):
    assert run.config.dataset.id == dataset.id
    listed = run.snapshot["pictures"]
    assert [entry["sha256"] for entry in listed] == sorted(picture.id for picture in dataset.pictures)
    assert all((run.dataset_dir / "pictures" / entry["file"]).exists() and entry["caption"] for entry in listed)
    assert run.snapshot["sha256"] == dataset.sha256()


def test_later_edits_of_the_dataset_do_not_reach_the_run(run, dataset):
    before = run.snapshot
    dataset.set_caption(dataset.pictures[0].id, "something else", "hand")
    dataset.remove([dataset.pictures[1].id])
    assert run.snapshot == before
    assert all((run.dataset_dir / "pictures" / entry["file"]).exists() for entry in before["pictures"])


def test_a_run_needs_pictures(workspace):
    empty = Dataset.create(workspace, "Empty", "style", real_person=False, consent="")
    with pytest.raises(StudioError, match="no pictures"):
        Run.create(workspace, config.build({}), empty)


def test_a_run_needs_a_caption_for_every_picture(workspace, dataset):
    dataset.set_caption(dataset.pictures[3].id, " ", "hand")
    with pytest.raises(StudioError, match="1 of 16 pictures have no caption"):
        Run.create(workspace, config.build({}), dataset)


def test_half_a_line_is_not_read_until_it_is_whole(run):
    run.append({"kind": "started", "step": 0, "total": 10})
    with open(run.events_file, "ab") as file:
        file.write(b'{"kind": "step", "st')
    events, offset = run.events()
    assert [event["kind"] for event in events] == ["started"]
    with open(run.events_file, "ab") as file:
        file.write(b'ep": 1}\n')
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
    program = f"from pathlib import Path; from studio.runs import Run\nwith Run(Path({str(run.path)!r})).lock(): print('in', flush=True); input()"
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
