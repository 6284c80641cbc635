"""Images open large: with their recipe, the keyboard, a slider between base and LoRA, and what an image can be used for."""

import re

import pytest
from playwright.sync_api import expect

from studio.config.recipe import Recipe, add_recipe
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.ui.components import generation
from tests.trained import finished_run, png

SWIPE = """([from, to]) => {
  const place = document.querySelector('.lightbox-image');
  for (const [kind, x] of [['touchstart', from], ['touchend', to]]) {
    const touch = new Touch({identifier: 1, target: place, clientX: x, clientY: 200});
    place.dispatchEvent(new TouchEvent(kind, {touches: kind === 'touchstart' ? [touch] : [], changedTouches: [touch], bubbles: true}));
  }
}"""


@pytest.fixture
def workspace(app) -> Workspace:
    return app.home.workspace("local")


def test_the_first_pair_opens_with_its_recipe_and_a_slider(open_page, keep):
    page = open_page()
    box, recipe = page.get_by_role("dialog"), generation.first_recipe()
    page.locator("#stack-image [data-large]").click()
    expect(box).to_contain_text(recipe.prompt)
    expect(box).to_contain_text(f"{recipe.stack[0].title} {recipe.stack[0].weight:.2f}")
    expect(box).to_contain_text(f"Seed{recipe.seed}")
    shown = box.locator(".shown").evaluate("image => [image.width / image.naturalWidth, getComputedStyle(image).imageRendering, image.alt]")
    assert shown[0] >= 2 and shown[0] == int(shown[0]) and shown[1] == "pixelated" and shown[2]
    border = box.get_by_role("slider")
    border.press("Home")
    assert box.locator(".before").evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 100% 0px 0px)"
    border.fill("30")
    keep(page, "lightbox-pair", whole=False)
    # Outside of the slider, arrow keys show the other image.
    box.get_by_role("button", name="Close").focus()
    page.keyboard.press("ArrowLeft")
    expect(box).to_contain_text("LoRAsnone")
    expect(border).to_be_hidden()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    assert page.evaluate("document.activeElement.matches('[data-large]')")


def test_samples_are_walked_through_by_key_and_finger(open_page, keep, workspace):
    run = finished_run(workspace, title="Large samples")
    page = open_page(390, 844, "dark", has_touch=True)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_role("tab", name="Watch", exact=True).click()
    page.locator(f"#run-list [data-run='{run.id}'].open").click()
    expect(page.locator("#run-title .rename")).to_have_value("Large samples")
    page.locator("#sample-grid td [data-large]").nth(1).click()
    box = page.get_by_role("dialog")
    expect(box).to_contain_text("2 of 9")
    expect(box.get_by_role("slider")).to_be_hidden()
    box.get_by_role("button", name="Compare with: base").click()
    expect(box.get_by_role("slider")).to_be_attached()
    keep(page, "lightbox-sample-phone", whole=False)
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("3 of 9")
    page.evaluate(SWIPE, [100, 300])
    expect(box).to_contain_text("2 of 9")
    box.get_by_role("button", name="Use its prompt").click()
    expect(box).to_be_hidden()
    expect(page.locator("#prompt textarea")).to_have_value("ohwx illustration of a house")
    expect(page.locator("#prompt textarea")).to_be_visible()


def test_an_image_of_the_history_is_removed_and_restored_and_becomes_an_image_of_the_dataset(open_page, workspace):
    prompt = "a lighthouse of the lightbox"
    (workspace.images / "lighthouse.png").write_bytes(add_recipe(png(90, size=128), Recipe(prompt=prompt)))
    page = open_page()
    image = page.locator("#history [data-image=lighthouse]")
    box = page.get_by_role("dialog")
    image.click()
    # A newer image comes first, and Gradio fills the same element with it.
    image.evaluate("button => Object.assign(button.dataset, {image: 'newer', large: 'studio/file/image/newer'})")
    box.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name=f"Restore {prompt}")).to_be_visible()
    expect(image).to_have_count(0)
    page.get_by_role("button", name=f"Restore {prompt}").click()
    image.click()
    known = {each.id: len(each.images) for each in Dataset.all(workspace)}
    box.get_by_role("button", name="Add to the dataset").click()
    expect(page.locator("#dataset-work")).to_be_visible()
    page.locator(".captioned").last.wait_for()
    for _ in range(100):
        grown = {each.id: len(each.images) for each in Dataset.all(workspace)}
        if sum(grown.values()) > sum(known.values()):
            break
        page.wait_for_timeout(100)
    assert sum(grown.values()) == sum(known.values()) + 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "height", "theme"), [(1440, 900, "light"), (390, 844, "dark")])
def test_an_open_image_becomes_the_init_image_and_its_recipe_says_so(open_page, keep, workspace, width, height, theme):
    page = open_page(width, height, theme)
    page.locator("#stack-image [data-large]").click()
    box = page.get_by_role("dialog")
    box.get_by_role("button", name="Use as init image").click()
    strength = page.get_by_role("slider", name="Strength")
    expect(strength).to_have_value("0.6")
    expect(page.locator("#stack-image [data-large]")).to_have_attribute("data-large", re.compile("/image/"), timeout=240_000)
    strength.fill("0.3")
    strength.dispatch_event("change")
    expect(page.locator("#init-image output")).to_have_text("0.30")
    expect(page.locator("#stack-image.busy")).to_have_count(0, timeout=240_000)
    keep(page, f"init-image-{width}-{theme}")
    # The browser keeps it until it is used, like the stack.
    page.reload()
    expect(strength).to_have_value("0.3")
    page.get_by_role("button", name="Remove the init image").click()
    expect(page.locator("#init-image .init-image")).to_have_count(0)
    first = page.locator("#history [data-large]").first
    first.click()
    expect(box).to_contain_text("Init imagestrength 0.30")
    box.get_by_role("button", name="Restore its settings").click()
    expect(strength).to_have_value("0.3")


def test_a_file_becomes_the_init_image_and_what_is_none_is_refused_with_the_reason(open_page, workspace, tmp_path):
    page = open_page()
    page.locator("button:visible", has_text="More settings").click()
    upload = page.locator("input[data-testid='Use an init image-upload-button']")
    (tmp_path / "no.png").write_bytes(b"%PDF-1.7")
    upload.set_input_files(tmp_path / "no.png")
    expect(page.locator("#generate-messages")).to_contain_text("The init image cannot be used: it is a PDF")
    (tmp_path / "sketch.png").write_bytes(png(90, size=64))
    upload.set_input_files(tmp_path / "sketch.png")
    expect(page.get_by_role("slider", name="Strength")).to_be_visible()
