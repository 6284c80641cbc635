"""How many clicks lead from the first start to an image drawn with a LoRA of one's own, and what must be typed on the way: nothing."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from studio import builtin
from tests.browser.conftest import drop, started, wait_until

COUNT = """
addEventListener('click', event => { if (event.isTrusted) window.clicks = (window.clicks ?? 0) + 1; }, true);
addEventListener('keydown', () => { window.typed = true; }, true);
"""
"""In the page, which is loaded once on the way."""
SHORTER = "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); }"
"""A test has no time for the default steps and sample prompts; this is no click."""
DRAWN = """() => ['#base-image', '#stack-image'].every(panel =>
  document.querySelector(panel + ' img')?.complete && !document.querySelector(panel + ' .busy'))"""


@pytest.fixture
def app(tmp_path, hub):
    """Each way begins at the first start."""
    yield from started(tmp_path, hub)


@pytest.fixture
def page(open_page):
    opened = open_page(height=1000)
    opened.evaluate(COUNT)
    return opened


def train_and_try(page) -> None:
    page.get_by_role("button", name="Train with this dataset").click()
    page.locator("#steps input").evaluate(SHORTER, "4")
    page.locator("#sample-prompts textarea").evaluate(SHORTER, "a red house")
    page.locator("#start-training").click()
    expect(page.locator("#run-head .state")).to_have_text("Finished", timeout=300_000)
    before = page.locator("#stack-image img").get_attribute("src")
    page.locator("#try-it").click()
    expect(page.locator("#stack-image img")).not_to_have_attribute("src", before)
    wait_until(page, DRAWN)
    assert not page.evaluate("window.typed")


@pytest.mark.timeout(600)
def test_four_clicks_with_the_sample_images(page, keep):
    expect(page.locator("#first-samples .sample")).to_have_count(2)
    keep(page, "first-start", whole=False)
    page.locator("#first-samples [data-sample=style]").click()
    expect(page.locator(".captioned")).to_have_count(16)
    train_and_try(page)
    assert page.evaluate("window.clicks") <= 4
    expect(page.locator("#first-samples .sample")).to_have_count(0)


@pytest.mark.timeout(600)
def test_six_clicks_with_own_images_and_a_drop_is_one(page):
    page.locator("#make-your-own").click()
    files: list[Path] = sorted(builtin.SAMPLES["character"].glob("*.png"))
    expect(page.locator("#drop-images .dropzone")).to_be_visible()
    drop(page, "#drop-images .dropzone", {path.name: path.read_bytes() for path in files})
    expect(page.locator(".captioned")).to_have_count(len(files))
    page.get_by_role("button", name="Write captions").click()
    expect(page.locator("#dataset-message")).to_contain_text("written")
    train_and_try(page)
    assert page.evaluate("window.clicks") + 1 <= 6
