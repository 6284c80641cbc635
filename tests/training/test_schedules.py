"""Learning-rate schedules against diffusers' own and against values computed by hand."""

import dataclasses

import pytest
import torch
from diffusers.optimization import get_scheduler

from studio.config import schedules
from studio.config.extension import warmup_steps
from studio.config.schedules import SCHEDULES
from studio.config.training import TrainingConfig
from studio.training.loop import learning_rate

NAMES = [schedule.name for schedule in SCHEDULES]


def rates(name: str, steps=12, warmup=2, **settings) -> list[float]:
    training = TrainingConfig(lr_scheduler=name, max_train_steps=steps, lr_warmup_steps=warmup, learning_rate=1.0, **settings)
    return [learning_rate(training, step) for step in range(steps + 1)]


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("options", [(1, 1.0), (3, 2.0), (4, 0.5)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_after_warm_up_every_learning_rate_equals_that_of_diffusers(name, options, warmup):
    cycles, power = options
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=12, num_cycles=cycles, power=power)
    ours = rates(name, warmup=warmup, lr_num_cycles=cycles, lr_power=power)
    for step, rate in enumerate(ours):
        if step >= warmup:
            # Its polynomial ends at 1e-7 and not at zero.
            assert theirs.get_last_lr()[0] == pytest.approx(rate, abs=1.1e-7), step
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("name", "settings", "by_hand"),
    [
        ("constant", {}, [1, 1, 1, 1, 1]),
        ("cosine", {}, [1, 0.853553, 0.5, 0.146447, 0]),
        ("linear", {}, [1, 0.75, 0.5, 0.25, 0]),
        ("cosine_with_restarts", {}, [1, 0.853553, 0.5, 0.146447, 0]),
        ("cosine_with_restarts", {"lr_num_cycles": 2}, [1, 0.5, 1, 0.5, 0]),
        ("polynomial", {}, [1, 0.75, 0.5, 0.25, 0]),
        ("polynomial", {"lr_power": 2.0}, [1, 0.5625, 0.25, 0.0625, 0]),
        ("polynomial", {"lr_power": 0.5}, [1, 0.866025, 0.707107, 0.5, 0]),
    ],
)
def test_learning_rates_equal_values_computed_by_hand(name, settings, by_hand):
    assert rates(name, steps=4, warmup=0, **settings) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_warm_up_is_linear_up_to_the_learning_rate(name):
    assert rates(name)[:3] == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_schedule_is_one_entry(monkeypatch):
    sudden = dataclasses.replace(schedules.get("constant"), name="sudden", factor=lambda progress, cycles, power: float(progress < 0.5))
    monkeypatch.setattr(schedules, "SCHEDULES", (*SCHEDULES, sudden))
    assert rates("sudden", steps=4, warmup=0) == [1, 1, 0, 0, 0]


def extended(training: TrainingConfig, more: int, schedule: str, warmup: int = 0) -> TrainingConfig:
    entry = {"from_step": training.max_train_steps, "schedule": schedule, "lr_warmup_steps": warmup}
    extensions = [*(each.model_dump() for each in training.extensions), entry]
    return TrainingConfig(**{**training.model_dump(), "max_train_steps": training.max_train_steps + more, "extensions": extensions})


def every_rate(training: TrainingConfig) -> list[float]:
    return [learning_rate(training, step) for step in range(training.max_train_steps)]


@pytest.mark.parametrize("name", NAMES)
def test_an_extended_run_keeps_its_last_rate_and_the_rates_before(name):
    first = TrainingConfig(lr_scheduler=name, max_train_steps=10, lr_warmup_steps=2, learning_rate=1.0)
    longer = extended(first, 10, "keep")
    assert every_rate(longer)[:10] == every_rate(first) and set(every_rate(longer)[10:]) == {every_rate(first)[-1]}


@pytest.mark.parametrize("name", NAMES)
def test_a_new_schedule_starts_with_a_warm_up_from_the_last_rate(name):
    first = TrainingConfig(lr_scheduler=name, max_train_steps=100, learning_rate=1.0)
    longer = every_rate(extended(first, 40, "new", warmup=4))
    last, added = longer[99], longer[100:]
    assert longer[:100] == every_rate(first)
    assert added[:4] == pytest.approx([last + (1 - last) * part / 5 for part in (1, 2, 3, 4)])
    alone = TrainingConfig(lr_scheduler=name, max_train_steps=36, learning_rate=1.0)
    assert added[4:] == pytest.approx(every_rate(alone))
    assert max(after - before for before, after in zip(longer[99:], longer[100:])) <= 1 / 5 + 1e-9, "no jump up"


def test_several_extensions_follow_one_another():
    first = TrainingConfig(lr_scheduler="linear", max_train_steps=10, learning_rate=1.0)
    second = extended(first, 10, "new", warmup=2)
    third = extended(extended(second, 5, "keep"), 5, "new", warmup=1)
    rates = every_rate(third)
    assert rates[:20] == every_rate(second) and rates[20:25] == [rates[19]] * 5 and rates[20] < rates[25] < rates[26] == 1.0


def test_a_run_that_an_older_version_extended_keeps_its_stretched_schedule():
    stretched = TrainingConfig(lr_scheduler="cosine", max_train_steps=20, learning_rate=1.0)
    assert learning_rate(stretched, 10) == pytest.approx(0.5)
    longer = extended(stretched, 10, "keep")
    assert every_rate(longer)[:20] == every_rate(stretched) and set(every_rate(longer)[20:]) == {every_rate(stretched)[-1]}


@pytest.mark.parametrize(
    ("name", "steps", "suggested"),
    [("constant", 1500, "keep"), ("cosine", 10, "keep"), ("cosine", 1500, "new"), ("linear", 50, "keep"), ("linear", 1500, "new")],
)
def test_a_new_schedule_is_suggested_where_the_last_rate_is_nearly_zero(name, steps, suggested):
    assert schedules.suggested_extension(TrainingConfig(lr_scheduler=name, max_train_steps=steps)) == suggested


@pytest.mark.parametrize(("run_warmup", "added", "steps"), [(0, 500, 25), (100, 500, 100), (0, 10, 1), (0, 1, 1), (400, 500, 250), (5, 3, 1)])
def test_the_warm_up_of_a_new_schedule_is_that_of_the_run_or_a_twentieth(run_warmup, added, steps):
    assert warmup_steps(run_warmup, added) == steps
