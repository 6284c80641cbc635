"""Settings in the browser: a base brings its goals, a pace its steps; settings are kept, brought from another trainer, removed and put back."""

from playwright.sync_api import expect

from studio.datasets.dataset import Dataset
from studio.runs import starting_points

KOHYA = 'network_module = "networks.lora"\nresolution = "1024,1024"\nnetwork_dim = 32\nnetwork_alpha = 16\nmax_train_steps = 1234\nclip_skip = 2\n'


def pick(page, list_id: str, name: str) -> None:
    page.locator(f"#{list_id} input").click()
    page.get_by_role("option", name=name).first.click()


def test_goals_follow_the_base_and_settings_are_kept_and_brought(open_page, keep, app, tmp_path):
    workspace = app.home.workspace("local")
    pictures = len(Dataset.from_samples(workspace, "style").images)
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    goal, steps, said = page.locator("#preset input"), page.locator("#steps"), page.locator("#keep-said")
    expect(goal).to_have_value("Style, best (built-in model, two minutes)")
    pick(page, "base", "Stable Diffusion XL")
    expect(goal).to_have_value("Style, best (Stable Diffusion XL)")
    expect(steps).to_contain_text(f"{pictures} images: 1,200 steps suggested")
    pick(page, "preset", "Style, quick (Stable Diffusion XL)")
    expect(steps.locator("input")).to_have_value("600")

    page.locator("button:visible", has_text="Save and import settings").click()
    page.get_by_label("Save as preset").fill("Ink, quick")
    page.locator("#save-preset").click()
    expect(goal).to_have_value("Ink, quick (yours)")
    assert [preset.title for preset in starting_points.saved_presets(workspace)] == ["Ink, quick"]

    brought = tmp_path / "theirs.toml"
    brought.write_text(KOHYA)
    page.get_by_test_id("Import settings from a file-upload-button").set_input_files(brought)
    expect(said).to_contain_text("clip_skip = 2")
    expect(steps.locator("input")).to_have_value("1234")
    expect(page.get_by_label("LoRA alpha")).to_have_value("16")
    keep(page, "train-imported-settings")

    pick(page, "preset", "Ink, quick")
    expect(steps.locator("input")).to_have_value("600")
    page.locator("#remove-preset").click()
    page.get_by_role("button", name="Put Ink, quick back").click()
    page.locator("#preset input").click()
    expect(page.get_by_role("option", name="Ink, quick")).to_be_visible()
