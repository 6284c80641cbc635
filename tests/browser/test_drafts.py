"""Nothing typed is lost: not to a restart in the middle of a word, a reload, another version of the text, or a browser without storage."""

import json
import time

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from tests.browser.conftest import wait_until

DRAFTS = "() => Object.fromEntries(Object.entries(localStorage).map(([name, draft]) => [name.split(':').slice(2).join(':'), JSON.parse(draft)]))"
SETTLED = "() => Number(document.querySelector('#place i')?.dataset.answers) > 0 || !!document.querySelector('#place i')?.dataset.dataset"


WORD_TIMEOUT_MS = 5000
"""As in forms.js."""


@pytest.fixture(scope="module")
def app(new_app):
    """A studio of its own, because it is killed."""
    Dataset.from_samples(new_app.home.workspace("local"), "character")
    return new_app


def dataset_of(app) -> Dataset:
    return Dataset.all(app.home.workspace("local"))[0]


RELOAD_WITH_THE_NEXT_IMAGE = """
new MutationObserver(() => {
  const [image, known] = [document.querySelector("#stack-image img[src*='/file/image/']"), new URLSearchParams(location.search).get("image")];
  if (known && image && !image.src.includes(known) && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "1");
    location.reload();
  }
}).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["src"]});
"""


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def opened(page) -> None:
    """Wait until the page shows what it opened with and keeps drafts."""
    wait_until(page, SETTLED)
    page.wait_for_timeout(500)


def draft(page, key: str) -> dict | None:
    return page.evaluate(DRAFTS).get(key)


def test_a_restart_in_the_middle_of_a_word_keeps_prompt_form_tab_and_trigger_word(open_page, app, keep):
    page = open_page()
    opened(page)
    page.locator("#prompt textarea").fill("a red boat at night")
    page.locator("#stack input[type=checkbox]").first.uncheck()
    open_tab(page, "Train")
    page.get_by_role("radio", name="64", exact=True).check()
    expect(page.locator("#alpha input")).to_have_attribute("placeholder", "64")
    page.locator("#steps input").fill("77")
    open_tab(page, "Images & captions")
    word = page.locator("#trigger-word").locator("input, textarea")
    word.press_sequentially("em")
    page.wait_for_timeout(600)
    app.kill()
    word.press_sequentially("jx", delay=30)
    banner = page.locator("#banners")
    expect(banner).to_contain_text("The studio is not answering. What you type is kept in this browser and restored when it is back.")
    expect(page.locator(".toast-body:visible")).to_have_count(0)
    action = page.locator("#suggest-word, #write-captions").first
    expect(action).to_be_disabled()
    assert "works again when it is back" in action.get_attribute("title")
    keep(page, "away")
    word.press_sequentially("a", delay=30)
    app.start()
    expect(banner.get_by_text("not answering")).to_have_count(0)
    opened(page)
    assert "tab=dataset" in page.url
    expect(word).to_have_value("sksemjxa")
    ends = time.monotonic() + 30
    while dataset_of(app).trigger_word != "sksemjxa" and time.monotonic() < ends:
        page.wait_for_timeout(100)
    assert dataset_of(app).trigger_word == "sksemjxa"
    dataset_of(app).set_trigger_word("sks")
    open_tab(page, "Train")
    expect(page.locator("#steps input")).to_have_value("77")
    expect(page.get_by_role("radio", name="64", exact=True)).to_be_checked()
    expect(page.locator("#alpha input")).to_have_attribute("placeholder", "64")
    open_tab(page, "Generate")
    expect(page.locator("#prompt textarea")).to_have_value("a red boat at night")
    expect(page.locator("#stack input[type=checkbox]").first).not_to_be_checked()


def test_a_reload_while_a_new_image_arrives_keeps_what_was_typed(open_page, app):
    """It opens the address of the image before, whose draft the new one has taken over."""
    page = open_page()
    opened(page)
    page.add_init_script(RELOAD_WITH_THE_NEXT_IMAGE)
    page.reload()
    opened(page)
    page.locator("#prompt textarea").fill("a red boat at night")
    page.get_by_role("button", name="Generate", exact=True).click()
    wait_until(page, "new URLSearchParams(location.search).has('image')")
    page.locator("#prompt textarea").fill("a green house")
    with page.expect_event("domcontentloaded"):
        page.get_by_role("button", name="Generate", exact=True).click()
    opened(page)
    expect(page.locator("#prompt textarea")).to_have_value("a green house")


