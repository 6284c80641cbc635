"""The page is opened at an address, with the unsaved fields of the browser on top."""

from types import SimpleNamespace

import gradio as gr
import pytest

from studio.config.recipe import Recipe, add_recipe
from studio.core.access import Access
from studio.datasets.dataset import Dataset
from studio.ui import app as ui
from studio.ui.form_drafts import DraftedForm, read_value
from studio.ui.opening import GONE, Place, find_place, trigger_word_function
from studio.ui.tabs.train_form import NOT_OPENED
from tests.trained import finished_run, png


@pytest.fixture
def page(home):
    """call(event, **data) -> {elem_id: value} of the opening."""
    app, studio = ui.build_app(home, Access())
    events = {name: fn for fn in app.fns.values() for _, name in fn.targets if name in ("opened", "moved")}

    def call(event: str, **data):
        data = {"address": {}, "drafts": {}, "dataset": "", "number": 1} | data
        before = [None] if event == "moved" else []
        found = events[event].fn(*before, SimpleNamespace(headers={}), SimpleNamespace(**data))
        assert set(found) <= set(events[event].outputs)
        return {component.elem_id or component._id: value for component, value in found.items()}

    return call


def test_an_opening_that_comes_late_does_not_lead_away_from_a_tab_chosen_meanwhile(page, workspace):
    def selected(**address):
        return [value.selected for value in page("opened", address=address).values() if isinstance(value, gr.Tabs)]

    run = finished_run(workspace)
    assert selected() == []
    assert selected(tab="train") == ["train"]
    assert selected(tab="train", run=run.id) == ["watch", "train"]


def value_of(found):
    return found["value"] if isinstance(found, dict) else found


def test_an_address_names_what_exists_in_the_callers_workspace_only(home, workspace):
    dataset = Dataset.from_samples(workspace, "style")
    assert find_place(workspace, {"tab": "dataset", "dataset": dataset.id}) == (Place("dataset", dataset.id), "")
    other = home.workspace("visitor-b")
    messages = {find_place(other, {"tab": "dataset", "dataset": each})[1] for each in (dataset.id, "never-made", "../../x")}
    assert messages == {GONE}
    assert find_place(workspace, {"tab": "no-such-tab"}) == (Place(), GONE)


def test_a_draft_of_the_train_form_comes_back_for_its_dataset_only(page, workspace):
    dataset = Dataset.from_samples(workspace, "style")
    draft = {"about": dataset.id, "lora.rank": "64", "lora.alpha": "64", "training.learning_rate": "0.5x", "samples.prompts": "one\ntwo"}
    found = page("opened", drafts={"train": draft})
    assert value_of(found["rank"]) == 64 and value_of(found["alpha"]) == 64 and value_of(found["sample-prompts"]) == "one\ntwo"
    assert value_of(found["setting-training-learning_rate"]) != "0.5x"
    other = page("opened", drafts={"train": draft | {"about": "another"}})
    assert value_of(other["rank"]) != 64


def test_a_draft_of_a_prompt_comes_back_with_its_stack_unless_another_image_is_opened(page, workspace):
    stack = [{"adapter": "starter:style", "weight": 0.5, "on": False}, {"adapter": "run:gone", "weight": 1, "on": True}]
    draft = {"about": "", "prompt": "a red boat", "generate-seed": "x", "seed": "7", "stack": stack}
    found = page("opened", drafts={"generate": draft})
    assert found["prompt"] == "a red boat" and found["generate-seed"] == 7
    assert 'data-ref="starter:style" data-weight="0.5"' in found["stack"] and "run:gone" not in found["stack"]
    workspace.image_path("b").write_bytes(add_recipe(png(7), Recipe(prompt="of the image")))
    another = page("opened", address={"image": "b"}, drafts={"generate": draft | {"about": "another"}})
    assert value_of(another["prompt"]) == "of the image"
    began = page("opened", drafts={"generate": {"about": "b", "seed": "9"}})
    assert (value_of(began["prompt"]), value_of(began["generate-seed"])) == ("of the image", 9)


@pytest.mark.parametrize("draft", [{"stack": [{"adapter": 5}]}, {"stack": "x"}, {"seed": "nan"}, {"shape": "9x"}, {"base": 7}, {"count": None}])
def test_a_draft_that_cannot_be_read_does_not_keep_the_page_from_opening(page, draft):
    found = page(
        "opened", drafts={"generate": {"about": "", "prompt": "kept", **draft}, "train": {"about": 3}, "publish": {"about": 1}, "new-dataset": {}}
    )
    assert found["prompt"] == "kept"


def test_values_are_read_as_the_browser_shows_them():
    rank = gr.Radio([4, 8], render=False)
    base = gr.Dropdown([("SDXL (7 GB to download)", "sdxl")], render=False)
    assert read_value(rank, "8") == 8 and read_value(base, "SDXL") == "sdxl"
    assert read_value(gr.Number(precision=0, render=False), "12") == 12 and read_value(gr.Number(render=False), "") is None
    form = DraftedForm("x", {"rank": rank, "base": base})
    assert form.ids == {"rank": "x-rank", "base": "x-base"}
    assert form.values({"rank": "5", "base": "gone", "unknown": 1}) == {}


def test_the_stored_word_of_a_dataset_that_cannot_be_read_tells_nothing(home, workspace, tmp_path):
    _, studio = ui.build_app(home, Access())
    stored_word = trigger_word_function(studio)
    dataset = Dataset.from_samples(workspace, "style")
    assert stored_word({"dataset": dataset.id}, SimpleNamespace(headers={})) == {"word": dataset.trigger_word}
    assert stored_word({"dataset": "../" + str(tmp_path)}, SimpleNamespace(headers={})) == {}


def test_opening_the_train_tab_fills_nothing_before_the_page_is_opened(home, workspace):
    """Its answer may come after that of the opening, when something was typed."""
    Dataset.from_samples(workspace, "style")
    app, _ = ui.build_app(home, Access())
    refresh = next(event for event in app.fns.values() if event.fn and event.fn.__qualname__ == "_wire_dataset.<locals>.refresh")
    form = [getattr(block, "value", None) for block in refresh.inputs[2:]]
    assert form[0] == NOT_OPENED
    visitor = SimpleNamespace(headers={})
    assert [str(each) for each in refresh.fn(None, "", visitor, *form).values()] == [str(gr.skip())]
    assert len(refresh.fn(None, "", visitor, None, *form[1:])) > 10
