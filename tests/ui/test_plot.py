"""The loss drawing: never more than 500 points, the last one always among them, honest about its start."""

import pytest

from studio.ui import plot


@pytest.mark.parametrize("count", [1, 499, 500, 501, 5000, 99_999])
def test_a_long_curve_is_thinned_and_keeps_its_end(count):
    points = [(step, 1.0) for step in range(count)]
    kept = plot.thin(points)
    assert len(kept) <= plot.MOST_POINTS
    assert kept[-1] == points[-1]


def test_smoothing_starts_at_the_first_value_and_follows_a_constant():
    assert plot.smooth([3.0]) == pytest.approx([3.0])
    assert plot.smooth([2.0] * 50) == pytest.approx([2.0] * 50)


def test_too_few_steps_draw_nothing():
    assert plot.loss([{"step": 1, "loss": 1.0}], 100) == ""


def test_the_drawing_says_in_words_what_it_shows():
    curve = [{"step": step, "loss": 1 / step} for step in range(1, 60)]
    drawing = plot.loss(curve, 100)
    assert drawing.startswith("<svg") and 'role="img"' in drawing and "at step 59" in drawing


def test_a_loss_of_zero_does_not_divide_by_zero():
    assert "<svg" in plot.loss([{"step": step, "loss": 0.0} for step in range(1, 10)], 10)
