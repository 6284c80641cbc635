"""What a published LoRA consists of: an explicit list of files, made from one run. Nothing here talks to a network; publishing.py sends it.

pytorch_lora_weights.safetensors  README.md  lora_studio.json  images/<n>.png  images/base-<n>.png
"""

import functools
import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from studio import __version__, families
from studio.adapters.header import read_header
from studio.config import TrainConfig
from studio.config.recipe import read_recipe, strip_metadata
from studio.core.errors import StudioError
from studio.core.workspace import Workspace, slug
from studio.datasets.trigger_words import has_word
from studio.families import single_file
from studio.families.base import Family
from studio.hub import client
from studio.publishing import licensing, model_card
from studio.publishing.facts import About, Base, Rights, Sample, SingleFile, Trained, plain
from studio.runs import library
from studio.runs.run import Run

STUDIO_FILE = "lora_studio.json"
CARD = "README.md"


class Request(BaseModel):
    """What the Publish page, the command line or the API asks for; also the payload of a publish job. Never holds a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str = Field(max_length=300)
    repo: str = Field("", max_length=200)
    """`name`, or `owner/name`; empty for a folder or zip."""
    private: bool = True
    title: str = Field("", max_length=120)
    description: str = Field("", max_length=5000)
    licence: str = Field("", max_length=60)
    """The Hub's id of one, "base" for the base's own, or "other" with a name and a link."""
    licence_name: str = Field("", max_length=100)
    licence_link: str = Field("", max_length=300)
    base_licence: str = Field("", max_length=200)
    """Of the base, in the person's words, where the studio does not know it."""
    rights: str = Field("", max_length=2000)
    """What gives the person the right to publish this."""
    stated_by: str = Field("", max_length=120)
    samples: list[int] | None = None
    """Which sample prompts' pictures go along; None is all of them."""
    update: bool = False
    """Add a new version to a repository that this run was already published to."""

    @property
    def job_key(self) -> str:
        """Under this key the queue holds one unfinished sending of this LoRA to this repository at most."""
        return f"publish-{self.adapter}-{self.repo}"


@dataclass(frozen=True)
class PlannedFile:
    """One file as it will lie in the repository."""

    path: str
    content: bytes | Path

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @functools.cached_property
    def sha256(self) -> str:
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with open(self.content, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @functools.cached_property
    def git_id(self) -> str:
        return client.git_blob_id(self.read())


@dataclass(frozen=True)
class Plan:
    """Everything that will be sent, before anything is. `work` says which run it came from without naming it."""

    request: Request
    about: About
    adapter: Path
    images: tuple[PlannedFile, ...]
    work: str
    notes: tuple[str, ...]

    @property
    def repo_id(self) -> str:
        return self.about.repo_id

    def at(self, repo_id: str) -> "Plan":
        """The same plan for a full repository id, which the card's code names."""
        return replace(self, about=replace(self.about, repo_id=repo_id))

    @property
    def card(self) -> str:
        return model_card.render(self.about)

    @property
    def files(self) -> list[PlannedFile]:
        card = PlannedFile(CARD, self.card.encode())
        sent = [PlannedFile(client.WEIGHTS_NAME, self.adapter), card, *self.images]
        return [*sent, PlannedFile(STUDIO_FILE, self._studio_file(sent))]

    def _studio_file(self, sent: list[PlannedFile]) -> bytes:
        """The run's settings to train it again, and what an update needs to know. No names, dates or paths of this computer."""
        trained = self.about.trained
        facts = {
            "format": 1,
            "made_with": f"LoRA Studio {__version__}",
            "work": self.work,
            "config": model_card.public_config(self.about.config, self.about.base).model_dump(mode="json"),
            "base_revision": self.about.base.revision,
            "steps": trained.steps,
            "seconds": trained.seconds,
            "pictures": trained.pictures,
            "dataset_sha256": trained.dataset_sha256,
            "files": {file.path: file.sha256 for file in sent},
        }
        return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()

    def check(self) -> None:
        """What a person has to say before this leaves the computer; a preview needs none of it."""
        rights = self.about.rights
        if not plain(rights.statement):
            raise StudioError("Say what gives you the right to publish this (own pictures, a permission, a free licence): it stands on the card.")
        if rights.real_person and not plain(rights.consent):
            raise StudioError("The pictures show a real person, and how they agreed is not written down; add it to the dataset, then train again.")
        if self.about.grant.id == licensing.OTHER and not plain(self.about.grant.name):
            raise StudioError("The licence is 'other': give its name, and a link if there is one.")
        if refused := licensing.refusal(self.about.base.title, self.about.base.licence, self.about.grant):
            raise StudioError(refused)


def plan(workspace: Workspace, request: Request) -> Plan:
    """Collect one run's LoRA, its pictures and its history. Reads files, sends nothing."""
    card = library.find(workspace, request.adapter)
    if card.source != "run":
        raise StudioError(f"{card.title} was not trained in this studio, so an honest card cannot be written for it; choose one of your own runs.")
    run_id, _, _ = request.adapter.removeprefix("run:").partition("@")
    run = Run.open(workspace, run_id)
    step = next(step for step, path in run.adapters() if path == card.path)
    samples, images, notes = _samples(run, step, request.samples)
    config = run.config
    family = families.get(config.model.family)
    base = _base(config, family, json.loads(read_header(card.path).metadata.get("studio", "{}")), plain(request.base_licence))
    if base.licence_unknown:
        notes += (f"The licence of the base, {base.title}, is not known to the studio; look it up, and say it (base licence).",)
    grant = licensing.settle(base.title, base.licence, request.licence, request.licence_name, request.licence_link)
    called = request.repo.rpartition("/")[2] or request.title or run.title
    return Plan(
        request=request,
        about=About(
            title=request.title or run.title,
            description=request.description,
            repo_id=_repo_id(request.repo),
            config=config,
            family_title=family.title,
            family_tags=family.tags,
            call_arguments=family.code_arguments(config.samples.guidance_scale),
            base=base,
            trained=_trained(run, step, card.sha256),
            rights=_rights(run, request),
            samples=samples,
            grant=grant,
        ),
        adapter=card.path,
        images=images,
        work=hashlib.sha256(f"lora-studio run {run.id}".encode()).hexdigest(),
        notes=(*notes, *licensing.advice(base.title, base.licence, grant, called)),
    )


def save_folder(made: Plan, folder: Path) -> Path:
    """The same files as on the Hub, for somebody without a network or a login."""
    if folder.exists() and any(folder.iterdir()):
        raise StudioError(f"The folder {folder.name!r} is not empty; choose a new name.")
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    for file in made.files:
        target = aside / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read())
    if folder.exists():
        folder.rmdir()
    aside.rename(folder)
    return folder


