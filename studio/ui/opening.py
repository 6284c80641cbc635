"""Addresses of the page: the tab, dataset, run and image that it shows, as parameters of its query.

The page is opened by one event, so that nothing competes to fill a field: the browser sends its address and its drafts, and the handler fills
every tab for them. Back and Forward send the address alone. static/js/address.js writes the address from the place that the panel shows.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.config.recipe import read_recipe
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.runs import starting_points
from studio.runs.run import Run
from studio.ui.components import bases
from studio.ui.components.html import html, panel
from studio.ui.components.templates import render
from studio.ui.form_drafts import DraftedForm
from studio.ui.studio import QUIET, Studio
from studio.ui.tabs.dataset_new import NewDataset
from studio.ui.tabs.generate import Generate
from studio.ui.tabs.generate_restore import restore_draft, restored_image
from studio.ui.tabs.publish import Publish, publishable
from studio.ui.tabs.publish_licence import run_id_of
from studio.ui.tabs.train import Train
from studio.ui.tabs.train_form import BASE, SET_UP, WATCH
from studio.ui.tabs.train_run import find_run

TABS = ("generate", "dataset", "train", "publish")
GONE = "This address leads to something that does not exist, or no longer exists."

Values = dict[gr.components.Component, Any]


@dataclass(frozen=True)
class Place:
    """`run` is the run of the Train tab, `published` that of the Publish tab; empty: none."""

    tab: str = TABS[0]
    dataset: str = ""
    run: str = ""
    published: str = ""
    image: str = ""


@dataclass(frozen=True)
class Tabs:
    """What an address chooses among. `chosen` holds the dataset that is open on every tab, `open_run` the run that is shown."""

    rooms: gr.Tabs
    chosen: gr.State
    open_run: gr.State
    generate: Generate
    dataset: NewDataset
    train: Train
    publish: Publish

    @property
    def forms(self) -> list[DraftedForm]:
        return [self.generate.drafted, self.train.drafted, self.publish.drafted]


def find_place(workspace: Workspace, address: dict[str, str]) -> tuple[Place, str]:
    """The place of an address, and a message if a part of it is not there: the same for what never existed and for another owner's."""
    gone = address.get("tab", TABS[0]) not in TABS
    found = {"tab": TABS[0] if gone else address.get("tab", TABS[0])}
    checks: dict[str, Callable] = {
        "dataset": lambda each: Dataset.open(workspace, each).images,
        "run": lambda each: Run.open(workspace, each).snapshot,
        "image": lambda each: read_recipe(workspace.image_path(each).read_bytes()),
    }
    for name, check in checks.items():
        if not (each := str(address.get(name) or "")):
            continue
        try:
            check(each)
        except (StudioError, OSError):
            gone = True
        else:
            found["published" if name == "run" and found["tab"] == "publish" else name] = each
    return Place(**found), GONE if gone else ""


def build_opening(studio: Studio, tabs: Tabs, after: Callable[[gr.events.Dependency], None]) -> gr.HTML:
    """The hidden panel of the page's address. `after(event)` adds what follows once the page is opened."""
    ids = {form.name: form.ids for form in tabs.forms}
    html(render("frame", "forms", json.dumps(ids)), elem_id="drafted-forms", elem_classes="hidden-field")
    shown = panel(
        render("frame", "place", Place()),
        ("opened", "moved"),
        server_functions=[trigger_word_function(studio)],
        elem_id="place",
        elem_classes=["hidden-field"],
    )
    opening = Opening(studio, tabs, shown)
    after(shown.opened(opening.open_page, None, opening.outputs, **QUIET))
    shown.moved(opening.move, tabs.publish.adapter, opening.outputs, **QUIET)
    inputs = [tabs.chosen, tabs.open_run, tabs.publish.adapter]
    gr.on([each.change for each in inputs], opening.show_place, inputs, shown, trigger_mode="always_last", **QUIET)
    return shown


