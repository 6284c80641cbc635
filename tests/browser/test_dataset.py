"""The tab Images & captions in the browser: dropped images, consent, refused files, removing and restoring, masks, captions."""

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
from tests.trained import png


@pytest.fixture
def files(tmp_path):
    """A valid image, its caption, a zip with another pair, and two files that are no images."""
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


def choose(page, files) -> None:
    """Choose files in the zone of a new dataset."""
    page.locator("#drop-images:visible, #new-dataset:visible").first.wait_for()
    if not page.locator("#drop-images").is_visible():
        page.locator("#new-dataset").click()
    page.locator("#drop-images [data-images]").first.set_input_files(files)


SAVED = re.compile("^(saved|by hand)$")
"""What stands under a caption once it is stored: the second, when the grid was rendered again since."""


def test_images_are_added_edited_and_still_there_after_a_reload(open_page, keep, app, files):
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    choose(page, files)
    expect(page.locator(".captioned")).to_have_count(2)
    expect(page.locator("#dataset-message")).to_contain_text("2 files could not be used; the others were added.")
    expect(page.locator("#dataset-message")).to_contain_text("page.png")
    expect(page.locator(".captioned textarea").first).to_have_value("sks on a white background")
    keep(page, "dataset-refused")
    expect(page.locator("#dataset-title input, #dataset-title textarea")).to_have_value(re.compile(r"Images of \d+ \w+"))
    page.locator("#dataset-title input, #dataset-title textarea").fill("Little one")
    page.locator("#dataset-title input, #dataset-title textarea").press("Tab")
    expect(page.locator("#dataset-picker input")).to_have_value("Little one")
    page.get_by_label("A character or person").check()
    page.get_by_label("The images show a real person").check()
    expect(page.get_by_label("This person agreed")).to_be_visible()
    keep(page, "dataset-consent")
    newest = Dataset.all(app.home.workspace("local"))[0]
    assert newest.real_person and newest.consent is None, "no training starts before they agreed"
    page.get_by_label("This person agreed").check()
    page.get_by_role("button", name="Train with this dataset").click()
    expect(page.locator("#start-training")).to_be_visible()
    page.get_by_role("tab", name="Images & captions").click()

    page.locator(".captioned textarea").first.fill("sks, tiny, on white <b>paper</b>")
    expect(page.locator(".captioned .status").first).to_have_text(SAVED)
    page.get_by_role("button", name="Undo the caption of first.png").click()
    expect(page.locator(".captioned textarea").first).to_have_value("sks on a white background")
    page.locator(".captioned textarea").first.fill("sks, tiny, on white <b>paper</b>")
    expect(page.locator(".captioned .status").first).to_have_text(SAVED)
    expect(page.get_by_label("Class noun")).to_be_visible()
    page.locator(".captioned .x").last.click()
    expect(page.locator(".captioned")).to_have_count(1)
    page.get_by_role("button", name=re.compile("Restore .*png")).click()
    expect(page.locator(".captioned")).to_have_count(2)

    page.reload()
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator(".captioned textarea").first).to_have_value("sks, tiny, on white <b>paper</b>")
    newest = Dataset.all(app.home.workspace("local"))[0]
    assert newest.real_person and newest.consent["text"]
    assert [image.caption for image in newest.images] == ["sks, tiny, on white <b>paper</b>", "a large sks"]

    with page.expect_download() as download:
        page.get_by_role("link", name="Export zip").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 2

    page.get_by_role("button", name="Remove dataset").click()
    page.get_by_role("button", name="Restore Little one").first.click()
    expect(page.locator(".captioned")).to_have_count(2)


def test_images_dropped_anywhere_on_the_page_are_added(open_page, app):
    dataset = Dataset.create(app.home.workspace("local"), "Dropped", "style", real_person=False, consent="")
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator("#captions")).to_contain_text("No images yet")
    drop(page, "#captions", {path.name: path.read_bytes() for path in sorted(builtin.SAMPLES["character"].glob("*.png"))[:2]})
    expect(page.locator(".captioned")).to_have_count(2)
    assert len(dataset.images) == 2


