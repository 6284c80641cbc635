"""The LoRA list of the Generate tab: rows of plain data (the source of truth, in a gr.State) and the HTML that shows them."""

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from studio import builtin
from studio.config.recipe import StackEntry
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.trigger_words import fill_placeholder, has_word
from studio.families import bases
from studio.runs import library
from studio.runs.library import AdapterInfo
from studio.runs.run import Run
from studio.ui import files
from studio.ui.components import bases as base_list
from studio.ui.components import run_card
from studio.ui.components.html import empty
from studio.ui.components.templates import render

FIRST_WEIGHTS = {"starter:style": 1.0, "starter:character": 1.0}

BaseVersion = tuple[str, str | None]
"""(base model, revision)"""


class Row(TypedDict):
    """One LoRA of the list."""

    ref: str
    title: str
    weight: float
    on: bool
    trigger_words: list[str]
    image: str
    """Address of an example image, or empty."""
    origin: str
    base: str
    revision: str | None
    family: str
    width: int | None
    made_for: str
    fits: bool
    """Whether it does something on the chosen base."""
    switch: NotRequired[str]
    """A base that it fits, where it does not fit the chosen one."""
    sha256: NotRequired[str]
    """Recorded hash, where the file that has it is found only by reading files."""


def row(adapter: AdapterInfo, weight: float = 1.0) -> Row:
    base, revision = base_of(adapter)
    return {
        "ref": adapter.ref,
        "title": adapter.title,
        "weight": weight,
        "on": True,
        "trigger_words": list(adapter.trigger_words),
        "image": cover(adapter),
        "origin": origin(adapter),
        "base": base,
        "revision": revision,
        "family": adapter.family,
        "width": adapter.width,
        "made_for": adapter.made_for,
        "fits": True,
    }


def origin(adapter: AdapterInfo) -> str:
    """The base that a LoRA was made for; of one from the Hub also its repository and licence. Empty for starters."""
    if adapter.source == "starter":
        return ""
    hub = [adapter.origin["hub"], adapter.origin.get("licence") or "no licence given"] if adapter.source == "hub" else []
    return ", ".join([f"for {adapter.made_for}", *hub])


def base_of(adapter: AdapterInfo) -> BaseVersion:
    """The base model that a LoRA was trained on, if known: exactly for a run, by name only for a file."""
    if adapter.source != "run":
        return adapter.base_model, None
    model = Run(adapter.path.parents[1]).config.model
    return model.base_model, model.revision


def fitted(workspace: Workspace, rows: list[Row], base_model: str, revision: str | None = None) -> list[Row]:
    """The same rows, each with whether it fits this base, and a base that it fits otherwise.

    Those that do not fit keep their weight and their switch, and act again once a base of theirs is chosen.
    """
    base, known = bases.get_base(base_model, revision), [each for _, each in base_list.choices(workspace)]
    found: list[Row] = []
    for r in rows:
        fits = fits_on(r, base)
        offer = None if fits else bases.suggest_offer(r["family"], r["width"], r["base"])
        own = not fits and r["base"] in known
        found.append(r | {"fits": fits, "switch": r["base"] if own else offer.id if offer else ""})
    return found


def fits_on(r: Row, base: bases.Base) -> bool:
    """On a base that is unknown until it is downloaded, only a LoRA made for that very base is sure to fit."""
    fits = base.fits(r["family"], r["width"])
    return r["base"] in ("", base.base_model) if fits is None else fits


def known_base(workspace: Workspace, requested: BaseVersion, current: BaseVersion) -> tuple[BaseVersion, str]:
    """(the base to generate with, a message): the base named in an uploaded recipe or file is never downloaded unasked."""
    base, revision = requested
    if not base or requested == current:
        return current, ""
    if base != current[0] and base not in [known for _, known in base_list.choices(workspace)]:
        return current, f"Made with {base}; choose it under Base model to download it."
    models = [run.config.model for run in Run.all(workspace)]
    if revision is None or (base, revision) in [(model.base_model, model.revision) for model in models]:
        return requested, ""
    return (base, None), f"Made with another revision of {base} ({revision[:8]}), which is not used here; the image may differ."


