"""Single-file base models (.safetensors): family, contained parts and noise schedule, from the header alone. No torch here.

Files of U-Net families contain every model of a pipeline; those of transformers contain the denoiser, sometimes with other parts.
"""

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.adapters import header as headers
from studio.adapters import info
from studio.adapters.header import Header
from studio.core.errors import StudioError
from studio.core.file_types import PICKLE_SUFFIXES
from studio.families.facts import Offer, Shapes

if TYPE_CHECKING:
    from studio.families.base import Family

SUFFIX = ".safetensors"
DENOISER = "model.diffusion_model."
"""Prefix of the denoiser's tensors in the original code and in ComfyUI; files with nothing else omit it."""
PREFIXES = {
    "unet": (DENOISER,),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""Part -> prefixes of its tensors, in files with every model."""
OLD_CLIP = re.compile(r"(?<=^cond_stage_model\.transformer\.)(?=(embeddings|encoder|final_layer_norm)\.)")
"""Position in names where some older merges lack text_model."""
ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}$")
SCALED = re.compile(r"scaled_fp8$|\.(weight_scale(_\d)?|scale_weight|input_scale|scale_input|comfy_quant|absmax|quant_map|SCB)$|\.quant_state\.")
"""Names of the scale tensors of quantised weights (ComfyUI, ModelOpt, bitsandbytes), which diffusers would ignore."""
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
"""modelspec.prediction_type (ModelSpec 1.0.0) -> diffusers' prediction_type."""
SCHEDULES = {"stable-diffusion-v2-512": "epsilon", "stable-diffusion-v2-768-v": "v_prediction"}
"""modelspec.architecture -> prediction_type of the two variants of Stable Diffusion 2, whose tensors are the same."""


def is_file_name(base_model: str) -> bool:
    """Whether a base model's name is that of a single file."""
    return base_model.lower().endswith((SUFFIX, *PICKLE_SUFFIXES))


def detect_family(path: Path, families: "Iterable[Family]") -> "tuple[Family, Offer]":
    """The family of a single file and the listed base of its architecture; StudioError if it cannot be a base."""
    header = read(path)
    shapes = normalised_names(header.shapes)
    for family in families:
        if offer := family.checkpoint_offer(shapes):
            _check_usable(path, header, family)
            return family, offer
    raise StudioError(_not_a_base_message(path, header, families))


def read(path: Path) -> Header:
    """The header of a single file, cached until the file changes."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise StudioError(f"{path.name} {headers.PICKLE_MESSAGE}")
    # Unlike Path.is_file, this returns False for a name that is too long and a folder without permission.
    if not os.path.isfile(path):
        raise StudioError(f"There is no file {path.name!r} in {str(path.parent)!r}; give the full path of a {SUFFIX} file on this computer.")
    if ONE_OF_SEVERAL.search(path.stem):
        raise StudioError(f"{path.name} is one shard of a model; choose the folder with its model_index.json.")
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        raise StudioError(f"{path.name} cannot be opened. Grant read permission, or copy it to a readable folder.") from None


@functools.lru_cache(maxsize=16)
def _read(path: Path, modified_ns: int, size: int) -> Header:
    return headers.read_header(path, headers.CHECKPOINT)


def normalised_names(shapes: Shapes) -> Shapes:
    """Shapes with normalised names: the denoiser's without its prefix, CLIP's with text_model."""
    return {OLD_CLIP.sub("text_model.", name.removeprefix(DENOISER)): shape for name, shape in shapes.items()}


def schedule(path: Path) -> dict[str, Any]:
    """Noise schedule stated in the file, as keys of a scheduler's config; empty if none is. It comes from the ModelSpec header, or from the empty
    tensors with which trainers mark v-prediction models and models with zero terminal SNR, which are sampled from pure noise (Lin et al. 2023,
    sections 3.1 and 3.3)."""
    header = read(path)
    stated = header.metadata.get("modelspec.prediction_type", ""), header.metadata.get("modelspec.architecture", "")
    predicts = PREDICTIONS.get(stated[0]) or SCHEDULES.get(stated[1]) or ("v_prediction" if "v_pred" in header.tensors else "")
    found = {"prediction_type": predicts} if predicts else {}
    # An epsilon model cannot predict at pure noise.
    zero_snr = predicts == "v_prediction" and "ztsnr" in header.tensors
    return found | ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {})


def part_names(part: str, family: "Family", names: Iterable[str]) -> dict[str, str]:
    """Tensors of one part: name in the file -> name that diffusers' converters expect."""
    names = list(names)
    if is_full_checkpoint(family):
        return {name: OLD_CLIP.sub("text_model.", name) for name in names if name.startswith(PREFIXES[part])}
    within = [name for name in names if name.startswith(DENOISER)]
    return {name: name.removeprefix(DENOISER) for name in within or names}


def is_full_checkpoint(family: "Family") -> bool:
    """Whether a single file of this family contains every model, not only the denoiser."""
    return set(family.checkpoint_parts) == set(family.models)


def _check_usable(path: Path, header: Header, family: "Family") -> None:
    used = {part: part_names(part, family, header.tensors) for part in family.checkpoint_parts}
    if missing := [part for part, names in used.items() if not names]:
        raise StudioError(f"{path.name} is a {family.title} model without its {missing[0]}; use the version with everything in one file.")
    names = [name for of_part in used.values() for name in of_part]
    if any(SCALED.search(name) for name in names):
        raise StudioError(
            f"{path.name} is quantised (its weights have scale tensors) and cannot be trained on; use the version in bf16 or fp16. The studio "
            "quantises a base itself if memory is short."
        )


def _not_a_base_message(path: Path, header: Header, families: "Iterable[Family]") -> str:
    """Message for a file of no known family: what it seems to be, and what to do."""
    try:
        found = info.fingerprint(header.shapes, header.metadata)
    except StudioError:
        known = ", ".join(family.title for family in families if family.checkpoint_parts)
        first = next(iter(sorted(header.tensors)), "nothing at all")
        return (
            f"{path.name} is not a supported single-file base model (its first tensor is {first[:80]!r}). Supported families: {known}. For a model "
            "in diffusers' layout, choose the folder."
        )
    return f"{path.name} is a LoRA for {found.title}, not a base model. Choose a base here, and add the file on the Generate tab, Add a LoRA."
