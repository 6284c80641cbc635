"""A run in the browser: stopped with everything saved, resumed, finished; removed and restored."""

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset


@pytest.mark.timeout(900)
def test_stop_resume_remove_and_restore(open_page, keep, app):
    workspace = app.home.workspace("local")
    Dataset.from_samples(workspace, "character")
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#start-training")).to_be_visible()
    page.locator("button:visible", has_text="All settings").click()
    page.get_by_label("Run name").fill("Stop and go")
    page.locator("#steps input").fill("16")
    # Most of the time of a run this short are its samples.
    page.locator("#sample-prompts textarea").fill("a large sks in the snow")
    page.get_by_role("radio", name="64", exact=True).check()
    expect(page.locator("#alpha input")).to_have_attribute("placeholder", "64")
    page.locator("#start-training").click()
    head = page.locator("#run-head")
    expect(head).to_contain_text("Stop and go")
    expect(head).to_contain_text("s per step", timeout=240_000)
    page.locator("#stop-run").click()
    expect(head.locator(".state")).to_have_text("Stopped, everything saved", timeout=240_000)
    keep(page, "run-stopped")
    page.locator("#resume-run").click()
    expect(head.locator(".state")).to_have_text("Finished", timeout=240_000)
    runs = page.locator(".runs li")
    before = runs.count()
    runs.first.locator(".x").click()
    expect(runs).to_have_count(before - 1)
    page.get_by_role("button", name="Restore Stop and go").click()
    expect(runs).to_have_count(before)