def save_zip(made: Plan, path: Path) -> Path:
    """One archive whose bytes depend on the content alone: sorted, undated, and stored, since deflate differs between builds of zlib."""
    top = made.repo_id.split("/")[-1] or slug(made.about.title)
    aside = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(made.files, key=lambda file: file.path):
            entry = zipfile.ZipInfo(f"{top}/{file.path}", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, file.read())
    aside.replace(path)
    return path


def _repo_id(repo: str) -> str:
    """The id as far as it is known before the Hub says who the token belongs to."""
    plain = repo.strip()
    if plain:
        client.check_repo_id(plain if "/" in plain else f"someone/{plain}")
    return plain


def _samples(run: Run, step: int, chosen: list[int] | None) -> tuple[tuple[Sample, ...], tuple[PlannedFile, ...], tuple[str, ...]]:
    """The pictures this very LoRA drew, and those of the base alone where the run has them; without recipes, which name other things."""
    columns = run.samples()
    if step not in columns:
        return (), (), (f"The run drew no samples at step {step}, so the card has no pictures.",)
    wanted = range(len(columns[step])) if chosen is None else chosen
    samples, images = [], []
    for index in wanted:
        if not 0 <= index < len(columns[step]):
            raise StudioError(f"There is no sample picture {index}; this LoRA has {len(columns[step])}.")
        png = columns[step][index].read_bytes()
        images.append(PlannedFile(f"images/{index + 1}.png", strip_metadata(png)))
        before = None
        if index < len(columns.get(0, [])):
            before = f"images/base-{index + 1}.png"
            images.append(PlannedFile(before, strip_metadata(columns[0][index].read_bytes())))
        # Not the config's prompt: there the trigger word still has its placeholder.
        samples.append(Sample(read_recipe(png).prompt, f"images/{index + 1}.png", before))
    return tuple(samples), tuple(images), ()


def _base(config: TrainConfig, family: Family, facts: dict, stated: str) -> Base:
    """A base that this run fetched from the Hub has an exact revision; one that lies in a folder or a file is called by its name alone.

    `facts` are those of the adapter's header, `stated` is the base's licence as the person gave it.
    """
    name = config.model.base_model
    known = families.offer(name)
    licence = known.licence if known else None
    if known and known.folder:
        return Base(known.name, id=known.id, licence=licence, folder=str(known.folder), hint=known.hint)
    if file := families.as_file(name):
        whole, parts = single_file.is_full_checkpoint(family), facts.get("base_parts") or {}
        opened_by = family.pipeline_names[0] if whole else family.denoiser_class
        part, schedule = "" if whole else family.denoiser_name, tuple(parts.get("schedule", {}).items())
        single = SingleFile(opened_by, part, parts.get("id", ""), parts.get("revision") or "", schedule)
        return Base(file.name, id=file.name, stated_licence=stated, folder=str(file), single=single)
    if not (revision := facts.get("base_revision")):
        folder = Path(name).expanduser()
        return Base(folder.name, id=folder.name, licence=licence, stated_licence=stated, folder=str(folder))
    return Base(known.name if known else name, id=name, hub_id=client.check_repo_id(name), revision=revision, licence=licence)


def _rights(run: Run, request: Request) -> Rights:
    consent = run.snapshot["consent"] or {}
    agreed = f"{consent['text']} ({consent['date']})" if consent.get("text") else ""
    return Rights(request.rights, request.stated_by, run.snapshot["real_person"], agreed)


def _trained(run: Run, step: int, adapter_sha256: str) -> Trained:
    snapshot, trigger = run.snapshot, run.config.dataset.trigger_word
    return Trained(
        steps=step,
        seconds=_seconds(run, step),
        pictures=len(snapshot["pictures"]),
        captioned_with_trigger=sum(has_word(picture["caption"], trigger) for picture in snapshot["pictures"]),
        dataset_sha256=snapshot["sha256"],
        adapter_sha256=adapter_sha256,
        stopped_early=step < run.config.training.max_train_steps,
        masked=sum("mask" in picture for picture in snapshot["pictures"]) if run.config.dataset.masks else 0,
    )


def _seconds(run: Run, step: int) -> float | None:
    """Time spent on the way to a step: every leg from its start to its last word, so that a resumed run counts all of them."""
    spent, began, last = 0.0, None, None
    for event in run.events()[0]:
        if event["kind"] == "started":
            spent += last - began if began is not None else 0
            began = event["time"]
        last = event["time"]
        if event["kind"] == "adapter" and event["step"] == step:
            break
    return max(0.0, spent + last - began) if began is not None else None
