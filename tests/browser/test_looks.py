"""Every tab at three widths, light and dark: no horizontal scrolling, no text outside of its button, no violation that axe finds. Screenshots are
kept."""

import json
import os
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from studio.jobs.queue import Jobs
from studio.ui.tabs import dataset, generate, publish, train
from tests.browser.conftest import missing, wait_until
from tests.trained import finished_run

TABS = [tab.TITLE for tab in (generate, dataset, train, publish)]
SIZES = {1440: 900, 1024: 768, 390: 844}
CUT = """[...document.querySelectorAll('button, a.tool, .tool')].filter(each => each.checkVisibility()
    && (each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 2)).map(each => each.outerHTML.slice(0, 160))"""
"""Buttons whose text stands outside."""
AXE = "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 160))]))"


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core as a script."""
    try:
        import axe_playwright_python
    except ImportError:
        missing("There is no axe-core; install tests/requirements.txt.")
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def states(app):
    """A dataset, and runs that are finished, failed and interrupted."""
    workspace = app.home.workspace("local")
    Dataset.from_samples(workspace, "character")
    finished, failed, interrupted = (finished_run(workspace, title=title) for title in ("Looks finished", "Looks failed", "Looks interrupted"))
    retries = [{"title": "a smaller batch", "set": {"training.train_batch_size": 1}}]
    failed.append({"kind": "failed", "step": 200, "message": "The GPU ran out of memory at step 200.", "retries": retries})
    interrupted.append({"kind": "started", "step": 200, "total": 400, "resumed": True, "time": 2000.0})
    return {"finished": finished, "failed": failed, "interrupted": interrupted}


RUNNING = """INSERT INTO jobs (owner, kind, payload, key, created, started, ticks, pid, state) VALUES ('local', 'train', ?, ?, ?, ?, ?, ?, 'running')
RETURNING *"""


@pytest.fixture
def training(app):
    """A run in training, as long as the test runs."""
    run = finished_run(app.home.workspace("local"), "training.max_train_steps=400", title="Looks training")
    run.append({"kind": "started", "step": 200, "total": 400, "resumed": True, "time": 2000.0})
    run.append({"kind": "step", "step": 300, "loss": 0.08, "seconds_per_step": 0.3, "time": 2030.0})
    jobs = Jobs(app.home.database)
    # Running from its first moment: the studio's own worker would train a run that waits.
    job = jobs._table.fetch_one(RUNNING, json.dumps({"run": run.id}), run.job_key, time.time(), time.time(), time.monotonic(), os.getpid())
    jobs.progress(job["id"], 300, 400, 30.0, "Training")
    yield run
    jobs.finish(job["id"], {})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_every_tab_fits(open_page, keep, axe, states, width, theme):
    # The policy refuses scripts of others, and so axe; test_policy.py watches it.
    page = open_page(width, SIZES[width], theme, bypass_csp=True)
    page.evaluate(axe)
    wait_until(page, "document.querySelector('.rooms [role=tab][aria-selected=true]')")
    for title in TABS:
        page.get_by_role("tab", name=title, exact=True).click()
        expect(page.locator(".lead h1:visible")).to_have_count(1)
        page.wait_for_timeout(500)
        keep(page, f"{title.split()[0].lower()}-{width}-{theme}")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, f"{title} is wider than {width} px"
        assert page.evaluate(CUT) == [], title
        assert page.locator("button.primary:visible").count() <= 2
        # Names and roles do not depend on the width.
        assert width != 1440 or page.evaluate(AXE) == [], title


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_every_state_of_a_run_fits(open_page, keep, axe, states, training, width, theme):
    page = open_page(width, SIZES[width], theme, bypass_csp=True)
    page.evaluate(axe)
    page.get_by_role("tab", name=train.TITLE, exact=True).click()
    page.get_by_role("tab", name="Watch", exact=True).click()
    for state, run in {**states, "training": training}.items():
        page.locator(f"#run-list [data-run='{run.id}'].open").click()
        expect(page.locator("#run-title .rename")).to_have_value(run.title)
        keep(page, f"run-{state}-{width}-{theme}")
        assert page.evaluate(CUT) == [], state
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, state
        assert page.evaluate(AXE) == [], state


def test_the_theme_is_chosen_in_the_corner_and_kept(open_page, app):
    page = open_page(theme="light")
    dark = "document.body.classList.contains('dark')"
    page.get_by_label("Settings and help").click()
    expect(page.locator(".about-box")).to_contain_text(str(app.home.root))
    light = page.locator("#about input[value=light]")
    expect(light).to_be_checked()
    light.press("ArrowRight")
    assert page.evaluate(dark) is True
    page.goto(app.url)
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    wait_until(page, dark)


def test_an_edited_dataset_does_not_change_the_theme(open_page, app):
    Dataset.from_samples(app.home.workspace("local"), "character")
    page = open_page(theme="light")
    page.get_by_label("Settings and help").click()
    page.locator("#about input[value=light]").press("ArrowRight")
    page.get_by_role("tab", name=dataset.TITLE, exact=True).click()
    page.locator("#dataset-subject").get_by_label("A style").check()
    page.locator("#dataset-title").locator("input, textarea").fill("Little one")
    page.locator("#dataset-title").locator("input, textarea").press("Tab")
    assert page.evaluate("document.body.classList.contains('dark') && localStorage.getItem('lora-studio-theme')") == "dark"


def test_no_request_leaves_this_computer(browser, app):
    context = browser.new_context()
    page = context.new_page()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(app.url)
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    page.wait_for_timeout(1500)
    context.close()
    assert [url for url in requested if not url.startswith((app.url, "data:", "blob:"))] == []
