"""Contents of a published LoRA: an explicit list of files, built from one run. No network access here; send.py uploads it, save.py writes it to disk.

pytorch_lora_weights.safetensors  README.md  lora_studio.json  images/<n>.png  images/base-<n>.png
"""

import functools
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field

from studio import __version__, families
from studio.adapters.header import read_header
from studio.config import TrainConfig
from studio.config.recipe import read_recipe, strip_metadata
from studio.core import hashes
from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets.trigger_words import has_word
from studio.families import single_file
from studio.families.base import Family
from studio.hub import client
from studio.publishing import licensing, model_card
from studio.publishing.facts import Base, CardFacts, Rights, Sample, SingleFile, Trained, clean_line
from studio.runs import library
from studio.runs.run import Run

STUDIO_FILE = "lora_studio.json"
CARD = "README.md"
PIECE_BYTES = 1 << 20


class Request(BaseModel):
    """Publish request from the page, the command line or the API; also the payload of a publish job. Never holds a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str = Field(max_length=300)
    repo: str = Field("", max_length=200)
    """`name`, or `owner/name`; empty for a folder or zip."""
    private: bool = True
    title: str = Field("", max_length=120)
    description: str = Field("", max_length=5000)
    licence: str = Field("", max_length=60)
    """A licence id of the Hub, "base" for the base's own, or "other" with a name and a link."""
    licence_name: str = Field("", max_length=100)
    licence_link: str = Field("", max_length=300)
    base_licence: str = Field("", max_length=200)
    """Licence of the base as stated by the user, where the studio does not know it."""
    rights: str = Field("", max_length=2000)
    """What gives the user the right to publish this LoRA."""
    stated_by: str = Field("", max_length=120)
    samples: list[int] | None = None
    """Indices of the sample prompts whose images are published; None publishes all."""
    update: bool = False
    """Add a new version to a repository to which this run was already published."""

    @property
    def job_key(self) -> str:
        """Key of the queue: at most one unfinished upload of this LoRA to this repository."""
        return f"publish-{self.adapter}-{self.repo}"


@dataclass(frozen=True)
class PlannedFile:
    """One file of the repository."""

    path: str
    content: bytes | Path

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if isinstance(self.content, bytes) else hashes.sha256(self.content)

    def copy_to(self, target: IO[bytes]) -> None:
        """In pieces: a LoRA can be gigabytes."""
        with io.BytesIO(self.content) if isinstance(self.content, bytes) else open(self.content, "rb") as source:
            shutil.copyfileobj(source, target, PIECE_BYTES)

    @functools.cached_property
    def git_id(self) -> str:
        return client.git_blob_id(self.read())


@dataclass(frozen=True)
class Plan:
    """Everything that will be uploaded. `work` is a hash of the run's id: it identifies the run without naming it."""

    request: Request
    facts: CardFacts
    adapter: Path
    images: tuple[PlannedFile, ...]
    work: str
    notes: tuple[str, ...]

    @property
    def repo_id(self) -> str:
        return self.facts.repo_id

    def at(self, repo_id: str) -> "Plan":
        """The same plan with the full repository id, which the card's code uses."""
        return replace(self, facts=replace(self.facts, repo_id=repo_id))

    @property
    def card(self) -> str:
        return model_card.render(self.facts)

    @property
    def files(self) -> list[PlannedFile]:
        card = PlannedFile(CARD, self.card.encode())
        sent = [PlannedFile(client.WEIGHTS_NAME, self.adapter), card, *self.images]
        return [*sent, PlannedFile(STUDIO_FILE, self._studio_file(sent))]

    def _studio_file(self, sent: list[PlannedFile]) -> bytes:
        """Settings to repeat the training, and hashes for later updates. No names, dates or paths of this computer."""
        trained = self.facts.trained
        facts = {
            "format": 1,
            "made_with": f"LoRA Studio {__version__}",
            "work": self.work,
            "config": model_card.public_config(self.facts.config, self.facts.base).model_dump(mode="json"),
            "base_revision": self.facts.base.revision,
            "steps": trained.steps,
            "seconds": trained.seconds,
            "pictures": trained.images,
            "dataset_sha256": trained.dataset_sha256,
            "files": {file.path: file.sha256 for file in sent},
        }
        return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()

    def check(self) -> None:
        """Raise StudioError if a statement required for publishing is missing; a preview does not need them."""
        rights = self.facts.rights
        if not clean_line(rights.statement):
            raise StudioError("State what gives you the right to publish this LoRA (own images, a permission, a free licence); it goes on the card.")
        if rights.real_person and not clean_line(rights.consent):
            raise StudioError("The images show a real person, and no consent is recorded; add it to the dataset, then train again.")
        if self.facts.grant.id == licensing.OTHER and not clean_line(self.facts.grant.name):
            raise StudioError("The licence is 'other', but has no name; give its name, and a link if there is one.")
        if conflict := licensing.find_conflict(self.facts.base.title, self.facts.base.licence, self.facts.grant):
            raise StudioError(conflict)


