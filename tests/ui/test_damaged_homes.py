"""A file that was cut, emptied, garbled or replaced costs itself alone: everything else is still listed, and the damaged thing is named.

Every file of a home is damaged, one at a time, so a new kind of file is tested as soon as the home below contains it.
"""

import json
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from gradio import EventData
from gradio.helpers import special_args

from studio.config import TrainConfig
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import decode_files
from studio.generation.init_images import keep_init_image
from studio.jobs import worker
from studio.runs import damage, library, starting_points, trash
from studio.runs.run import Run
from studio.ui import app as ui
from studio.ui.components import damaged
from tests.trained import captioned_dataset, finished_run, keep_state, png, write_tiny_adapter

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbled": lambda data: bytes((each * 167 + 89) % 256 for each in data[:4000]),
    "a list": lambda data: b"[7]",
    "an object": lambda data: b'{"kind": 7}\n',
    "a text": lambda data: b'"text"',
    "nothing": lambda data: b"null",
}

LOOKS_WHOLE = {"captions.jsonl": ("emptied",), "masks.jsonl": ("emptied",), "events.jsonl": ("emptied", "cut")}
"""Files that may be empty or end at any line, so what is left of them is a whole file."""


class Request:
    headers: dict = {}


def fill(home: Home) -> None:
    """One of every kind of file that the studio writes, but the database: see tests/core/test_unusable_homes.py."""
    workspace = home.workspace("local")
    for title in ("First", "Second"):
        run = finished_run(workspace, title=f"{title} run", steps=(100,))
        keep_state(run, 100)
        dataset = Dataset.open(workspace, run.config.dataset.id)
        with dataset.incoming() as folder:
            (folder / "mask-of-it.png").write_bytes(png(128, size=64))
            mask = {"path": folder / "mask-of-it.png", "name": "mask-of-it.png", "mask_of": dataset.images[0].id}
            dataset.add(decode_files([mask], folder, existing=dataset.images), folder)
        dataset.update_facts(title=f"{title} dataset")
        adapter = workspace.adapter_path(f"{title.lower()}-lora")
        write_tiny_adapter(adapter, {"trigger_word": "ohwx"})
        adapter.with_suffix(".json").write_text(json.dumps({"title": f"{title} LoRA", "source": {"file": "a.safetensors"}}))
        starting_points.save(workspace, f"{title} preset", TrainConfig())
        recipe = Recipe(prompt=f"{title} prompt", stack=[StackEntry(adapter="starter:style", weight=1.0)])
        workspace.image_path(f"{title.lower()}-image").write_bytes(add_recipe(png(7, size=32), recipe))
        keep_init_image(workspace, workspace.image_path(f"{title.lower()}-image"))
        workspace.remove(captioned_dataset(workspace, "style", "").path)
    (home.root / "worker.json").write_text(json.dumps({"pid": 1, "mark": None, "starts": []}))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Home:
    home = Home(tmp_path_factory.mktemp("damaged") / "home")
    fill(home)
    return home


def kinds(home: Home) -> dict[str, Path]:
    """Every kind of file -> one such file."""
    found: dict[str, Path] = {}
    for path in sorted(home.root.rglob("*")):
        if path.is_file() and not path.name.startswith("studio.db") and "logs" not in path.parts and path.suffix not in (".lock", ".setup"):
            name = re.sub(r"[0-9a-f]{8,}|first-|second-|\d+", "*", str(path.relative_to(home.root)))
            found.setdefault(name.replace("run-", "").replace("secret-holiday-pictures-", ""), path)
    return found


def listed(workspace: Workspace) -> dict[str, str]:
    """Everything that the lists of the page show -> its title."""
    names = {dataset.id: f"{dataset.title}, {len(dataset.images)} images" for dataset in Dataset.all(workspace)}
    names |= {run.id: f"{run.title} {run.state} {len(run.curve())}" for run in Run.all(workspace)}
    names |= {adapter.ref: adapter.title for adapter in library.list_adapters(workspace)}
    names |= {preset.name: preset.title for preset in starting_points.saved_presets(workspace)}
    names |= {each.id: title for each, title in trash.list_removed(workspace)}
    return names


def belongs(workspace: Workspace, name: str, path: Path) -> bool:
    """Whether something listed is, or comes from, the thing that this file belongs to."""
    owner = path.relative_to(workspace.root).parts[1] if path.is_relative_to(workspace.root) else "no thing"
    stem = owner.split(".")[0]
    return stem in name


@pytest.fixture(scope="module")
def page(filled):
    """Calls everything that the page calls when it is loaded."""
    app, studio = ui.build_app(filled, Access())
    loads = [each for each in app.fns.values() if each.fn and any(event in ("load", "opened") for _, event in each.targets)]
    # The advice about this computer takes long and reads nothing of a home.
    loads = [each for each in loads if "advice" not in [block.elem_id for block in each.outputs]]
    opened = EventData(None, {"address": {}, "drafts": {}, "dataset": "", "number": 1})
    assert len(loads) > 3

    def load() -> None:
        for each in loads:
            values = [getattr(block, "value", None) for block in each.inputs]
            each.fn(*special_args(each.fn, values, Request(), opened)[0])

    return load


