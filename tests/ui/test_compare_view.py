"""Runs beside each other on the page: one number and colour a run in all three parts, and honest words where things differ."""

from studio.ui.components import compare_view
from tests.trained import finished_run


def test_table_curves_and_samples_speak_of_the_same_runs(workspace):
    runs = [finished_run(workspace, f"lora.rank={rank}", title=f"<Ink> {rank}") for rank in (8, 32)]
    for run in runs:
        for step in range(100):
            run.append({"kind": "step", "step": step, "loss": 1 / (step + run.config.lora.rank), "seconds_per_step": 0.1})
    for part in (compare_view.table(runs), compare_view.curves(runs), compare_view.samples(runs, 100)):
        assert '<i class="mark c1">1</i> &lt;Ink&gt; 8' in part and '<i class="mark c2">2</i> &lt;Ink&gt; 32' in part
    assert "LoRA rank<small>lora.rank</small>" in compare_view.table(runs)
    drawn = compare_view.samples(runs, 100)
    assert drawn.count("<img") == 6 and f"sample/{runs[1].id}/100/2" in drawn and "All from the seed" in drawn


def test_other_seeds_are_said(workspace):
    runs = [finished_run(workspace, f"samples.seed={seed}") for seed in (7, 9)]
    assert "Their seeds differ (1: 7, 2: 9)" in compare_view.samples(runs, 100)


def test_the_furthest_step_that_all_have_comes_first_and_the_last_of_each_is_offered(workspace):
    same = [finished_run(workspace, steps=(100, 200)) for _ in range(2)]
    assert compare_view.steps(same) == [("step 200", 200), ("step 100", 100), ("base", 0)]
    other = [same[0], finished_run(workspace, steps=(100, 300))]
    assert [step for _, step in compare_view.steps(other)] == [100, 0, compare_view.LAST]
    apart = [same[0], finished_run(workspace, steps=(150, 300))]
    assert [step for _, step in compare_view.steps(apart)] == [compare_view.LAST, 0], "the base alone says nothing of what was learnt"
    drawn = compare_view.samples(apart, compare_view.LAST)
    assert f"sample/{apart[0].id}/200/0" in drawn and f"sample/{apart[1].id}/300/0" in drawn


def test_what_cannot_be_compared_is_a_sentence(workspace):
    runs = [finished_run(workspace, f'samples.prompts=["{prompt}"]') for prompt in ("a cat", "a dog")]
    assert "no two pictures can be compared" in compare_view.samples(runs, 100)
    assert "no step in common" in compare_view.samples(runs, None)
    assert compare_view.table([runs[0], runs[0]]) == '<div class="small">All settings and pictures are the same.</div>'
    assert "None of them has learnt enough yet" in compare_view.curves(runs)


def test_pictures_held_back_are_in_the_drawing_and_explained(workspace):
    runs = [finished_run(workspace) for _ in range(2)]
    for step in range(60):
        runs[0].append({"kind": "step", "step": step, "loss": 0.5, "seconds_per_step": 0.1})
    assert "held back" not in compare_view.curves(runs)
    runs[0].append({"kind": "validation", "step": 20, "loss": 0.4})
    assert 'class="c1 held"' in compare_view.curves(runs) and "Dashed: the pictures held back" in compare_view.curves(runs)
