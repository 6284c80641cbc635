"""Library of LoRAs for a stack: shipped starters, runs of this studio, imported and downloaded files. No torch."""

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from studio import builtin, families
from studio.adapters.format import fingerprint
from studio.adapters.header import read_header
from studio.adapters.info import Fingerprint
from studio.config.recipe import StackEntry
from studio.core import bounded_json, damage, hashes
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.datasets.dataset import LONGEST_TRIGGER
from studio.datasets.importing.images import clean_text
from studio.runs.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterInfo:
    """One LoRA as the pages show it; `ref` identifies it in recipes and jobs."""

    ref: str
    title: str
    source: str
    path: Path
    family: str
    width: int | None
    """Distinguishes the members of a family; see Family.width."""
    made_for: str
    """Title of the base or family that it was trained for."""
    rank: int
    alpha: float
    base_model: str
    trigger_words: list[str]
    created: float
    origin: dict = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """For jobs: a file whose hash is not known yet is read."""
        return hashes.sha256(self.path)

    @property
    def known_sha256(self) -> str | None:
        """For pages and endpoints: None where a large file would have to be read."""
        return hashes.known(self.path)


def list_adapters(workspace: Workspace) -> list[AdapterInfo]:
    """All LoRAs of a workspace, newest first, then the shipped starters. Damaged files are skipped and logged."""
    adapters = []
    makers = [functools.partial(_run_adapter, run, None, path) for run in Run.all(workspace) if (path := run.latest_adapter())]
    for make in makers + [functools.partial(_file_adapter, path) for path in workspace.adapters.glob("*.safetensors")]:
        try:
            adapters.append(make())
        except (StudioError, OSError) as error:
            # The system's reason alone: its message has the path.
            log.warning("LoRA skipped in the list: %s", error.strerror if isinstance(error, OSError) else error)
    adapters.sort(key=lambda adapter: adapter.created, reverse=True)
    return adapters + starters()


def starters() -> list[AdapterInfo]:
    """The LoRAs that ship with the studio."""
    return [
        _adapter_info(f"starter:{path.stem}", path.stem.capitalize(), "starter", path) for path in sorted(builtin.LORAS_DIR.glob("*.safetensors"))
    ]


def find(workspace: Workspace, ref: str) -> AdapterInfo:
    """The LoRA behind a reference: starter:<name>, run:<id>, run:<id>@<step> or file:<id>."""
    source, _, name = ref.partition(":")
    if source == "starter":
        for adapter in starters():
            if adapter.ref == ref:
                return adapter
    elif source == "run":
        run_id, _, step = name.partition("@")
        run = Run.open(workspace, run_id)
        if step and not step.isdigit():
            raise StudioError(
                f"{step!r} is not a step of {run.title!r}; choose one of the saved steps: {', '.join(str(s) for s, _ in run.adapters())}."
            )
        saved = run.adapter_at(int(step)) if step else run.latest_adapter()
        if saved and saved.exists():
            return _run_adapter(run, int(step) if step else None, saved)
        raise StudioError(f"The run {run.title!r} has no saved LoRA{' at step ' + step if step else ' yet'}; choose another step or another LoRA.")
    elif source == "file":
        path = workspace.adapter_path(name)
        if path.exists():
            return _file_adapter(path)
    raise StudioError(f"There is no LoRA {ref!r}; choose one from the list, or import it again from its file or the Hub.")


def stack_entry(workspace: Workspace, ref: str, weight: float, sha256: str | None = None) -> StackEntry:
    """Stack entry for a recipe, with the hash of the file: `sha256`, or the one known now. A run in training has no hash yet, and a large file may
    not; generation then uses the newest checkpoint and records its hash."""
    adapter = find(workspace, ref)
    source, _, run_id = ref.partition(":")
    in_training = source == "run" and "@" not in run_id and Run.open(workspace, run_id).state in ("running", "paused", "full")
    sha256 = sha256 or (None if in_training else adapter.known_sha256)
    return validated(StackEntry, {"adapter": adapter.ref, "weight": weight, "title": adapter.title, "sha256": sha256})