def test_every_kind_of_file_damaged_in_every_way_costs_itself_alone(filled, page, monkeypatch):
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    workspace = filled.workspace("local")
    before = listed(workspace)
    assert not damage.find(workspace) and len(kinds(filled)) > 20
    found = []
    for kind, path in kinds(filled).items():
        data = path.read_bytes()
        for how, change in DAMAGES.items():
            path.write_bytes(change(data))
            try:
                after = listed(workspace)
                page()
                hidden = [name for name, title in before.items() if after.get(name) != title]
                named = any(path.is_relative_to(thing.path) for thing in damage.find(workspace))
                named = named or all(after.get(name, "").endswith("(damaged)") for name in hidden)
                if others := [name for name in hidden if not belongs(workspace, name, path)]:
                    found.append((kind, how, "no longer listed", others))
                if not named and hidden and how not in LOOKS_WHOLE.get(path.name, ()):
                    found.append((kind, how, "not named", hidden))
            except Exception as error:  # noqa: BLE001 - whatever the page would fail with
                found.append((kind, how, error, traceback.extract_tb(error.__traceback__)[-1]))
        path.write_bytes(data)
    assert not found, "\n".join(map(str, found))
    assert listed(workspace) == before


@pytest.fixture
def home(filled, tmp_path) -> Home:
    shutil.copytree(filled.root, tmp_path / "home")
    return Home(tmp_path / "home")


def test_a_damaged_dataset_is_set_aside_and_can_be_restored(home, workspace):
    dataset = Dataset.all(workspace)[0]
    (dataset.path / "pictures.json").write_text("[")
    shown = damaged.listing(workspace, local=False)
    assert f"The dataset “{dataset.title}” cannot be read." in shown and "is not valid JSON; it may have been cut off" in shown
    assert "Set aside" in shown and "Open folder" not in shown and str(home.root) not in shown
    assert "Open folder" in damaged.listing(workspace, local=True)
    title = dataset.title
    trashed = damage.set_aside(workspace, f"datasets/{dataset.id}")
    assert not damage.find(workspace) and title in [title for _, title in trash.list_removed(workspace)]
    assert (workspace.restore(trashed) / "pictures.json").read_text() == "["


def test_a_lora_and_its_description_are_set_aside_listed_and_restored(home, workspace):
    run = finished_run(workspace, title="Ink", steps=(100,))
    mine = workspace.adapter_path("mine")
    files = {"Ink, step 100 (damaged)": run.adapter_at(100), "mine (damaged)": mine, "description of mine (damaged)": mine.with_suffix(".json")}
    for file in files.values():
        file.write_bytes(b"cut")
    app, studio = ui.build_app(home, Access())
    handler, shown = {}, {}
    for each in app.fns.values():
        if each.fn and each.fn.__name__ in ("set_aside", "restore_lora"):
            handler[each.fn.__name__], shown[each.fn.__name__] = each.fn, [block.elem_id for block in each.outputs]
    # The file itself last: what remains beside no LoRA is no description.
    for title in ("description of mine (damaged)", "mine (damaged)", "Ink, step 100 (damaged)"):
        place = files[title].relative_to(workspace.root).as_posix()
        answer = dict(zip(shown["set_aside"], handler["set_aside"](Request(), EventData(None, {"place": place})), strict=True))
        assert f"<span>{title}</span>" in answer["removed-adapters"] and place not in answer["damaged"] and not files[title].exists()
    assert {"removed-runs", "removed-datasets", "removed-presets", "removed-images"} < {*answer}
    for item, title in trash.list_removed(workspace, "adapters"):
        answer = dict(zip(shown["restore_lora"], handler["restore_lora"](Request(), EventData(None, {"id": item.id})), strict=True))
        assert f"<span>{title}</span>" not in answer["removed-adapters"] and files[title].read_bytes() == b"cut"


def test_only_a_damaged_thing_can_be_set_aside(workspace):
    for name in (f"datasets/{Dataset.all(workspace)[0].id}", "../../studio.db", "datasets"):
        with pytest.raises(StudioError, match="no longer damaged"):
            damage.set_aside(workspace, name)


def test_a_file_is_read_again_only_when_it_has_changed(home, workspace, monkeypatch):
    read = []
    for name in ("read_recipe", "read_header"):
        real = getattr(damage, name)
        monkeypatch.setattr(damage, name, lambda argument, real=real, name=name: (read.append(name), real(argument))[1])
    write_tiny_adapter(workspace.adapter_path("mine"), {})
    workspace.image_path("boat").write_bytes(add_recipe(png(1), Recipe(prompt="a boat")))
    assert not damage.find(workspace) and {*read} == {"read_recipe", "read_header"}
    read.clear()
    assert not damage.find(workspace) and not read
    for path in (workspace.adapter_path("mine"), workspace.image_path("boat")):
        path.write_bytes(b"cut")
    assert sorted(thing.title for thing in damage.find(workspace)) == ["boat", "mine"] and sorted(read) == ["read_header", "read_recipe"]


def test_a_removed_item_without_its_origin_is_named_with_the_place_of_its_files(workspace):
    trashed = workspace.remove(Dataset.create(workspace, "Chalk").path)
    (workspace.trash / trashed / "origin.json").write_bytes(b"")
    (thing,) = damage.find(workspace)
    assert thing.reason.endswith("It cannot be restored from here; its files are in its folder “content”.")


def test_a_folder_is_opened_on_this_computer_only(home, monkeypatch):
    (Dataset.all(home.workspace("local"))[0].path / "dataset.json").write_bytes(b"")
    opened = []
    monkeypatch.setattr("studio.core.platform.show_in_folder", opened.append)
    monkeypatch.setattr("studio.core.platform.has_file_manager", lambda: True)
    place = damage.place(home.workspace("local"), damage.find(home.workspace("local"))[0])

    class Event:
        pass

    Event.place = place
    for access in (Access(), Access(Mode.password, ("studio.example",))):
        app, _ = ui.build_app(home, access)
        handler = next(each.fn for each in app.fns.values() if each.fn and each.fn.__name__ == "open_folder")
        try:
            handler(Request(), Event())
        except Exception as error:  # noqa: BLE001 - a gr.Error
            assert access.mode is Mode.password, error
    assert opened == [home.workspace("local").dataset_path(place.partition("/")[2])]
