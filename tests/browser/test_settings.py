"""Train settings in the browser: presets follow the base, settings are saved, imported from another trainer, removed and restored."""

from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from studio.runs import starting_points

KOHYA = 'network_module = "networks.lora"\nresolution = "1024,1024"\nnetwork_dim = 32\nnetwork_alpha = 16\nmax_train_steps = 1234\nclip_skip = 2\n'


def pick(page, list_id: str, name: str) -> None:
    page.locator(f"#{list_id} input").click()
    page.get_by_role("option", name=name).first.click()


def test_presets_follow_the_base_and_settings_are_saved_and_imported(open_page, keep, app, tmp_path):
    workspace = app.home.workspace("local")
    images = len(Dataset.from_samples(workspace, "style").images)
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    preset, steps, message = page.locator("#preset input"), page.locator("#steps"), page.locator("#presets-message")
    expect(preset).to_have_value("Style, best (built-in model, two minutes)")
    pick(page, "base", "Stable Diffusion XL")
    expect(preset).to_have_value("Style, best (Stable Diffusion XL)")
    expect(steps.locator("input")).to_have_attribute("placeholder", "1,200 suggested")
    expect(steps).to_contain_text(f"{images} images: 1,200 steps suggested")
    pick(page, "preset", "Style, quick (Stable Diffusion XL)")
    expect(steps.locator("input")).to_have_attribute("placeholder", "600 suggested")

    page.locator("button:visible", has_text="Save and import settings").click()
    page.get_by_label("Save as preset").fill("Ink, quick")
    page.locator("#save-preset").click()
    expect(preset).to_have_value("Ink, quick (yours)")
    assert [each.title for each in starting_points.saved_presets(workspace)] == ["Ink, quick"]

    theirs = tmp_path / "theirs.toml"
    theirs.write_text(KOHYA)
    page.get_by_test_id("Import settings from a file-upload-button").set_input_files(theirs)
    expect(message).to_contain_text("clip_skip = 2")
    expect(steps.locator("input")).to_have_value("1234")
    expect(page.locator("#alpha input")).to_have_value("16")
    keep(page, "train-imported-settings")

    pick(page, "preset", "Ink, quick")
    expect(steps.locator("input")).to_have_value("600")
    page.locator("#remove-preset").click()
    page.get_by_role("button", name="Restore Ink, quick").click()
    page.locator("#preset input").click()
    expect(page.get_by_role("option", name="Ink, quick")).to_be_visible()


def test_a_value_that_does_not_fit_is_explained_under_its_field_and_what_was_typed_is_kept(open_page, keep, app):
    Dataset.from_samples(app.home.workspace("local"), "style")
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    rate, start, costs = page.locator("#setting-training-learning_rate"), page.locator("#start-training"), page.locator("#costs")
    expect(costs).to_contain_text("360 steps")
    rate.locator("input").fill("50")
    expect(rate.locator(".field-error")).to_have_text("Learning rate: 50 does not fit. Enter a number above 0 and at most 1.")
    expect(rate.locator("input")).to_have_attribute("aria-invalid", "true")
    expect(start).to_be_disabled()
    expect(costs).to_have_text("Correct Learning rate first.")
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(start).to_be_in_viewport()
    keep(page, "train-error-under-its-field")
    rate.locator("input").fill("0.003")
    expect(page.locator(".field-error")).to_have_count(0)
    expect(start).to_be_enabled()

    pick(page, "preset", "Style, quick")
    expect(page.locator("#kept")).to_contain_text("Kept what you changed: Learning rate 0.003.")
    expect(rate.locator("input")).to_have_value("0.003")
    expect(page.locator("#steps input")).to_have_value("180")
    page.get_by_role("button", name="Use the preset").click()
    expect(rate.locator("input")).to_have_value("0.0035")

    page.locator("#all-settings button").first.click()
    page.locator("#search-settings").fill("warm-up")
    expect(page.locator("#setting-training-lr_warmup_steps")).to_be_visible()
    expect(page.locator("#setting-training-seed")).to_be_hidden()