def test_a_file_that_does_not_arrive_is_named_and_all_are_sent_again(open_page, app):
    dataset = Dataset.create(app.home.workspace("local"), "Sent twice", "style", real_person=False, consent="")
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator("#captions")).to_contain_text("No images yet")
    page.route(re.compile("/upload"), lambda route: route.abort() if b"second.png" in route.request.post_data_buffer else route.continue_())
    drop(page, "#captions", {f"{name}.png": png(shade, size=64) for shade, name in ((30, "first"), (60, "second"), (90, "third"), (120, "fourth"))})
    sending = page.locator("#add-images .sending")
    expect(sending).to_contain_text("Not uploaded: “second.png” did not arrive.")
    page.wait_for_timeout(500)
    expect(sending).to_contain_text("Not uploaded: “second.png” did not arrive.")
    # Files that arrive after it take nothing away from it; dropped together they are imported one after the other.
    for name, shade in (("fifth", 150), ("sixth", 180)):
        drop(page, "#captions", {f"{name}.png": png(shade, size=64)})
    expect(page.locator(".captioned")).to_have_count(2)
    expect(sending).to_contain_text("Not uploaded: “second.png” did not arrive.")
    page.unroute(re.compile("/upload"))
    sending.locator(".again").click()
    expect(page.locator(".captioned")).to_have_count(6)
    expect(sending).to_be_hidden()
    assert len(dataset.images) == 6


