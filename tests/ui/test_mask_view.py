"""What the page shows of masks, and what its handlers let in."""

import asyncio
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
    """Grey cards in the order of their shades; the first has a mask."""
    dataset = Dataset.create(workspace, "Cards")
    brought = {f"{shade}.png": png(shade, size=64) for shade in shades} | {f"{shades[0]}-mask.png": half()}
    for name, data in brought.items():
        (tmp_path / name).write_bytes(data)
    with dataset.incoming() as folder:
        dataset.add(decode_files([{"path": tmp_path / name, "name": name} for name in brought], folder), folder)
    return dataset


def half() -> bytes:
    mask, data = Image.new("L", (64, 64), 0), io.BytesIO()
    mask.paste(255, (0, 0, 32, 64))
    mask.save(data, format="PNG")
    return data.getvalue()


def test_what_has_a_mask_shows_it_and_what_has_none_takes_one(workspace, tmp_path):
    dataset = masked(workspace, tmp_path, 90, 120)
    with_mask, without = caption_grid.grid(dataset).split('<div class="captioned"')[1:]
    address = files.url("mask", dataset.id, dataset.images[0].mask.stem)
    assert address in with_mask and "Only the light parts teach" in with_mask and "Take the mask of 90.png off" in with_mask
    assert 'class="veil"' not in without and "Add a mask to 120.png" in without and "put_mask_back" not in without
    dataset.remove_mask(dataset.images[0].id)
    assert "Put the mask of 90.png back" in caption_grid.grid(dataset) and 'class="veil"' not in caption_grid.grid(dataset)


def test_how_many_pictures_have_a_mask_is_said_in_words(workspace, tmp_path):
    dataset = masked(workspace, tmp_path, 90, 120, 150)
    assert mask_view.finding(dataset.images) == "1 of 3 pictures has a mask: the others teach as a whole."
    assert "1 of 3 pictures has a mask" in caption_grid.summary(dataset)
    dataset.remove([picture.id for picture in dataset.images[1:]])
    assert mask_view.finding(dataset.images) == "Every picture has a mask. Only the light parts teach."
    dataset.remove_mask(dataset.images[0].id)
    assert mask_view.finding(dataset.images) == ""


def test_a_name_that_is_markup_stays_text(workspace, tmp_path):
    dataset = Dataset.create(workspace, "Cards")
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


def test_a_mask_cannot_be_read_from_anywhere_or_given_to_anybody(home, tmp_path):
    mine, theirs = "visitor-" + "a" * 32, "visitor-" + "b" * 32
    dataset = masked(home.workspace(theirs), tmp_path, 90, 120)
    before = dataset.sha256()
    app, _ = ui.build_app(home, Access(mode=Mode.space))
    handlers = {event.fn.__name__: event.fn for event in app.fns.values() if event.fn}

    class Visitor:
        headers = {"x-studio-visitor": mine}

    first = dataset.images[0].id
    with pytest.raises(gr.Error, match="is not an uploaded file"):
        asyncio.run(handlers["give_mask"](dataset.id, Visitor(), Event(id=first, path=str(tmp_path / "90-mask.png"))))
    for name in ("take_mask_off", "put_mask_back"):
        with pytest.raises(gr.Error, match="no longer exists"):
            handlers[name](dataset.id, Visitor(), Event(id=first))
    assert dataset.sha256() == before and Jobs(home.database).list(mine) == []
