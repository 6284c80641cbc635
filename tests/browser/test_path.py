"""The whole path of a new user on one running studio: see, add images, caption, train, generate, publish."""

import time

import pytest
from playwright.sync_api import Page, expect

from studio.config.recipe import read_recipe
from tests.browser.conftest import FOR_DOCS, wait_until

NAME = "my-ink"
STEPS = "240" if FOR_DOCS else "16"
"""The images in docs/ show a LoRA that was trained long enough; the test needs the path only."""


@pytest.fixture(scope="module")
def app(new_app):
    """The path begins without a dataset."""
    return new_app


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def shown(page: Page, panel: str) -> str:
    return page.locator(f"{panel} img").first.get_attribute("src")


def wait_for_another(page: Page, panel: str, before: str) -> None:
    wait_until(
        page,
        """([panel, before]) => { const img = document.querySelector(panel + ' img');
            return img && img.getAttribute('src') !== before && img.complete; }""",
        [panel, before],
    )


@pytest.mark.timeout(900)
def test_the_whole_path(open_page, keep, app, hub):
    page = open_page()

    # An image is shown before anything is typed.
    expect(page.locator("#base-image img")).to_be_visible()
    expect(page.locator("#stack-image img")).to_be_visible()
    keep(page, "1-first-picture", docs="generate")

    # Make your own: the sample images are one click away.
    page.locator("#make-your-own").click()
    keep(page, "2-no-images-yet")
    page.locator("#samples [data-sample=style]").click()
    expect(page.locator(".captioned")).to_have_count(16)
    expect(page.locator("#trigger-word textarea, #trigger-word input")).to_have_value("ohwx")

    # A caption is edited beside its image and saved while typing.
    first = page.locator(".captioned").first
    first.locator("textarea").fill("ohwx illustration of a large ball by the sea")
    expect(first.locator(".status")).to_have_text("saved")

    # Another is emptied, and the captioner fills only that one.
    second = page.locator(".captioned").nth(1)
    second.locator("textarea").fill("")
    expect(second.locator(".status")).to_have_text("saved")
    page.get_by_role("button", name="Write captions").click()
    expect(page.locator("#dataset-message")).to_contain_text("1 caption written")
    expect(second.locator("textarea")).not_to_have_value("")
    expect(first.locator("textarea")).to_have_value("ohwx illustration of a large ball by the sea")
    keep(page, "3-captions", docs="dataset")

    # Train, shortly.
    page.get_by_role("button", name="Train with this dataset").click()
    expect(page.locator("#start-training")).to_be_visible()
    page.locator("#steps input").fill(STEPS)
    if not FOR_DOCS:
        page.locator("#sample-prompts textarea").fill("ohwx illustration of a house")
    keep(page, "4-train")
    page.locator("#start-training").click()
    expect(page.locator(".jobbar")).to_be_visible()
    expect(page.locator("#run-head")).to_contain_text(f"of {STEPS}")

    # Reload during the training: the job is shown again, on every tab.
    page.reload()
    expect(page.locator(".jobbar")).to_be_visible()
    expect(page.locator(".jobbar")).to_contain_text("Training")
    tab(page, "Train")
    expect(page.locator("#run-head")).to_contain_text(f"of {STEPS}")
    keep(page, "5-training-after-a-reload")
    expect(page.locator("#run-head .state")).to_have_text("Finished", timeout=600_000)
    expect(page.locator("#sample-grid img").first).to_be_visible()
    expect(page.locator("svg.loss")).to_be_visible()
    expect(page.locator(".jobbar")).to_have_count(0)
    keep(page, "6-finished", docs="train")

    # Try it: it is in the stack, and the image with it differs from the one without.
    before = shown(page, "#stack-image")
    page.locator("#try-it").click()
    expect(page.locator(".loras li").last).to_contain_text("Sample style")
    wait_for_another(page, "#stack-image", before)
    with_it = shown(page, "#stack-image")
    assert image_bytes(app, with_it) != image_bytes(app, shown(page, "#base-image"))
    keep(page, "7-generate-with-the-new-lora")
    page.locator(".loras li").last.locator("input[type=checkbox]").uncheck()
    wait_for_another(page, "#stack-image", with_it)
    assert image_bytes(app, shown(page, "#stack-image")) != image_bytes(app, with_it)

    # Publish to the Hub, privately.
    tab(page, "Publish")
    page.locator("#repo input, #repo textarea").first.fill(NAME)
    page.locator("#rights input").fill("Trained on the sample images that ship with LoRA Studio.")
    page.locator("#rights input").press("Enter")
    page.get_by_label("I confirm that this statement is true").check()
    page.locator("#token input").fill(hub.token)
    expect(page.locator("#publish")).to_have_text(f"Publish privately as {NAME}")
    keep(page, "8-publish", docs="publish")
    page.locator("#publish").click()
    expect(page.locator("#publish-message")).to_contain_text("Published.")
    expect(page.locator("#token input")).to_have_value("")
    expect(page.locator("#code-snippet")).to_contain_text("load_lora_weights")
    keep(page, "9-published")
    assert hub.repos[f"maker/{NAME}"].private
    assert b"ohwx" in hub.read(f"maker/{NAME}", "README.md")
    assert hub.token not in page.content()
    assert hub.token not in app.output
    assert page.evaluate("JSON.stringify(localStorage)").count(hub.token) == 0


