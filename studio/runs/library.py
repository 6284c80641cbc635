"""Every LoRA a person can put into a stack: shipped starters, this studio's runs, imported and downloaded files. No torch here."""

import functools
import hashlib
import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

from studio import builtin, families
from studio.adapters.format import fingerprint
from studio.adapters.header import read_header
from studio.adapters.info import Fingerprint
from studio.config.recipe import StackEntry
from studio.core import bounded_json
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.datasets.dataset import LONGEST_TRIGGER
from studio.datasets.importing.images import clean_text
from studio.runs.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterInfo:
    """What the pages show of one LoRA, and the reference that recipes and jobs carry."""

    ref: str
    title: str
    source: str
    path: Path
    family: str
    width: int | None
    """What tells the members of a family apart; see Family.width."""
    made_for: str
    """The base or the family that it was made for, in words."""
    rank: int
    alpha: float
    base_model: str
    trigger_words: list[str]
    created: float
    origin: dict = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        stat = self.path.stat()
        return _sha256(self.path, stat.st_mtime_ns, stat.st_size)


def list_adapters(workspace: Workspace) -> list[AdapterInfo]:
    """All of a workspace's LoRAs, newest first, then the shipped starters. A damaged file is left out, so that it hides no other."""
    cards = []
    makers = [functools.partial(_run_adapter, run, None) for run in Run.all(workspace) if run.adapters()]
    for make in makers + [functools.partial(_file_adapter, path) for path in workspace.adapters.glob("*.safetensors")]:
        try:
            cards.append(make())
        except StudioError as error:
            log.warning("a LoRA is left out of the list: %s", error)
    cards.sort(key=lambda card: card.created, reverse=True)
    return cards + starters()


def starters() -> list[AdapterInfo]:
    """The LoRAs that ship with the studio."""
    return [
        _adapter_info(f"starter:{path.stem}", path.stem.capitalize(), "starter", path) for path in sorted(builtin.LORAS_DIR.glob("*.safetensors"))
    ]


def find(workspace: Workspace, ref: str) -> AdapterInfo:
    """The LoRA behind a reference: starter:<name>, run:<id>, run:<id>@<step> or file:<id>."""
    source, _, name = ref.partition(":")
    if source == "starter":
        for card in starters():
            if card.ref == ref:
                return card
    elif source == "run":
        run_id, _, step = name.partition("@")
        run = Run.open(workspace, run_id)
        if step and not step.isdigit():
            raise StudioError(f"{step!r} is not a step of {run.title!r}; saved steps: {', '.join(str(s) for s, _ in run.adapters())}.")
        if (run.adapter_at(int(step)) if step else run.latest_adapter() or run.adapter_at(0)).exists():
            return _run_adapter(run, int(step) if step else None)
        raise StudioError(f"The run {run.title!r} has no LoRA saved{' at step ' + step if step else ' yet'}.")
    elif source == "file":
        path = workspace.adapter_path(name)
        if path.exists():
            return _file_adapter(path)
    raise StudioError(f"The LoRA {ref!r} is not here (any more); choose one from the list, or bring it again from its file or the Hub.")


def stack_entry(workspace: Workspace, ref: str, weight: float) -> StackEntry:
    """A LoRA as a recipe names it: by the hash of its file as it is now. A run that is still learning goes without, so that whoever draws
    takes its newest save, and writes that one's hash down."""
    card = find(workspace, ref)
    source, _, run_id = ref.partition(":")
    learning = source == "run" and "@" not in run_id and Run.open(workspace, run_id).state in ("running", "paused", "full")
    return validated(StackEntry, {"adapter": card.ref, "weight": weight, "title": card.title, "sha256": None if learning else card.sha256})


def find_by_hash(workspace: Workspace, ref: str, sha256: str) -> AdapterInfo | None:
    """The save of a run that is exactly this file, for a recipe older than the run's newest LoRA; of other LoRAs there is one file only."""
    source, _, name = ref.partition(":")
    if source != "run":
        return None
    run_id = name.partition("@")[0]
    saves = (find(workspace, f"run:{run_id}@{step}") for step, _ in reversed(Run.open(workspace, run_id).adapters()))
    return next((card for card in saves if card.sha256 == sha256), None)


def _run_adapter(run: Run, step: int | None) -> AdapterInfo:
    path = run.latest_adapter() if step is None else run.adapter_at(step)
    ref = f"run:{run.id}" if step is None else f"run:{run.id}@{step}"
    title = run.title if step is None else f"{run.title}, step {step}"
    return _adapter_info(ref, title, "run", path)


def _file_adapter(path: Path) -> AdapterInfo:
    about_file = path.with_suffix(".json")
    about = json.loads(about_file.read_text(encoding="utf-8")) if about_file.exists() else {}
    origin = about.get("source", {})
    return _adapter_info(f"file:{path.stem}", about.get("title", path.stem), "hub" if "hub" in origin else "file", path, about, origin)


def _adapter_info(ref: str, title: str, source: str, path: Path, about: dict | None = None, origin: dict | None = None) -> AdapterInfo:
    stat = path.stat()
    facts = _facts(path, stat.st_mtime_ns, stat.st_size)
    words = (about or {}).get("trigger_words") or [w for w in [facts["trigger_word"]] if w]
    said = [facts[name] for name in ("family", "width", "made_for", "rank", "alpha", "base_model")]
    return AdapterInfo(ref, title, source, path, *said, words, stat.st_mtime, origin or {})


@functools.lru_cache(maxsize=1024)
def _facts(path: Path, modified_ns: int, size: int) -> dict:
    """What the file's header says; remembered for as long as the file does not change."""
    header = read_header(path)
    print_ = fingerprint(header)
    alpha, base_model, word = (_studio_metadata(header.metadata).get(key) for key in ("trained_alpha", "base_model", "trigger_word"))
    word = word if isinstance(word, str) else header.metadata.get("modelspec.trigger_phrase", "")
    base_model = base_model if isinstance(base_model, str) else ""
    return {
        "family": print_.family,
        "width": print_.width,
        "made_for": _made_for(print_, base_model),
        "rank": print_.rank,
        "alpha": alpha if type(alpha) in (int, float) and math.isfinite(alpha) else print_.alpha,
        "base_model": base_model,
        "trigger_word": clean_text(word, LONGEST_TRIGGER),
    }


def _made_for(found: Fingerprint, base_model: str) -> str:
    """A file may say any base; it is believed where its layers are of that base's family."""
    family = next((family for family in families.FAMILIES if family.name == found.family), None)
    if family is None:
        return found.title
    known = family.offer(base_model)
    return known.name if known else family.member_title(found.width)


def _studio_metadata(metadata: dict[str, str]) -> dict:
    """What a studio wrote into the header. Anybody can write there, so anything but a JSON object counts as nothing said."""
    try:
        said = bounded_json.loads(metadata.get("studio", "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
