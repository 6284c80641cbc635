"""The commands around presets: settings from a file, presets of one's own, and a training for a card of some size."""

import json

import pytest
from typer.testing import CliRunner

from studio import config as configs
from studio.cli import commands
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import worker
from studio.runs import starting_points
from studio.runs.creation import create_run
from studio.runs.run import Run

KOHYA = 'network_module = "networks.lora_flux"\nnetwork_dim = 24\nmax_train_epochs = 10\nclip_skip = 2\nxformers = true\n'


@pytest.fixture
def studio(home):
    def call(*words: object):
        done = CliRunner().invoke(commands.app, [*map(str, words), "--home", str(home.root)])
        if isinstance(done.exception, StudioError):
            raise done.exception
        return done

    return call


def test_settings_of_another_trainer_are_printed_and_what_was_left_goes_aside(studio, tmp_path):
    (tmp_path / "ink.toml").write_text(KOHYA)
    done = studio("settings", tmp_path / "ink.toml")
    assert "lora.rank = 24" in done.stdout.splitlines() and "model.family = flux" in done.stdout.splitlines()
    assert "not taken: clip_skip = 2:" in done.stderr and "not needed: xformers = true:" in done.stderr
    assert done.stderr.index("clip_skip") < done.stderr.index("xformers")


def test_they_can_be_kept_and_trained_with(studio, workspace, tmp_path, monkeypatch):
    (tmp_path / "ink.toml").write_text(KOHYA)
    assert studio("settings", tmp_path / "ink.toml", "--save", "Ink, slow").stdout.splitlines()[-1] == "mine:ink-slow"
    assert "mine:ink-slow" in studio("show", "presets").stdout
    with pytest.raises(StudioError, match="--replace"):
        studio("settings", tmp_path / "ink.toml", "--save", "Ink, slow")
    studio("settings", tmp_path / "ink.toml", "--save", "Ink, slow", "--replace")
    dataset = Dataset.from_samples(workspace, "style")
    config = starting_points.build_config(workspace, dataset, "mine:ink-slow")
    # Epochs could not be counted without pictures, so the steps are suggested for these.
    assert (config.lora.rank, config.model.family, config.training.max_train_steps) == (24, "flux", 1200)


def test_a_training_takes_a_preset_of_ones_own_and_a_card(studio, workspace, monkeypatch):
    monkeypatch.setattr(worker, "ensure", lambda home: (_ for _ in ()).throw(StudioError("nobody is at work here")))
    dataset = Dataset.from_samples(workspace, "style")
    starting_points.save(workspace, "Ink", configs.for_dataset(dataset, "sdxl-style", "lora.rank=12"))
    with pytest.raises(StudioError, match="nobody is at work"):
        studio("train", dataset.id, "training.seed=3", "--preset", "mine:ink", "--memory", "8gb")
    (run,) = Run.all(workspace)
    assert (run.config.lora.rank, run.config.training.seed, run.config.runtime.quantisation) == (12, 3, "int8")
    with pytest.raises(StudioError, match="Choose one of 8gb"):
        studio("train", dataset.id, "--memory", "9gb")
    assert len(Run.all(workspace)) == 1


def test_a_runs_config_is_a_settings_file(studio, workspace):
    dataset = Dataset.from_samples(workspace, "character")
    run = create_run(workspace, configs.for_dataset(dataset, "", "lora.rank=6", "runtime.threads=3"), dataset)
    done = studio("settings", run.path / "config.json", "--save", "Again")
    kept = starting_points.find(workspace, "mine:again")
    assert "runtime.threads = 3: it is chosen again" in done.stderr
    assert kept.values["lora"]["rank"] == 6 and kept.subject == "character" and "trigger_word" not in json.dumps(kept.values)


def test_a_file_that_is_not_there_is_a_sentence(studio, tmp_path):
    with pytest.raises(StudioError, match="There is no file"):
        studio("settings", tmp_path / "gone.toml")
