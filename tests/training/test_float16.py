"""Training in float16 with loss scaling. A CPU computes in float16 too, slowly."""

import pytest
import torch

from studio import families
from studio.benchmark.models import save_tiny
from studio.config import optimizers
from studio.config.training import TrainingConfig
from studio.devices import runtime
from studio.families.loading import part_dtypes
from studio.runs.run import Run
from studio.training import loop
from studio.training.checkpoints import Disk
from studio.training.loss_scaling import FIRST_SCALE
from studio.training.parameters import TrainedParameters
from studio.training.step import TrainingStep
from tests.tiny import tiny_base, tiny_run  # noqa: F401 - fixtures

SHORT = (
    "training.max_train_steps=8",
    "saving.checkpoint_every=4",
    "samples.every=8",
    "samples.num_inference_steps=1",
    "samples.resolution=64",
    "runtime.dtype=float16",
)


def parameters(optimizer="adamw") -> TrainedParameters:
    weights = torch.linspace(-1, 1, 64).view(8, 8).half()
    return TrainedParameters({"unet.a.lora_A.weight": torch.nn.Parameter(weights)}, TrainingConfig(optimizer=optimizer, max_grad_norm=1000), 2)


def backward(trained: TrainedParameters, slope: float) -> None:
    (weight,) = trained.working.values()
    trained.scaled(slope * weight.float().sum()).backward()
    trained.accumulate()


def test_gradients_too_small_for_float16_are_kept():
    trained = parameters()
    backward(trained, 1e-8)
    assert trained.step().item() == pytest.approx(8e-8, rel=1e-3)


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_step_that_overflows_changes_nothing_but_the_scale(entry):
    trained = parameters(entry.name)
    backward(trained, 0.5)
    trained.step()
    before = {name: tensor.clone() for name, tensor in trained.state()[0].items() if not name.startswith("loss_scale")}
    backward(trained, 10.0)
    assert not torch.isfinite(trained.step())
    assert trained.scaler.scale == FIRST_SCALE / 2 and trained.scaler.good_steps == 0
    after = trained.state()[0]
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    backward(trained, 0.5)
    assert torch.isfinite(trained.step()) and trained.scaler.good_steps == 1


def test_the_scale_is_part_of_the_resume_state():
    trained = parameters()
    backward(trained, 10.0)
    trained.step()
    other = parameters()
    tensors, facts = trained.state()
    other.restore({name: tensor.clone() for name, tensor in tensors.items()}, facts)
    assert other.scaler.scale == FIRST_SCALE / 2
    assert parameters("adamw").scaler is not None
    wide = TrainedParameters({"unet.a.lora_A.weight": torch.nn.Parameter(torch.ones(4, 4))}, TrainingConfig(), 2)
    assert wide.scaler is None and not any(name.startswith("loss_scale") for name in wide.state()[0])


@pytest.mark.parametrize("family", [families.get(name) for name in ("stable-diffusion", "sd3", "flux")], ids=lambda family: family.name)
def test_a_stopped_run_in_float16_ends_in_the_same_bytes(family, workspace, tmp_path, monkeypatch):
    base = families.resolve_base(str(save_tiny(family, tmp_path / "m")))

    def trained(stop_at: int | None) -> Run:
        run = tiny_run(workspace, base, *SHORT)
        original = TrainingStep.__call__

        def stopping(self, step, *arguments, **more):
            if step == stop_at:
                run.request_stop()
            return original(self, step, *arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingStep, "__call__", stopping)
            loop.train(run, Disk())
        if run.state == "stopped":
            loop.train(run, Disk())
        return run

    whole, stopped = trained(None), trained(5)
    assert whole.config.runtime.dtype == "float16" and len(whole.curve()) == 8
    assert whole.adapter_at(8).read_bytes() == stopped.adapter_at(8).read_bytes()


def test_skipped_steps_are_counted_and_too_many_end_the_run(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = tiny_run(workspace, tiny_base, *SHORT, "samples.prompts=[]")
    # A scale so large that the first steps overflow.
    monkeypatch.setattr("studio.training.loss_scaling.FIRST_SCALE", 2.0**30)
    loop.train(run, Disk())
    skipped = [event["step"] for event in run.curve("skipped")]
    assert skipped and skipped == list(range(1, len(skipped) + 1)) and len(skipped) + len(run.curve()) == 8

    hopeless = tiny_run(workspace, tiny_base, *SHORT, "samples.prompts=[]")
    monkeypatch.setattr("studio.training.loss_scaling.FIRST_SCALE", 2.0**100)
    monkeypatch.setattr("studio.training.metrics.MAX_SKIPPED", 3)
    with pytest.raises(loop.NotFinite, match="Training diverged at step 4.*precision float32") as raised:
        loop.train(hopeless, Disk())
    assert raised.value.retry == {"title": "precision float32", "set": {"runtime.dtype": "float32"}}


def test_text_encoders_that_overflow_in_float16_stay_in_float32():
    for name, wide in {
        "stable-diffusion": (),
        "sdxl": (),
        "flux": ("text_encoder_2",),
        "sd3": ("text_encoder_3",),
        "qwen-image": ("text_encoder",),
    }.items():
        assert part_dtypes(families.get(name), torch.float16) == {"default": torch.float16} | dict.fromkeys(wide, torch.float32)
        assert part_dtypes(families.get(name), torch.bfloat16) == {"default": torch.bfloat16}


@pytest.mark.parametrize(
    ("capability", "float16", "dtype", "words"),
    [
        ((9, 0), True, "bfloat16", ""),
        ((8, 0), False, "bfloat16", ""),
        ((7, 5), True, "float16", "Precision: float16 with loss scaling, because Old GPU has no bfloat16 units."),
        ((7, 5), False, "float32", "Precision: float32, because Old GPU has no bfloat16 units, and this family exceeds the range of float16."),
        ((6, 1), True, "float32", "Precision: float32, because Old GPU has no bfloat16 units, and float16 is slow on it."),
    ],
)
def test_the_precision_follows_the_units_of_the_gpu(capability, float16, dtype, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    # torch emulates bfloat16 there and says that it is supported.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert runtime.precision("cuda", 10**9, float16) == (dtype, words)
