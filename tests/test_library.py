import shutil

import pytest

from studio import builtin, config, library
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.runs import Run


@pytest.fixture
def starter():
    return library.starters()[0]


def test_the_starters_ship_with_their_trigger_words():
    cards = {card.path.stem: card for card in library.starters()}
    assert set(cards) == {"style", "character", "dusk"}
    for name, card in cards.items():
        assert card.trigger_words == [builtin.TRIGGER_WORDS[name]]
        assert card.family == "stable-diffusion" and card.base_model == "lora-studio/small-world"


def test_a_run_appears_when_its_first_adapter_is_saved_and_every_step_can_be_taken(workspace, starter):
    dataset = Dataset.from_samples(workspace, "style")
    run = Run.create(workspace, config.build({}), dataset, "Ink")
    assert all(card.source == "starter" for card in library.list_adapters(workspace))
    for step in (100, 200):
        shutil.copy(starter.path, run.adapter_at(step))
    first = library.list_adapters(workspace)[0]
    assert (first.ref, first.title, first.path) == (f"run:{run.id}", "Ink", run.adapter_at(200))
    assert library.find(workspace, f"run:{run.id}@100").path == run.adapter_at(100)
    with pytest.raises(StudioError, match="no LoRA saved at step 150"):
        library.find(workspace, f"run:{run.id}@150")


def test_an_imported_file_is_found_again(workspace, starter):
    shutil.copy(starter.path, workspace.adapter_path("mine"))
    card = library.find(workspace, "file:mine")
    assert card.sha256 == starter.sha256 and card.rank == starter.rank
    assert card.ref in [listed.ref for listed in library.list_adapters(workspace)]


@pytest.mark.parametrize("ref", ["starter:none", "file:gone", "run:gone", "file:../../x", "hub:a/b", "", "x"])
def test_a_reference_to_nothing_is_refused_in_words(workspace, ref):
    with pytest.raises(StudioError):
        library.find(workspace, ref)
