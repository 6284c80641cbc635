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


def test_ones_own_folder_is_listed_by_its_name_and_family(workspace, tiny_base):  # noqa: F811
    finished_run(workspace, f"model.base_model={tiny_base.path}")
    assert bases.choices(workspace)[-1] == ("tiny-model (yours, Stable Diffusion)", str(tiny_base.path))


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_a_title_says_what_matters_before_choosing(offer):
    title = bases.titled(offer).replace("\u00a0", " ")
    assert title.startswith(offer.title)
    assert ("non-commercial" in title) == (not offer.licence.commercial)
    assert ("login needed" in title) == offer.gated
    assert ("GB to fetch" in title) == (not offer.folder)


def test_what_was_fetched_is_not_to_be_fetched_again(fake_hub, tmp_path):
    from studio.benchmark.tiny import save_tiny_model

    fake_hub.seed_repo("stable-diffusion-v1-5/stable-diffusion-v1-5", save_tiny_model(tmp_path / "repo"))
    sd15 = families.offer("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert "4 GB to fetch" in bases.titled(sd15).replace("\u00a0", " ")
    families.resolve_base(sd15.id)
    assert bases.titled(sd15) == "Stable Diffusion 1.5"


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_below_a_base_stand_its_licence_its_note_and_what_it_takes(offer, studio):
    shown = html.unescape(bases.about(offer.id, studio))
    assert f'href="{offer.licence.link}"' in shown and offer.licence.words in shown and offer.note in shown
    assert ("Non-commercial." in shown) == (not offer.licence.commercial)
    assert ("asks for a login" in shown and f"https://huggingface.co/{offer.id}" in shown and "hf auth login" in shown) == offer.gated
    assert ("Memory to draw" in shown) == (not offer.folder)


def test_memory_is_told_for_what_is_to_be_done(studio):
    assert "Memory to draw: about 34 GB in 16 bits." in words(bases.about(FLUX, studio))
    training = words(bases.about(FLUX, studio, training=True))
    assert "24 GB for the part that learns (7 GB packed in 4 bits)" in training and "The part that reads prompts (10 GB)" in training


def test_a_space_has_no_login_to_fetch_with(home):
    space = Studio(home, Access(mode=Mode.space), Jobs(home.database))
    shown = bases.about(FLUX, space)
    assert "which a Space has none of" in shown and "hf auth login" not in shown


def test_a_base_nobody_knows_says_where_its_licence_stands(studio, tiny_base):  # noqa: F811
    assert 'href="https://huggingface.co/ada/own"' in bases.about("ada/own", studio) and "show when it is fetched" in bases.about("ada/own", studio)
    assert "A Stable Diffusion model that is on this computer. Its licence is not known here" in words(bases.about(str(tiny_base.path), studio))
    assert "There is no diffusers model in &#39;/no/such&#39;" in bases.about("/no/such", studio)
    assert "No base model is chosen" in bases.about("  ", studio) and "No base model is chosen" in bases.about(None, studio)


@pytest.mark.parametrize("hostile", ['"><script>alert(1)</script>', "javascript:alert(1)//x", 'a/"onmouseover="alert(1)'])
def test_what_somebody_typed_can_only_ever_be_text(hostile, studio):
    shown = bases.about(hostile, studio)
    assert "<script" not in shown and 'href="javascript' not in shown and '"onmouseover' not in shown
