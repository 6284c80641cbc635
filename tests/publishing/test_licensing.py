"""Licence of a LoRA: default from its base, conflicts with the base's licence, and the text on the card."""

import pytest
import yaml

from studio.core.errors import StudioError
from studio.families import FAMILIES
from studio.families.licences import APACHE, FLUX_DEV, KREA_COMMUNITY, OPENRAIL, OPENRAIL_XL, STABILITY_COMMUNITY
from studio.publishing import licensing, model_card, plan
from studio.publishing.licensing import (
    AS_BASE,
    LICENCES,
    OTHER,
    Grant,
    default_licence,
    explain_base_licence,
    find_conflict,
    find_warnings,
    resolve_grant,
)
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


def test_a_binding_base_licence_is_the_default_and_a_free_one_sets_none():
    assert [default_licence(base) for base in (FLUX_DEV, STABILITY_COMMUNITY, OPENRAIL, APACHE, None)] == [AS_BASE, AS_BASE, AS_BASE, "", ""]


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_the_explanation_of_the_base_licence_is_one_sentence_that_names_base_and_licence(offer):
    message = explain_base_licence(offer.name, offer.licence)
    assert offer.name in message and offer.licence.title in message and message.endswith(".") and message.count(". ") == 0
    assert ("non-commercial use" in message) == (not offer.licence.commercial)
    assert "is not known to the studio" in explain_base_licence("ada/own", None)


@pytest.mark.parametrize("base", [FLUX_DEV, STABILITY_COMMUNITY, KREA_COMMUNITY], ids=lambda base: base.name)
@pytest.mark.parametrize("licence", sorted(licensing.KNOWN))
def test_a_binding_base_licence_allows_no_other_licence(base, licence):
    message = find_conflict("the base", base, Grant(licence))
    assert licensing.KNOWN[licence].title in message and base.title in message and "Choose the same licence as the base, or none." in message


@pytest.mark.parametrize("base", [FLUX_DEV, OPENRAIL, APACHE, None])
def test_the_base_licence_and_no_licence_are_always_allowed(base):
    own = resolve_grant("the base", base, AS_BASE) if base else Grant()
    assert find_conflict("the base", base, own) == find_conflict("the base", base, Grant()) == ""
    assert find_warnings("the base", base, own, "ink") == []


@pytest.mark.parametrize("base", [OPENRAIL, APACHE, None])
def test_a_free_base_licence_allows_every_licence(base):
    assert [licence for licence in licensing.KNOWN if find_conflict("the base", base, Grant(licence))] == []


def test_a_licence_without_the_use_restrictions_of_the_base_gives_a_warning():
    assert "has no use restrictions" in find_warnings("SDXL", OPENRAIL_XL, Grant("mit"), "ink")[0]
    assert find_warnings("SDXL", OPENRAIL_XL, Grant("openrail++"), "ink") == find_warnings("SDXL", OPENRAIL_XL, Grant(), "ink") == []


def test_a_custom_licence_for_a_binding_base_gives_a_warning():
    mine = resolve_grant("FLUX", FLUX_DEV, OTHER, "A licence I bought", "https://example.org")
    assert find_conflict("FLUX", FLUX_DEV, mine) == "" and "your own responsibility" in find_warnings("FLUX", FLUX_DEV, mine, "ink")[0]


def test_a_name_without_the_prefix_required_by_the_licence_gives_a_warning():
    own = resolve_grant("Krea 2 Raw", KREA_COMMUNITY, AS_BASE)
    assert "to begin with “Krea”" in find_warnings("Krea 2 Raw", KREA_COMMUNITY, own, "ink")[0]
    assert find_warnings("Krea 2 Raw", KREA_COMMUNITY, own, "krea-ink") == []


def test_the_licence_of_an_unknown_base_cannot_be_reused():
    with pytest.raises(StudioError, match="ada/own is not known to the studio"):
        resolve_grant("ada/own", None, AS_BASE)
    with pytest.raises(StudioError, match="Unknown licence 'gpl'; choose one of: base, apache-2.0"):
        resolve_grant("the base", APACHE, "gpl")


def test_every_choice_has_a_label():
    assert all(words and words[0].isupper() for words in LICENCES.values())


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.id)
def test_the_card_states_the_licence_of_every_base_in_metadata_and_body(workspace, offer):
    release = planned(workspace, offer.id, AS_BASE)
    release.check()
    data, licence = front(release.card), offer.licence
    assert (data["license"], data.get("license_name", "")) == (licence.id, licence.name)
    assert data.get("license_link") == (licence.link if licence.id == "other" else None)
    assert (data["base_model"], data["base_model_relation"]) == (offer.id, "adapter")
    family = next(family for family in FAMILIES if offer in family.offers)
    assert data["tags"] == ["text-to-image", "lora", "diffusers", *family.tags, "template:sd-lora"]
    text = body(release.card)
    assert f"]({licence.link})" in text and model_card.escape(licence.summary) in text and licence.notice in text


def test_a_licence_conflict_is_an_error_before_anything_is_uploaded(workspace):
    release = planned(workspace, "black-forest-labs/FLUX.1-dev", "mit")
    assert "license: mit" in release.card
    with pytest.raises(StudioError, match="does not allow MIT. Choose the same licence as the base, or none."):
        release.check()
    planned(workspace, "black-forest-labs/FLUX.1-schnell", "mit").check()


def test_the_card_states_the_use_restrictions_of_the_base_under_any_licence(workspace):
    sdxl = "stabilityai/stable-diffusion-xl-base-1.0"
    release = planned(workspace, sdxl, "mit")
    release.check()
    assert "Its use restrictions also apply to this LoRA." in body(release.card) and len(release.notes) == 1
    own = planned(workspace, sdxl, AS_BASE)
    assert "Its use restrictions" not in body(own.card) and own.notes == ()


def test_without_a_licence_the_card_still_states_the_licence_of_the_base(workspace):
    card = planned(workspace, "black-forest-labs/FLUX.1-dev", "").card
    assert "license" not in front(card) and "No licence was chosen." in body(card) and "also covers LoRAs trained on the model" in body(card)
