"""Pictures and captions in the browser: consent, files that cannot be used, taking out and putting back, captions that stay."""

import io
import os
import re
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import expect

from studio import builtin
from studio.datasets.dataset import Dataset
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Jobs
from tests.browser.conftest import drop


@pytest.fixture
def files(tmp_path):
    """A good picture, its caption, a zip with another pair, and two files that are no pictures."""
    samples = sorted(builtin.SAMPLES["character"].glob("*.png"))
    good = tmp_path / "first.png"
    good.write_bytes(samples[0].read_bytes())
    caption = tmp_path / "first.txt"
    caption.write_text("sks on a white background")
    packed = tmp_path / "more.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("second.png", samples[1].read_bytes())
        archive.writestr("second.txt", "a large sks")
    page = tmp_path / "page.png"
    page.write_text("<html><script>alert(1)</script>")
    half = tmp_path / "half.png"
    half.write_bytes(samples[2].read_bytes()[:400])
    return [good, caption, packed, page, half]


def test_bring_pictures_edit_them_and_find_them_again(open_page, keep, app, files):
    page = open_page()
    page.get_by_role("tab", name="Pictures & captions").click()
    form = page.locator("#dataset-new")
    page.locator("#dataset-new:visible, #new-dataset:visible").first.wait_for()
    if not form.is_visible():
        page.locator("#new-dataset").click()
    page.get_by_label("Name", exact=True).fill("Little one")
    page.get_by_label("A character or person").check()
    page.get_by_label("The pictures show a real person").check()
    page.get_by_role("button", name="Create dataset").click()
    expect(form).to_contain_text("State that they agreed")
    keep(page, "pictures-consent")
    page.get_by_label("This person agreed").check()
    page.get_by_role("button", name="Create dataset").click()
    expect(page.locator("#captions")).to_contain_text("No pictures yet")
    keep(page, "pictures-empty")

    page.get_by_test_id("Add pictures-upload-button").set_input_files(files)
    expect(page.locator(".captioned")).to_have_count(2)
    expect(page.locator("#dataset-said")).to_contain_text("2 files could not be used; the others are in.")
    expect(page.locator("#dataset-said")).to_contain_text("page.png")
    expect(page.locator(".captioned textarea").first).to_have_value("sks on a white background")
    keep(page, "pictures-refused")
    page.get_by_role("button", name="Train with these").click()
    expect(page.locator("#start-training")).to_be_visible()
    page.get_by_role("tab", name="Pictures & captions").click()

    page.locator(".captioned textarea").first.fill("sks, tiny, on white <b>paper</b>")
    expect(page.locator(".captioned .saved").first).to_have_text("saved")
    page.get_by_role("button", name="Undo the caption of first.png").click()
    expect(page.locator(".captioned textarea").first).to_have_value("sks on a white background")
    page.locator(".captioned textarea").first.fill("sks, tiny, on white <b>paper</b>")
    expect(page.locator(".captioned .saved").first).to_have_text("saved")
    expect(page.get_by_label("What is it, in one word?")).to_be_visible()
    page.locator(".captioned .x").last.click()
    expect(page.locator(".captioned")).to_have_count(1)
    page.get_by_role("button", name=re.compile("Put .* back")).click()
    expect(page.locator(".captioned")).to_have_count(2)

    page.reload()
    page.get_by_role("tab", name="Pictures & captions").click()
    expect(page.locator(".captioned textarea").first).to_have_value("sks, tiny, on white <b>paper</b>")
    newest = Dataset.all(app.home.workspace("local"))[0]
    assert newest.real_person and newest.consent["text"]
    assert [picture.caption for picture in newest.images] == ["sks, tiny, on white <b>paper</b>", "a large sks"]

    with page.expect_download() as download:
        page.get_by_role("link", name="Export zip").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 2

    page.get_by_role("button", name="Remove dataset").click()
    page.get_by_role("button", name="Put Little one back").first.click()
    expect(page.locator(".captioned")).to_have_count(2)


