"""The licence of a LoRA: proposed by its base's, refused where that forbids it, and told on the card in words."""

import pytest
import yaml

from studio.core.errors import StudioError
from studio.families import FAMILIES
from studio.families.licences import APACHE, FLUX_DEV, KREA_COMMUNITY, OPENRAIL, OPENRAIL_XL, STABILITY_COMMUNITY
from studio.publishing import licensing, model_card, plan
from studio.publishing.licensing import AS_BASE, LICENCES, OTHER, Grant, advice, proposed, refusal, settle, why
from studio.publishing.plan import Request
from tests.trained import finished_run

OFFERS = [offer for family in FAMILIES for offer in family.offers if not offer.folder]
COMMIT = "a" * 40


def planned(workspace, base_model: str, licence: str, **more) -> plan.Plan:
    run = finished_run(workspace, f"model.base_model={base_model}", f"model.revision={COMMIT}")
    return plan.plan(workspace, Request(adapter=f"run:{run.id}", repo="ink", licence=licence, rights="I drew these.", **more))


def front(card: str) -> dict:
    return yaml.safe_load(card.removeprefix("---\n").split("\n---\n")[0])


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def test_a_base_proposes_its_own_licence_where_it_binds_and_nothing_where_it_leaves_the_choice():
    assert [proposed(base) for base in (FLUX_DEV, STABILITY_COMMUNITY, OPENRAIL, APACHE, None)] == [AS_BASE, AS_BASE, AS_BASE, "", ""]


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_why_a_licence_is_proposed_is_one_sentence_that_names_base_and_licence(offer):
    said = why(offer.name, offer.licence)
    assert offer.name in said and offer.licence.title in said and said.endswith(".") and said.count(". ") == 0
    assert ("non-commercial use" in said) == (not offer.licence.commercial)
    assert "is not known here" in why("ada/own", None)


@pytest.mark.parametrize("base", [FLUX_DEV, STABILITY_COMMUNITY, KREA_COMMUNITY], ids=lambda base: base.name)
@pytest.mark.parametrize("licence", sorted(licensing.KNOWN))
def test_a_base_that_binds_allows_no_licence_of_another_text(base, licence):
    said = refusal("the base", base, Grant(licence))
    assert licensing.KNOWN[licence].title in said and base.title in said and "Choose the same as its base, or none." in said


@pytest.mark.parametrize("base", [FLUX_DEV, OPENRAIL, APACHE, None])
def test_its_own_licence_and_none_are_always_allowed(base):
    own = settle("the base", base, AS_BASE) if base else Grant()
    assert refusal("the base", base, own) == refusal("the base", base, Grant()) == ""
    assert advice("the base", base, own, "ink") == []


@pytest.mark.parametrize("base", [OPENRAIL, APACHE, None])
def test_a_base_that_leaves_it_free_refuses_nothing(base):
    assert [licence for licence in licensing.KNOWN if refusal("the base", base, Grant(licence))] == []


def test_a_licence_without_the_forbidden_uses_of_the_base_is_taken_with_a_word():
    assert "has no list of harmful uses" in advice("SDXL", OPENRAIL_XL, Grant("mit"), "ink")[0]
    assert advice("SDXL", OPENRAIL_XL, Grant("openrail++"), "ink") == advice("SDXL", OPENRAIL_XL, Grant(), "ink") == []


def test_a_licence_of_somebodys_own_for_a_base_that_binds_is_theirs_to_answer_for():
    mine = settle("FLUX", FLUX_DEV, OTHER, "A licence I bought", "https://example.org")
    assert refusal("FLUX", FLUX_DEV, mine) == "" and "yours to answer for" in advice("FLUX", FLUX_DEV, mine, "ink")[0]


def test_a_name_that_the_licence_asks_for_is_missed_in_words():
    own = settle("Krea 2 Raw", KREA_COMMUNITY, AS_BASE)
    assert "begins with “Krea”" in advice("Krea 2 Raw", KREA_COMMUNITY, own, "ink")[0]
    assert advice("Krea 2 Raw", KREA_COMMUNITY, own, "krea-ink") == []


def test_the_licence_of_an_unknown_base_cannot_be_taken_over():
    with pytest.raises(StudioError, match="ada/own is not known here"):
        settle("ada/own", None, AS_BASE)
    with pytest.raises(StudioError, match="Unknown licence 'gpl'; known: base, apache-2.0"):
        settle("the base", APACHE, "gpl")


def test_every_choice_is_told_in_words():
    assert all(words and words[0].isupper() for words in LICENCES.values())


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_the_card_of_every_base_says_its_licence_to_the_hub_and_to_people(workspace, offer):
    made = planned(workspace, offer.id, AS_BASE)
    made.check()
    data, licence = front(made.card), offer.licence
    assert (data["license"], data.get("license_name", "")) == (licence.id, licence.name)
    assert data.get("license_link") == (licence.link if licence.id == "other" else None)
    assert (data["base_model"], data["base_model_relation"]) == (offer.id, "adapter")
    family = next(family for family in FAMILIES if offer in family.offers)
    assert data["tags"] == ["text-to-image", "lora", "diffusers", *family.tags, "template:sd-lora"]
    assert f"]({licence.link})" in body(made.card) and model_card.escape(licence.words) in body(made.card) and licence.says in body(made.card)


def test_what_the_base_does_not_allow_is_refused_before_anything_is_sent(workspace):
    made = planned(workspace, "black-forest-labs/FLUX.1-dev", "mit")
    assert "license: mit" in made.card
    with pytest.raises(StudioError, match="does not allow MIT. Choose the same as its base, or none."):
        made.check()
    planned(workspace, "black-forest-labs/FLUX.1-schnell", "mit").check()


def test_forbidden_uses_of_the_base_travel_on_the_card_whatever_licence_was_chosen(workspace):
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    made = planned(workspace, sdxl, "mit")
    made.check()
    assert "The uses that it forbids are forbidden for this LoRA as well." in body(made.card) and len(made.notes) == 1
    own = planned(workspace, sdxl, AS_BASE)
    assert "The uses that it forbids" not in body(own.card) and own.notes == ()


def test_no_licence_leaves_the_key_out_and_the_bases_words_in(workspace):
    card = planned(workspace, "black-forest-labs/FLUX.1-dev", "").card
    assert "license" not in front(card) and "No licence was chosen." in body(card) and "covers LoRAs made from it" in body(card)
