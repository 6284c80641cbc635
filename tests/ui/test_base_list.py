"""The one list of bases, and what stands below the one that is chosen."""

import html
import re

import pytest

from studio import families
from studio.core.access import Access, Mode
from studio.families import BUILTIN_ID, FAMILIES
from studio.jobs.queue import Jobs
from studio.ui.components import bases
from studio.ui.studio import Studio
from tests.tiny import tiny_base  # noqa: F401 - a fixture
from tests.trained import finished_run

OFFERS = [offer for family in FAMILIES for offer in family.offers]
FLUX = "black-forest-labs/FLUX.1-dev"


@pytest.fixture
def studio(home) -> Studio:
    return Studio(home, Access(), Jobs(home.database))


def words(shown: str) -> str:
    return re.sub(r"<[^>]+>", "", shown).replace("\u00a0", " ")


def test_the_one_that_ships_comes_first_then_family_by_family_then_ones_own(workspace):
    finished_run(workspace, "model.base_model=ada/own")
    listed = bases.choices(workspace)
    assert [base for _, base in listed] == [*(offer.id for offer in OFFERS), "ada/own"]
    assert listed[0] == ("Small world (ships with the studio)", BUILTIN_ID) and listed[-1][0] == "ada/own (yours)"


def test_the_folder_of_a_run_is_listed_by_its_name_and_family(workspace, tiny_base):  # noqa: F811
    finished_run(workspace, f"model.base_model={tiny_base.path}")
    assert bases.choices(workspace)[-1] == ("tiny-model (yours, Stable Diffusion)", str(tiny_base.path))


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_a_label_names_licence_login_and_download_size(offer):
    title = bases.base_label(offer).replace("\u00a0", " ")
    assert title.startswith(offer.title)
    assert ("non-commercial" in title) == (not offer.licence.commercial)
    assert ("login needed" in title) == offer.gated
    assert ("GB to download" in title) == (not offer.folder)


def test_a_downloaded_base_shows_no_download_size(fake_hub, tmp_path):
    from studio.benchmark.tiny import save_tiny_model

    fake_hub.seed_repo("stable-diffusion-v1-5/stable-diffusion-v1-5", save_tiny_model(tmp_path / "repo"))
    sd15 = families.offer("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert "4 GB to download" in bases.base_label(sd15).replace("\u00a0", " ")
    families.resolve_base(sd15.id)
    assert bases.base_label(sd15) == "Stable Diffusion 1.5"


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_the_details_of_a_base_are_licence_note_and_memory(offer, studio):
    shown = html.unescape(bases.describe_base(offer.id, studio))
    assert f'href="{offer.licence.link}"' in shown and offer.licence.summary in shown and offer.note in shown
    assert ("Non-commercial." in shown) == (not offer.licence.commercial)
    assert ("requires a Hub login" in shown and f"https://huggingface.co/{offer.id}" in shown and "hf auth login" in shown) == offer.gated
    assert ("Memory for generating" in shown) == (not offer.folder)


def test_memory_differs_between_generating_and_training(studio):
    assert "Memory for generating: about 34 GB in 16 bits." in words(bases.describe_base(FLUX, studio))
    training = words(bases.describe_base(FLUX, studio, training=True))
    assert "24 GB for the denoiser (7 GB quantised to 4 bits)" in training and "The text encoder (10 GB)" in training


def test_a_space_has_no_login_to_download_with(home):
    space = Studio(home, Access(mode=Mode.space), Jobs(home.database))
    shown = bases.describe_base(FLUX, space)
    assert "which a Space does not have" in shown and "hf auth login" not in shown


def test_an_unlisted_base_links_to_its_licence(studio, tiny_base):  # noqa: F811
    shown = bases.describe_base("ada/own", studio)
    assert 'href="https://huggingface.co/ada/own"' in shown and "unknown until it is downloaded" in shown
    assert "A Stable Diffusion model on this computer. Its licence is unknown" in words(bases.describe_base(str(tiny_base.path), studio))
    assert "&#39;/no/such&#39; is not a diffusers model" in bases.describe_base("/no/such", studio)
    assert "No base model is chosen" in bases.describe_base("  ", studio) and "No base model is chosen" in bases.describe_base(None, studio)


@pytest.mark.parametrize("hostile", ['"><script>alert(1)</script>', "javascript:alert(1)//x", 'a/"onmouseover="alert(1)'])
def test_user_input_is_always_escaped(hostile, studio):
    shown = bases.describe_base(hostile, studio)
    assert "<script" not in shown and 'href="javascript' not in shown and '"onmouseover' not in shown


def test_an_id_that_the_hub_does_not_have_is_reported_when_it_is_typed(studio, fake_hub, tmp_path):
    fake_hub.seed_files("ada/notes", {"README.md": b"# Notes"})
    fake_hub.seed_files("ada/model", {"model_index.json": b"{}"})
    fake_hub.seed_files("ada/closed", {"model_index.json": b"{}"}, gated=True)
    assert "not on the Hub under that name" in bases.describe_base("ada/gone", studio, training=True)
    assert "no model_index.json" in bases.find_problem("ada/notes")
    assert "accepted its terms" in bases.find_problem("ada/closed")
    assert bases.find_problem("ada/model") == "" == bases.find_problem(FLUX) == bases.find_problem("")
    assert "There is no file" in bases.find_problem(str(tmp_path / "gone.safetensors"))
    assert "not the folder of a diffusers model" in bases.find_problem(str(tmp_path))


def test_nothing_is_known_against_an_id_while_the_hub_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert bases.find_problem("ada/model") == ""
