"""Every optimizer, with and without EMA, ends in the same bytes after a resume in the middle."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from studio.config import TrainConfig, optimizers
from studio.config.runtime import ENGINE
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.devices.footprint import FILE_BYTES, Savings
from studio.training.optimizers import check_optimizer
from studio.training.parameters import TrainedParameters
from tests.tiny import footprint

OPTIMIZERS = [entry.name for entry in optimizers.OPTIMIZERS]


def model(dtype=torch.float32, shape=(4, 3)) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for name in ("unet.a", "unet.b", "text.a")}


def trained_parameters(optimizer="adamw", ema_decay=None, dtype=torch.float32, shape=(4, 3), engine=ENGINE, **settings) -> TrainedParameters:
    rate = 1.0 if optimizers.get(optimizer).finds_rate else 1e-2
    training = TrainingConfig(optimizer=optimizer, ema_decay=ema_decay, learning_rate=rate, **settings)
    return TrainedParameters(model(dtype, shape), training, engine, {"text.a"})


def train(parameters: TrainedParameters, first: int, last: int) -> None:
    for step in range(first, last):
        parameters.set_rate(parameters.training.learning_rate * (1 - step / 20))
        inputs = torch.randn(5, parameters.masters["unet.a"].shape[1], generator=torch.Generator().manual_seed(step))
        loss = sum((inputs.to(weight.dtype) @ weight.T).square().mean() for weight in parameters.working.values())
        loss.backward()
        parameters.accumulate()
        parameters.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("ema_decay", "engine"), [(None, ENGINE), (0.9, ENGINE), (0.9, 1)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resume_continues_to_the_same_bytes(optimizer, ema_decay, engine, dtype):
    uninterrupted = trained_parameters(optimizer, ema_decay, dtype, engine=engine)
    train(uninterrupted, 0, 8)
    interrupted = trained_parameters(optimizer, ema_decay, dtype, engine=engine)
    train(interrupted, 0, 4)
    tensors, facts = interrupted.state()
    tensors, facts = {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(facts))
    resumed = trained_parameters(optimizer, ema_decay, dtype, engine=engine)
    resumed.restore(tensors, facts)
    train(resumed, 4, 8)
    for name, expected in uninterrupted.adapter_weights().items():
        assert torch.equal(resumed.adapter_weights()[name], expected), name
    for name, weight in uninterrupted.working.items():
        assert torch.equal(resumed.working[name], weight), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_before_the_first_step_is_restored_over_later_steps(optimizer):
    """A capturable optimizer keeps its state tensors, set to zeros: that has to be what they are before the first step."""
    fresh = trained_parameters(optimizer)
    tensors, facts = fresh.state()
    tensors, facts = {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(facts))
    returned = trained_parameters(optimizer)
    train(returned, 0, 3)
    returned.restore(tensors, facts)
    train(fresh, 0, 4)
    train(returned, 0, 4)
    assert all(torch.equal(returned.masters[name], fresh.masters[name]) for name in fresh.masters)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_reading_the_adapter_weights_changes_nothing(optimizer):
    read, alone = trained_parameters(optimizer), trained_parameters(optimizer)
    for step in range(6):
        train(read, step, step + 1)
        read.adapter_weights()
        train(alone, step, step + 1)
    assert all(torch.equal(read.masters[name], alone.masters[name]) for name in alone.masters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_saved_weights_are_in_the_model_for_a_while_and_leave_no_trace(optimizer, ema_decay, dtype):
    visited, alone = (trained_parameters(optimizer, ema_decay, dtype) for _ in range(2))
    addresses = {name: weight.data_ptr() for name, weight in visited.working.items()}
    for step in range(4):
        train(visited, step, step + 1)
        train(alone, step, step + 1)
        with pytest.raises(KeyboardInterrupt), visited.saved_weights_in_model():
            expected = alone.adapter_weights()
            assert all(torch.equal(weight, expected[name].to(dtype)) for name, weight in visited.working.items())
            raise KeyboardInterrupt
        (tensors, facts), (untouched, same_facts) = visited.state(), alone.state()
        assert facts == same_facts and all(torch.equal(tensor, untouched[name]) for name, tensor in tensors.items())
        assert all(torch.equal(weight, alone.working[name]) for name, weight in visited.working.items())
    assert addresses == {name: weight.data_ptr() for name, weight in visited.working.items()}, "a CUDA graph reads them"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(optimizer, bad):
    parameters = trained_parameters(optimizer, ema_decay=0.9)
    train(parameters, 0, 3)
    before, _ = parameters.state()
    before = {name: tensor.clone() for name, tensor in before.items()}
    for weight in parameters.masters.values():
        weight.grad = torch.full_like(weight, bad)
    norm = parameters.step()
    assert not torch.isfinite(norm)
    after, _ = parameters.state()
    assert all(torch.equal(after[name], before[name]) for name in before)
    train(parameters, 3, 4)
    assert not torch.equal(parameters.masters["unet.a"], before["weight/unet.a"])


def test_master_weights_keep_updates_that_bfloat16_would_round_away():
    parameters = trained_parameters(dtype=torch.bfloat16, weight_decay=0.0)
    start = parameters.working["unet.a"].detach().clone()
    for _ in range(3):
        parameters.set_rate(1e-5)
        for weight in parameters.masters.values():
            weight.grad = torch.ones_like(weight)
        parameters.step()
    assert torch.equal(parameters.working["unet.a"], start) and not torch.equal(parameters.masters["unet.a"], start.float())


def averages(parameters: TrainedParameters, steps: int, decay) -> list[torch.Tensor]:
    """The EMA of one weight after each step, computed in float64 from the trained weights; `decay` gives that of each update, from 1."""
    average, found = parameters.adapter_weights()["unet.a"].double(), []
    for step in range(steps):
        train(parameters, step, step + 1)
        average = decay(step + 1) * average + (1 - decay(step + 1)) * parameters.masters["unet.a"].detach().double()
        found.append((average, parameters.adapter_weights()["unet.a"].double().clone()))
    return found


@pytest.mark.parametrize("ema_decay", [0.5, 0.99, 0.9999])
def test_the_decay_of_the_ema_warms_up(ema_decay):
    """min(decay, (1 + n) / (10 + n)): otherwise 0.9999 would save mostly the initial weights of a short run."""
    found = averages(trained_parameters(ema_decay=ema_decay), 18, lambda n: min(ema_decay, (1 + n) / (10 + n)))
    assert all(torch.allclose(expected, average, atol=1e-6) for expected, average in found)


def test_the_ema_of_a_run_of_the_first_engine_does_not_warm_up():
    parameters = trained_parameters(ema_decay=0.9, engine=1)
    assert all(torch.allclose(expected, average, atol=1e-6) for expected, average in averages(parameters, 18, lambda n: 0.9))
    assert "ema_updates" not in parameters.state()[0], "its checkpoints stay what they were"


def test_a_skipped_step_does_not_advance_the_warm_up():
    skips, plain = trained_parameters(ema_decay=0.99), trained_parameters(ema_decay=0.99)
    for step in range(4):
        train(plain, step, step + 1)
        for weight in skips.masters.values():
            weight.grad = torch.full_like(weight, float("nan"))
        skips.step()
        train(skips, step, step + 1)
    assert all(torch.equal(skips.ema[name], plain.ema[name]) for name in plain.ema)


@pytest.mark.parametrize("engine", [1, ENGINE])
def test_the_ema_is_updated_without_reading_from_the_device(engine):
    """A CUDA graph can contain it. Reading a tensor of the meta device raises."""
    working = {"unet.a": nn.Parameter(torch.empty(4, 3, device="meta"))}
    parameters = TrainedParameters(working, TrainingConfig(optimizer="lion", ema_decay=0.9), engine)
    parameters._update_ema(torch.empty((), device="meta", dtype=torch.bool))


def test_text_encoders_have_a_learning_rate_of_their_own():
    parameters = trained_parameters(text_encoder_learning_rate=1e-3)
    parameters.set_rate(1e-2)
    assert [round(float(group["lr"]), 6) for group in parameters.optimizer.param_groups] == [1e-2, 1e-3]
    assert [group["share"] for group in trained_parameters().optimizer.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=OPTIMIZERS)
def test_an_optimizer_that_finds_the_rate_reports_it(entry):
    parameters = trained_parameters(entry.name)
    found = []
    for step in range(6):
        train(parameters, step, step + 1)
        found.append(parameters.effective_rate)
    if not entry.finds_rate:
        assert found == [None] * 6
        return
    optimizer, resumed = parameters.optimizer, trained_parameters(entry.name)
    if entry.rate_factor:
        rates = [group["lr"] * group[entry.rate_factor] for group in optimizer.param_groups for _ in group["params"]]
    else:
        rates = [float(optimizer._get_lr(group, optimizer.state[weight])) for group in optimizer.param_groups for weight in group["params"]]
    assert found[-1].item() == pytest.approx(sum(rates) / len(rates)) and found[0] != found[-1]
    tensors, facts = parameters.state()
    resumed.restore({name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(facts)))
    assert resumed.effective_rate.item() == found[-1].item()


def test_gradients_are_accumulated_in_float32():
    parameters = trained_parameters(dtype=torch.bfloat16)
    for _ in range(300):
        for weight in parameters.working.values():
            weight.grad = torch.full_like(weight, 1.0)
        parameters.accumulate()
    assert parameters.masters["unet.a"].grad.unique().tolist() == [300.0]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    missing = dataclasses.replace(optimizers.get("adamw"), name="missing", package="not-here", class_path="not_here.optim:Missing")
    monkeypatch.setattr(optimizers, "OPTIMIZERS", (*optimizers.OPTIMIZERS, missing))
    with pytest.raises(StudioError, match="optimizer missing needs the package not-here.*Run: pip install not-here. Or choose adamw"):
        trained_parameters("missing")


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=OPTIMIZERS)
def test_the_optimizer_state_has_as_many_bytes_per_parameter_as_its_entry_declares(entry):
    parameters = trained_parameters(entry.name, shape=(16, 768))
    train(parameters, 0, 2)
    state = sum(tensor.nbytes for name, tensor in parameters.state()[0].items() if name.startswith("optimizer/"))
    measured = state / sum(weight.numel() for weight in parameters.masters.values())
    assert measured == pytest.approx(entry.state_bytes, rel=0.05)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=OPTIMIZERS)
def test_the_memory_plan_counts_what_the_optimizer_really_holds(entry, ema_decay):
    """Within 5 %: step counters, and the scales of the blocks of an 8-bit state."""
    parameters = trained_parameters(entry.name, ema_decay, shape=(16, 768))
    train(parameters, 0, 1)
    masters = parameters.masters.values()
    held = sum(tensor.nbytes for tensor in parameters.state()[0].values()) + sum(torch.zeros_like(weight).nbytes for weight in masters)
    count = sum(weight.numel() for weight in masters)
    config = TrainConfig(training=parameters.training)
    with_lora, without = (footprint(adapter_parameters=number).plan(config, Savings()).step for number in (count, 0))
    working_copies = count * FILE_BYTES["bfloat16"]
    assert with_lora - without - working_copies == pytest.approx(held, rel=0.05)


@pytest.mark.parametrize("entry", [entry for entry in optimizers.OPTIMIZERS if entry.finds_rate], ids=lambda entry: entry.name)
def test_an_optimizer_that_finds_one_rate_refuses_another_for_text_encoders(entry):
    with pytest.raises(StudioError, match=f"{entry.title} finds one learning rate.*0.001.*Leave"):
        check_optimizer(TrainingConfig(optimizer=entry.name, text_encoder_learning_rate=1e-3))
    assert [group["share"] for group in trained_parameters(entry.name).optimizer.param_groups] == [1.0, 1.0]


@pytest.mark.parametrize("entry", [entry for entry in optimizers.OPTIMIZERS if entry.excludes_schedule], ids=lambda entry: entry.name)
@pytest.mark.parametrize("setting", [{"lr_scheduler": "linear"}, {"lr_warmup_steps": 5}], ids=str)
def test_an_optimizer_that_reads_no_rate_refuses_a_schedule(entry, setting):
    check_optimizer(TrainingConfig(optimizer=entry.name))
    with pytest.raises(StudioError, match=f"{entry.title} never reads the learning rate.*Set the schedule to constant and the warm-up steps to 0"):
        check_optimizer(TrainingConfig(optimizer=entry.name, **setting))
