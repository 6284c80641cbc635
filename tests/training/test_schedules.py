"""Learning-rate schedules against diffusers' own and against values computed by hand."""

import dataclasses

import pytest
import torch
from diffusers.optimization import get_scheduler

from studio.config import schedules
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