def image_bytes(app, address: str) -> bytes:
    """The file behind an address of the page, from the workspace or the shipped images."""
    if "/builtin/" in address:
        from studio import builtin

        return builtin.HERE.joinpath(*address.partition("/builtin/")[2].split("/")).read_bytes()
    return app.home.workspace("local").image_path(address.rpartition("/")[2]).read_bytes()


def test_a_slider_regenerates_the_image_within_the_time_limit(open_page, app):
    page = open_page()
    add_newest(page)
    times = []
    for weight in (0.4, 0.6, 1.1, 1.4, 0.35):
        before = shown(page, "#stack-image")
        began = time.monotonic()
        page.evaluate(
            """weight => { const range = [...document.querySelectorAll('.loras input[type=range]')].at(-1); range.value = weight;
               for (const kind of ['input', 'change']) range.dispatchEvent(new Event(kind, {bubbles: true})); }""",
            weight,
        )
        wait_for_another(page, "#stack-image", before)
        times.append(time.monotonic() - began)
        page.wait_for_timeout(300)
    print(f"slider to image, seconds: {sorted(times)}")
    # The goal is 1.5 s on two idle cores; a machine that runs other tests needs more.
    assert sorted(times)[2] < 20


def add_newest(page: Page) -> None:
    """Add the newest LoRA to the stack with the dropdown."""
    if page.locator(".loras li").count():
        return
    page.get_by_role("button", name="Add a LoRA").click()
    page.locator("#add-mine input").click()
    page.get_by_role("option").first.click()
    page.locator(".loras li").first.wait_for()
    expect(page.locator("#stack-image img")).to_be_visible()
    expect(page.locator("#stack-image .busy")).to_have_count(0)


def test_an_image_of_the_history_restores_its_recipe(open_page, app):
    page = open_page()
    add_newest(page)
    page.locator("#prompt textarea").fill("a red boat by the sea")
    before = shown(page, "#stack-image")
    page.get_by_role("button", name="Generate", exact=True).click()
    wait_for_another(page, "#stack-image", before)
    image = shown(page, "#stack-image")
    assert read_recipe(image_bytes(app, image)).prompt == "a red boat by the sea"
    page.locator("#prompt textarea").fill("a blue house")
    page.locator("#history button").first.click()
    page.get_by_role("button", name="Restore its settings").click()
    expect(page.locator("#prompt textarea")).to_have_value("a red boat by the sea")
    path = app.home.workspace("local").image_path(image.rpartition("/")[2])
    page.locator("#prompt textarea").fill("a green star")
    page.get_by_test_id("Restore settings from an image-upload-button").set_input_files(path)
    expect(page.locator("#prompt textarea")).to_have_value("a red boat by the sea")
