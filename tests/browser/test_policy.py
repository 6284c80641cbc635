"""The page under its Content-Security-Policy: normal use violates nothing and logs no error, injected content is refused."""

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from tests.browser.conftest import WATCH, violations
from tests.trained import finished_run


@pytest.fixture
def watched(browser, app):
    """watched() -> (page, errors): a page that records policy violations, and errors and warnings of its console."""
    contexts = []

    def open_one():
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page, errors = context.new_page(), []
        page.set_default_timeout(30_000)
        page.add_init_script(WATCH)
        page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app.url)
        page.get_by_role("button", name="Generate", exact=True).wait_for()
        return page, errors

    yield open_one
    for context in contexts:
        context.close()


def test_normal_use_of_every_tab_violates_nothing(watched, app):
    """Pages of the other browser tests, phones among them, are watched too."""
    workspace = app.home.workspace("local")
    runs = [finished_run(workspace, title=f"Policy {number}") for number in range(2)]
    for run in runs:
        for step in range(201, 240):
            run.append({"kind": "step", "step": step, "loss": 1 / step, "seconds_per_step": 0.3})
    Dataset.from_samples(workspace, "style")
    page, errors = watched()

    # Generate: a weight, a trigger word, everything that folds.
    page.locator(".loras input[type=range]").first.evaluate(
        "range => { range.value = 0.4; for (const kind of ['input', 'change']) range.dispatchEvent(new Event(kind, {bubbles: true})); }"
    )
    expect(page.locator(".loras output").first).to_have_text("0.40")
    page.locator("#trigger-words .chip").first.click()
    for name in ("Add a LoRA", "More settings"):
        page.get_by_role("button", name=name).first.click()
    page.locator("#generate-base input").click()
    page.keyboard.press("Escape")

    page.get_by_role("tab", name="Images & captions").click()
    box = page.locator(".captioned textarea").first
    box.fill("ohwx illustration of a kite")
    expect(page.locator(".captioned .status").first).to_have_text("saved")
    page.locator(".captioned .undo").first.click()
    page.locator("#new-dataset").click()

    page.get_by_role("tab", name="Train", exact=True).click()
    for name in ("Try several values", "All settings", "Save and import settings"):
        page.get_by_role("button", name=name).locator("visible=true").first.click()
    page.get_by_role("tab", name="Watch").click()
    page.locator("[data-click=copy]").click()
    expect(page.locator("#start-training")).to_be_visible()
    page.get_by_role("tab", name="Watch").click()
    for run in runs:
        page.locator(f"#run-list [data-change=pick][data-run='{run.id}']").check()
        expect(page.locator(f"#run-list [data-change=pick][data-run='{run.id}']")).to_be_checked()
    page.locator("[data-click=compare]").click()
    expect(page.locator("svg.curves")).to_be_visible()
    page.locator("#compare-back").click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator(f"#run-list [data-click=remove][data-run='{runs[0].id}']").click()
    page.locator("#removed-runs [data-click=erase]").first.click()
    page.locator("#removed-runs [data-click=restore]").first.click()
    expect(page.locator(f"#run-list [data-run='{runs[0].id}'].open")).to_be_visible()

    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#card-body")).to_contain_text("Policy")
    page.get_by_role("button", name="More for the model card").click()
    page.locator("#licence input").click()
    page.keyboard.press("Escape")
    assert violations(page) == [] and errors == []
    # Gradio's own view logs a file that it does not find.
    page.get_by_label("Settings and help").click()
    page.get_by_role("button", name="Use via API").click()
    expect(page.locator("#start-api-recorder")).to_be_visible()
    assert violations(page) == []


INJECTED = {
    "a handler in HTML": "document.body.insertAdjacentHTML('beforeend', '<button onclick=\"window.ran = 1\">')",
    "an inline script": "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))",
    "a script from elsewhere": "document.body.append(Object.assign(document.createElement('script'), {src: 'https://example.com/x.js'}))",
    "an image from elsewhere": "document.body.append(Object.assign(new Image(), {src: 'https://example.com/x.png'}))",
    "a base from elsewhere": "document.head.append(Object.assign(document.createElement('base'), {href: 'https://example.com/'}))",
    "a request to elsewhere": "fetch('https://example.com/').catch(() => 0)",
    "a frame": "document.body.append(Object.assign(document.createElement('iframe'), {src: 'https://example.com/'}))",
}


def test_injected_content_is_refused(watched):
    page, _ = watched()
    for number, (name, code) in enumerate(INJECTED.items(), 1):
        page.evaluate(code)
        assert len(violations(page)) == number and not page.evaluate("window.ran"), name


def test_only_the_strings_of_the_page_are_compiled(watched):
    page, _ = watched()
    # Delayed, because code evaluated directly by a debugger is outside the policy.
    attempts = """() => new Promise(done => setTimeout(() => done(
        ['return 1', 'return `${value}${window}`;', 'return "a" + "b";'].map(text => {
            try { return Function('value', text)('x'); } catch (error) { return error.name; } })), 0))"""
    assert page.evaluate(attempts) == ["EvalError"] * 3
    assert page.evaluate("Function('label', 'value', 'return `${value}`;')('no', '<b>`${1}')") == "<b>`${1}"
    assert page.evaluate("Function instanceof Object && (() => 0) instanceof Function && (() => 0).constructor !== Function")
