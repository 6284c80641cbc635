"""The list of LoRAs on the Generate tab: rows of plain data (the truth, in a gr.State) and the HTML that shows them."""

from studio import builtin, families, library
from studio.errors import StudioError
from studio.library import AdapterCard
from studio.recipe import StackEntry
from studio.runs import Run
from studio.trigger_words import has_word, spoken
from studio.ui import files
from studio.ui.html import empty, term, text
from studio.workspace import Workspace

TRIGGER_WORDS = term("Words that call them", "A trigger word, rare on purpose, calls a LoRA in a prompt. Click to put it in; dashed: it is missing.")
MARKS = '<b>0 base</b><b>1 full</b><b>may break</b><b class="least">reverse</b>'
FIRST_WEIGHTS = {"starter:style": 1.0, "starter:character": 1.0}


def row(card: AdapterCard, weight: float = 1.0) -> dict:
    words = list(card.trigger_words)
    base, revision = base_of(card)
    shown = {"ref": card.ref, "title": card.title, "weight": weight, "on": True, "words": words, "picture": cover(card), "from": source(card)}
    return shown | {"base": base, "revision": revision}


def source(card: AdapterCard) -> str:
    """Where a LoRA of the Hub came from and under which licence; of others there is nothing to say."""
    if card.source != "hub":
        return ""
    return f"{card.origin['hub']}, {card.origin.get('licence') or 'no licence given'}"


def base_of(card: AdapterCard) -> tuple[str, str | None]:
    """(id, revision) of the base model it was trained on, if that is known; a run knows it exactly, a file only says a name."""
    if card.source != "run":
        return card.base_model, None
    model = Run(card.path.parents[1]).config.model
    return model.base_model, model.revision


def bases(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, id) of every base a person may draw with: the families' offers, and those of their own runs."""
    offered = {offer.id: offer.title for family in families.FAMILIES for offer in family.offers}
    own = {run.config.model.base_model for run in Run.all(workspace)} - set(offered)
    return [(title, base) for base, title in offered.items()] + [(base, base) for base in sorted(own)]


def fitting(rows: list[dict], base: str) -> tuple[list[dict], list[str]]:
    """The same rows, those for another base switched off; and the titles of these."""
    strange = [bool(r["on"] and r["base"] and r["base"] != base) for r in rows]
    return [r | {"on": r["on"] and not other} for r, other in zip(rows, strange)], [r["title"] for r, other in zip(rows, strange) if other]


def known_base(workspace: Workspace, wanted: tuple[str, str | None], present: tuple[str, str | None]) -> tuple[tuple[str, str | None], str]:
    """((base to draw with, its revision), what to say): a recipe or a file that somebody brought fetches nothing by itself."""
    base, revision = wanted
    if not base or wanted == present:
        return present, ""
    if base != present[0] and base not in [known for _, known in bases(workspace)]:
        return present, f"Made with {base}; choose it under Base model to fetch it."
    models = [run.config.model for run in Run.all(workspace)]
    if revision is None or (base, revision) in [(model.base_model, model.revision) for model in models]:
        return wanted, ""
    return (base, None), f"Made with another version of {base} ({revision[:8]}), which is not used here; the picture may differ."


def sample_prompt(card: AdapterCard) -> str:
    """The first sample prompt of the run a LoRA came from: words it is known to answer to."""
    if card.source != "run":
        return ""
    config = Run(card.path.parents[1]).config
    return spoken(config.samples.prompts[0], config.dataset.trigger_word) if config.samples.prompts else ""


def cover(card: AdapterCard) -> str:
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
        card = _recorded(workspace, entry)
        if card is None:
            missing.append(entry.title or entry.adapter)
            continue
        rows.append(row(card, entry.weight) | {"on": entry.on})
        if entry.sha256 and card.sha256 != entry.sha256:
            changed.append(card.title)
    return rows, missing, changed


def _recorded(workspace: Workspace, entry: StackEntry) -> AdapterCard | None:
    """The very file that a recipe was drawn with; else what its reference leads to now; else nothing."""
    try:
        card = library.find(workspace, entry.adapter)
    except StudioError:
        return None
    if entry.sha256 and card.sha256 != entry.sha256:
        return library.with_hash(workspace, entry.adapter, entry.sha256) or card
    return card


def stack(workspace: Workspace | None, rows: list[dict]) -> list[StackEntry]:
    """The rows that take part: switched on, and a weight other than 0 (which is the base itself)."""
    return [library.stack_entry(workspace, each["ref"], each["weight"]) for each in rows if each["on"] and each["weight"] != 0]


def show(rows: list[dict]) -> str:
    if not rows:
        return empty("No LoRA yet", "Both pictures are the same. Open “Add a LoRA” below.")
    return f'<ul class="loras">{"".join(_item(i, r) for i, r in enumerate(rows))}</ul>'


def _item(index: int, r: dict) -> str:
    title = text(r["title"])
    picture = f'<img class="thumb" src="{text(r["picture"])}" alt="">' if r["picture"] else f'<div class="thumb" aria-hidden="true">{title[:1]}</div>'
    checked = "checked" if r["on"] else ""
    hot = "hot" if r["weight"] > 1 else ""
    origin = f"<small>{text(r['from'])}</small>" if r["from"] else ""
    return (
        f'<li class="{"" if r["on"] else "off"}">{picture}'
        f'<label class="name"><input type="checkbox" {checked} data-change="toggle" data-index="{index}" aria-label="{title} on">'
        f"<span>{title}{origin}</span></label>"
        f'<button class="x" data-click="drop" data-index="{index}" aria-label="Take {title} out of the stack" title="Take out">&times;</button>'
        f'<div class="weigh {hot}"><div class="track"><input type="range" min="-1" max="2" step="0.05" value="{r["weight"]:.2f}" '
        f'data-change="weigh" data-index="{index}" aria-label="Weight of {title}">'
        f'<div class="marks" aria-hidden="true">{MARKS}</div></div><output>{r["weight"]:.2f}</output></div></li>'
    )


def chips(rows: list[dict], prompt: str) -> str:
    """Trigger words to click into the prompt; grey and dashed while the prompt lacks them."""
    found = []
    for r in rows:
        for word in r["words"] if r["on"] else ():
            missing = "" if has_word(prompt, word) else "missing"
            found.append(
                f'<button class="chip {missing}" data-click="insert" data-word="{text(word)}" '
                f'title="{"Put it into the prompt" if missing else "In the prompt"}"><b>{text(word)}</b> {text(r["title"])}</button>'
            )
    return f'<div class="chips"><span class="small">{TRIGGER_WORDS}</span>{"".join(found)}</div>' if found else ""
