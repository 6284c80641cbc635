"""Several runs in the browser: queued by a sweep, reordered with the keyboard, removed from the queue; and a comparison of two."""

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from tests.browser.conftest import wait_until
from tests.trained import finished_run


def titles(page) -> list[str]:
    return page.locator(".queue .open b").all_inner_texts()


@pytest.mark.timeout(900)
def test_three_runs_of_a_sweep_wait_in_the_order_the_user_sets(open_page, keep, app):
    Dataset.from_samples(app.home.workspace("local"), "style")
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    page.locator("#steps input").fill("2000")
    page.locator("button:visible", has_text="All settings").click()
    page.get_by_label("Run name").fill("Sample style")
    page.locator("button:visible", has_text="Try several values").click()
    page.locator("#sweep-values").get_by_role("textbox").fill("4, 8, 16")
    expect(page.locator("#sweep")).to_contain_text("3 runs, ")
    page.get_by_role("button", name="Queue 3 runs").dblclick()
    expect(page.locator("#run-list .runs li", has_text="Sample style, rank")).to_have_count(3)
    # The first starts at once; the two others wait.
    expect(page.locator(".queue li")).to_have_count(2, timeout=240_000)
    expect(page.locator("#queue")).to_contain_text("Now: Sample style, rank 4")
    up = page.get_by_role("button", name="Move Sample style, rank 16 up")
    up.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".queue li").first).to_contain_text("rank 16")
    assert titles(page) == ["Sample style, rank 16", "Sample style, rank 8"]
    assert "rank 16" in page.evaluate("document.activeElement.ariaLabel"), "the focus follows the moved job"
    keep(page, "queue")
    page.reload()
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#run-title input")).to_have_value("Sample style, rank 4")
    for rank in (16, 8):
        page.get_by_role("button", name=f"Remove Sample style, rank {rank} from the queue").click()
        expect(page.locator("#run-list .runs li", has_text=f"Sample style, rank {rank}")).to_contain_text("Not started, 2,000 steps")
    page.locator("#run-list .open", has_text="Sample style, rank 8").click()
    expect(page.locator("#resume-run")).to_have_text("Start")
    page.locator("#run-list .open", has_text="Sample style, rank 4").click()
    page.locator("#stop-run").click()
    expect(page.locator(".jobbar")).to_have_count(0, timeout=240_000)


def test_two_runs_are_compared(open_page, keep, app):
    workspace = app.home.workspace("local")
    runs = [finished_run(workspace, f"lora.rank={rank}", title=f"Beside {rank}") for rank in (8, 32)]
    page = open_page(360, 780, "dark")
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("tab", name="Watch").click()
    for run in runs:
        page.get_by_role("checkbox", name=f"Compare {run.title}").check()
    page.get_by_role("button", name="Compare 2 runs").click()
    expect(page.locator("#compare-settings")).to_contain_text("lora.rank")
    expect(page.locator("#compare-samples img")).to_have_count(6)
    expect(page.locator("#run")).to_be_hidden()
    wait_until(page, "[...document.querySelectorAll('#compare-samples img')].every(img => img.complete && img.naturalWidth)")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.locator("#compare-step input").click()
    page.get_by_role("option", name="step 100").click()
    expect(page.locator("#compare-samples img").first).to_have_attribute("alt", "ohwx illustration of a house, run 1, step 100")
    keep(page, "compare-phone-dark")
    page.get_by_role("button", name="Back to the runs").click()
    expect(page.locator("#run")).to_be_visible()
    for run in runs:
        workspace.remove(run.path)
