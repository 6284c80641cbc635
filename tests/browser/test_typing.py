"""Typing and clicking faster than the server answers: what the field shows in the end is what is stored."""

import pytest
from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from tests.browser.conftest import started, wait_until

WORD = "#trigger-word textarea, #trigger-word input"
FAST_MS = 30


@pytest.fixture(scope="module")
def app(tmp_path_factory, hub):
    """A server that needs a second to store a trigger word."""
    yield from started(tmp_path_factory.mktemp("slow"), hub, ["-m", "tests.browser.slow_app"])


@pytest.fixture
def dataset(app) -> Dataset:
    return Dataset.from_samples(app.home.workspace("local"), "style")


@pytest.fixture
def page(open_page, dataset):
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator(WORD)).to_have_value("ohwx")
    return page


def stored(app, dataset: Dataset) -> str:
    return Dataset.open(app.home.workspace("local"), dataset.id).trigger_word


def wait_until_stored(page, app, dataset: Dataset, word: str) -> None:
    for _ in range(80):
        if stored(app, dataset) == word:
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(1200)
    assert stored(app, dataset) == word


def test_a_word_typed_on_a_slow_server_is_stored_whole(page, app, dataset):
    page.locator(WORD).fill("")
    page.locator(WORD).press_sequentially("emjxa", delay=FAST_MS)
    wait_until_stored(page, app, dataset, "emjxa")


def test_a_word_typed_after_a_suggestion_wins(page, app, dataset):
    page.get_by_role("button", name="Suggest one").click()
    wait_until(page, f"document.querySelector('{WORD}').value !== 'ohwx'")
    page.locator(WORD).fill("")
    page.locator(WORD).press_sequentially("emjxa", delay=FAST_MS)
    expect(page.locator(WORD)).to_have_value("emjxa")
    wait_until_stored(page, app, dataset, "emjxa")


def test_an_event_is_answered_while_the_stream_of_the_last_one_ends(page):
    page.locator("#new-dataset").click()
    expect(page.locator("#drop-images .dropzone")).to_be_visible()
    page.get_by_role("button", name="Suggest one").click()
    expect(page.locator(WORD)).not_to_have_value("ohwx", timeout=10_000)


def expect_marked_for_good(page) -> None:
    """A learning rate of 50 is refused under its field, and still is after every answer."""
    error = page.locator("#setting-training-learning_rate .field-error")
    page.locator("#setting-training-learning_rate input").fill("50")
    expect(error).to_be_visible()
    page.wait_for_timeout(2500)
    expect(error).to_be_visible()


def test_a_value_that_does_not_fit_stays_marked_when_an_older_answer_comes_late(page):
    page.get_by_role("tab", name="Train").click()
    expect_marked_for_good(page)
    expect(page.locator("#start-training")).to_be_disabled()


def test_what_is_typed_while_the_form_is_filled_stays_and_the_costs_follow_it(page):
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#costs")).to_contain_text("360 steps")
    page.wait_for_timeout(1500)
    page.locator("#base-cards label", has_text="Stable Diffusion 1.5").click()
    prompts = page.locator("#sample-prompts textarea")
    prompts.fill("a heron")
    page.locator("#steps input").fill("77")
    expect(page.locator("#preset input")).to_have_value("Style, best (Stable Diffusion 1.5)")
    page.wait_for_timeout(1500)
    expect(prompts).to_have_value("a heron")
    expect(page.locator("#steps input")).to_have_value("77")
    expect(page.locator("#costs")).to_contain_text("77 steps")
    # Of the base that was chosen; the small one trains in a known time.
    expect(page.locator("#costs")).to_contain_text("time shown after the first steps")


LATE = """() => {
  const fetch = window.fetch;
  let late = true;
  window.fetch = async (...request) => {
    const delayed = late && String(request[0]).includes('/queue/join');
    if (delayed) late = false;
    const answer = await fetch(...request);
    if (delayed) await new Promise((resume) => setTimeout(resume, 1500));
    return answer;
  };
}"""


def test_a_late_answer_does_not_replace_that_to_a_later_call(page):
    """The confirmation of the first call, that of opening the tab, is late, and with it its answer."""
    page.evaluate(LATE)
    page.get_by_role("tab", name="Train").click()
    expect_marked_for_good(page)


TYPE_AT_ONCE = """() => new MutationObserver((_, observer) => {
  const field = document.querySelector('#setting-training-learning_rate input');
  if (!field) return;
  observer.disconnect();
  field.value = '50';
  field.dispatchEvent(new Event('input', {bubbles: true}));
}).observe(document.body, {childList: true, subtree: true})"""


def test_what_is_typed_as_soon_as_the_field_is_there_stays(page):
    """Gradio fills the fields of a tab that opens after they are there."""
    page.evaluate(TYPE_AT_ONCE)
    page.get_by_role("tab", name="Train").click()
    rate = page.locator("#setting-training-learning_rate")
    expect(rate.locator(".field-error")).to_be_visible(timeout=15_000)
    page.wait_for_timeout(1500)
    expect(rate.locator("input")).to_have_value("50")


CACHES = """() => {
  const fetch = window.fetch;
  window.asked = [];
  window.fetch = (request, ...options) => {
    if (String(request.url).includes('/queue/data')) window.asked.push(request.cache);
    return fetch(request, ...options);
  };
}"""


def test_no_stream_of_answers_is_asked_for_twice(open_page, dataset):
    """Chromium's cache may send a second request for the same stream twice. Only one of the two is read; answers on the other are lost."""
    page = open_page()
    page.evaluate(CACHES)
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator(WORD)).to_have_value("ohwx")
    assert set(page.evaluate("window.asked")) == {"no-store"}
