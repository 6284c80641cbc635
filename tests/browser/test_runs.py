"""A run in the browser: stopped with everything saved, resumed, finished; removed and restored."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from tests.trained import finished_run


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
    expect(page.locator("#run-title input")).to_have_value("Stop and go")
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


@pytest.mark.timeout(300)
def test_a_run_is_renamed_starred_and_downloaded_and_publish_follows_it(open_page, keep, app):
    workspace = app.home.workspace("local")
    older, newer = (finished_run(workspace, title=f"{age} face") for age in ("Older", "Newer"))
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("tab", name="Watch").click()
    page.locator(f"#run-list [data-click=open][data-run='{older.id}']").click()
    name = page.locator("#run-title input")
    expect(name).to_have_value("Older face")
    name.fill("Night <ink>")
    name.press("Enter")
    cards = page.locator("#run-list .runs li")
    expect(cards.filter(has_text="Night <ink>")).to_have_count(1)
    page.locator("#run-title .star").click()
    expect(cards.first).to_contain_text("★ Night <ink>")
    page.get_by_role("button", name="Star step 100").click()
    expect(page.get_by_role("button", name="Star step 100")).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the LoRA of step 100").click()
    assert download.value.suggested_filename == "night-ink-100.safetensors"
    assert Path(download.value.path()).read_bytes() == older.adapter_at(100).read_bytes()
    keep(page, "run-watch")
    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#publish-card")).to_contain_text("Night <ink>")
    expect(page.locator("#repo input, #repo textarea").first).to_have_value("night-ink")
    newer.append({"kind": "started", "step": 100, "total": 200})
    newer.append({"kind": "stopped", "step": 120})
    page.get_by_role("tab", name="Train").click()
    page.locator(f"#run-list [data-click=open][data-run='{newer.id}']").click()
    expect(name).to_have_value("Newer face")
    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#publish-reason")).to_contain_text("“Newer face” is not finished")
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Add a LoRA").click()
    page.locator(f"#add-own [data-run='{older.id}']").click()
    expect(page.locator(".loras li").last).to_contain_text("Night <ink>")
