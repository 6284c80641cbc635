"""The families of base models, and how a base model's name becomes a folder on this disk. No torch here."""

import json
from pathlib import Path

from pydantic import SecretStr

from studio import builtin
from studio.errors import StudioError
from studio.families.base import BaseFolder, Family
from studio.families.stable_diffusion import StableDiffusion

FAMILIES: tuple[Family, ...] = (StableDiffusion(),)
BUILTIN_ID = "lora-studio/small-world"


def get(name: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            return family
    raise StudioError(f"Unknown family {name!r}; known families: {', '.join(family.name for family in FAMILIES)}.")


def on_another_computer(base_model: str) -> bool:
    """Windows greets the server of such a path with the person's own name and password hash, at the first look at a file."""
    return base_model.strip()[:2].replace("\\", "/") == "//"


def resolve_base(base_model: str, revision: str | None = None, token: SecretStr | None = None) -> BaseFolder:
    """The folder of a base model: the shipped one, a folder on this computer, or a Hub repository, fetched at an exact commit."""
    if base_model == BUILTIN_ID:
        return _checked(BaseFolder(builtin.MODEL_DIR, None, "Small world", BUILTIN_ID))
    if on_another_computer(base_model):
        raise StudioError(f"{base_model[:100]!r} is a folder on another computer, which is not opened; copy it to this one and choose it there.")
    folder = Path(base_model).expanduser()
    if folder.is_absolute() or base_model.startswith((".", "~")) or "\\" in base_model:
        if not (folder / "model_index.json").is_file():
            raise StudioError(f"{base_model!r} is not the folder of a diffusers model: it holds no model_index.json. Choose the folder that does.")
        return _checked(BaseFolder(folder.resolve(), None, folder.resolve().name, folder.resolve().name))
    return _checked(_fetched(base_model, revision, token))


def _fetched(repo_id: str, revision: str | None, token: SecretStr | None) -> BaseFolder:
    """Only the parts the family uses: no safety checker, no single-file copies, no pickles; half-precision weights if there are no others."""
    from studio import hub  # the Hub's client takes half a second to import, and most people never leave the shipped model

    index = hub.download_model(repo_id, ["model_index.json"], revision, token)
    family = _family_of(BaseFolder(index.path, index.revision, repo_id, repo_id))
    weights = ("model.safetensors", "diffusion_pytorch_model.safetensors", "*-of-?????.safetensors")
    parts = [f"{part}/{name}" for part in family.components for name in ("*.json", "*.txt", *weights)]
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
        if kind == family.pipeline_name:
            return family
    known = ", ".join(family.title for family in FAMILIES)
    raise StudioError(f"{base.title!r} is a {kind}; the studio can use: {known}. Choose such a base model.")
