"""The families of base models, and how a base model's name becomes a folder on this disk. No torch here."""

import json
import os
import re
from pathlib import Path

from pydantic import SecretStr

from studio.errors import StudioError
from studio.families.base import BaseFolder, Family, Offer
from studio.families.chroma import Chroma
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


def on_another_computer(base_model: str) -> bool:
    """Windows greets the server of such a path with the person's own name and password hash, at the first look at a file."""
    return base_model.strip()[:2].replace("\\", "/") == "//"


def offer(base_model: str) -> Offer | None:
    """What is known beforehand of a base model, if it is one that the studio proposes."""
    return next((known for family in FAMILIES for known in family.offers if known.id == base_model), None)


def of(base_model: str, revision: str | None = None) -> Family | None:
    """The family of a base model that the studio proposes, or that is on this computer already; None where only fetching it would tell."""
    for family in FAMILIES:
        if any(known.id == base_model for known in family.offers):
            return family
    base = locate_base(base_model, revision)
    try:
        kind = base.pipeline_name if base else None
    except StudioError:
        return None
    return next((family for family in FAMILIES if kind in family.pipeline_names), None)


def locate_base(base_model: str, revision: str | None = None) -> BaseFolder | None:
    """The folder of a base model that is on this computer already, complete or not; None for one to be fetched, or for nonsense. Asks no network."""
    if on_another_computer(base_model):
        return None
    return _on_disk(base_model) or (None if _as_folder(base_model) else _cached(base_model, revision))


def resolve_base(base_model: str, revision: str | None = None, token: SecretStr | None = None) -> BaseFolder:
    """The folder of a base model: the shipped one, a folder on this computer, or a Hub repository, fetched at an exact commit."""
    if on_another_computer(base_model):
        raise StudioError(f"{base_model[:100]!r} is a folder on another computer, which is not opened; copy it to this one and choose it there.")
    if base := _on_disk(base_model):
        return _checked(base)
    if _as_folder(base_model):
        raise StudioError(f"{base_model!r} is not the folder of a diffusers model: it holds no model_index.json. Choose the folder that does.")
    return _checked(_fetched(base_model, revision, token))


def _as_folder(base_model: str) -> Path | None:
    """The folder that a base model's name means, whether it is there or not; None for a name on the Hub."""
    if not (base_model.startswith((".", "~")) or "\\" in base_model or Path(base_model).is_absolute()):
        return None
    # Unlike Path.expanduser, this one leaves the home of a person nobody knows as it stands.
    return Path(os.path.expanduser(base_model))


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

    from studio import hub

    # A revision becomes a path inside the cache; one that would lead out of it is nowhere.
    if revision and (".." in revision or not REVISION.fullmatch(revision)):
        return None
    try:
        index = try_to_load_from_cache(hub.check_repo_id(repo_id), "model_index.json", revision=revision or None)
    except (StudioError, OSError):
        return None
    return BaseFolder(Path(index).parent, Path(index).parent.name, repo_id, repo_id) if isinstance(index, str) else None


def _fetched(repo_id: str, revision: str | None, token: SecretStr | None) -> BaseFolder:
    """Only the parts the family uses: no safety checker, no single-file copies, no pickles; half-precision weights if there are no others."""
    from studio import hub  # the Hub's client takes half a second to import, and most people never leave the shipped model

    token = token or hub.machine_login()
    index = hub.download_model(repo_id, ["model_index.json"], revision, token)
    family = _family_of(BaseFolder(index.path, index.revision, repo_id, repo_id))
    weights = [f"{name}{split}.safetensors" for name in ("model", "diffusion_pytorch_model") for split in ("", "-?????-of-?????")]
    words = ("*.txt", "*.jinja", "*.model")
    parts = [f"{part}/{name}" for part in family.components for name in ("*.json", *words, *weights)]
    snapshot = hub.download_model(repo_id, ["model_index.json", *parts], index.revision, token)
    if not any((snapshot.path / family.denoiser_name).glob("*.safetensors")):
        hub.download_model(repo_id, [f"{part}/*.fp16.safetensors" for part in family.components], index.revision, token)
    return BaseFolder(snapshot.path, snapshot.revision, repo_id, repo_id)


def _checked(base: BaseFolder) -> BaseFolder:
    """Refuse here, by name, what would otherwise fail deep inside a library."""
    family = _family_of(base)
    for component in (family.denoiser_name, "vae", *family.text_encoder_names):
        if not any((base.path / component).glob("*.safetensors")):
            raise StudioError(
                f"The base model {base.title!r} has no safetensors weights in {component}/. Pickle files (.bin, .ckpt) can run code "
                "and are never opened; look for a version in safetensors."
            )
    return base


def _family_of(base: BaseFolder) -> Family:
    """The family whose pipeline the model_index.json names."""
    try:
        kind = json.loads((base.path / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, json.JSONDecodeError):
        raise StudioError(f"The base model {base.title!r} has no readable model_index.json, so it is no diffusers model. Choose another.") from None
    for family in FAMILIES:
        if kind in family.pipeline_names:
            return family
    known = ", ".join(family.title for family in FAMILIES)
    raise StudioError(f"{base.title!r} is a {kind}; the studio can use: {known}. Choose such a base model.")