@dataclass(frozen=True)
class Opening:
    studio: Studio
    tabs: Tabs
    shown: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        tabs = self.tabs
        parts = [
            self.shown,
            tabs.rooms,
            tabs.open_run,
            tabs.train.places,
            *tabs.dataset.opened,
            *tabs.train.outputs,
            *tabs.publish.outputs,
            *tabs.generate.restored,
        ]
        parts += [field for form in tabs.forms for field in form.fields.values()]
        parts += [tabs.publish.licence_touched]
        return list(dict.fromkeys(parts))

    def open_page(self, request: gr.Request, event: gr.EventData) -> Values:
        """Everything for the address, with the drafts of the forms on top."""
        workspace = self.studio.workspace(request)
        place, message = find_place(workspace, _dict(event.address))
        drafts = {name: draft for name, draft in _dict(event.drafts).items() if isinstance(draft, dict)}
        values: Values = dict(zip(self.tabs.dataset.opened, self.tabs.dataset.load(place.dataset or event.dataset or None, request), strict=True))
        values |= self._train(workspace, values[self.tabs.chosen], drafts)
        values[self.tabs.open_run] = place.run or self.tabs.train.run.find_running(request)
        # An address of the Train tab without a run is that of its form.
        if place.run or (values[self.tabs.open_run] and place.tab != "train"):
            values[self.tabs.train.places] = gr.Tabs(selected=WATCH)
        values |= self._publish(request, place, drafts, values[self.tabs.open_run])
        values |= self._generate(workspace, place, drafts)
        # The first tabs are shown from the beginning; by now the user may have chosen others.
        if place.tab != TABS[0]:
            values[self.tabs.rooms] = gr.Tabs(selected=place.tab)
        values[self.shown] = self._answer(workspace, values, message, event.number)
        return values

    def move(self, adapter: str | None, request: gr.Request, event: gr.EventData) -> Values:
        """Another address of the open page: what it does not name stays."""
        workspace = self.studio.workspace(request)
        place, message = find_place(workspace, _dict(event.address))
        values: Values = {self.tabs.rooms: gr.Tabs(selected=place.tab)}
        if place.dataset:
            values[self.tabs.chosen] = place.dataset
        if place.run:
            values[self.tabs.open_run] = place.run
        if place.tab == "train":
            values[self.tabs.train.places] = gr.Tabs(selected=WATCH if place.run else SET_UP)
        if place.published:
            values |= self._publish(request, place, {}, place.run or event.run or None)
        if place.image and place.image != event.image:
            values |= dict(zip(self.tabs.generate.restored, restored_image(workspace, place.image), strict=True))
        known = {self.tabs.chosen: event.dataset or None, self.tabs.open_run: event.run or None, self.tabs.publish.adapter: adapter}
        values[self.shown] = self._answer(workspace, known | values, message, event.number)
        return values

    def show_place(self, dataset_id: str | None, run_id: str | None, adapter: str | None, request: gr.Request) -> str:
        return render("frame", "place", _place(self.studio.workspace(request), dataset_id, run_id, adapter))

    def _answer(self, workspace: Workspace, values: Values, message: str, number: object) -> str:
        tabs = self.tabs
        adapter = values.get(tabs.publish.adapter)
        chosen = adapter.get("value") if isinstance(adapter, dict) else adapter
        place = _place(workspace, values[tabs.chosen], values[tabs.open_run], chosen)
        return render("frame", "place", place, message, number)

    def _train(self, workspace: Workspace, dataset_id: str | None, drafts: dict[str, dict]) -> Values:
        """A draft belongs to one dataset. Its base and preset fill the form first, then the other fields."""
        form, drafted = self.tabs.train.form, self.tabs.train.drafted
        draft = drafts.get(drafted.name, {})
        if not dataset_id or draft.get("about") != dataset_id:
            return form.open(workspace, dataset_id)
        dataset = Dataset.open(workspace, dataset_id)
        base = drafted.values(draft, {BASE: bases.choices(workspace)}).get(BASE, "")
        presets = starting_points.list_choices(workspace, dataset.subject, base)
        found = drafted.values(draft, {BASE: bases.choices(workspace), "preset": presets})
        typed = {path: found.pop(path) for path in list(found) if path in form.form.widgets and path != BASE}
        try:
            values = form.open(workspace, dataset_id, found.get("preset"), base, found.get("memory") or "", typed)
        except StudioError:
            # The preset was removed, or can no longer be read.
            values = form.open(workspace, dataset_id, base_model=base, touched=typed)
            found.pop("preset", None)
        _overlay(values, drafted, found)
        return values

    def _publish(self, request: gr.Request, place: Place, drafts: dict[str, dict], looked_at: str | None) -> Values:
        tabs = self.tabs.publish
        draft = drafts.get(tabs.drafted.name, {})
        run = place.published or draft.get("about")
        ref = f"run:{run}" if run else None
        known = [each.ref for each in publishable(self.studio.workspace(request))]
        found = tabs.drafted.values(draft) if ref in known and draft.get("about") == run else {}
        values: Values = dict(zip(tabs.outputs, tabs.list_runs(ref, bool(ref), found.get("repo", ""), None, looked_at, request), strict=True))
        _overlay(values, tabs.drafted, found)
        if "licence" in found:
            values[tabs.licence_touched] = True
        return values

    def _generate(self, workspace: Workspace, place: Place, drafts: dict[str, dict]) -> Values:
        """A draft belongs to the image that it began from, which an address without an image opens again."""
        tabs = self.tabs.generate
        draft = drafts.get(tabs.drafted.name, {})
        about = str(draft.get("about") or "")
        image = place.image or (find_place(workspace, {"image": about})[0].image if about else "")
        values: Values = dict(zip(tabs.restored, restored_image(workspace, image), strict=True)) if image else {}
        if draft and place.image in ("", about):
            values |= restore_draft(workspace, tabs.workbench, tabs.drafted, draft, values)
        return values


def _dict(sent: object) -> dict:
    """A client may send anything."""
    return sent if isinstance(sent, dict) else {}


def _place(workspace: Workspace, dataset_id: str | None, run_id: str | None, adapter: str | None) -> Place:
    run = find_run(workspace, run_id)
    return Place("", dataset_id or "", run.id if run else "", run_id_of(adapter or ""))


def _overlay(values: Values, form: DraftedForm, found: dict[str, Any]) -> None:
    """Put the values of a draft over those that the page opens with; choices, help and visibility stay."""
    for name, value in found.items():
        component = form.fields[name]
        before = values.get(component)
        values[component] = {**before, "value": value} if isinstance(before, dict) and before.get("__type__") == "update" else value


def trigger_word_function(studio: Studio) -> Callable:
    def stored_word(data: dict, request: gr.Request) -> dict:
        """For static/js/forms.js: the saved trigger word of a dataset, to compare with a draft."""
        try:
            return {"word": Dataset.open(studio.workspace(request), str(data["dataset"])).trigger_word}
        except StudioError:
            # Without the error's message: the page shows none here, and Page hides paths only in the answers of handlers.
            return {}

    return stored_word
