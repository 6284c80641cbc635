from types import SimpleNamespace

import pytest

from studio import config
from studio.config import TrainConfig, fields
from studio.config.samples import SamplesConfig
from studio.core.errors import StudioError


def test_alpha_follows_rank_until_it_is_given():
    assert config.build({"lora": {"rank": 32}}).lora.alpha == 32
    assert config.build({"lora": {"rank": 32, "alpha": 16}}).lora.alpha == 16
    assert config.build({"lora": {"rank": 32, "alpha": 32}}, "lora.rank=8").lora.alpha == 8
    assert config.build({"lora": {"rank": 32}}, "lora.rank=8", "lora.alpha=4").lora.scale == 0.5


def test_overrides_are_read_like_toml_or_as_plain_words():
    settings = ("training.learning_rate=1e-3", "training.lr_scheduler=cosine", 'samples.prompts=["a", "b"]', "training.min_snr_gamma=none")
    built = config.build({}, *settings)
    assert built.training.learning_rate == 1e-3
    assert built.training.lr_scheduler == "cosine"
    assert built.samples.prompts == ["a", "b"]
    assert built.training.min_snr_gamma is None


@pytest.mark.parametrize("word", ["42", "true", "", "ohwx", 'a "b" \\ ü 🦊'])
def test_a_datasets_trigger_word_stays_a_string(word):
    about = SimpleNamespace(id="ink-1", subject="character", trigger_word=word)
    built = config.for_dataset(about, "", "lora.rank=8")
    assert (built.dataset.id, built.dataset.subject, built.dataset.trigger_word, built.lora.rank) == ("ink-1", "character", word, 8)


@pytest.mark.parametrize("subject", ["style", "character", "object"])
def test_every_subject_has_a_preset_for_the_built_in_base(subject):
    fitting = config.preset(config.fitting_preset(subject))
    assert (fitting.dataset.subject, fitting.model.base_model) == (subject, TrainConfig().model.base_model)


def test_a_wrong_value_names_the_setting_the_value_and_what_is_allowed():
    with pytest.raises(StudioError, match=r"Rank: 9999 does not fit.*512"):
        config.build({}, "lora.rank=9999")


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(StudioError, match=r"lora.rnk.*lora.rank"):
        config.build({}, "lora.rnk=3")
    with pytest.raises(StudioError, match="section.field=value"):
        config.build({}, "rank8")


def test_a_config_reads_back_as_it_was_written(tmp_path):
    built = config.build({}, "lora.rank=8", "dataset.trigger_word=ohwx")
    (tmp_path / "config.json").write_bytes(config.dump(built))
    assert config.load(tmp_path / "config.json") == built


def test_a_config_of_a_newer_version_is_refused():
    with pytest.raises(StudioError, match="newer studio"):
        config.migrate({"version": 99})


def test_a_run_started_with_math_attention_keeps_it():
    began = {"device": "cuda", "dtype": "bfloat16", "threads": 3, "exact": True}
    assert config.migrate({"version": 1, "runtime": began})["runtime"]["attention"] == "math"
    assert "attention" not in config.migrate({"version": 2, "runtime": began})["runtime"]
    for other in ({**began, "exact": False}, {**began, "device": "cpu"}, {"device": "cuda"}):
        assert "attention" not in config.migrate({"version": 1, "runtime": other})["runtime"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_that_started_before_engine_versions_keeps_the_first_engine(version):
    began = {"device": "cpu", "dtype": "float32", "threads": 3}
    assert config.migrate({"version": version, "runtime": began})["runtime"]["engine"] == 1
    assert config.migrate({"version": 3, "runtime": {**began, "engine": 2}})["runtime"]["engine"] == 2
    for not_started in ({}, {"threads": 3}, {"device": "cpu"}):
        assert config.migrate({"version": version, "runtime": not_started})["runtime"] == not_started


@pytest.mark.parametrize("leaf", fields.leaves(TrainConfig()), ids=lambda leaf: leaf.path)
def test_every_setting_has_a_label_and_a_help_text(leaf):
    assert leaf.title and leaf.title[0].isupper()
    assert len(leaf.help.split()) >= 8 and leaf.help.endswith(".")


@pytest.mark.parametrize("preset", config.presets(), ids=lambda preset: preset.name)
def test_every_preset_loads_and_has_a_description_and_a_source(preset):
    loaded = config.preset(preset.name)
    assert loaded.dataset.subject == preset.subject
    assert preset.title and preset.description
    assert preset.measured.startswith("measured on") or preset.measured == "estimated"


def test_replacing_a_leaf_validates_the_whole():
    changed = fields.replace(TrainConfig(), {"lora.rank": 4, "lora.alpha": 4.0})
    assert fields.get(changed, "lora.rank") == 4
    with pytest.raises(StudioError, match="known settings"):
        fields.replace(TrainConfig(), {"lora.ranks": 4})


@pytest.mark.parametrize(
    ("total", "every", "columns"),
    [
        (160, None, [16, 40, 80, 120, 160]),
        (1500, None, [150, 375, 750, 1125, 1500]),
        (60, None, [15, 30, 45, 60]),
        (16, None, [16]),
        (1, None, [1]),
        (600, 250, [250, 500, 600]),
        (500, 250, [250, 500]),
        (100, 250, [100]),
    ],
)
def test_the_sample_grid_has_columns_at_shares_of_the_steps_or_every_n_steps(total, every, columns):
    assert SamplesConfig(every=every).columns(total) == columns


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.learning_rate", 50, "Learning rate: 50 does not fit. Enter a number above 0 and at most 1."),
        ("training.max_train_steps", 1.5, "Training steps: 1.5 does not fit. Enter a whole number from 1 to 200,000."),
        ("training.train_batch_size", None, "Batch size is empty. Enter a whole number from 1 to 64."),
        ("dataset.resolution", 100, "Resolution: 100 does not fit. Enter a multiple of 8 from 64 to 2,048."),
        ("training.ema_decay", 1, "EMA decay: 1 does not fit. Enter a number above 0 and below 1, or leave it empty."),
    ],
)
def test_an_error_names_the_setting_its_value_and_what_is_allowed(path, value, message):
    with pytest.raises(fields.InvalidSettings) as refused:
        fields.replace(TrainConfig(), {path: value})
    assert str(refused.value) == message
    assert refused.value.problems == {path: message}
