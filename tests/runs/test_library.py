import json
import shutil

import pytest

from studio import builtin, config
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.runs import library
from studio.runs.creation import create_run
from tests.trained import write_tiny_adapter


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
    run = create_run(workspace, config.build({}), dataset, "Ink")
    assert all(card.source == "starter" for card in library.list_adapters(workspace))
    for step in (100, 200):
        shutil.copy(starter.path, run.adapter_at(step))
    first = library.list_adapters(workspace)[0]
    assert (first.ref, first.title, first.path) == (f"run:{run.id}", "Ink", run.adapter_at(200))
    assert library.find(workspace, f"run:{run.id}@100").path == run.adapter_at(100)
    with pytest.raises(StudioError, match="no saved LoRA at step 150"):
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


@pytest.mark.parametrize(
    "studio",
    ["{nonsense", "[1]", "null", "[" * 50_000, '{"trained_alpha": "8", "base_model": {}, "trigger_word": ["a"]}', '{"trained_alpha": NaN}'],
    ids=["no json", "a list", "nothing", "deep", "wrong types", "no number"],
)
def test_what_a_file_says_about_itself_may_be_nonsense(workspace, studio):
    write_tiny_adapter(workspace.adapter_path("odd"), studio)
    card = library.list_adapters(workspace)[0]
    assert (card.ref, card.rank, card.alpha, card.base_model, card.trigger_words) == ("file:odd", 4, 4.0, "", [])


def test_a_trigger_word_from_a_file_is_one_short_visible_line(workspace):
    write_tiny_adapter(workspace.adapter_path("long"), json.dumps({"trigger_word": "\u202eohwx\n" + "y" * 500}))
    assert library.find(workspace, "file:long").trigger_words == ["ohwx " + "y" * 55]


def test_a_damaged_file_hides_no_other(workspace, starter):
    shutil.copy(starter.path, workspace.adapter_path("good"))
    workspace.adapter_path("bad").write_bytes(b"no LoRA at all")
    assert [card.ref for card in library.list_adapters(workspace) if card.source == "file"] == ["file:good"]
    with pytest.raises(StudioError, match="not a complete .safetensors file"):
        library.find(workspace, "file:bad")


def test_a_file_that_the_system_does_not_read_hides_no_other(workspace, starter):
    shutil.copy(starter.path, workspace.adapter_path("good"))
    workspace.adapter_path("unreadable").mkdir()
    assert [card.ref for card in library.list_adapters(workspace) if card.source == "file"] == ["file:good"]


def test_an_imported_file_may_have_no_source(workspace, starter):
    shutil.copy(starter.path, workspace.adapter_path("mine"))
    workspace.adapter_path("mine").with_suffix(".json").write_text(json.dumps({"title": "Mine", "source": None, "trigger_words": None}))
    card = library.find(workspace, "file:mine")
    assert (card.title, card.source, card.origin) == ("Mine", "file", {})
