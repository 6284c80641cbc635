"""Several values for a setting: which settings may have them, what the runs are called, and how many there may be."""

import pytest

from studio import config as configs
from studio.core.errors import StudioError
from studio.runs.sweeps import MOST_RUNS, combinations, strip_settings


def test_several_values_are_several_runs_named_by_what_differs():
    found = combinations(["lora.rank=8, 16,32", "training.seed=3"])
    assert [each.settings for each in found] == [
        ("lora.rank=8", "training.seed=3"),
        ("lora.rank=16", "training.seed=3"),
        ("lora.rank=32", "training.seed=3"),
    ]
    assert [each.named("Ink") for each in found] == ["Ink, rank 8", "Ink, rank 16", "Ink, rank 32"]


def test_two_settings_make_a_grid():
    found = combinations(["lora.rank=8,16", "dataset.flip=true,false"])
    assert [each.label for each in found] == ["rank 8, flip true", "rank 8, flip false", "rank 16, flip true", "rank 16, flip false"]


def test_alpha_follows_each_rank_unless_it_is_given():
    ranks = ["lora.rank=8,32"]
    assert [configs.build({}, *each.settings).lora.alpha for each in combinations(ranks)] == [8, 32]
    assert [configs.build({}, *each.settings).lora.alpha for each in combinations([*ranks, "lora.alpha=4"])] == [4, 4]


@pytest.mark.parametrize(
    "setting", ["prior.prompt=a photo of a dog, sitting", 'samples.prompts=["a, b", "c"]', "dataset.trigger_word=a,b", "samples.prompts=a,b"]
)
def test_a_comma_in_a_text_or_a_list_belongs_to_it(setting):
    assert [each.settings for each in combinations([setting])] == [(setting,)]


def test_a_value_that_stands_there_twice_is_one_run_and_a_comma_too_many_is_none():
    assert [each.label for each in combinations(["lora.rank=8,8, 16,"])] == ["rank 8", "rank 16"]


def test_what_is_no_setting_is_left_to_whoever_reads_it():
    with pytest.raises(StudioError, match="Unknown setting 'lora.size'"):
        configs.build({}, *combinations(["lora.size=8,16"])[0].settings)
    with pytest.raises(StudioError, match="is not a setting"):
        configs.build({}, *combinations(["rank"])[0].settings)


def test_more_than_twenty_runs_are_refused_with_their_number():
    with pytest.raises(StudioError, match="give 25 runs, and at most 20 can be queued"):
        combinations(["lora.rank=1,2,3,4,5", "training.seed=1,2,3,4,5"])
    assert len(combinations(["lora.rank=1,2,3,4,5", "training.seed=1,2,3,4"])) == MOST_RUNS


def test_a_copy_with_another_value_is_not_called_by_both():
    assert strip_settings("Ink, rank 8, seed 3", ["lora.rank=4"]) == "Ink, seed 3"
    assert strip_settings("rank 8, of mine", ["lora.rank=4"]) == "rank 8, of mine", "what a person called it stays"
    assert strip_settings("Ink, rankled", ["lora.rank=4"]) == "Ink, rankled"
