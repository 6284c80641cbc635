"""Dataset, base and goal as cards in the browser: arrow keys, and a base that was chosen by card comes back after a reload."""

import re

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from studio.jobs.queue import Jobs


@pytest.fixture(scope="module")
def app(new_app):
    """Other tests begin without this dataset."""
    return new_app


def test_arrow_keys_choose_a_card_and_a_chosen_base_survives_a_reload(open_page, app):
    Dataset.from_samples(app.home.workspace("local"), "style")
    page = open_page()
    page.goto(f"{app.url}?tab=train")
    best, quick, xl = (page.get_by_role("radio", name=name) for name in ("Best", "Quick", "Stable Diffusion XL"))
    expect(best).to_be_checked()
    best.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#preset input")).to_have_value("Style, quick (built-in model, one minute)")
    expect(quick).to_be_checked()
    expect(quick).to_be_focused()
    xl.check()
    expect(page.locator("#base input")).to_have_value("Stable Diffusion XL (14\u00a0GB to download)")
    expect(page.locator("#preset input")).to_have_value("Style, quick (Stable Diffusion XL)")
    # Passing over a card leaves no measurement of its memory behind.
    for name in ("Stable Diffusion 1.5", "Stable Diffusion XL", "FLUX.2 klein 4B"):
        page.get_by_role("radio", name=name).check()
        expect(page.locator("#base input")).to_have_value(re.compile(name.replace(".", r"\.")))
    xl.check()
    expect(page.locator("#costs")).to_contain_text("GB of memory")
    jobs = Jobs(app.home.database)
    for _ in range(100):
        # A process that is stopped needs a moment to end.
        states = {job.state for job in jobs.list(kinds=("estimate",))}
        if "running" not in states:
            break
        page.wait_for_timeout(100)
    assert states == {"done", "cancelled"}
    page.wait_for_timeout(1600)  # A draft reads the form again until then.
    page.reload()
    expect(xl).to_be_checked()
    expect(quick).to_be_checked()
