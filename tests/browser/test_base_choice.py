"""Choosing a base in the browser: its settings, LoRAs that do not fit, and no download before Generate is pressed."""

import json
from collections import Counter

import pytest
from playwright.sync_api import expect

from tests.trained import finished_run

FLUX = "black-forest-labs/FLUX.1-dev"


@pytest.fixture(scope="module")
def app(new_app):
    """Other tests begin without runs."""
    return new_app


def choose(page, field: str, words: str) -> None:
    page.locator(f"{field} input").click()
    page.get_by_role("option", name=words).first.click()


def test_a_base_sets_its_sampling_defaults_and_sizes_and_hides_what_does_not_apply(open_page, keep, hub):
    page = open_page()
    before = len(hub.seen)
    page.get_by_role("button", name="More settings").first.click()
    choose(page, "#generate-base", "FLUX.1 dev")
    expect(page.get_by_label("number input for Steps")).to_have_value("28")
    expect(page.get_by_label("number input for Guidance scale")).to_have_value("3.5")
    expect(page.locator("#shape")).to_contain_text("Portrait 832 x 1216")
    expect(page.locator("#negative")).to_be_hidden()
    expect(page.locator(".loras li.off")).to_have_count(1)
    expect(page.locator("#generate-messages")).to_contain_text("Press Generate to download it")
    keep(page, "base-flux")
    page.locator(".loras .x").first.click()
    expect(page.locator("#generate-messages")).to_contain_text("is not on this computer yet")
    assert [each for each in hub.seen[before:] if FLUX in each.path] == []
    page.get_by_role("button", name="Put Dusk back").click()
    page.get_by_role("button", name="Switch to").first.click()
    expect(page.locator("#generate-base input")).to_have_value("Small world (ships with the studio)")
    expect(page.get_by_label("number input for Steps")).to_have_value("20")
    expect(page.locator("#negative")).to_be_visible()
    expect(page.locator(".loras li.off")).to_have_count(0)


def test_the_licence_follows_the_lora_until_the_user_chooses_one(open_page, keep, app):
    workspace = app.home.workspace("local")
    finished_run(workspace, f"model.base_model={FLUX}", f"model.revision={'a' * 40}", title="Flux ink")
    finished_run(workspace, "model.base_model=krea/Krea-2-Raw", f"model.revision={'a' * 40}", title="Wide ink")
    page = open_page()
    page.get_by_role("tab", name="Publish").click()
    choose(page, "#publish-adapter", "Flux ink")
    expect(page.locator("#licence input")).to_have_value("The same as its base")
    expect(page.locator("#about-licence")).to_contain_text("for non-commercial use")
    choose(page, "#publish-adapter", "Wide ink")
    expect(page.locator("#repo input, #repo textarea").first).to_have_value("krea-wide-ink")
    expect(page.locator("#about-licence")).to_contain_text("Krea 2 Community License")
    choose(page, "#licence", "MIT")
    expect(page.locator("#about-licence")).to_contain_text("does not allow MIT")
    keep(page, "licence-refused")
    choose(page, "#publish-adapter", "Flux ink")
    expect(page.locator("#about-licence")).to_contain_text(
        "FLUX.1 [dev] (FLUX.1 [dev] Non-Commercial License) also covers LoRAs and does not allow MIT"
    )
    seen = Counter()
    page.on("request", lambda each: seen.update([json.loads(each.post_data)["fn_index"]]) if "queue/join" in each.url else None)
    page.wait_for_timeout(4000)
    again = [count for _, count in seen.most_common()[1:] if count > 2]
    assert again == [], "only the poll repeats requests"
