"""Comparison of runs: one number and colour per run in all three parts, and a note where seeds, steps or prompts differ."""

import shutil

from studio.ui.components import compare_view
from tests.trained import finished_run


def test_table_curves_and_samples_number_the_runs_alike(workspace):
    runs = [finished_run(workspace, f"lora.rank={rank}", title=f"<Ink> {rank}") for rank in (8, 32)]
    for run in runs:
        for step in range(100):
            run.append({"kind": "step", "step": step, "loss": 1 / (step + run.config.lora.rank), "seconds_per_step": 0.1})
    for part in (compare_view.table(runs), compare_view.curves(runs), compare_view.samples(runs, 100)):
        assert '<i class="mark c1">1</i> &lt;Ink&gt; 8' in part and '<i class="mark c2">2</i> &lt;Ink&gt; 32' in part
    assert "Rank<small>lora.rank</small>" in compare_view.table(runs)
    shown = compare_view.samples(runs, 100)
    assert shown.count("<img") == 6 and f"sample/{runs[1].id}/100/2" in shown and "All use the seed" in shown


def test_differing_seeds_are_reported(workspace):
    runs = [finished_run(workspace, f"samples.seed={seed}") for seed in (7, 9)]
    assert "The seeds differ (1: 7, 2: 9)" in compare_view.samples(runs, 100)


def test_the_last_common_step_comes_first_and_the_last_of_each_is_offered(workspace):
    same = [finished_run(workspace, steps=(100, 200)) for _ in range(2)]
    assert compare_view.steps(same) == [("step 200", 200), ("step 100", 100), ("base", 0)]
    other = [same[0], finished_run(workspace, steps=(100, 300))]
    assert [step for _, step in compare_view.steps(other)] == [100, 0, compare_view.LAST]
    apart = [same[0], finished_run(workspace, steps=(150, 300))]
    assert [step for _, step in compare_view.steps(apart)] == [compare_view.LAST, 0], "the base alone shows nothing that was trained"
    shown = compare_view.samples(apart, compare_view.LAST)
    assert f"sample/{apart[0].id}/200/0" in shown and f"sample/{apart[1].id}/300/0" in shown
    assert "no step in common, so the newest samples of each are shown (1: step 200, 2: step 300)" in shown
    assert "no step in common" not in compare_view.samples(other, compare_view.LAST), "they share step 100"


def test_a_run_that_has_only_samples_of_the_base_is_compared_by_the_newest_of_each(workspace):
    runs = [finished_run(workspace, steps=(100,)) for _ in range(2)]
    shutil.rmtree(runs[1].samples_dir / "100")
    assert [step for _, step in compare_view.steps(runs)] == [compare_view.LAST, 0]
    shown = compare_view.samples(runs, compare_view.LAST)
    assert "(1: step 100, 2: base)" in shown and f"sample/{runs[0].id}/100/0" in shown
    shutil.rmtree(runs[1].samples_dir)
    assert "(1: step 100, 2: no samples yet)" in compare_view.samples(runs, compare_view.LAST)
    shutil.rmtree(runs[0].samples_dir)
    assert compare_view.steps(runs) == [] and "no step in common yet" in compare_view.samples(runs, None)


def test_what_cannot_be_compared_is_explained(workspace):
    runs = [finished_run(workspace, f'samples.prompts=["{prompt}"]') for prompt in ("a cat", "a dog")]
    assert "no two images can be compared" in compare_view.samples(runs, 100)
    assert "no step in common" in compare_view.samples(runs, None)
    assert compare_view.table([runs[0], runs[0]]) == '<div class="small">All settings and images are the same.</div>'
    assert "No run has enough steps yet" in compare_view.curves(runs)


def test_validation_loss_is_plotted_and_explained(workspace):
    runs = [finished_run(workspace) for _ in range(2)]
    for step in range(60):
        runs[0].append({"kind": "step", "step": step, "loss": 0.5, "seconds_per_step": 0.1})
    assert "validation" not in compare_view.curves(runs)
    runs[0].append({"kind": "validation", "step": 20, "loss": 0.4})
    assert 'class="c1 validation"' in compare_view.curves(runs) and "Dashed: validation loss" in compare_view.curves(runs)
