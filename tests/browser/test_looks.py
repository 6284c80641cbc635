"""Every tab at three widths, light and dark: no horizontal scrolling, few primary buttons, no errors. Screenshots are kept."""

import pytest

from studio.ui.tabs import dataset, generate, publish, train

TABS = [tab.TITLE for tab in (generate, dataset, train, publish)]
SIZES = {1440: 900, 768: 1024, 360: 780}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_every_tab_fits(open_page, keep, width, theme):
    page = open_page(width, SIZES[width], theme)
    page.wait_for_timeout(800)
    for title in TABS:
        page.get_by_role("tab", name=title).click()
        page.wait_for_timeout(500)
        keep(page, f"{title.split()[0].lower()}-{width}-{theme}")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, f"{title} is wider than {width} px"
        assert page.locator("button.primary:visible").count() <= 2


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


def test_every_control_has_a_name(open_page):
    page = open_page()
    for title in TABS:
        page.get_by_role("tab", name=title).click()
        page.wait_for_timeout(400)
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input:not([type=file]):not([type=hidden]), textarea, select')].filter(e => e.offsetParent
                && !e.innerText?.trim() && !e.ariaLabel && !e.title && !e.labels?.length && !e.placeholder && !e.closest('[aria-hidden=true]')
                && !e.getAttribute('aria-labelledby')).map(e => e.outerHTML.slice(0, 160))"""
        )
        assert nameless == [], title
