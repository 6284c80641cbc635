"""Loss plot: never more than 500 points, the last one always among them, honest about its start."""

import pytest

from studio.ui.components import loss_plot


@pytest.mark.parametrize("count", [1, 499, 500, 501, 5000, 99_999])
def test_a_long_curve_is_thinned_and_keeps_its_end(count):
    points = [(step, 1.0) for step in range(count)]
    kept = loss_plot.thin(points)
    assert len(kept) <= loss_plot.MAX_POINTS
    assert kept[-1] == points[-1]


def test_smoothing_starts_at_the_first_value_and_follows_a_constant():
    assert loss_plot.smooth([3.0]) == pytest.approx([3.0])
    assert loss_plot.smooth([2.0] * 50) == pytest.approx([2.0] * 50)


def test_too_few_steps_give_no_plot():
    assert loss_plot.loss([{"step": 1, "loss": 1.0}], 100) == ""


def test_the_plot_has_a_text_description():
    curve = [{"step": step, "loss": 1 / step} for step in range(1, 60)]
    plot = loss_plot.loss(curve, 100)
    assert plot.startswith("<svg") and 'role="img"' in plot and "at step 59" in plot


def test_a_loss_of_zero_does_not_divide_by_zero():
    assert "<svg" in loss_plot.loss([{"step": step, "loss": 0.0} for step in range(1, 10)], 10)


def curve(height: float, steps: int = 60) -> list[dict]:
    return [{"step": step, "loss": height + 1 / step} for step in range(1, steps)]


def test_each_of_several_curves_has_its_number_at_its_end_and_its_title_in_words():
    plot = loss_plot.overlaid(
        [loss_plot.Line("<Ink>", curve(0.1)), loss_plot.Line("Fox", curve(0.2), [{"step": 30, "loss": 0.3}]), loss_plot.Line("New", [])]
    )
    assert 'path class="c1"' in plot and '<text class="c2"' in plot and 'path class="c2 validation"' in plot and "c3" not in plot
    assert "1, &lt;Ink&gt;: " in plot and "2, Fox: " in plot
    assert loss_plot.overlaid([loss_plot.Line("New", curve(0.1, 2))]) == ""


def test_the_numbers_of_the_lines_do_not_overlap_and_stay_inside_the_plot():
    placed = loss_plot.spread({1: 140.0, 2: 141.0, 3: 30.0, 4: 141.5})
    heights = sorted(placed.values())
    assert (
        all(after - before >= loss_plot.LABEL_HEIGHT - 1e-9 for before, after in zip(heights, heights[1:]))
        and heights[-1] <= loss_plot.HEIGHT - loss_plot.BOTTOM
    )
    assert sorted(placed, key=placed.get) == [3, 1, 2, 4]


def test_an_outlier_does_not_flatten_all_curves():
    outlier = curve(0.1, 300)
    outlier[0]["loss"] = 500.0
    assert float(loss_plot.overlaid([loss_plot.Line("Ink", outlier)]).split('text-anchor="end">')[3].split("<")[0]) < 100


def test_identical_flat_curves_can_be_plotted():
    flat = [{"step": step, "loss": 0.0} for step in range(10)]
    assert "nan" not in loss_plot.overlaid([loss_plot.Line("a", flat), loss_plot.Line("b", flat)])
