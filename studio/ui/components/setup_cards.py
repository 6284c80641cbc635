"""Cards of the Train form: datasets, base models and goals to choose from. The dropdown below each group offers all others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from studio import builtin, families
from studio import config as configs
from studio.config import Preset, memory_overlays, shipped_presets, toml
from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.datasets.dataset import Dataset
from studio.families import bases
from studio.families.bases import Base
from studio.families.facts import Licence
from studio.runs import starting_points
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components.bases import gigabytes
from studio.ui.components.estimate import seconds_per_step
from studio.ui.components.html import duration
from studio.ui.components.templates import render

MOST = 6
"""Cards in a group; the dropdown below has the others."""
THUMBS = 4
FEWEST_BASES = 4
"""Where fewer bases fit this computer, those that need least are shown with what they need."""
BASE_IMAGE = builtin.HERE / "first" / "base.png"
"""Drawn by the shipped base."""
PACES = {"quick": ("Quick", "A first look in at most half the time."), "best": ("Best", "The best quality that these images allow.")}
"""Pace of a shipped preset -> title and sentence."""


@dataclass(frozen=True)
class Card:
    """What the template shows of one choice. `value` is that of the dropdown."""

    value: str
    title: str
    lines: tuple[str, ...]
    images: tuple[str, ...] = ()
    """Addresses; without one the tile shows the first letter."""
    mark: str = ""
    """What decides first, such as whether a base fits."""
    suits: bool = True
    chosen: bool = False


def show(name: str, title: str, cards: list[Card], complete: bool = False, tiles: bool = True) -> str:
    """A radio group. `complete`: no choice is left out, so that the dropdown is not needed."""
    return render("setup_cards", "group", name, title, cards, complete, tiles) if cards else ""


def show_datasets(workspace: Workspace, chosen: str | None) -> str:
    """The newest datasets with images, and the chosen one."""
    known = [dataset for dataset in Dataset.all(workspace) if dataset.images]
    shown = _with_chosen(known, next((each for each in known if each.id == chosen), None))
    return show("dataset", "Dataset", [_dataset_card(each, each.id == chosen) for each in shown], complete=len(known) <= MOST)


def show_bases(workspace: Workspace, chosen: str, gpu: int | None) -> str:
    """The shipped base, those on this computer, and one of each family that fits a GPU of this many GB."""
    return show("base", "Base model", list_bases(workspace, chosen, gpu))


def show_goals(workspace: Workspace, dataset_id: str | None, base_model: str, chosen: str | None) -> str:
    """The quick and the best preset for dataset and base, saved presets, and the chosen starting point."""
    dataset = next((each for each in Dataset.all(workspace) if each.id == dataset_id), None)
    return show("goal", "Goal", list_goals(workspace, dataset, base_model, chosen), tiles=False) if dataset else ""


def list_bases(workspace: Workspace, chosen: str, gpu: int | None) -> list[Card]:
    used = {run.config.model.base_model: None for run in Run.all(workspace)}
    offered = [offer.id for family in families.FAMILIES for offer in family.offers]
    here = [base for base in map(bases.get_base, dict.fromkeys([families.BUILTIN_ID, *offered, *used])) if base.is_local]
    # The first of each family that has to be downloaded; those that need no login come first.
    first = [next(offer for offer in family.offers if not offer.folder) for family in families.FAMILIES]
    local = {base.base_model for base in here}
    others = [bases.get_base(offer.id) for offer in sorted(first, key=lambda offer: offer.gated) if offer.id not in local]
    fitting = [base for base in others if _fit(base, gpu)[1]]
    larger = sorted((base for base in others if base not in fitting), key=_needed)
    fitting += larger[: max(0, FEWEST_BASES - len(here) - len(fitting))]
    known = [*here, *fitting]
    asked = next((base for base in known if base.base_model == chosen), bases.get_base(chosen) if chosen else None)
    return [_base_card(base, gpu, base.base_model == chosen) for base in _with_chosen(known, asked)]


def list_goals(workspace: Workspace, dataset: Dataset, base_model: str, chosen: str | None) -> list[Card]:
    best = configs.fitting_preset(dataset.subject, base_model)
    names = {preset.name: preset for preset in configs.presets()}
    shipped = [names[name] for name in (best + shipped_presets.QUICK, best) if name in names]
    known = [*shipped, *starting_points.saved_presets(workspace)]
    asked = next((preset for preset in known if preset.name == chosen), _find_preset(workspace, chosen))
    return [card for each in _with_chosen(known, asked) for card in _goal_card(workspace, dataset, base_model, each, each.name == chosen)]


Choice = TypeVar("Choice")


def _with_chosen(known: list[Choice], chosen: Choice | None) -> list[Choice]:
    """As many as there are cards; the chosen one is always among them."""
    shown = known[:MOST]
    return shown if chosen is None or chosen in shown else [*shown[: MOST - 1], chosen]


def _dataset_card(dataset: Dataset, chosen: bool) -> Card:
    images = dataset.images
    captioned, word = sum(bool(image.caption.strip()) for image in images), dataset.trigger_word
    found = counted(len(images), "image")
    captions = f"{found}, all captioned" if captioned == len(images) else f"{captioned} of {found} captioned"
    thumbs = tuple(files.url("thumb", dataset.id, image.id) for image in images[:THUMBS])
    lines = (captions, f"Trigger word {word}" if word else "No trigger word")
    return Card(dataset.id, dataset.title, lines, thumbs, chosen=chosen)


def _base_card(base: Base, gpu: int | None, chosen: bool) -> Card:
    offer = base.offer
    mark, suits = _fit(base, gpu)
    if offer and offer.folder:
        lines, images = (_licence(offer.licence), "Ships with the studio"), (files.shipped_url(BASE_IMAGE),)
        return Card(base.base_model, offer.title.partition(" (")[0], lines, images, mark, suits, chosen)
    if base.is_local:
        place = "On this computer"
    elif offer:
        place = f"{gigabytes(offer.gigabytes)} to download" + (", login needed" if offer.gated else "")
    else:
        place = "Size known after the download"
    licence = _licence(offer.licence) if offer else "Licence unknown"
    return Card(base.base_model, offer.title if offer else base.title, (licence, place), (), mark, suits, chosen)


def _licence(licence: Licence) -> str:
    if not licence.commercial:
        return "Non-commercial"
    return "Commercial use, limited" if licence.capped else "Commercial use allowed"


def _needed(base: Base) -> int:
    """GB of a GPU that trains it well; a large number if no known size does."""
    least = memory_overlays.least_gigabytes(base.family.name, base.base_model) if base.family else None
    return 999 if least is None else least


def _fit(base: Base, gpu: int | None) -> tuple[str, bool]:
    """Whether a base can be trained here, in words and as a truth value."""
    if base.offer and base.offer.folder:
        return "Fits this computer", True
    if base.family is None:
        return "Family not known yet", False
    least = memory_overlays.least_gigabytes(base.family.name, base.base_model)
    if gpu is not None and least is not None and least <= gpu:
        return f"Fits your GPU ({gpu}\u00a0GB)", True
    if least is None:
        return f"Needs more than {memory_overlays.overlays()[-1].gigabytes}\u00a0GB", False
    return (f"Needs a GPU ({least}\u00a0GB)" if gpu is None else f"Needs about {least}\u00a0GB"), False


def _find_preset(workspace: Workspace, name: str | None) -> Preset | None:
    try:
        return starting_points.find(workspace, name) if name else None
    except StudioError:
        return None


def _goal_card(workspace: Workspace, dataset: Dataset, base_model: str, preset: Preset, chosen: bool) -> Iterator[Card]:
    """No card for a preset that cannot be read; the dropdown lists it."""
    own = preset.name.startswith((starting_points.MINE, starting_points.RUN))
    overrides = [f"model.base_model={toml.format_value(base_model)}"] if base_model and not own else []
    try:
        config = starting_points.build_config(workspace, dataset, preset.name, *overrides)
    except StudioError:
        return
    facts = [counted(config.training.max_train_steps, "step")]
    if pace := seconds_per_step(workspace, config):
        facts.append(f"about {duration(pace * config.training.max_train_steps)}")
    title, sentence = (preset.title, "") if own else PACES[preset.pace]
    source = "Settings of an earlier run." if preset.name.startswith(starting_points.RUN) else "Your preset."
    yield Card(preset.name, title, (sentence or source,), mark=" \u00b7 ".join(facts), chosen=chosen)
