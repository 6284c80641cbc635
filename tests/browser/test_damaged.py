"""A damaged dataset beside a whole one: named above the tabs, and set aside with one click."""

from playwright.sync_api import expect

from studio.datasets.dataset import Dataset


def test_a_damaged_dataset_is_named_and_set_aside(open_page, app, keep):
    workspace = app.home.workspace("local")
    whole, cut = Dataset.create(workspace, "Whole drawings"), Dataset.create(workspace, "Cut drawings")
    (cut.path / "dataset.json").write_bytes((cut.path / "dataset.json").read_bytes()[:20])
    page = open_page()
    notice = page.locator("#damaged .damaged")
    expect(notice).to_contain_text("The dataset “cut-drawings” cannot be read.")
    keep(page, "damaged-dataset")
    page.get_by_role("tab", name="Images & captions").click()
    page.locator("#dataset-picker input").click()
    expect(page.get_by_role("option", name="Whole drawings")).to_be_visible()
    page.keyboard.press("Escape")
    notice.get_by_role("button", name="Set cut-drawings aside").click()
    expect(notice).to_have_count(0)
    assert not cut.path.exists() and Dataset.open(workspace, whole.id).title == "Whole drawings"
    page.reload()
    page.get_by_role("tab", name="Images & captions").click()
    removed = page.locator("#removed-datasets")
    expect(removed).to_contain_text("cut-drawings (damaged)")
    removed.get_by_role("button", name="Restore cut-drawings").click()
    expect(notice).to_contain_text("The dataset “cut-drawings” cannot be read.")
    notice.get_by_role("button", name="Set cut-drawings aside").click()
    expect(notice).to_have_count(0)
    workspace.remove(whole.path)
