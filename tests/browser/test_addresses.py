"""Each tab, dataset, run and image has an address: for reload, Back and a link to a colleague."""

from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from studio.config.recipe import Recipe, add_recipe
from studio.datasets.dataset import Dataset
from studio.ui.opening import GONE
from tests.browser.conftest import wait_until
from tests.browser.test_drafts import open_tab, opened
from tests.trained import finished_run, png


@pytest.fixture(scope="module")
def app(new_app):
    return new_app


@pytest.fixture(scope="module")
def made(app):
    """Two datasets, two runs and an image, made beside the running studio."""
    workspace = app.home.workspace("local")
    first, second = Dataset.from_samples(workspace, "character"), Dataset.from_samples(workspace, "style")
    runs = [finished_run(workspace, title=title) for title in ("Older", "Newer")]
    workspace.image_path("picked").write_bytes(add_recipe(png(7), Recipe(prompt="a picked prompt", seed=41)))
    return SimpleNamespace(first=first, second=second, older=runs[0], newer=runs[1])


@pytest.fixture(scope="module")
def visit(browser, app, made):
    """visit(query): a page at this address."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()

    def go(query: str):
        page.goto(f"{app.url}?__theme=light{query}")
        opened(page)
        return page

    yield go
    context.close()


def at(page, *texts: str) -> None:
    """Wait until the address contains these texts."""
    wait_until(page, "texts => texts.every(text => location.search.includes(text))", list(texts))


def test_every_tab_opens_at_its_address_and_again_after_a_reload(visit, made):
    places = {
        f"&tab=dataset&dataset={made.first.id}": lambda page: page.locator(f"#captions [data-dataset='{made.first.id}']").first,
        f"&tab=train&run={made.older.id}": lambda page: page.locator("#run-title .rename[value=Older]"),
        f"&tab=publish&run={made.older.id}": lambda page: page.locator("#publish-adapter:visible"),
        "&tab=generate&image=picked": lambda page: page.locator("#stack-image img[src$='/image/picked']"),
    }
    for query, shown in places.items():
        page = visit(query)
        expect(shown(page)).to_be_visible()
        at(page, "__theme=light", *query.split("&"))
        page.reload()
        opened(page)
        expect(shown(page)).to_be_visible()
        at(page, *query.split("&"))
    expect(page.locator("#prompt textarea")).to_have_value("a picked prompt")


def test_moves_are_remembered_and_back_returns_to_each(visit, made):
    page = visit("")
    open_tab(page, "Train")
    at(page, "tab=train")
    open_tab(page, "Watch")
    at(page, "run=")
    page.locator(f"#run-list [data-click=open][data-run='{made.older.id}']").click()
    at(page, made.older.id)
    expect(page.locator("#run-title .rename")).to_have_value("Older")
    page.locator(f"#run-list [data-click=open][data-run='{made.newer.id}']").click()
    at(page, made.newer.id)
    page.go_back()
    expect(page.locator("#run-title .rename")).to_have_value("Older")
    # The newest run, which Watch shows first; the form; the page's first tab.
    page.go_back()
    page.go_back()
    expect(page.locator("#start-training")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("tab", name="Generate", exact=True)).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(page.locator("#start-training")).to_be_visible()
    at(page, "__theme=light", "tab=train")


def test_a_picked_image_has_an_address(visit, made, app):
    page = visit("")
    page.locator("#history [data-image=picked]").click()
    page.get_by_role("button", name="Restore its settings").click()
    at(page, "tab=generate", "image=picked")
    page.go_back()
    wait_until(page, "!location.search.includes('image=')")
    assert page.url.startswith(app.url), "picking is a move of its own"


@pytest.mark.parametrize("query", ["&tab=train&run=never", "&tab=generate&image=never"])
def test_what_is_gone_or_was_never_there_says_the_same(visit, query):
    page = visit(query)
    expect(page.locator("#banners")).to_contain_text(GONE)


def test_the_hub_is_asked_to_follow_inside_its_frame(visit, made, app):
    page = visit("")
    page.evaluate(
        """address => {
          window.asked = [];
          const frame = Object.assign(document.createElement('iframe'), {src: address, width: 1200, height: 800});
          document.body.replaceChildren(frame);
        }""",
        f"{app.url}?__theme=light&tab=dataset",
    )
    frame = page.frame_locator("iframe")
    frame.locator("#captions .captioned").first.wait_for()
    page.evaluate("() => { window.postMessage = (data, origin) => window.asked.push([data.queryString, origin]); }")
    frame.get_by_role("tab", name="Train", exact=True).click()
    wait_until(page, "() => window.asked.some(([query]) => query.includes('tab=train'))")
    query, origin = page.evaluate("window.asked.at(-1)")
    assert origin == "https://huggingface.co" and "__theme" not in query
