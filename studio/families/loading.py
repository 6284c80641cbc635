"""From a folder or a single file to a pipeline in memory, the same way for every family; and foreign LoRAs through diffusers' converters."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from studio.core.errors import StudioError
from studio.families import single_file

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, SchedulerMixin
    from diffusers.quantizers.quantization_config import QuantizationConfigMixin

    from studio.families.base import Family
    from studio.families.facts import BaseFolder

PACKERS = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "fp8": "torchao"}
"""quantisation -> the package it needs."""


def load_pipeline(
    family: "Family", base: "BaseFolder", dtype: "torch.dtype", parts: Collection[str] | None, quantisation: str
) -> "DiffusionPipeline":
    import torch
    from diffusers import PipelineQuantizationConfig

    kind = pipeline_class(family, base)
    _check_tokenizers(family, base)
    apart = family.load_apart(base)
    absent = dict.fromkeys([*(name for name in family.models if parts is not None and name not in parts), *apart])
    given: dict[str, Any] = dict(absent)
    packed = packing(quantisation) if quantisation != "none" and family.denoiser_name not in absent else None
    for name in family.checkpoint_parts if base.checkpoint else ():
        if name not in absent:
            given[name] = load_from_file(family, base, name, dtype, packed if name == family.denoiser_name else None)
    if packed and family.denoiser_name not in given:
        given["quantization_config"] = PipelineQuantizationConfig(quant_mapping={family.denoiser_name: packed})
    pipeline = kind.from_pretrained(
        base.path,
        dtype=dtype,
        variant="fp16" if _has_half_only(base, [name for name in family.models if name not in given]) else None,
        use_safetensors=True,
        local_files_only=True,
        **family.unused,
        **given,
    )
    pipeline.register_modules(**apart)
    if base.schedule:
        pipeline.register_modules(scheduler=rescheduled(pipeline.scheduler, base))
    pipeline.set_progress_bar_config(disable=True)
    for name in family.models:
        if isinstance(pipeline.components[name], torch.nn.Module):
            pipeline.components[name].requires_grad_(False).eval()
    return pipeline


def _has_half_only(base: "BaseFolder", parts: Collection[str]) -> bool:
    """Whether one of these parts lies there in 16 bits alone: its files then carry that in their names, and are only found when asked for so."""
    weights = [list((base.path / part).glob("*.safetensors")) for part in parts]
    return any(files and all(".fp16" in file.stem for file in files) for files in weights)


def load_from_file(
    family: "Family", base: "BaseFolder", part: str, dtype: "torch.dtype", packed: "QuantizationConfigMixin | None"
) -> "torch.nn.Module":
    """One model out of a single file: its tensors alone are read, renamed by diffusers' converters, and must fill the model that the folder's
    config describes."""
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError, create_diffusers_clip_model_from_ldm
    from safetensors import SafetensorError

    where = {"config": str(base.path), "subfolder": part, "local_files_only": True}
    try:
        tensors = _tensors(family, base, part)
        if part in family.text_encoder_names:
            module = create_diffusers_clip_model_from_ldm(_clip_class(base, part), tensors, torch_dtype=dtype, **where)
        elif packed:
            # Unlike from_pretrained, this one leaves packed weights where it is told to.
            module = denoiser_class(family).from_single_file(tensors, dtype=dtype, quantization_config=packed, device=_accelerator(), **where)
        else:
            kind = denoiser_class(family) if part == family.denoiser_name else diffusers.AutoencoderKL
            module = kind.from_single_file(tensors, dtype=dtype, **where)
    except (SingleFileComponentError, SafetensorError, KeyError, IndexError, ValueError, RuntimeError) as error:
        # Too little memory, or no card to pack on, is not the file's fault.
        if isinstance(error, RuntimeError) and (packed or "memory" in str(error)):
            raise
        raise StudioError(_unlike(base, part)) from error
    # What the file does not have stays without numbers.
    if any(weight.is_meta for weight in module.parameters()):
        raise StudioError(_unlike(base, part))
    return module


def _tensors(family: "Family", base: "BaseFolder", part: str) -> "dict[str, torch.Tensor]":
    """The weights of one part by the names that the converters know. Opened by safetensors itself: diffusers unpickles what is called otherwise."""
    from safetensors import safe_open

    with safe_open(base.checkpoint, framework="pt") as file:
        return {wanted: file.get_tensor(name) for name, wanted in single_file.names_of(part, family, file.keys()).items()}


def _clip_class(base: "BaseFolder", part: str) -> type:
    """By its name in the model_index.json, which is a downloaded file: only these two are looked up."""
    import transformers

    known = {"CLIPTextModel": transformers.CLIPTextModel, "CLIPTextModelWithProjection": transformers.CLIPTextModelWithProjection}
    named = base.component_config("", "model_index.json").get(part)
    if not isinstance(named, list) or named[-1] not in known:
        raise StudioError(f"The text encoder {part} of {base.path.name!r} is {named}, not {' or '.join(known)}. Choose another folder for {base.id}.")
    return known[named[-1]]


def _unlike(base: "BaseFolder", part: str) -> str:
    like = base.reference or f"the folder {base.path.name!r}"
    return (
        f"The {part} in {base.id} does not fit the settings of {like}: the file is incomplete, or a variant of another size. Get it again, or "
        "choose another base."
    )


def rescheduled(scheduler: "SchedulerMixin", base: "BaseFolder") -> "SchedulerMixin":
    """The folder's scheduler with what the single file says otherwise; DDIM for noise up to the end, which not all of them know."""
    from diffusers import DDIMScheduler

    kind = DDIMScheduler if "rescale_betas_zero_snr" in base.schedule else type(scheduler)
    return kind.from_config(scheduler.config, **base.schedule)


