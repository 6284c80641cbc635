"""The form: every parameter has a widget, values survive the round trip, and an error names the field that does not fit."""

import gradio as gr
import pytest

from studio import config as configs
from studio.config import TrainConfig, fields
from studio.core.errors import StudioError
from studio.families import BUILTIN_ID
from studio.ui.components.form import GROUPS, Form


@pytest.fixture
def form():
    with gr.Blocks():
        form = Form(TrainConfig())
        form.place("lora.rank", gr.Radio, choices=[4, 8, 16])
        form.place_rest()
    return form


def test_every_parameter_has_exactly_one_widget(form):
    assert sorted(form.widgets) == sorted(leaf.path for leaf in fields.leaves(TrainConfig()))


def test_every_section_has_a_group_title():
    assert {leaf.path.partition(".")[0] for leaf in fields.leaves(TrainConfig())} <= set(GROUPS)


def test_every_widget_has_a_label_and_help(form):
    assert [path for path, widget in form.widgets.items() if not (widget.label and widget.info)] == []


@pytest.mark.parametrize("preset", [None, *[p.name for p in configs.presets()]])
def test_a_config_survives_the_round_trip_through_the_widgets(form, preset):
    config = configs.preset(preset) if preset else TrainConfig()
    assert form.read(form.write(config)) == config


def test_a_value_that_does_not_fit_is_named(form):
    values = dict(zip(form.widgets, form.write(TrainConfig())))
    values["training.max_train_steps"] = 0
    with pytest.raises(StudioError, match="Training steps: 0 does not fit"):
        form.read(list(values.values()))


def test_empty_optional_fields_are_none_and_lists_are_lines(form):
    values = dict(zip(form.widgets, form.write(TrainConfig())))
    values |= {"model.revision": "", "lora.target_modules": "", "samples.prompts": " a cat \n\n a dog", "training.min_snr_gamma": None}
    config = form.read(list(values.values()))
    assert config.model.revision is None and config.lora.target_modules is None and config.training.min_snr_gamma is None
    assert config.samples.prompts == ["a cat", "a dog"]


@pytest.mark.parametrize(("base", "family"), [("black-forest-labs/FLUX.1-dev", "flux"), ("ada/own", ""), (BUILTIN_ID, "stable-diffusion")])
def test_the_family_follows_the_base_that_is_chosen(base, family):
    with gr.Blocks():
        form = Form(TrainConfig())
        form.exclude("model.family")
        form.place_rest()
    values = dict(zip(form.widgets, form.write(TrainConfig()))) | {"model.base_model": base}
    assert form.read(list(values.values())).model.family == family


@pytest.mark.parametrize("value", [None, True, False])
def test_an_optional_boolean_is_a_list_with_three_choices(form, value):
    widget = form.widgets["runtime.gradient_checkpointing"]
    config = fields.replace(TrainConfig(), {"runtime.gradient_checkpointing": value})
    shown = dict(zip(form.widgets, form.write(config)))["runtime.gradient_checkpointing"]
    assert isinstance(widget, gr.Dropdown) and shown in [each for _, each in widget.choices]
    assert form.read(form.write(config)).runtime.gradient_checkpointing is value


def test_an_excluded_setting_has_no_widget():
    with gr.Blocks():
        form = Form(TrainConfig())
        form.exclude("dataset.id")
        form.place_rest()
    assert "dataset.id" not in form.widgets
    assert form.read(form.write(TrainConfig()), dataset__id="abc").dataset.id == "abc"
