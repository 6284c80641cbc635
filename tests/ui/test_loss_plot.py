"""The loss drawing: never more than 500 points, the last one always among them, honest about its start."""

import pytest

from studio.ui.components import loss_plot


@pytest.mark.parametrize("count", [1, 499, 500, 501, 5000, 99_999])
def test_a_long_curve_is_thinned_and_keeps_its_end(count):
    points = [(step, 1.0) for step in range(count)]
    kept = loss_plot.thin(points)
    assert len(kept) <= loss_plot.MOST_POINTS
    assert kept[-1] == points[-1]


def test_smoothing_starts_at_the_first_value_and_follows_a_constant():
    assert loss_plot.smooth([3.0]) == pytest.approx([3.0])
    assert loss_plot.smooth([2.0] * 50) == pytest.approx([2.0] * 50)


def test_too_few_steps_draw_nothing():
    assert loss_plot.loss([{"step": 1, "loss": 1.0}], 100) == ""


def test_the_drawing_says_in_words_what_it_shows():
    curve = [{"step": step, "loss": 1 / step} for step in range(1, 60)]
    drawing = loss_plot.loss(curve, 100)
    assert drawing.startswith("<svg") and 'role="img"' in drawing and "at step 59" in drawing


def test_a_loss_of_zero_does_not_divide_by_zero():
    assert "<svg" in loss_plot.loss([{"step": step, "loss": 0.0} for step in range(1, 10)], 10)


def curve(height: float, steps: int = 60) -> list[dict]:
    return [{"step": step, "loss": height + 1 / step} for step in range(1, steps)]


def test_each_of_several_curves_has_its_number_at_its_end_and_its_title_in_words():
    drawing = loss_plot.overlaid(
        [loss_plot.Line("<Ink>", curve(0.1)), loss_plot.Line("Fox", curve(0.2), [{"step": 30, "loss": 0.3}]), loss_plot.Line("New", [])]
    )
    assert 'path class="c1"' in drawing and '<text class="c2"' in drawing and 'path class="c2 held"' in drawing and "c3" not in drawing
    assert "1, &lt;Ink&gt;: " in drawing and "2, Fox: " in drawing
    assert loss_plot.overlaid([loss_plot.Line("New", curve(0.1, 2))]) == ""


def test_numbers_at_the_ends_do_not_lie_on_each_other_and_stay_on_the_drawing():
    placed = loss_plot.apart({1: 140.0, 2: 141.0, 3: 30.0, 4: 141.5})
    heights = sorted(placed.values())
    assert (
        all(after - before >= loss_plot.LETTER - 1e-9 for before, after in zip(heights, heights[1:]))
        and heights[-1] <= loss_plot.HEIGHT - loss_plot.BOTTOM
    )
    assert sorted(placed, key=placed.get) == [3, 1, 2, 4]


def test_one_wild_step_does_not_press_all_curves_to_the_floor():
    wild = curve(0.1, 300)
    wild[0]["loss"] = 500.0
    assert float(loss_plot.overlaid([loss_plot.Line("Ink", wild)]).split('text-anchor="end">')[3].split("<")[0]) < 100


def test_curves_that_lie_flat_on_each_other_can_be_drawn():
    flat = [{"step": step, "loss": 0.0} for step in range(10)]
    assert "nan" not in loss_plot.overlaid([loss_plot.Line("a", flat), loss_plot.Line("b", flat)])
