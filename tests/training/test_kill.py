import sys

import pytest

from studio.benchmark.kill import CHECKPOINT_EVERY, Bench, run_kills
from studio.config import optimizers
from studio.training import loop
from tests.tiny import optimizer_settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def test_killed_anywhere_and_resumed_the_bytes_are_the_same(tmp_path):
    bench, outcomes = run_kills(10, tmp_path, quiet=True)
    assert bench.points > 100
    assert sum(outcome.kills for outcome in outcomes) >= 8
    assert [(outcome.how, outcome.reason) for outcome in outcomes if not outcome.identical] == []
    assert max(outcome.lost_steps for outcome in outcomes) <= CHECKPOINT_EVERY


@pytest.mark.parametrize("entry", optimizers.OPTIMIZERS, ids=lambda entry: entry.name)
def test_with_every_optimizer_a_killed_run_ends_in_the_same_bytes(entry, tmp_path):
    schedule = ["training.lr_scheduler=constant", "training.lr_warmup_steps=0"] if entry.excludes_schedule else []
    bench = Bench(tmp_path, *optimizer_settings(entry), *schedule, "training.ema_decay=none", "samples.prompts=[]")
    outcome = bench.kill_at_point(bench.points * 3 // 5)
    assert (outcome.kills, outcome.identical, outcome.reason) == (1, True, "")


def test_a_resume_without_the_optimizer_state_is_detected(tmp_path, monkeypatch):
    original = loop.restore

    def forgetful(run, parameters):
        step = original(run, parameters)
        parameters.optimizer.state.clear()
        return step

    # Children are forked, so they train with this one.
    monkeypatch.setattr(loop, "restore", forgetful)
    bench = Bench(tmp_path)
    outcome = bench.kill_at_point(bench.points * 3 // 5)
    assert (outcome.kills, outcome.identical, outcome.reason) == (1, False, "different bytes")
