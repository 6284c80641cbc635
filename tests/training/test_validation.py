"""The validation loss is that of the adapter file, and measuring it changes nothing."""

import shutil

import pytest
import torch

from studio.runs.run import Run
from studio.training import loop
from studio.training.batches import Batch
from studio.training.checkpoints import Disk
from studio.training.loop import train
from studio.training.step import TrainingStep
from studio.training.validation import Validation
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures

# alpha equals the rank, so the factor in the file is 1.
SHORT = ("lora.alpha=4", "training.max_train_steps=12", "samples.prompts=[]", "saving.checkpoint_every=4", "validation.pictures=2")
SAVED = {
    "last weights": [],
    "EMA": ["training.ema_decay=0.99"],
    "schedule-free": ["training.optimizer=schedulefree"],
    "EMA of schedule-free": ["training.optimizer=schedulefree", "training.ema_decay=0.99"],
    "EMA in bfloat16": ["training.ema_decay=0.99", "runtime.dtype=bfloat16"],
    "EMA with a trained text encoder": ["training.ema_decay=0.99", "lora.text_encoder=true", "lora.dropout=0.3"],
}


def finished(run: Run) -> Run:
    train(run, Disk())
    assert run.state == "finished"
    return run


@pytest.mark.parametrize("settings", SAVED.values(), ids=SAVED)
def test_the_loss_is_that_of_the_saved_file(settings, workspace, tiny_base):  # noqa: F811
    run = finished(tiny_run(workspace, tiny_base, *SHORT, *settings, "training.learning_rate=2e-2", "validation.every=12"))
    # A run that begins with the file and hardly changes it.
    still = ["training.max_train_steps=1", "training.learning_rate=1e-12", "training.weight_decay=0", "validation.every=1"]
    kept = [setting for setting in settings if setting.startswith(("runtime.", "lora.text"))]
    again = tiny_run(workspace, tiny_base, *SHORT, *kept, *still)
    shutil.copy(run.latest_adapter(), again.start_file)
    (measured,), (expected,) = run.curve("validation"), finished(again).curve("validation")
    assert measured["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("settings", SAVED.values(), ids=SAVED)
def test_a_run_that_is_validated_ends_in_the_same_bytes_as_one_that_is_not(settings, workspace, tiny_base, monkeypatch):  # noqa: F811
    validated, plain = (tiny_run(workspace, tiny_base, *SHORT, *settings, "validation.every=1") for _ in range(2))
    finished(validated)
    monkeypatch.setattr(Validation, "loss", lambda self: 0.0)
    finished(plain)
    assert len(validated.curve("validation")) == len(plain.curve("validation")) == 12
    assert validated.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()
    states = [sorted(run.checkpoints_dir.rglob("state.safetensors")) for run in (validated, plain)]
    assert [path.read_bytes() for path in states[0]] == [path.read_bytes() for path in states[1]]


def test_every_trained_model_is_validated_without_dropout(workspace, tiny_base, monkeypatch):  # noqa: F811
    modes, original = [], TrainingStep.inputs

    def watched(self, batch: Batch, execution: str = "eager"):
        modes.append((torch.is_grad_enabled(), *(self.pipeline.components[part].training for part in ("unet", "text_encoder"))))
        return original(self, batch, execution)

    monkeypatch.setattr(loop.TrainingStep, "inputs", watched)
    finished(tiny_run(workspace, tiny_base, *SHORT, "lora.text_encoder=true", "validation.every=6"))
    assert set(modes) == {(True, True, True), (False, False, False)}
