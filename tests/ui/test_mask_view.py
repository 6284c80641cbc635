"""Masks on the page, and which files its handlers accept."""

import io

import gradio as gr
import pytest
from PIL import Image
from starlette.testclient import TestClient

from studio.core.access import Access, Mode
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import decode_files
from studio.jobs.queue import Jobs
from studio.ui import app as ui
from studio.ui import files
from studio.ui.components import caption_grid, mask_view
from tests.trained import png


def masked(workspace, tmp_path, *shades) -> Dataset:
    """Grey images in the order of their shades; the first has a mask."""
    dataset = Dataset.create(workspace, "Grey")
    files_by_name = {f"{shade}.png": png(shade, size=64) for shade in shades} | {f"{shades[0]}-mask.png": half()}
    for name, data in files_by_name.items():
        (tmp_path / name).write_bytes(data)
    with dataset.incoming() as folder:
        dataset.add(decode_files([{"path": tmp_path / name, "name": name} for name in files_by_name], folder), folder)
    return dataset


def half() -> bytes:
    mask, data = Image.new("L", (64, 64), 0), io.BytesIO()
    mask.paste(255, (0, 0, 32, 64))
    mask.save(data, format="PNG")
    return data.getvalue()


def test_an_image_shows_its_mask_or_takes_one(workspace, tmp_path):
    dataset = masked(workspace, tmp_path, 90, 120)
    with_mask, without = caption_grid.grid(dataset).split('<div class="captioned"')[1:]
    address = files.url("mask", dataset.id, dataset.images[0].mask.stem)
    assert address in with_mask and "Only the light parts are trained on" in with_mask and "Remove the mask of 90.png" in with_mask
    assert 'class="overlay"' not in without and "Add a mask to 120.png" in without and "restore_mask" not in without
    dataset.remove_mask(dataset.images[0].id)
    assert "Restore the mask of 90.png" in caption_grid.grid(dataset) and 'class="overlay"' not in caption_grid.grid(dataset)


def test_the_summary_counts_images_with_a_mask(workspace, tmp_path):
    dataset = masked(workspace, tmp_path, 90, 120, 150)
    assert mask_view.describe(dataset.images) == "1 of 3 images has a mask; the others are trained on in full."
    assert "1 of 3 images has a mask" in caption_grid.summary(dataset)
    dataset.remove([image.id for image in dataset.images[1:]])
    assert mask_view.describe(dataset.images) == "Every image has a mask. Only the light parts are trained on."
    dataset.remove_mask(dataset.images[0].id)
    assert mask_view.describe(dataset.images) == ""


def test_a_name_that_is_markup_stays_text(workspace, tmp_path):
    dataset = Dataset.create(workspace, "Grey")
    (tmp_path / "a").write_bytes(png(90, size=64))
    with dataset.incoming() as folder:
        dataset.add(decode_files([{"path": tmp_path / "a", "name": '"><img src=x onerror=alert(1)>.png'}], folder), folder)
    for _ in range(2):
        assert "<img src=x" not in caption_grid.grid(dataset)
        dataset._masks.set(dataset.images[0].id, "0" * 64)


def test_a_mask_is_served_to_its_owner_only(page, tmp_path):
    server, url, studio = page
    dataset = masked(studio.home.workspace("local"), tmp_path, 91)
    theirs = masked(studio.home.workspace("somebody-else"), tmp_path, 92)
    client = TestClient(server, base_url=url)

    def fetch(*parts):
        return client.get("/" + files.url(*parts))

    mask = dataset.images[0].mask
    assert fetch("mask", dataset.id, mask.stem).content == mask.read_bytes()
    assert fetch("mask", theirs.id, theirs.images[0].mask.stem).status_code == 404
    dataset.remove_mask(dataset.images[0].id)
    assert fetch("mask", dataset.id, mask.stem).status_code == 404


class Event:
    def __init__(self, **data):
        self.__dict__ |= data


def test_a_mask_must_be_an_uploaded_file_for_a_dataset_of_the_caller(home, tmp_path):
    mine, theirs = "visitor-" + "a" * 32, "visitor-" + "b" * 32
    dataset = masked(home.workspace(theirs), tmp_path, 90, 120)
    before = dataset.sha256()
    app, _ = ui.build_app(home, Access(mode=Mode.space))
    handlers = {event.fn.__name__: event.fn for event in app.fns.values() if event.fn}

    class Visitor:
        headers = {"x-studio-visitor": mine}

    first = dataset.images[0].id
    *_, message = handlers["add_mask"](dataset.id, None, Visitor(), Event(id=first, path=str(tmp_path / "90-mask.png")))
    assert "is not an uploaded file" in message
    for name in ("remove_mask", "restore_mask"):
        with pytest.raises(gr.Error, match="no longer exists"):
            handlers[name](dataset.id, Visitor(), Event(id=first))
    assert dataset.sha256() == before and Jobs(home.database).list(mine) == []