def _accelerator() -> "torch.device | None":
    import torch

    return torch.device("cuda") if torch.cuda.is_available() else None


def _check_tokenizers(family: "Family", base: "BaseFolder") -> None:
    """StudioError with what to install for a tokenizer in the older format, which transformers translates with two more packages."""
    from transformers.utils import is_protobuf_available, is_sentencepiece_available

    for folder in (base.path / name for name in family.components if name.startswith("tokenizer")):
        older = any(folder.glob("*.model")) and not (folder / "tokenizer.json").exists()
        if older and not (is_sentencepiece_available() and is_protobuf_available()):
            raise StudioError(
                f"The base model {base.title!r} splits prompts into words with the packages sentencepiece and protobuf, which are not installed. "
                "Run: pip install sentencepiece protobuf"
            )


def pipeline_class(family: "Family", base: "BaseFolder") -> type:
    """The diffusers class of a base. Its name comes from a downloaded file, so only those that the family lists are looked up."""
    import diffusers

    if base.pipeline_name not in family.pipeline_names:
        raise StudioError(f"{base.title!r} is a {base.pipeline_name}, not one of {', '.join(family.pipeline_names)}. Choose another base model.")
    return getattr(diffusers, base.pipeline_name)


def denoiser_class(family: "Family") -> type:
    import diffusers

    return getattr(diffusers, family.denoiser_class)


def packing(quantisation: str) -> "QuantizationConfigMixin":
    """How diffusers packs a denoiser's layers; StudioError with what to install when the package is not here."""
    import importlib.util

    import torch
    from diffusers import BitsAndBytesConfig, TorchAoConfig

    package = PACKERS[quantisation]
    if package == "bitsandbytes" and not torch.cuda.is_available():
        raise StudioError(
            f"Packing the base as {quantisation} needs a graphics card, and this computer shows none. Choose no packing (quantisation none)."
        )
    if importlib.util.find_spec(package) is None:
        raise StudioError(
            f"Packing the base as {quantisation} needs the package {package}, which is not installed. Run: pip install {package}. "
            "Or choose no packing (quantisation none)."
        )
    if quantisation == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    from torchao.quantization import Float8WeightOnlyConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


def convert_foreign(family: "Family", tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Through the pipeline's own `lora_state_dict`. Some converters insist on kohya's alphas, which are folded in already: rank is given back."""
    import diffusers
    import torch

    stated = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".lora_down.weight"):
            stated[f"{name.removesuffix('.lora_down.weight')}.alpha"] = torch.tensor(float(tensor.shape[0]))
    converted = getattr(diffusers, family.pipeline_names[0]).lora_state_dict(stated, use_safetensors=True)
    converted = converted[0] if isinstance(converted, tuple) else converted
    converted = {name: tensor for name, tensor in converted.items() if not name.endswith(".alpha")}
    found = {name: tensor for name, tensor in converted.items() if name.partition(".")[0] not in family.text_encoder_names}
    for part in family.text_encoder_names:
        found |= {f"{part}.{name}": tensor for name, tensor in convert_text_encoder(part, converted).items()}
    return found


def convert_text_encoder(part: str, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The layers of one text encoder as PEFT names them, without the part's name; the converters of whole files leave older spellings there."""
    from diffusers.utils import convert_state_dict_to_peft

    found = {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
    if not found or any(".lora_A." in name for name in found):
        return found
    # convert_state_dict_to_diffusers would do this, but knows old spellings by to_out_lora alone (diffusers 0.42); not all files have it.
    for old, new in {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}.items():
        found = {name.replace(f".{old}_lora.", f".{new}.lora_linear_layer."): tensor for name, tensor in found.items()}
    return convert_state_dict_to_peft(found)