def test_a_word_that_was_changed_elsewhere_is_shown_beside_the_draft(open_page, app):
    page = open_page()
    opened(page)
    dataset = dataset_of(app)
    key = f"trigger:{dataset.id}"
    name = page.evaluate("document.querySelector('script[data-drafts]').dataset.drafts")
    kept = json.dumps({"value": "mine", "base": ["older"], "at": time.time() * 1000})
    page.evaluate("([name, draft]) => localStorage.setItem(name, draft)", [f"studio-draft:{name}:{key}", kept])
    page.goto(f"{app.url}?tab=dataset")
    expect(page.locator("#banners")).to_contain_text(f"“{dataset.trigger_word}” is saved, “mine” was typed here.")
    assert dataset_of(app).trigger_word == dataset.trigger_word
    page.get_by_role("button", name=f"Keep “{dataset.trigger_word}”").click()
    assert draft(page, key) is None


def test_a_draft_of_a_word_is_not_typed_into_another_dataset(open_page, app):
    first = dataset_of(app)
    page = open_page()
    opened(page)
    name = page.evaluate("document.querySelector('script[data-drafts]').dataset.drafts")
    kept = json.dumps({"value": "mine", "base": [first.trigger_word], "at": time.time() * 1000})
    page.evaluate("([name, draft]) => localStorage.setItem(name, draft)", [f"studio-draft:{name}:trigger:{first.id}", kept])
    second = Dataset.from_samples(app.home.workspace("local"), "style")
    page.goto(f"{app.url}?dataset={first.id}&tab=train")
    page.locator("#dataset-cards label", has_text=second.title).click()
    page.wait_for_timeout(WORD_TIMEOUT_MS)
    open_tab(page, "Images & captions")
    page.wait_for_timeout(1500)
    expect(page.locator("#trigger-word :is(input, textarea)")).to_have_value("ohwx")
    assert Dataset.open(app.home.workspace("local"), second.id).trigger_word == "ohwx"
    app.home.workspace("local").erase(app.home.workspace("local").remove(second.path))


def test_drafts_expire_stay_small_and_never_hold_a_token(open_page, app):
    page = open_page()
    opened(page)
    old = {"value": {"prompt": "from last month"}, "base": "", "at": (time.time() - 15 * 86400) * 1000}
    name = page.evaluate("document.querySelector('script[data-drafts]').dataset.drafts")
    page.evaluate("([name, draft]) => localStorage.setItem(name, draft)", [f"studio-draft:{name}:form:generate:", json.dumps(old)])
    page.reload()
    opened(page)
    assert draft(page, "form:generate:") is None
    page.locator("#prompt textarea").fill("a boat" * 200_000)
    expect(page.locator("#banners")).to_contain_text("at most 2 MB")
    page.locator("#prompt textarea").fill("a boat")
    expect(page.locator("#banners")).not_to_contain_text("at most 2 MB")
    # The fields of the Publish tab are hidden until there is a run.
    page.evaluate(
        """() => {
          const secret = Object.assign(document.createElement('div'), {id: 'repo', innerHTML: '<input type=password value="hf_secret_token">'});
          document.querySelector('#tab-generate').append(secret);
          secret.firstChild.dispatchEvent(new Event('focusin', {bubbles: true}));
          secret.firstChild.value = 'hf_another_token';
          secret.firstChild.dispatchEvent(new Event('input', {bubbles: true}));
        }"""
    )
    page.wait_for_timeout(700)
    assert "hf_" not in page.evaluate("JSON.stringify(localStorage)")
    page.evaluate(
        """() => {
          const link = Object.assign(document.createElement('a'), {href: '/logout', id: 'out'});
          link.addEventListener('click', event => event.preventDefault());
          document.body.append(link);
          link.click();
        }"""
    )
    assert page.evaluate(DRAFTS) == {}


def test_the_page_works_in_a_browser_without_storage(browser, app):
    page = browser.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('refused', 'SecurityError'); }});")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{app.url}?tab=train")
    expect(page.locator("#start-training")).to_be_visible()
    page.locator("#steps input").fill("12")
    expect(page.locator("#steps input")).to_have_value("12")
    page.close()
    assert errors == []
