"""Cards of the Train form: what each group offers and says, and that choosing a card does what choosing in the dropdown does."""

import re

import gradio as gr
import pytest

from studio import config as configs
from studio.config import memory_overlays
from studio.datasets.dataset import Dataset
from studio.families import BUILTIN_ID
from studio.runs import starting_points
from studio.ui.components import setup_cards
from tests.trained import finished_run
from tests.ui.test_train import SDXL, Page, Request

FLUX2_DEV = "black-forest-labs/FLUX.2-dev"
SPACE = "\u00a0"


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


def by_value(cards: list[setup_cards.Card]) -> dict[str, setup_cards.Card]:
    return {card.value: card for card in cards}


def test_a_dataset_card_shows_four_images_how_many_are_captioned_and_the_trigger_word(workspace, dataset):
    dataset.set_caption(dataset.images[0].id, "", "hand")
    shown = setup_cards.show_datasets(workspace, dataset.id)
    assert shown.count("<img") == 4 and f"thumb/{dataset.id}/{dataset.images[0].id}" in shown
    assert "15 of 16 images captioned" in shown and "Trigger word ohwx" in shown
    assert re.search(rf'type="radio"[^>]*value="{dataset.id}"[^>]*checked', shown) and "data-complete" in shown


def test_six_datasets_are_cards_and_the_chosen_one_is_among_them(workspace, dataset):
    others = [finished_run(workspace, title=str(number)).config.dataset.id for number in range(7)]
    shown = setup_cards.show_datasets(workspace, dataset.id)
    assert shown.count('type="radio"') == setup_cards.MOST and dataset.id in shown and others[0] not in shown
    assert "data-complete" not in shown


def test_text_of_the_user_stays_text_on_a_card(workspace, dataset):
    dataset.update_facts(title="<b onclick=x>")
    assert "<b onclick" not in setup_cards.show_datasets(workspace, dataset.id)


def test_bases_say_whether_they_fit_their_licence_and_the_download(workspace):
    found = by_value(setup_cards.list_bases(workspace, FLUX2_DEV, gpu=12))
    assert found[BUILTIN_ID].title == "Small world" and found[BUILTIN_ID].mark == "Fits this computer" and found[BUILTIN_ID].images
    assert found[SDXL].mark == f"Fits your GPU (12{SPACE}GB)" and found[SDXL].lines == ("Commercial use allowed", f"14{SPACE}GB to download")
    dev = found[FLUX2_DEV]
    assert dev.chosen and not dev.suits and dev.mark == f"Needs about 48{SPACE}GB"
    assert dev.lines == ("Non-commercial", f"113{SPACE}GB to download, login needed")
    assert [value for value, card in found.items() if not card.suits] == [FLUX2_DEV] and len(found) <= setup_cards.MOST


def test_without_a_gpu_the_bases_that_need_least_say_what_they_need(workspace):
    found = setup_cards.list_bases(workspace, BUILTIN_ID, gpu=None)
    assert [card.mark for card in found] == ["Fits this computer", *[f"Needs a GPU (8{SPACE}GB)"] * (setup_cards.FEWEST_BASES - 1)]


def test_a_base_that_is_not_listed_has_a_card_while_it_is_chosen(workspace):
    card = by_value(setup_cards.list_bases(workspace, "someone/own-base", gpu=None))["someone/own-base"]
    assert card.chosen and card.mark == "Family not known yet" and "Licence unknown" in card.lines


def test_a_base_needs_the_smallest_gpu_that_does_not_offload_it():
    assert [memory_overlays.least_gigabytes("qwen-image", "Qwen/Qwen-Image"), memory_overlays.least_gigabytes("sdxl", SDXL)] == [24, 8]


def test_goals_say_steps_and_time_as_this_computer_took_it(workspace, dataset):
    finished_run(workspace, "dataset.resolution=128", "training.train_batch_size=4")
    own = starting_points.save(workspace, "Ink, slow", configs.for_dataset(dataset, "small-world-style"))
    quick, best, saved = setup_cards.list_goals(workspace, dataset, BUILTIN_ID, "small-world-style")
    assert (quick.title, best.title, saved.title) == ("Quick", "Best", "Ink, slow") and saved.value == own.name
    assert quick.mark.startswith("180 steps · about ") and best.mark.startswith("360 steps · about ")
    starting_points.save(workspace, "Once", configs.for_dataset(dataset, "small-world-style", "training.max_train_steps=1"))
    assert any(card.mark.startswith("1 step · ") for card in setup_cards.list_goals(workspace, dataset, BUILTIN_ID, "small-world-style"))
    assert [quick.chosen, best.chosen, saved.chosen] == [False, True, False]


def test_a_run_that_lends_its_settings_has_a_card_while_it_is_chosen(workspace, dataset):
    run = finished_run(workspace, title="Ink")
    found = setup_cards.list_goals(workspace, dataset, BUILTIN_ID, f"run:{run.id}")
    assert found[-1].chosen and found[-1].lines == ("Settings of an earlier run.",)
    assert [card.title for card in setup_cards.list_goals(workspace, dataset, BUILTIN_ID, "run:gone")] == ["Quick", "Best"]


class Cards(Page):
    """The Train tab, with its cards."""

    def choose(self, group: str, value: str) -> dict:
        """What changes when a card is chosen."""
        panel = next(each for each in self.app.blocks.values() if getattr(each, "elem_id", "") == f"{group}-cards")
        (event,) = [each for each in self.app.fns.values() if (panel._id, "choose") in each.targets]
        picked = gr.EventData(None, {"value": value})
        if not event.inputs:
            return {"chosen": event.fn(picked)}
        given = [self.now.get(each, each.value) for each in event.inputs]
        return self.keep(event.fn(picked, *given[:3], Request(), *given[3:]))


@pytest.fixture
def page(home, dataset):
    page = Cards(home)
    page.load(dataset.id)
    return page


def test_choosing_a_card_does_what_the_dropdown_does(page, dataset):
    page.choose("goal", "small-world-style-quick")
    assert page.value("preset") == "small-world-style-quick" and page.steps() == 180
    page.choose("base", SDXL)
    assert page.value("base") == SDXL and page.value("preset") == "sdxl-style-quick"
    assert page.config().model.base_model == SDXL
    assert page.choose("dataset", dataset.id) == {"chosen": dataset.id}


def test_a_base_of_the_same_kind_is_set_too(page):
    page.choose("base", "someone/one")
    preset = page.value("preset")
    page.choose("base", "someone/two")
    assert page.value("base") == "someone/two" and page.value("preset") == preset
