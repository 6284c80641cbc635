"""Families of base models, and resolution of a base model's name to a local folder. No torch here."""

import functools
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from pydantic import SecretStr

from studio.core.errors import StudioError
from studio.families import single_file
from studio.families.base import Family
from studio.families.chroma import Chroma
from studio.families.facts import BaseFolder, Offer
from studio.families.flux import Flux
from studio.families.flux2 import Flux2
from studio.families.krea_2 import Krea2
from studio.families.qwen_image import QwenImage
from studio.families.sd3 import StableDiffusion3
from studio.families.sdxl import SDXL
from studio.families.stable_diffusion import SMALL_WORLD, StableDiffusion
from studio.families.z_image import ZImage

FAMILIES: tuple[Family, ...] = (
    StableDiffusion(),
    SDXL(),
    StableDiffusion3(),
    Flux(),
    Flux2(),
    QwenImage(),
    ZImage(),
    Krea2(),
    Chroma(),
)
BUILTIN_ID = SMALL_WORLD.id
REVISION = re.compile(r"[\w.-]+(/[\w.-]+)*")


def get(name: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            return family
    raise StudioError(f"Unknown family {name!r}; known families: {', '.join(family.name for family in FAMILIES)}.")


def detect(base_model: str, revision: str | None = None) -> Family | None:
    """The family of a listed or local base; None if it is only known after a download."""
    if known := _listed_in(base_model):
        return known
    if is_network_path(base_model):
        return None
    try:
        if file := as_file(base_model):
            return single_file.detect_family(file, FAMILIES)[0]
        base = locate_base(base_model, revision)
        return from_folder(base) if base else None
    except StudioError:
        return None


def from_folder(base: BaseFolder, stated: str = "") -> Family:
    """The family of the pipeline in model_index.json; StudioError if it is not supported, or not the one in the settings."""
    try:
        kind = json.loads((base.path / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError):
        raise StudioError(
            f"The base model {base.title!r} has no readable model_index.json, so it is not a diffusers model. Choose another."
        ) from None
    for family in FAMILIES:
        if kind in family.pipeline_names:
            return _check_stated(base.title, family, stated)
    known = ", ".join(family.title for family in FAMILIES)
    raise StudioError(f"{base.title!r} is a {kind}. Supported families: {known}. Choose a base model of one of them.")


def resolve_name(base_model: str, stated: str = "") -> str:
    """The name of the family in settings: that of a listed base; for any other base the stated one, empty if it follows from the base.

    StudioError if the stated family contradicts the base. Does not access the disk.
    """
    known = _listed_in(base_model)
    return _check_stated(base_model, known, stated).name if known else stated


def _listed_in(base_model: str) -> Family | None:
    return next((family for family in FAMILIES if family.offer(base_model)), None)


def _check_stated(title: str, family: Family, stated: str) -> Family:
    if stated and stated != family.name:
        raise StudioError(
            f"{title!r} belongs to the family {family.name!r}, but the settings have {stated!r}. Leave the family empty; it follows from the base."
        )
    return family


def is_network_path(base_model: str) -> bool:
    """Whether a name is a UNC path. Windows sends the user's name and password hash to the server of such a path on first access."""
    return _clean_path(base_model)[:2].replace("\\", "/") == "//"


def offer(base_model: str) -> Offer | None:
    """The facts of a listed base model; None for any other."""
    return next(filter(None, (family.offer(base_model) for family in FAMILIES)), None)


def locate_base(base_model: str, revision: str | None = None) -> BaseFolder | None:
    """The local folder of a base model, complete or not; None if it has to be downloaded or is invalid. Does not use the network.

    A single file counts as local only with all parts that it needs.
    """
    if is_network_path(base_model):
        return None
    if file := as_file(base_model):
        try:
            return _with_rest(file, revision, _located_rest)
        except StudioError:
            return None
    return _on_disk(base_model) or (None if _as_folder(base_model) else _cached(base_model, revision))


def resolve_base(base_model: str, revision: str | None = None, token: SecretStr | None = None) -> BaseFolder:
    """The folder of a base model: the built-in one, a local folder or single file, or a Hub repository downloaded at an exact commit.

    For a single file the revision is that of the Hub base that its other parts come from.
    """
    if is_network_path(base_model):
        raise StudioError(f"{base_model[:100]!r} is a network path, which is not opened. Copy the model to this computer and choose it there.")
    if file := as_file(base_model):
        found = _with_rest(file, revision, functools.partial(_fetched_rest, file, token))
        assert found is not None, "_fetched_rest returns a folder or raises."
        return _check_complete(found)
    if base := _on_disk(base_model):
        return _check_complete(base)
    if _as_folder(base_model):
        raise StudioError(f"{base_model!r} is not the folder of a diffusers model: it has no model_index.json. Choose the folder that has one.")
    return _check_complete(_fetched(base_model, revision, token))


def as_file(base_model: str) -> Path | None:
    """The path of a single file that a base model's name refers to, existing or not; None for a folder or a Hub id."""
    name = _clean_path(base_model)
    if not single_file.is_file_name(name):
        return None
    # Links are not resolved: in a cache the target's name is a hash.
    return Path(os.path.abspath(os.path.expanduser(name)))


def _clean_path(base_model: str) -> str:
    """The name without the quotation marks that Windows puts around a copied path."""
    return base_model.strip().strip('"').strip()


def _as_folder(base_model: str) -> Path | None:
    """The folder that a base model's name refers to, existing or not; None for a Hub id."""
    name = _clean_path(base_model)
    if not (name.startswith((".", "~")) or "\\" in name or Path(name).is_absolute()):
        return None
    # Unlike Path.expanduser, this leaves the home of an unknown user unchanged.
    return Path(os.path.expanduser(name))


def _on_disk(base_model: str) -> BaseFolder | None:
    known, folder = offer(base_model), _as_folder(base_model)
    if known and known.shipped:
        return known.shipped
    # Unlike Path.is_file, this returns False for a name that is too long and a folder without permission.
    if folder and os.path.isfile(folder / "model_index.json"):
        return BaseFolder(folder.resolve(), None, folder.resolve().name, folder.resolve().name)
    return None


def _cached(repo_id: str, revision: str | None) -> BaseFolder | None:
    """The cached snapshot of a Hub repository, at a commit or at a branch's last known commit."""
    from huggingface_hub import try_to_load_from_cache

    from studio.hub import client

    # A revision becomes a path in the cache and must not lead out of it.
    if revision and (".." in revision or not REVISION.fullmatch(revision)):
        return None
    try:
        index = try_to_load_from_cache(client.check_repo_id(repo_id), "model_index.json", revision=revision or None)
    except (StudioError, OSError):
        return None
    return BaseFolder(Path(index).parent, Path(index).parent.name, repo_id, repo_id) if isinstance(index, str) else None


def _with_rest(file: Path, revision: str | None, find: Callable[[Family, Offer, str | None], BaseFolder | None]) -> BaseFolder | None:
    """A single file with its missing parts: from the folder of its family that contains it, or from the matching listed base through `find`."""
    family, known = single_file.detect_family(file, FAMILIES)
    # A run that started with the parts of a commit keeps them, whatever is beside the file now.
    rest = None if revision else _on_disk(str(file.parent))
    reference = ""
    if rest is None or rest.pipeline_name not in family.pipeline_names:
        rest, reference = find(family, known, revision), known.id
    if rest is None:
        return None
    schedule = {} if family.prediction_type(rest) == "flow" else single_file.schedule(file)
    return BaseFolder(rest.path, rest.revision, file.stem, file.name, file, reference, schedule)


def _located_rest(family: Family, known: Offer, revision: str | None) -> BaseFolder | None:
    rest = _cached(known.id, revision)
    return rest if rest and not _missing(rest, family, family.checkpoint_parts) else None


def _fetched_rest(file: Path, token: SecretStr | None, family: Family, known: Offer, revision: str | None) -> BaseFolder:
    try:
        return _fetched(known.id, revision, token, family.checkpoint_parts)
    except StudioError as error:
        needed = "settings" if single_file.is_full_checkpoint(family) else "other parts"
        raise StudioError(
            f"{file.name} needs the {needed} of {known.name}. {error} To use it offline, put the file into a folder with such a model in "
            "diffusers' layout, beside its model_index.json."
        ) from error


def _fetched(repo_id: str, revision: str | None, token: SecretStr | None, without: Collection[str] = ()) -> BaseFolder:
    """Download the parts that the family uses: no safety checker, no single-file copies, no pickles; half-precision weights only if there are
    no others. Parts in `without` are downloaded without weights."""
    from studio.hub import client  # importing the Hub client takes half a second, and the built-in model does not need it

    token = token or client.machine_login()
    index = client.download_model(repo_id, ["model_index.json"], revision, token)
    family = from_folder(BaseFolder(index.path, index.revision, repo_id, repo_id))
    weights = [f"{name}{split}.safetensors" for name in ("model", "diffusion_pytorch_model") for split in ("", "-?????-of-?????")]
    texts = ("*.json", "*.txt", "*.jinja", "*.model")
    parts = [f"{part}/{name}" for part in family.components for name in (*texts, *(() if part in without else weights))]
    snapshot = client.download_model(repo_id, ["model_index.json", *parts], index.revision, token)
    half_only = [part for part in family.models if part not in without and not any((snapshot.path / part).glob("*.safetensors"))]
    if half_only:
        client.download_model(repo_id, [f"{part}/*.fp16*.safetensors" for part in half_only], index.revision, token)
    return BaseFolder(snapshot.path, snapshot.revision, repo_id, repo_id)


def _check_complete(base: BaseFolder) -> BaseFolder:
    """StudioError that names the first missing part, which would otherwise fail inside a library."""
    family = from_folder(base)
    if missing := _missing(base, family, family.checkpoint_parts if base.checkpoint else ()):
        raise StudioError(f"The base model {base.title!r} has no {missing}")
    return base


def _missing(base: BaseFolder, family: Family, without: Collection[str]) -> str:
    """The first part that loading needs and the folder lacks, with what to do; empty if complete. Parts in `without` need no weights."""
    for part in family.models:
        folder = base.path / part
        if part in without:
            if not (folder / "config.json").is_file():
                return f"{part}/config.json. Download the whole folder again, or choose another base."
            continue
        if not any(folder.glob("*.safetensors")):
            return f"safetensors weights in {part}/. Pickle files (.bin, .ckpt) can run code and are never opened; use a version in safetensors."
        for index in folder.glob("*.safetensors.index.json"):
            try:
                shards = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                return f"readable {part}/{index.name}. Download that file again."
            if missing := [name for name in shards if not (folder / name).is_file()]:
                return f"{part}/{missing[0]}, one of the {len(shards)} files of {part}/. Download the missing files."
    if not (base.path / "scheduler" / "scheduler_config.json").is_file():
        return "scheduler/scheduler_config.json. Download the whole folder again, or choose another base."
    return ""