def find_by_hash(workspace: Workspace, ref: str, sha256: str) -> AdapterInfo | None:
    """The checkpoint of a run with this hash, for recipes older than the run's newest LoRA; other LoRAs have only one file. For jobs: files whose
    hash is not known yet are read."""
    return next((adapter for adapter in _checkpoints(workspace, ref) if adapter.sha256 == sha256), None)


def find_by_known_hash(workspace: Workspace, ref: str, sha256: str) -> tuple[AdapterInfo | None, bool]:
    """The same for pages, which read no large file; and whether it may be among the files whose hash is not known."""
    known = [(adapter, adapter.known_sha256) for adapter in [find(workspace, ref), *_checkpoints(workspace, ref)]]
    return next((adapter for adapter, each in known if each == sha256), None), any(each is None for _, each in known)


def _checkpoints(workspace: Workspace, ref: str) -> Iterator[AdapterInfo]:
    """The LoRAs of every checkpoint of a reference's run, newest first; none for any other LoRA."""
    source, _, name = ref.partition(":")
    if source == "run":
        run_id = name.partition("@")[0]
        yield from (find(workspace, f"run:{run_id}@{step}") for step, _ in reversed(Run.open(workspace, run_id).adapters()))


def _run_adapter(run: Run, step: int | None, path: Path) -> AdapterInfo:
    ref = f"run:{run.id}" if step is None else f"run:{run.id}@{step}"
    title = run.title if step is None else f"{run.title}, step {step}"
    return _adapter_info(ref, title, "run", path)


METADATA = {"title": str, "source": (dict, damage.ABSENT), "trigger_words": (list, damage.ABSENT)}
"""What the .json beside an imported LoRA may contain."""


def _file_adapter(path: Path) -> AdapterInfo:
    metadata_file = path.with_suffix(".json")
    metadata: dict = {}
    with contextlib.suppress(damage.Damaged):
        # Without it the LoRA works under the name of its file; damage.py names the file that cannot be read.
        metadata = damage.read_object(metadata_file, METADATA)
    origin = metadata.get("source") or {}
    return _adapter_info(f"file:{path.stem}", metadata.get("title", path.stem), "hub" if "hub" in origin else "file", path, metadata, origin)


def _adapter_info(ref: str, title: str, source: str, path: Path, metadata: dict | None = None, origin: dict | None = None) -> AdapterInfo:
    stat = path.stat()
    facts = _facts(path, stat.st_mtime_ns, stat.st_size)
    words = (metadata or {}).get("trigger_words") or [w for w in [facts["trigger_word"]] if w]
    values = {name: facts[name] for name in ("family", "width", "made_for", "rank", "alpha", "base_model")}
    return AdapterInfo(ref, title, source, path, **values, trigger_words=words, created=stat.st_mtime, origin=origin or {})


@functools.lru_cache(maxsize=1024)
def _facts(path: Path, modified_ns: int, size: int) -> dict:
    """Facts from the file's header, cached until the file changes."""
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
        "alpha": alpha if isinstance(alpha, int | float) and not isinstance(alpha, bool) and math.isfinite(alpha) else print_.alpha,
        "base_model": base_model,
        "trigger_word": clean_text(word, LONGEST_TRIGGER),
    }


def _made_for(found: Fingerprint, base_model: str) -> str:
    """The base named in the header counts only if the file's layers belong to that base's family."""
    family = next((family for family in families.FAMILIES if family.name == found.family), None)
    if family is None:
        return found.title
    known = family.offer(base_model)
    return known.name if known else family.member_title(found.width)


def _studio_metadata(metadata: dict[str, str]) -> dict:
    """Metadata written by a studio into the header. The header is untrusted, so anything but a JSON object is ignored."""
    try:
        values = bounded_json.loads(metadata.get("studio", "{}"))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