def test_pictures_dropped_anywhere_on_the_page_come_in(open_page, app):
    dataset = Dataset.create(app.home.workspace("local"), "Dropped", "style", real_person=False, consent="")
    page = open_page()
    page.get_by_role("tab", name="Pictures & captions").click()
    expect(page.locator("#captions")).to_contain_text("No pictures yet")
    drop(page, "#captions", {path.name: path.read_bytes() for path in sorted(builtin.SAMPLES["character"].glob("*.png"))[:2]})
    expect(page.locator(".captioned")).to_have_count(2)
    assert len(dataset.images) == 2


def half(size: int) -> bytes:
    """A mask whose left half teaches."""
    mask, data = Image.new("L", (size, size), 0), io.BytesIO()
    mask.paste(255, (0, 0, size // 2, size))
    mask.save(data, format="PNG")
    return data.getvalue()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_mask_is_dropped_seen_taken_off_and_put_back(open_page, keep, app, tmp_path, width):
    dataset = Dataset.create(app.home.workspace("local"), f"Masked {width}", "style", real_person=False, consent="")
    page = open_page(width)
    page.get_by_role("tab", name="Pictures & captions").click()
    expect(page.locator("#captions")).to_contain_text("No pictures yet")
    drop(page, "#captions", {path.name: path.read_bytes() for path in sorted(builtin.SAMPLES["character"].glob("*.png"))[:2]})
    expect(page.locator(".captioned")).to_have_count(2)
    dataset.set_caption(dataset.images[0].id, "sks", "file")

    # Over the strip, whatever it is called; a second one is chosen.
    drop(page, ".captioned:nth-child(1) .droplet", {"untitled.png": half(128)})
    expect(page.locator("#dataset-said")).to_contain_text("1 image got a mask. Only the light parts are trained on.")
    expect(page.locator(".captioned")).to_have_count(2)
    (tmp_path / "other.png").write_bytes(half(64))
    page.locator(".captioned").nth(1).locator("input[type=file]").set_input_files(tmp_path / "other.png")
    expect(page.locator("#dataset-said")).to_contain_text("1 mask differed in size from its image and was scaled.")
    expect(page.locator(".look")).to_have_count(2)
    expect(page.locator("#dataset-work")).to_contain_text("Every picture has a mask.")
    assert [picture.caption_source for picture in dataset.images] == ["file", ""], "choosing a mask is not typing"

    expect(page.locator(".veil").first).to_be_hidden()
    page.locator(".look").first.click()
    expect(page.locator(".veil").first).to_be_visible()
    assert page.locator(".veil").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    keep(page, f"pictures-masked-{width}")
    page.get_by_role("button", name="Take the mask of").first.click()
    expect(page.locator(".look")).to_have_count(1)
    expect(page.locator("#dataset-work")).to_contain_text("1 of 2 pictures has a mask: the others teach as a whole.")
    assert dataset.images[0].mask is None
    page.get_by_role("button", name="Put the mask of").click()
    expect(page.locator(".look")).to_have_count(2)
    assert dataset.images[0].mask is not None


def test_a_caption_that_is_being_typed_stays_while_others_are_written(open_page, app):
    dataset = Dataset.from_samples(app.home.workspace("local"), "character")
    page = open_page()
    page.get_by_role("tab", name="Pictures & captions").click()
    boxes = page.locator(".captioned textarea")
    expect(boxes).to_have_count(20)
    jobs = Jobs(app.home.database)
    job = jobs.submit("local", "import", {"dataset": dataset.id, "files": []})
    jobs.claim(("import",), os.getpid())
    report = ProgressReporter(jobs, job.id)
    boxes.nth(1).fill("")
    for index, word in enumerate(("sks ", "in ", "a ", "boat")):
        boxes.nth(1).press_sequentially(word, delay=40)
        dataset.set_caption(dataset.images[5].id, f"caption {index}", "builtin")
        report(index, 4, f"Picture {index}")
        expect(boxes.nth(5)).to_have_value(f"caption {index}")
    expect(boxes.nth(1)).to_have_value("sks in a boat")
    expect(boxes.nth(1)).to_be_focused()
    jobs.finish(job.id, {})
    expect(page.locator("#dataset-progress")).to_be_empty()
    expect(boxes.nth(1)).to_have_value("sks in a boat")
    assert dataset.images[1].caption == "sks in a boat"