def sample_prompt(adapter: AdapterInfo) -> str:
    """The first sample prompt of the run that a LoRA came from, which it is known to respond to."""
    if adapter.source != "run":
        return ""
    config = Run(adapter.path.parents[1]).config
    return fill_placeholder(config.samples.prompts[0], config.dataset.trigger_word) if config.samples.prompts else ""


def cover(adapter: AdapterInfo) -> str:
    """Address of a small example image of the LoRA, or empty."""
    source, _, name = adapter.ref.partition(":")
    if source == "starter":
        shipped = builtin.LORAS_DIR / f"{name}.png"
        return files.shipped_url(shipped) if shipped.exists() else ""
    return run_card.cover(Run(adapter.path.parents[1])) if source == "run" else ""


def starter_rows(weights: dict[str, float] | None = None) -> list[Row]:
    """The rows that the page opens with: the starters of its first image (ref -> weight), else style and character."""
    weights = weights or FIRST_WEIGHTS
    return [row(adapter, weights[adapter.ref]) for adapter in library.starters() if adapter.ref in weights]


def rows_of(workspace: Workspace, stack: list[StackEntry]) -> tuple[list[Row], list[str], list[str]]:
    """(rows for a recipe's stack, titles of LoRAs that are no longer here, titles of those whose file has changed)"""
    rows: list[Row] = []
    missing, changed = [], []
    for entry in stack:
        try:
            adapter = library.find(workspace, entry.adapter)
        except StudioError:
            missing.append(entry.title or entry.adapter)
            continue
        recorded, unsure = library.find_by_known_hash(workspace, entry.adapter, entry.sha256) if entry.sha256 else (adapter, False)
        rows.append(row(recorded or adapter, entry.weight) | {"on": entry.on})
        if recorded is None and unsure and entry.sha256:
            # The generate job reads the files and finds the recorded one, or fails with an error.
            rows[-1]["sha256"] = entry.sha256
        elif recorded is None:
            changed.append(adapter.title)
    return rows, missing, changed


def stack(workspace: Workspace, rows: list[Row]) -> list[StackEntry]:
    """The stack of a recipe: the rows that are on, fit the base, and have a weight other than 0 (which is the base itself)."""
    acting = [each for each in rows if acts(each) and each["weight"] != 0]
    return [library.stack_entry(workspace, each["ref"], each["weight"], each.get("sha256")) for each in acting]


def acts(r: Row) -> bool:
    return r["on"] and r["fits"]


@dataclass(frozen=True)
class Item:
    """A row as the template shows it."""

    ref: str
    title: str
    weight: float
    on: bool
    fits: bool
    acts: bool
    image: str
    origin: str
    made_for: str
    switch: str
    """A base that it fits."""
    switch_label: str


def show(rows: list[Row]) -> str:
    if not rows:
        return empty("No LoRA yet", "Both images are the same. Open “Add a LoRA” below.")
    return render("lora_list", "rows", [_item(r) for r in rows])


def _item(r: Row) -> Item:
    base = bases.get_base(r["switch"]) if not r["fits"] and r.get("switch") else None
    cost = f" ({base_list.gigabytes(base.offer.gigabytes)} to download)" if base and base.offer and not base.is_local else ""
    return Item(
        ref=r["ref"],
        title=r["title"],
        weight=r["weight"],
        on=r["on"],
        fits=r["fits"],
        acts=acts(r),
        image=r["image"],
        origin=r["origin"] if r["fits"] else "",
        made_for=r["made_for"],
        switch=base.base_model if base else "",
        switch_label=f"{base.title}{cost}" if base else "",
    )


def chips(rows: list[Row], prompt: str) -> str:
    """Trigger words to click into the prompt; grey and dashed while the prompt lacks them."""
    found = [(word, r["title"], not has_word(prompt, word)) for r in rows if acts(r) for word in r["trigger_words"]]
    return render("lora_list", "chips", found) if found else ""
