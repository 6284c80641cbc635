"""Adding LoRAs in the browser from a file, a Hub repository or a dropped image; and the studio with a password."""

import os

import pytest
from playwright.sync_api import expect

from studio import builtin
from studio.config.recipe import Recipe, StackEntry, add_recipe
from tests.browser.conftest import App, drop

STARTERS = sorted(builtin.LORAS_DIR.glob("*.safetensors"))


def test_a_lora_is_added_from_a_file_and_from_the_hub(open_page, keep, hub):
    hub.add_user("someone")
    hub.seed_files("someone/their-lora", {"pytorch_lora_weights.safetensors": STARTERS[0].read_bytes(), "README.md": b"---\ntags: [lora]\n---\n"})
    page = open_page()
    rows = page.locator(".loras li")
    before = rows.count()
    page.get_by_role("button", name="Add a LoRA").click()
    page.get_by_test_id("File from this computer-upload-button").set_input_files(STARTERS[1])
    expect(rows).to_have_count(before + 1)
    page.get_by_label("Hugging Face Hub repository").fill("someone/their-lora")
    page.get_by_role("button", name="Download from the Hub").click()
    expect(rows).to_have_count(before + 2)
    expect(page.locator("#add-lora")).to_contain_text("Added to the stack: their-lora.")
    expect(page.locator("#stack-image .busy")).to_have_count(0)
    keep(page, "stack-from-file-and-hub")

    page.get_by_label("Hugging Face Hub repository").fill("someone/nothing-here")
    page.get_by_role("button", name="Download from the Hub").click()
    expect(page.locator("#add-lora .notice.bad")).to_contain_text("someone/nothing-here")
    page.get_by_label("Hugging Face Hub repository").fill("their-lora")
    page.get_by_role("button", name="Download from the Hub").click()
    expect(page.locator("#add-lora .notice.bad")).to_contain_text("write owner/name")
    expect(rows).to_have_count(before + 2)


def test_a_dropped_image_restores_the_form_but_downloads_no_base(open_page, keep, hub):
    image = (builtin.HERE / "first" / "base.png").read_bytes()
    page = open_page()
    known = Recipe(prompt="a small purple fish by the sea", seed=11, stack=[StackEntry(adapter="starter:dusk", weight=0.45)])
    drop(page, "#base-image", {"image.png": add_recipe(image, known)})
    expect(page.locator("#prompt textarea")).to_have_value(known.prompt)
    expect(page.locator(".loras li")).to_have_count(1)
    expect(page.locator(".loras output")).to_have_text("0.45")

    before = len(hub.seen)
    unknown = known.model_copy(update={"prompt": "from another user", "base_model": "stranger/huge-base"})
    drop(page, "#base-image", {"image.png": add_recipe(image, unknown)})
    expect(page.locator("#prompt textarea")).to_have_value("from another user")
    expect(page.locator("#generate-messages")).to_contain_text("stranger/huge-base")
    page.wait_for_timeout(1500)
    assert not [seen for seen in hub.seen[before:] if "huge-base" in seen.path]
    page.get_by_role("button", name="More settings").first.click()
    expect(page.locator("#generate-base input")).to_have_value("Small world (ships with the studio)")
    keep(page, "restored-without-its-base")


@pytest.fixture
def locked(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LORA_STUDIO_", "HF_", "GRADIO_"))}
    secret = {"LORA_STUDIO_PASSWORD": "correct horse", "LORA_STUDIO_HOST": "studio.example"}
    running = App(tmp_path, clean | secret | {"GRADIO_ANALYTICS_ENABLED": "False"})
    yield running
    running.stop()


def test_only_the_right_password_opens_the_studio(browser, keep, locked):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(locked.url)
    page.get_by_label("username").fill("me")
    page.get_by_label("password").fill("wrong horse")
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("Incorrect")).to_be_visible()
    assert page.request.get(f"{locked.url}studio/sample/x/1/0").status == 401
    keep(page, "password")
    # Gradio's login page forgets the name after a refusal.
    page.get_by_label("username").fill("me")
    page.get_by_label("password").fill("correct horse")
    page.get_by_role("button", name="Login").click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    context.close()
