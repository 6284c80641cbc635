"""The list of LoRAs on the Generate tab: rows of plain data (the truth, in a gr.State) and the HTML that shows them."""

from dataclasses import dataclass

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
from studio.ui.components.html import empty
from studio.ui.components.templates import render

FIRST_WEIGHTS = {"starter:style": 1.0, "starter:character": 1.0}


def row(card: AdapterInfo, weight: float = 1.0) -> dict:
    words = list(card.trigger_words)
    base, revision = base_of(card)
    shown = {"ref": card.ref, "title": card.title, "weight": weight, "on": True, "words": words, "picture": cover(card), "from": source(card)}
    return shown | {"base": base, "revision": revision, "family": card.family, "width": card.width, "made_for": card.made_for, "fits": True}


def source(card: AdapterInfo) -> str:
    """Whom a LoRA was made for; of one from the Hub also where it came from and under which licence. Of starters there is nothing to say."""
    if card.source == "starter":
        return ""
    origin = [card.origin["hub"], card.origin.get("licence") or "no licence given"] if card.source == "hub" else []
    return ", ".join([f"for {card.made_for}", *origin])


def base_of(card: AdapterInfo) -> tuple[str, str | None]:
    """(id, revision) of the base model it was trained on, if that is known; a run knows it exactly, a file only says a name."""
    if card.source != "run":
        return card.base_model, None
    model = Run(card.path.parents[1]).config.model
    return model.base_model, model.revision


def fitted(workspace: Workspace, rows: list[dict], base_model: str, revision: str | None = None) -> list[dict]:
    """The same rows, each with whether it does something on this base, and which base it would rather have.

    Those that do not fit keep their weight and their tick: they come back with a base of theirs.
    """
    base, known = bases.get_base(base_model, revision), [each for _, each in base_list.choices(workspace)]
    found = []
    for r in rows:
        fits = fits_on(r, base)
        offer = None if fits else bases.suggest_offer(r["family"], r["width"], r["base"])
        own = not fits and r["base"] in known
        found.append(r | {"fits": fits, "switch": r["base"] if own else offer.id if offer else ""})
    return found


def fits_on(r: dict, base: bases.Base) -> bool:
    """Of a base that is not known before it is fetched, only a LoRA that was made for it is sure to fit."""
    fits = base.fits(r["family"], r["width"])
    return r["base"] in ("", base.base_model) if fits is None else fits


def known_base(workspace: Workspace, wanted: tuple[str, str | None], present: tuple[str, str | None]) -> tuple[tuple[str, str | None], str]:
    """((base to draw with, its revision), what to say): a recipe or a file that somebody brought fetches nothing by itself."""
    base, revision = wanted
    if not base or wanted == present:
        return present, ""
    if base != present[0] and base not in [known for _, known in base_list.choices(workspace)]:
        return present, f"Made with {base}; choose it under Base model to fetch it."
    models = [run.config.model for run in Run.all(workspace)]
    if revision is None or (base, revision) in [(model.base_model, model.revision) for model in models]:
        return wanted, ""
    return (base, None), f"Made with another version of {base} ({revision[:8]}), which is not used here; the picture may differ."


def sample_prompt(card: AdapterInfo) -> str:
    """The first sample prompt of the run a LoRA came from: words it is known to answer to."""
    if card.source != "run":
        return ""
    config = Run(card.path.parents[1]).config
    return fill_placeholder(config.samples.prompts[0], config.dataset.trigger_word) if config.samples.prompts else ""


def cover(card: AdapterInfo) -> str:
    """Address of a small picture that shows what the LoRA does, or nothing."""
    source, _, name = card.ref.partition(":")
    if source == "starter":
        shipped = builtin.LORAS_DIR / f"{name}.png"
        return files.shipped_url(shipped) if shipped.exists() else ""
    if source == "run":
        samples = Run(card.path.parents[1]).samples()
        return files.url("sample", card.path.parents[1].name, max(samples), 0) if samples else ""
    return ""


def starter_rows(weights: dict[str, float] | None = None) -> list[dict]:
    """What the page opens with: the shipped LoRAs that its first picture was drawn with (ref -> weight), else style and character."""
    weights = weights or FIRST_WEIGHTS
    return [row(card, weights[card.ref]) for card in library.starters() if card.ref in weights]


def rows_of(workspace: Workspace, stack: list[StackEntry]) -> tuple[list[dict], list[str], list[str]]:
    """Rows for a recipe's stack; the titles of LoRAs that are not here any more, and of those whose file is another one by now."""
    rows, missing, changed = [], [], []
    for entry in stack:
        try:
            card = library.find(workspace, entry.adapter)
        except StudioError:
            missing.append(entry.title or entry.adapter)
            continue
        recorded, unsure = library.find_by_known_hash(workspace, entry.adapter, entry.sha256) if entry.sha256 else (card, False)
        rows.append(row(recorded or card, entry.weight) | {"on": entry.on})
        if recorded is None and unsure:
            # Whoever draws reads the files and finds the one that was recorded, or says that there is none.
            rows[-1]["sha256"] = entry.sha256
        elif recorded is None:
            changed.append(card.title)
    return rows, missing, changed


def stack(workspace: Workspace | None, rows: list[dict]) -> list[StackEntry]:
    """The rows that take part: switched on, made for the base, and a weight other than 0 (which is the base itself)."""
    taking_part = [each for each in rows if acts(each) and each["weight"] != 0]
    return [library.stack_entry(workspace, each["ref"], each["weight"], each.get("sha256")) for each in taking_part]


def acts(r: dict) -> bool:
    return r["on"] and r["fits"]


@dataclass(frozen=True)
class Item:
    """A row as the list shows it."""

    title: str
    weight: float
    on: bool
    fits: bool
    acts: bool
    picture: str
    origin: str
    made_for: str
    switch: str
    """A base that it fits."""
    switch_words: str


def show(rows: list[dict]) -> str:
    if not rows:
        return empty("No LoRA yet", "Both pictures are the same. Open “Add a LoRA” below.")
    return render("lora_list", "rows", [_item(r) for r in rows])


def _item(r: dict) -> Item:
    base = bases.get_base(r["switch"]) if not r["fits"] and r["switch"] else None
    cost = f" ({base_list.gigabytes(base.offer.gigabytes)} to fetch)" if base and base.offer and not base.is_local else ""
    origin = r["from"] if r["fits"] else ""
    words = f"{base.title}{cost}" if base else ""
    return Item(r["title"], r["weight"], r["on"], r["fits"], acts(r), r["picture"], origin, r["made_for"], r["switch"] if base else "", words)


def chips(rows: list[dict], prompt: str) -> str:
    """Trigger words to click into the prompt; grey and dashed while the prompt lacks them."""
    found = [(word, r["title"], not has_word(prompt, word)) for r in rows if acts(r) for word in r["words"]]
    return render("lora_list", "chips", found) if found else ""