def plan(workspace: Workspace, request: Request, sha256: Callable[[Path], str | None] = hashes.sha256) -> Plan:
    """Collect a run's LoRA, sample images and training figures. Reads files, sends nothing.

    With `hashes.known` no large file is read, for a preview; the card then says where its hash is not known yet.
    """
    adapter = library.find(workspace, request.adapter)
    if adapter.source != "run":
        raise StudioError(f"{adapter.title} was not trained in this studio, so the facts for its card are missing; choose one of your own runs.")
    run_id, _, _ = request.adapter.removeprefix("run:").partition("@")
    run = Run.open(workspace, run_id)
    step = next(step for step, path in run.adapters() if path == adapter.path)
    samples, images, notes = _samples(run, step, request.samples)
    config = run.config
    family = families.get(config.model.family)
    base = _base(config, family, json.loads(read_header(adapter.path).metadata.get("studio", "{}")), clean_line(request.base_licence))
    if base.has_unknown_licence:
        notes += (f"The licence of the base model, {base.title}, is not known to the studio; look it up and enter it (base licence).",)
    grant = licensing.resolve_grant(base.title, base.licence, request.licence, request.licence_name, request.licence_link)
    name = request.repo.rpartition("/")[2] or request.title or run.short_title
    return Plan(
        request=request,
        facts=CardFacts(
            title=request.title or run.short_title,
            description=request.description,
            repo_id=_repo_id(request.repo),
            config=config,
            family_title=family.title,
            family_tags=family.tags,
            call_arguments=family.code_arguments(config.samples.guidance_scale),
            base=base,
            trained=_training_facts(run, step, sha256(adapter.path) or ""),
            rights=_rights(run, request),
            samples=samples,
            grant=grant,
        ),
        adapter=adapter.path,
        images=images,
        work=hashlib.sha256(f"lora-studio run {run.id}".encode()).hexdigest(),
        notes=(*notes, *licensing.find_warnings(base.title, base.licence, grant, name)),
    )


def _repo_id(repo: str) -> str:
    """The validated id, without the owner if the request has none: the Hub reports who the token belongs to."""
    repo_id = repo.strip()
    if repo_id:
        client.check_repo_id(repo_id if "/" in repo_id else f"someone/{repo_id}")
    return repo_id


def _samples(run: Run, step: int, chosen: list[int] | None) -> tuple[tuple[Sample, ...], tuple[PlannedFile, ...], tuple[str, ...]]:
    """Sample images of this checkpoint, and those of the base alone if the run has them; without recipes, which name other adapters."""
    columns = run.samples()
    if step not in columns:
        return (), (), (f"The run has no samples at step {step}, so the card has no images.",)
    indices = range(len(columns[step])) if chosen is None else chosen
    samples, images = [], []
    for index in indices:
        if not 0 <= index < len(columns[step]):
            raise StudioError(f"There is no sample image {index}; choose from 0 to {len(columns[step]) - 1}.")
        png = columns[step][index].read_bytes()
        images.append(PlannedFile(f"images/{index + 1}.png", strip_metadata(png)))
        before = None
        if index < len(columns.get(0, [])):
            before = f"images/base-{index + 1}.png"
            images.append(PlannedFile(before, strip_metadata(columns[0][index].read_bytes())))
        # Not the prompt of the config, where the trigger word is still a placeholder.
        samples.append(Sample(read_recipe(png).prompt, f"images/{index + 1}.png", before))
    return tuple(samples), tuple(images), ()


def _base(config: TrainConfig, family: Family, facts: dict, stated: str) -> Base:
    """The base model: with its exact revision if the run downloaded it from the Hub, by its name alone if it is a local folder or file.

    `facts` come from the adapter's header, `stated` is the base's licence as stated by the user.
    """
    name = config.model.base_model
    known = families.offer(name)
    licence = known.licence if known else None
    if known and known.folder:
        return Base(known.name, id=known.id, licence=licence, folder=str(known.folder), hint=known.hint)
    if file := families.as_file(name):
        whole, parts = single_file.is_full_checkpoint(family), facts.get("base_parts") or {}
        loader_class = family.pipeline_names[0] if whole else family.denoiser_class
        part, schedule = "" if whole else family.denoiser_name, tuple(parts.get("schedule", {}).items())
        single = SingleFile(loader_class, part, parts.get("id", ""), parts.get("revision") or "", schedule)
        return Base(file.name, id=file.name, stated_licence=stated, folder=str(file), single=single)
    if not (revision := facts.get("base_revision")):
        folder = Path(name).expanduser()
        return Base(folder.name, id=folder.name, licence=licence, stated_licence=stated, folder=str(folder))
    return Base(known.name if known else name, id=name, hub_id=client.check_repo_id(name), revision=revision, licence=licence)


def _rights(run: Run, request: Request) -> Rights:
    recorded = run.snapshot["consent"] or {}
    consent = f"{recorded['text']} ({recorded['date']})" if recorded.get("text") else ""
    return Rights(request.rights, request.stated_by, run.snapshot["real_person"], consent)


def _training_facts(run: Run, step: int, adapter_sha256: str) -> Trained:
    snapshot, trigger = run.snapshot, run.config.dataset.trigger_word
    return Trained(
        steps=step,
        seconds=_seconds(run, step),
        images=len(snapshot["pictures"]),
        captions_with_trigger=sum(has_word(image["caption"], trigger) for image in snapshot["pictures"]),
        dataset_sha256=snapshot["sha256"],
        adapter_sha256=adapter_sha256,
        stopped_early=step < run.config.training.max_train_steps,
        masked=sum("mask" in image for image in snapshot["pictures"]) if run.config.dataset.masks else 0,
    )


def _seconds(run: Run, step: int) -> float | None:
    """Training time up to a step: the sum over all sessions of a resumed run, each from its start to its last event."""
    spent, last = 0.0, 0.0
    began: float | None = None
    for event in run.events()[0]:
        if event["kind"] == "started":
            spent += last - began if began is not None else 0
            began = event["time"]
        last = event["time"]
        if event["kind"] == "adapter" and event["step"] == step:
            break
    return max(0.0, spent + last - began) if began is not None else None
