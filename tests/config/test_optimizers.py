"""What the optimizers' entries say about a learning rate."""

import pytest

from studio.config import optimizers
from studio.config.training import TrainingConfig


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_a_learning_rate_that_an_optimizer_multiplies_is_noted_unless_it_is_near_one(entry):
    usual = TrainingConfig().learning_rate
    note = optimizers.rate_note(entry.name, usual)
    assert bool(note) == bool(entry.rate_factor)
    if note:
        assert note.startswith(f"{entry.title} multiplies the learning rate that it finds by the configured one, 0.0001; 1 is usual.")
        assert note.endswith("Set the learning rate to 1.")
    assert not any(optimizers.rate_note(entry.name, rate) for rate in (0.1, 0.5, 1.0))


def test_some_optimizers_multiply_the_configured_rate():
    assert [entry.name for entry in optimizers.OPTIMIZERS if entry.rate_factor] == ["prodigy"]
    assert all(entry.finds_rate and not entry.excludes_schedule for entry in optimizers.OPTIMIZERS if entry.rate_factor)
