"""The commands: what they say, what they refuse, and that a training started here learns what its dataset is."""

import os
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from studio import __main__ as commands
from studio import worker
from studio.benchmark.tiny import save_tiny_model
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.runs import Run
from studio.worker import Worker
from tests.trained import finished_run, png

NAMES = [command.callback.__name__ for command in commands.app.registered_commands]


@pytest.fixture
def studio(home):
    """`studio("train", ...)` -> what it printed; a StudioError is raised as it is for `main`."""

    def call(*words: object) -> str:
        done = CliRunner().invoke(commands.app, [*map(str, words), "--home", str(home.root)])
        if done.exception:
            raise done.exception
        return done.stdout

    return call


@pytest.fixture
def at_work(home, monkeypatch):
    """The resident worker, in a thread of this process: nothing stays behind."""
    over = threading.Event()

    def turns():
        resident = Worker(home)
        while not over.is_set():
            resident.turn()
            time.sleep(0.02)

    monkeypatch.setattr(worker, "ensure", lambda home: None)
    thread = threading.Thread(target=turns)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_does(name):
    done = CliRunner().invoke(commands.app, [name, "--help"])
    assert done.exit_code == 0 and "Usage" in done.stdout


def test_a_character_is_trained_as_a_character(studio, workspace, at_work, tmp_path):
    made = studio("dataset", "--sample", "character").splitlines()[0]
    base = save_tiny_model(tmp_path / "tiny-model")
    quick = ("dataset.resolution=64", "training.max_train_steps=2", "training.train_batch_size=1", "samples.prompts=[]", "runtime.threads=1")
    printed = studio("train", made, f"model.base_model={base}", "lora.rank=4", *quick)
    run = Run.open(workspace, printed.splitlines()[0])
    pictures = Dataset.open(workspace, made)
    assert (run.config.dataset.subject, run.config.dataset.trigger_word) == ("character", pictures.trigger_word)
    assert run.state == "finished" and str(run.adapter_at(2)) in printed.splitlines()


@pytest.mark.parametrize("together", [["a.png"], ["--subject", "object"], ["--trigger", "ohwx"], ["--consent", "they agreed"]])
def test_a_sample_set_takes_nothing_that_it_brings_itself(studio, workspace, together):
    with pytest.raises(StudioError, match="give --sample with a title at most"):
        studio("dataset", "Mine", *together, "--sample", "style")
    assert Dataset.all(workspace) == []


def test_a_dataset_needs_a_title(studio):
    with pytest.raises(StudioError, match="has no title"):
        studio("dataset")


def test_bringing_pictures_says_what_was_not_used_and_what_is_worth_knowing(studio, tmp_path):
    (tmp_path / "odd [x].png").write_bytes(b"no picture")
    (tmp_path / "a.png").write_bytes(png(50, size=64))
    (tmp_path / "b.png").write_bytes(png(50, size=64))
    printed = studio("dataset", "Ink", tmp_path / "odd [x].png", tmp_path / "a.png", tmp_path / "b.png")
    assert "1 pictures and 0 captions added." in printed
    assert "not used: odd [x].png" in printed
    assert "same" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("generate", "a cat", "--steps", "500"), "num_inference_steps: 500 does not fit. Input should be less than or equal to 200"),
        (("generate", "a cat", "--seed", "-1"), "seed: -1 does not fit"),
        (("generate", "a cat", "--lora", "starter:style=much"), "'much' is not a weight"),
        (("save", "run:gone", "out", "--licence", "l" * 100), "licence: '.* does not fit"),
        (("train", "gone"), "not here any more"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(studio, words, sentence):
    with pytest.raises(StudioError, match=sentence):
        studio(*words)


def test_a_path_is_printed_in_one_piece_whatever_is_in_it(studio, workspace, tmp_path):
    run = finished_run(workspace)
    out = tmp_path / ("a [bold] long name " * 8).strip()
    assert studio("save", f"run:{run.id}", out).splitlines() == [str(out)]


def test_an_id_in_a_list_can_be_copied(studio, workspace):
    run = finished_run(workspace, title="A long title that leaves little room for the other columns of the table, and goes on")
    assert studio("show", "runs").splitlines()[1].split("  ") == [run.id, run.title, "finished"]


def test_an_error_is_a_sentence_on_the_other_stream(home):
    said = subprocess.run(
        [sys.executable, "-m", "studio", "train", "[x]", "--home", str(home.root)], capture_output=True, text=True, env=os.environ, timeout=120
    )
    assert said.returncode == 1 and said.stdout == "" and "'[x]'" in said.stderr and "Traceback" not in said.stderr


def test_a_sample_set_may_be_given_a_title(studio, workspace):
    made = studio("dataset", "My ink", "--sample", "style").splitlines()[0]
    assert Dataset.open(workspace, made).title == "My ink"
