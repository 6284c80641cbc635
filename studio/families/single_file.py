"""A base model in one .safetensors file: whose it is, what it holds and what it says about itself. Told from the header; no torch here.

Files of the U-Net families hold every model of a pipeline, those of the transformers the denoiser, sometimes with other parts around it.
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
"""Before the names of a denoiser in the original code and in ComfyUI; files that hold nothing else go without."""
PREFIXES = {
    "unet": (DENOISER,),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""What the names of each part begin with, in files that hold every model."""
OLD_CLIP = re.compile(r"(?<=^cond_stage_model\.transformer\.)(?=(embeddings|encoder|final_layer_norm)\.)")
"""Where some older merges lack the word text_model."""
ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}$")
SCALED = re.compile(r"scaled_fp8$|\.(weight_scale(_\d)?|scale_weight|input_scale|scale_input|comfy_quant|absmax|quant_map|SCB)$|\.quant_state\.")
"""Names of tensors that say how packed weights are to be unpacked, by ComfyUI, ModelOpt and bitsandbytes; diffusers would pass them over."""
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
"""modelspec.prediction_type (ModelSpec 1.0.0) -> diffusers' word."""
SCHEDULES = {"stable-diffusion-v2-512": "epsilon", "stable-diffusion-v2-768-v": "v_prediction"}
"""modelspec.architecture of the two kinds of Stable Diffusion 2, whose tensors are the same."""


def is_file_name(base_model: str) -> bool:
    """Whether a base model's name means a single file, whatever folder it is in."""
    return base_model.lower().endswith((SUFFIX, *PICKLE_SUFFIXES))


def identify(path: Path, families: "Iterable[Family]") -> "tuple[Family, Offer]":
    """The family of a single file and the offer it is like; StudioError, in plain words, for any file that cannot be a base."""
    header = read(path)
    shapes = bare(header.shapes)
    for family in families:
        if offer := family.checkpoint_offer(shapes):
            _refuse_unusable(path, header, family)
            return family, offer
    raise StudioError(_not_a_base(path, header, families))


def read(path: Path) -> Header:
    """The header of a single file, remembered for as long as the file does not change."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise StudioError(f"{path.name} {headers.A_PICKLE}")
    # Unlike Path.is_file, this one says no to a name that is too long and to a folder that may not be opened.
    if not os.path.isfile(path):
        raise StudioError(f"There is no file {path.name!r} in {str(path.parent)!r}; give the whole path of a {SUFFIX} file on this computer.")
    if ONE_OF_SEVERAL.search(path.stem):
        raise StudioError(f"{path.name} is one part of a model that is stored in several; choose the folder that holds its model_index.json.")
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        raise StudioError(f"{path.name} cannot be opened; let yourself read it, or copy it to where you can.") from None


@functools.lru_cache(maxsize=16)
def _read(path: Path, modified_ns: int, size: int) -> Header:
    return headers.read_header(path, headers.CHECKPOINT)


def bare(shapes: Shapes) -> Shapes:
    """The same tensors, the denoiser's by the names they have within it, and all by their newer names."""
    return {OLD_CLIP.sub("text_model.", name.removeprefix(DENOISER)): shape for name, shape in shapes.items()}


def schedule(path: Path) -> dict[str, Any]:
    """What the file says about its noise schedule, in the words of a scheduler's config: what its maker wrote into the header (ModelSpec), or
    the empty tensors by which trainers mark models that predict v, and those whose noise ends at nothing but noise, which are to be drawn from
    there (Lin et al. 2023, sections 3.1 and 3.3). Nothing where it says nothing."""
    header = read(path)
    stated = header.metadata.get("modelspec.prediction_type", ""), header.metadata.get("modelspec.architecture", "")
    predicts = PREDICTIONS.get(stated[0]) or SCHEDULES.get(stated[1]) or ("v_prediction" if "v_pred" in header.tensors else "")
    said = {"prediction_type": predicts} if predicts else {}
    # A model that predicts noise could not be asked at pure noise.
    to_the_end = predicts == "v_prediction" and "ztsnr" in header.tensors
    return said | ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if to_the_end else {})


def names_of(part: str, family: "Family", names: Iterable[str]) -> dict[str, str]:
    """The tensors of one part: the name in the file -> the one that diffusers' converters want."""
    names = list(names)
    if holds_all(family):
        return {name: OLD_CLIP.sub("text_model.", name) for name in names if name.startswith(PREFIXES[part])}
    within = [name for name in names if name.startswith(DENOISER)]
    return {name: name.removeprefix(DENOISER) for name in within or names}


def holds_all(family: "Family") -> bool:
    """Whether a single file of this family holds every model, and not the denoiser alone."""
    return set(family.checkpoint_parts) == set(family.models)


def _refuse_unusable(path: Path, header: Header, family: "Family") -> None:
    used = {part: names_of(part, family, header.tensors) for part in family.checkpoint_parts}
    if lacking := [part for part, names in used.items() if not names]:
        raise StudioError(f"{path.name} is a {family.title} model without its {lacking[0]}; look for the version that has everything in one file.")
    names = [name for of_part in used.values() for name in of_part]
    if any(SCALED.search(name) for name in names):
        raise StudioError(
            f"{path.name} is packed (its weights are small numbers with scales beside them), which cannot be learnt on; look for the version in "
            "bf16 or fp16. The studio packs a base itself where memory is short."
        )


def _not_a_base(path: Path, header: Header, families: "Iterable[Family]") -> str:
    """What a file that no family knows seems to be, and what to do."""
    try:
        found = info.fingerprint(header.shapes, header.metadata)
    except StudioError:
        known = ", ".join(family.title for family in families if family.checkpoint_parts)
        first = next(iter(sorted(header.tensors)), "nothing at all")
        return (
            f"{path.name} is no base model that the studio can use from one file (it begins with {first[:80]!r}). It can use those of {known}; "
            "of a model in diffusers' layout choose the folder."
        )
    return f"{path.name} is a LoRA for {found.title}, not a base model. Choose a base here, and bring the file under Generate, Add a LoRA."
