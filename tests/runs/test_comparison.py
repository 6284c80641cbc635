"""Comparison of runs: differing settings and samples in common."""

import pytest

from studio.core.errors import StudioError
from studio.runs import comparison
from tests.trained import PROMPTS, finished_run, keep_state


def test_only_settings_that_differ_are_told_with_their_value_in_each_run(workspace):
    first, second = ("lora.rank=8", "dataset.flip=true"), ("lora.rank=32", "training.learning_rate=3e-5")
    runs = [finished_run(workspace, *first), finished_run(workspace, *second)]
    told = {each.path: each.values for each in comparison.find_differences(runs)}
    assert told == {"lora.rank": ("8", "32"), "dataset.flip": ("yes", "no"), "training.learning_rate": ("0.0001", "3e-05")}
    assert comparison.find_differences(runs)[0].title == "Flip augmentation", "in the order of the settings"


def test_alpha_is_told_when_it_does_not_follow_the_rank(workspace):
    runs = [finished_run(workspace, *settings) for settings in (("lora.rank=8",), ("lora.rank=32",))]
    assert [each.path for each in comparison.find_differences(runs)] == ["lora.rank"]
    runs = [finished_run(workspace, *settings) for settings in (("lora.rank=8",), ("lora.rank=8", "lora.alpha=4"))]
    assert [(each.path, each.values) for each in comparison.find_differences(runs)] == [("lora.alpha", ("8", "4"))]


def test_pictures_that_changed_between_two_runs_are_told(workspace):
    runs = [finished_run(workspace, subject=subject) for subject in ("style", "object")]
    runs[1].path.joinpath("dataset", "dataset.json").write_text(
        runs[1].path.joinpath("dataset", "dataset.json").read_text().replace(runs[1].snapshot["sha256"], "f" * 64)
    )
    first = comparison.find_differences(runs)[0]
    assert first.title == "Images" and first.values[1] == "Secret holiday pictures, 3, version ffffff"


def test_prompts_are_the_same_whatever_the_trigger_word(workspace):
    first = finished_run(workspace)
    second = finished_run(workspace, 'samples.prompts=["a house", "a lamp", "SKS illustration of a boat at sea"]', "dataset.trigger_word=sks")
    assert comparison.prompts_in_common([first, second]) == [("a house", (1, 0)), ("[trigger] illustration of a boat at sea", (2, 2))]
    assert [prompt for prompt, _ in comparison.prompts_in_common([first, first])] == [p.replace("ohwx", "[trigger]") for p in PROMPTS]


def test_steps_in_common_are_those_that_all_have_drawn(workspace):
    runs = [finished_run(workspace, steps=steps) for steps in ((50, 100, 200), (100, 150, 200), (100, 200, 300))]
    assert comparison.steps_in_common(runs) == [0, 100, 200]


def test_two_to_six_runs_oldest_first(workspace):
    runs = [finished_run(workspace) for _ in range(7)]
    ids = [run.id for run in runs]
    assert [run.id for run in comparison.select_runs(workspace, [ids[3], ids[0], ids[3]])] == [ids[0], ids[3]]
    for some in (ids[:1], ids, []):
        with pytest.raises(StudioError, match="cannot be compared; choose 2 to 6"):
            comparison.select_runs(workspace, some)
    with pytest.raises(StudioError, match="no run 'gone'"):
        comparison.select_runs(workspace, [ids[0], "gone"])


def test_runs_that_were_extended_in_other_ways_differ(workspace):
    runs = [finished_run(workspace, "training.lr_scheduler=linear") for _ in range(2)]
    for run, schedule in zip(runs, ("keep", "new")):
        keep_state(run, 200)
        run.extend(100, schedule)
    (found,) = comparison.find_differences(runs)
    assert (found.path, found.title) == ("training.extensions", "Extended")
    assert "at the last learning rate, 5e-07, constant" in found.values[0] and "a warm-up of 5 steps" in found.values[1]