def half(size: int) -> bytes:
    """A mask whose left half is trained on."""
    mask, data = Image.new("L", (size, size), 0), io.BytesIO()
    mask.paste(255, (0, 0, size // 2, size))
    mask.save(data, format="PNG")
    return data.getvalue()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_mask_is_dropped_shown_removed_and_restored(open_page, keep, app, tmp_path, width):
    dataset = Dataset.create(app.home.workspace("local"), f"Masked {width}", "style", real_person=False, consent="")
    page = open_page(width)
    page.get_by_role("tab", name="Images & captions").click()
    expect(page.locator("#captions")).to_contain_text("No images yet")
    drop(page, "#captions", {path.name: path.read_bytes() for path in sorted(builtin.SAMPLES["character"].glob("*.png"))[:2]})
    expect(page.locator(".captioned")).to_have_count(2)
    dataset.set_caption(dataset.images[0].id, "sks", "file")

    # Dropped on the strip, with any file name; a second one is chosen with the file field.
    drop(page, ".captioned:nth-child(1) .mask-drop", {"untitled.png": half(128)})
    expect(page.locator("#dataset-message")).to_contain_text("1 image got a mask. Only the light parts are trained on.")
    expect(page.locator(".captioned")).to_have_count(2)
    (tmp_path / "other.png").write_bytes(half(64))
    page.locator(".captioned").nth(1).locator("input[type=file]").set_input_files(tmp_path / "other.png")
    expect(page.locator("#dataset-message")).to_contain_text("1 mask differed in size from its image and was scaled.")
    expect(page.locator(".show-mask")).to_have_count(2)
    expect(page.locator("#dataset-work")).to_contain_text("Every image has a mask.")
    assert [image.caption_source for image in dataset.images] == ["file", ""], "choosing a mask is not typing"

    expect(page.locator(".overlay").first).to_be_hidden()
    page.locator(".show-mask").first.click()
    expect(page.locator(".overlay").first).to_be_visible()
    assert page.locator(".overlay").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    keep(page, f"dataset-masked-{width}")
    page.get_by_role("button", name="Remove the mask of").first.click()
    expect(page.locator(".show-mask")).to_have_count(1)
    expect(page.locator("#dataset-work")).to_contain_text("1 of 2 images has a mask; the others are trained on in full.")
    assert dataset.images[0].mask is None
    page.get_by_role("button", name="Restore the mask of").click()
    expect(page.locator(".show-mask")).to_have_count(2)
    assert dataset.images[0].mask is not None


def test_a_caption_being_typed_is_kept_while_others_are_written(open_page, app):
    dataset = Dataset.from_samples(app.home.workspace("local"), "character")
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
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


OLDER = """(text) => {
  const card = document.querySelectorAll('.captioned')[1];
  card.closest('.captions').dataset.version = 'older';
  card.querySelector('textarea').textContent = text;
}"""


def test_a_rendering_from_before_the_last_save_takes_nothing_back(open_page, app):
    """On a busy computer it comes seconds later, when the page has already seen that the grid was the newest."""
    dataset = Dataset.from_samples(app.home.workspace("local"), "character")
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    box = page.locator(".captioned textarea").nth(1)
    box.fill("")
    box.press_sequentially("sks in", delay=20)
    expect(page.locator(".captioned .status").nth(1)).to_have_text("saved")
    page.wait_for_timeout(2500)
    page.evaluate(OLDER, "sks")
    box.press_sequentially(" a boat", delay=20)
    expect(box).to_have_value("sks in a boat")
    expect(page.locator(".captioned .status").nth(1)).to_have_text("saved")
    assert dataset.images[1].caption == "sks in a boat"


def in_two_tabs(open_page, app) -> tuple:
    """A dataset, and its captions as two tabs show them."""
    dataset = Dataset.from_samples(app.home.workspace("local"), "character")
    pages = open_page(), open_page()
    for page in pages:
        page.get_by_role("tab", name="Images & captions").click()
        expect(page.locator(".captioned")).to_have_count(20)
    return dataset, *pages


def test_a_caption_changed_in_another_tab_is_not_overwritten_and_both_texts_can_be_undone(open_page, keep, app):
    dataset, one, other = in_two_tabs(open_page, app)
    other.evaluate("() => Object.defineProperty(document, 'hidden', {value: true})")  # it does not look, as behind another window
    card, stale = one.locator(".captioned").first, other.locator(".captioned").first
    card.locator("textarea").fill("from the one tab, long and careful")
    expect(card.locator(".status")).to_have_text("saved")
    before = dataset.images[0].caption
    stale.locator("textarea").press("Control+End")
    stale.locator("textarea").press_sequentially(" plus the other", delay=30)
    expect(stale.locator(".conflict")).to_contain_text("Changed elsewhere: “from the one tab, long and careful”, by hand")
    assert dataset.images[0].caption == before == "from the one tab, long and careful"
    keep(other, "dataset-conflict")
    mine = stale.locator("textarea").input_value()
    assert mine.endswith(" plus the other")

    stale.get_by_role("button", name="Use theirs").click()
    expect(stale.locator("textarea")).to_have_value(before)
    expect(stale.locator(".conflict")).to_be_hidden()
    stale.locator(".undo").click()
    expect(stale.locator("textarea")).to_have_value(mine)
    expect(card.locator("textarea")).to_have_value(mine)

    card.locator("textarea").fill("again from the one")
    expect(card.locator(".status")).to_have_text("saved")
    stale.locator("textarea").fill("again from the other")
    stale.get_by_role("button", name="Keep mine").click()
    expect(stale.locator(".status")).to_have_text("saved")
    assert dataset.images[0].caption == "again from the other"
    stale.locator(".undo").click()
    expect(stale.locator("textarea")).to_have_value("again from the one")


def test_a_tab_shows_the_captions_that_another_tab_or_a_captioner_wrote(open_page, app):
    dataset, one, other = in_two_tabs(open_page, app)
    boxes = other.locator(".captioned textarea")
    boxes.nth(1).press_sequentially("mine, ")
    one.locator(".captioned textarea").first.fill("seen in the other tab")
    dataset.set_caption(dataset.images[2].id, "", "hand")
    expect(boxes.first).to_have_value("seen in the other tab")
    expect(boxes.nth(2)).to_have_value("")
    expect(other.locator("#dataset-work")).to_contain_text("1 without a caption")
    assert "mine, " in boxes.nth(1).input_value()
    dataset.set_caption(dataset.images[2].id, "a captioner's", "builtin")
    boxes.nth(2).press_sequentially("typed")
    expect(other.locator(".conflict").nth(2)).to_contain_text("“a captioner's”, by Built-in")


def test_a_caption_typed_while_the_studio_is_away_is_sent_after_a_reload_and_never_over_a_newer_text(open_page, keep, app):
    dataset = Dataset.from_samples(app.home.workspace("local"), "character")
    page = open_page()
    page.get_by_role("tab", name="Images & captions").click()
    cards = page.locator(".captioned")
    expect(cards).to_have_count(20)
    page.route("**/component_server**", lambda route: route.abort())
    cards.nth(0).locator("textarea").press_sequentially("typed while away, ", delay=30)
    cards.nth(1).locator("textarea").fill("also typed while away")
    for card in (cards.nth(0), cards.nth(1)):
        expect(card.locator(".status")).to_have_text(re.compile("Not saved: the studio is not answering. Your text is kept in this browser"))
    mine = cards.nth(0).locator("textarea").input_value()
    dataset.set_caption(dataset.images[1].id, "newer, from elsewhere")
    keep(page, "dataset-away")
    page.reload()
    page.unroute_all()
    page.get_by_role("tab", name="Images & captions").click()
    expect(cards.nth(0).locator("textarea")).to_have_value(mine)
    expect(cards.nth(0).locator(".status")).to_have_text("saved")
    expect(cards.nth(1).locator(".conflict")).to_contain_text("Changed elsewhere: “newer, from elsewhere”")
    expect(cards.nth(1).locator("textarea")).to_have_value("also typed while away")
    assert [image.caption for image in dataset.images[:2]] == [mine, "newer, from elsewhere"]
    cards.nth(1).get_by_role("button", name="Keep mine").click()
    expect(cards.nth(1).locator(".status")).to_have_text("saved")
    assert page.evaluate("Object.keys(localStorage).filter(name => name.includes('caption/'))") == []
