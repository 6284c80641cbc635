"""The families of base models, and how a base model's name becomes a folder on this disk. No torch here."""

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


def of(base_model: str, revision: str | None = None) -> Family | None:
    """The family of a base that the studio proposes, or that is on this computer already; None where only fetching it would tell."""
    if known := _offering(base_model):
        return known
    if on_another_computer(base_model):
        return None
    try:
        if file := as_file(base_model):
            return single_file.identify(file, FAMILIES)[0]
        base = locate_base(base_model, revision)
        return of_folder(base) if base else None
    except StudioError:
        return None


def of_folder(base: BaseFolder, stated: str = "") -> Family:
    """The family whose pipeline the model_index.json names; StudioError where it is none of ours, or not the one that settings state."""
    try:
        kind = json.loads((base.path / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError):
        raise StudioError(f"The base model {base.title!r} has no readable model_index.json, so it is no diffusers model. Choose another.") from None
    for family in FAMILIES:
        if kind in family.pipeline_names:
            return _agreed(base.title, family, stated)
    known = ", ".join(family.title for family in FAMILIES)
    raise StudioError(f"{base.title!r} is a {kind}; the studio can use: {known}. Choose such a base model.")


def resolve_name(base_model: str, stated: str = "") -> str:
    """The name of the family that settings mean: that of a base the studio proposes; for any other the stated one, empty for "as the base is".

    StudioError where a base is said to be of a family it is not of. Looks at no disk.
    """
    known = _offering(base_model)
    return _agreed(base_model, known, stated).name if known else stated


def _offering(base_model: str) -> Family | None:
    return next((family for family in FAMILIES if family.offer(base_model)), None)


def _agreed(title: str, family: Family, stated: str) -> Family:
    if stated and stated != family.name:
        raise StudioError(
            f"{title!r} belongs to the family {family.name!r}, and these settings say {stated!r}. Leave the family out: it follows from the base."
        )
    return family


def on_another_computer(base_model: str) -> bool:
    """Windows greets the server of such a path with the person's own name and password hash, at the first look at a file."""
    return _spelt(base_model)[:2].replace("\\", "/") == "//"


def offer(base_model: str) -> Offer | None:
    """What is known beforehand of a base model, if it is one that the studio proposes."""
    return next(filter(None, (family.offer(base_model) for family in FAMILIES)), None)


def locate_base(base_model: str, revision: str | None = None) -> BaseFolder | None:
    """The folder of a base model that is on this computer already, complete or not; None for one to be fetched, or for nonsense. Asks no network.

    A single file is there when everything it needs is.
    """
    if on_another_computer(base_model):
        return None
    if file := as_file(base_model):
        try:
            return _with_rest(file, revision, _located_rest)
        except StudioError:
            return None
    return _on_disk(base_model) or (None if _as_folder(base_model) else _cached(base_model, revision))


def resolve_base(base_model: str, revision: str | None = None, token: SecretStr | None = None) -> BaseFolder:
    """The folder of a base model: the shipped one, a folder or a single file on this computer, or a Hub repository, fetched at an exact commit.

    Of a single file the revision is that of the base on the Hub which its other parts are taken from.
    """
    if on_another_computer(base_model):
        raise StudioError(f"{base_model[:100]!r} is on another computer, which is not opened; copy it to this one and choose it there.")
    if file := as_file(base_model):
        return _checked(_with_rest(file, revision, functools.partial(_fetched_rest, file, token)))
    if base := _on_disk(base_model):
        return _checked(base)
    if _as_folder(base_model):
        raise StudioError(f"{base_model!r} is not the folder of a diffusers model: it holds no model_index.json. Choose the folder that does.")
    return _checked(_fetched(base_model, revision, token))


def as_file(base_model: str) -> Path | None:
    """The single file that a base model's name means, whether it is there or not; None for a folder or a name on the Hub."""
    name = _spelt(base_model)
    if not single_file.is_file_name(name):
        return None
    # A link keeps its own name: what it leads to, in a cache, is called by a hash.
    return Path(os.path.abspath(os.path.expanduser(name)))


def _spelt(base_model: str) -> str:
    """Without the quotation marks that Windows puts around a copied path."""
    return base_model.strip().strip('"').strip()


def _as_folder(base_model: str) -> Path | None:
    """The folder that a base model's name means, whether it is there or not; None for a name on the Hub."""
    name = _spelt(base_model)
    if not (name.startswith((".", "~")) or "\\" in name or Path(name).is_absolute()):
        return None
    # Unlike Path.expanduser, this one leaves the home of a person nobody knows as it stands.
    return Path(os.path.expanduser(name))


def _on_disk(base_model: str) -> BaseFolder | None:
    known, folder = offer(base_model), _as_folder(base_model)
    if known and known.shipped:
        return known.shipped
    # Unlike Path.is_file, this one says no to a name that is too long and to a folder that may not be opened.
    if folder and os.path.isfile(folder / "model_index.json"):
        return BaseFolder(folder.resolve(), None, folder.resolve().name, folder.resolve().name)
    return None


def _cached(repo_id: str, revision: str | None) -> BaseFolder | None:
    """What was fetched from the Hub, at a commit, or at the one that a branch was when it was last asked for."""
    from huggingface_hub import try_to_load_from_cache

    from studio.hub import client

    # A revision becomes a path inside the cache; one that would lead out of it is nowhere.
    if revision and (".." in revision or not REVISION.fullmatch(revision)):
        return None
    try:
        index = try_to_load_from_cache(client.check_repo_id(repo_id), "model_index.json", revision=revision or None)
    except (StudioError, OSError):
        return None
    return BaseFolder(Path(index).parent, Path(index).parent.name, repo_id, repo_id) if isinstance(index, str) else None


def _with_rest(file: Path, revision: str | None, find: Callable[[Family, Offer, str | None], BaseFolder | None]) -> BaseFolder | None:
    """A single file with what it lacks: a folder of its family that it lies in, or else what `find` has of the base it is like."""
    family, known = single_file.identify(file, FAMILIES)
    # A run that began with the parts of a commit goes on with them, whatever lies beside the file by now.
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
    return rest if rest and not _lacking(rest, family, family.checkpoint_parts) else None


def _fetched_rest(file: Path, token: SecretStr | None, family: Family, known: Offer, revision: str | None) -> BaseFolder:
    try:
        return _fetched(known.id, revision, token, family.checkpoint_parts)
    except StudioError as error:
        what = "settings" if single_file.holds_all(family) else "other parts"
        raise StudioError(
            f"{file.name} needs the {what} of {known.name}. {error} Without a network: put the file into a folder that holds such a model in "
            "diffusers' layout, beside its model_index.json."
        ) from error


def _fetched(repo_id: str, revision: str | None, token: SecretStr | None, without: Collection[str] = ()) -> BaseFolder:
    """Only the parts the family uses: no safety checker, no single-file copies, no pickles; half-precision weights if there are no others.
    Of the parts in `without` no weights."""
    from studio.hub import client  # the Hub's client takes half a second to import, and most people never leave the shipped model

    token = token or client.machine_login()
    index = client.download_model(repo_id, ["model_index.json"], revision, token)
    family = of_folder(BaseFolder(index.path, index.revision, repo_id, repo_id))
    weights = [f"{name}{split}.safetensors" for name in ("model", "diffusion_pytorch_model") for split in ("", "-?????-of-?????")]
    words = ("*.json", "*.txt", "*.jinja", "*.model")
    parts = [f"{part}/{name}" for part in family.components for name in (*words, *(() if part in without else weights))]
    snapshot = client.download_model(repo_id, ["model_index.json", *parts], index.revision, token)
    bare = [part for part in family.models if part not in without and not any((snapshot.path / part).glob("*.safetensors"))]
    if bare:
        client.download_model(repo_id, [f"{part}/*.fp16*.safetensors" for part in bare], index.revision, token)
    return BaseFolder(snapshot.path, snapshot.revision, repo_id, repo_id)


def _checked(base: BaseFolder) -> BaseFolder:
    """Refuse here, by name, what would otherwise fail deep inside a library."""
    family = of_folder(base)
    if lacking := _lacking(base, family, family.checkpoint_parts if base.checkpoint else ()):
        raise StudioError(f"The base model {base.title!r} has no {lacking}")
    return base


def _lacking(base: BaseFolder, family: Family, without: Collection[str]) -> str:
    """What loading would ask for and the folder has not, with what to do; empty when it has all. Of the parts in `without` no weights are wanted."""
    for part in family.models:
        folder = base.path / part
        if part in without:
            if not (folder / "config.json").is_file():
                return f"{part}/config.json; get the rest of its folder, or choose another."
            continue
        if not any(folder.glob("*.safetensors")):
            return f"safetensors weights in {part}/. Pickle files (.bin, .ckpt) can run code and are never opened; look for a version in safetensors."
        for index in folder.glob("*.safetensors.index.json"):
            try:
                shards = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                return f"readable {part}/{index.name}; get that file again."
            if missing := [name for name in shards if not (folder / name).is_file()]:
                return f"{part}/{missing[0]}, one of the {len(shards)} files that {part}/ is stored in; get the missing ones."
    if not (base.path / "scheduler" / "scheduler_config.json").is_file():
        return "scheduler/scheduler_config.json; get the rest of its folder, or choose another."
    return ""
