"""Pipeline loading from a folder or a single file, and conversion of other trainers' LoRAs through diffusers."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from studio.core.errors import StudioError
from studio.families import single_file

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
    from diffusers.quantizers.quantization_config import QuantizationConfigMixin

    from studio.families.base import Family
    from studio.families.facts import BaseFolder

QUANTISATION_PACKAGES = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "fp8": "torchao"}
"""quantisation -> the package it needs."""


def load_pipeline(
    family: "Family",
    base: "BaseFolder",
    dtype: "torch.dtype",
    parts: Collection[str] | None,
    quantisation: str,
    denoiser_device: "torch.device | None" = None,
) -> "DiffusionPipeline":
    import torch
    from diffusers import PipelineQuantizationConfig
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # In a log file every update of a progress bar is a line; jobs report their progress themselves.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    kind = pipeline_class(family, base)
    _check_tokenizers(family, base)
    separate = family.load_separately(base)
    absent = dict.fromkeys([*(name for name in family.models if parts is not None and name not in parts), *separate])
    given: dict[str, Any] = dict(absent)
    quantization = quantisation_config(quantisation, dtype) if quantisation != "none" and family.denoiser_name not in absent else None
    for name in family.checkpoint_parts if base.checkpoint else ():
        if name not in absent:
            part_dtype = part_dtypes(family, dtype).get(name, dtype)
            given[name] = load_from_file(family, base, name, part_dtype, quantization if name == family.denoiser_name else None)
    if denoiser_device is not None and not quantization and family.denoiser_name not in given:
        # Without a copy of the whole in RAM, and cast on the device.
        given[family.denoiser_name] = denoiser_class(family).from_pretrained(
            base.path,
            subfolder=family.denoiser_name,
            dtype=dtype,
            device_map={"": denoiser_device},
            variant="fp16" if _has_half_only(base, [family.denoiser_name]) else None,
            use_safetensors=True,
            local_files_only=True,
        )
    if quantization and family.denoiser_name not in given:
        given["quantization_config"] = PipelineQuantizationConfig(quant_mapping={family.denoiser_name: quantization})
    pipeline = kind.from_pretrained(
        base.path,
        dtype=part_dtypes(family, dtype),
        variant="fp16" if _has_half_only(base, [name for name in family.models if name not in given]) else None,
        use_safetensors=True,
        local_files_only=True,
        **family.unused,
        **given,
    )
    pipeline.register_modules(**separate)
    if base.schedule:
        pipeline.register_modules(scheduler=apply_schedule(pipeline.scheduler, base))
    pipeline.set_progress_bar_config(disable=True)
    for name in family.models:
        if isinstance(pipeline.components[name], torch.nn.Module):
            pipeline.components[name].requires_grad_(False).eval()
    return pipeline


def part_dtypes(family: "Family", dtype: "torch.dtype") -> "dict[str, torch.dtype]":
    """The dtype of each model of a pipeline. Text encoders other than CLIP (T5 and language models) overflow in float16, so they stay in float32;
    CLIP's are those that diffusers loads a LoRA for."""
    import torch

    wide = [part for part in family.text_encoder_names if part not in family.text_encoder_targets] if dtype == torch.float16 else []
    return {"default": dtype} | dict.fromkeys(wide, torch.float32)


def _has_half_only(base: "BaseFolder", parts: Collection[str]) -> bool:
    """Whether one of these parts has fp16 files only, which diffusers finds only with the variant."""
    weights = [list((base.path / part).glob("*.safetensors")) for part in parts]
    return any(files and all(".fp16" in file.stem for file in files) for files in weights)


def load_from_file(
    family: "Family", base: "BaseFolder", part: str, dtype: "torch.dtype", quantization: "QuantizationConfigMixin | None"
) -> "torch.nn.Module":
    """Load one model from a single file: only its tensors are read, renamed by diffusers' converters, and must fill the model of the folder's
    config."""
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError, create_diffusers_clip_model_from_ldm
    from safetensors import SafetensorError

    where = {"config": str(base.path), "subfolder": part, "local_files_only": True}
    try:
        tensors = _tensors(family, base, part)
        if part in family.text_encoder_names:
            module = create_diffusers_clip_model_from_ldm(_clip_class(base, part), tensors, torch_dtype=dtype, **where)
        elif quantization:
            # Unlike from_pretrained, this method needs the device of quantised weights.
            module = denoiser_class(family).from_single_file(tensors, dtype=dtype, quantization_config=quantization, device=_accelerator(), **where)
        else:
            kind = denoiser_class(family) if part == family.denoiser_name else diffusers.AutoencoderKL
            module = kind.from_single_file(tensors, dtype=dtype, **where)
    except (SingleFileComponentError, SafetensorError, KeyError, IndexError, ValueError, RuntimeError) as error:
        # Out-of-memory errors and a missing GPU for quantisation are not caused by the file.
        if isinstance(error, RuntimeError) and (quantization or "memory" in str(error)):
            raise
        raise StudioError(_mismatch_message(base, part)) from error
    # Parameters missing in the file stay on the meta device.
    if any(weight.is_meta for weight in module.parameters()):
        raise StudioError(_mismatch_message(base, part))
    return module


def _tensors(family: "Family", base: "BaseFolder", part: str) -> "dict[str, torch.Tensor]":
    """The weights of one part under the names that the converters expect. Opened by safetensors: diffusers unpickles files with other suffixes."""
    from safetensors import safe_open

    with safe_open(base.checkpoint, framework="pt") as file:
        return {wanted: file.get_tensor(name) for name, wanted in single_file.part_names(part, family, file.keys()).items()}


def _clip_class(base: "BaseFolder", part: str) -> type:
    """The text encoder class in model_index.json; a downloaded file, so only these two are accepted."""
    import transformers

    known = {"CLIPTextModel": transformers.CLIPTextModel, "CLIPTextModelWithProjection": transformers.CLIPTextModelWithProjection}
    named = base.component_config("", "model_index.json").get(part)
    if not isinstance(named, list) or named[-1] not in known:
        raise StudioError(f"The text encoder {part} of {base.path.name!r} is {named}, not {' or '.join(known)}. Choose another folder for {base.id}.")
    return known[named[-1]]


def _mismatch_message(base: "BaseFolder", part: str) -> str:
    like = base.reference or f"the folder {base.path.name!r}"
    return (
        f"The {part} in {base.id} does not match the config of {like}: the file is incomplete or of another size. Download it again, or choose "
        "another base."
    )


def apply_schedule(scheduler: "SchedulerMixin", base: "BaseFolder") -> "SchedulerMixin":
    """The folder's scheduler with the single file's overrides; DDIM for zero terminal SNR, which not all schedulers support."""
    from diffusers import DDIMScheduler

    kind = DDIMScheduler if "rescale_betas_zero_snr" in base.schedule else type(scheduler)
    return kind.from_config(scheduler.config, **base.schedule)


def _accelerator() -> "torch.device | None":
    import torch

    return torch.device("cuda") if torch.cuda.is_available() else None


def _check_tokenizers(family: "Family", base: "BaseFolder") -> None:
    """StudioError with what to install for a SentencePiece tokenizer, which transformers converts with two more packages."""
    from transformers.utils import is_protobuf_available, is_sentencepiece_available

    for folder in (base.path / name for name in family.components if name.startswith("tokenizer")):
        older = any(folder.glob("*.model")) and not (folder / "tokenizer.json").exists()
        if older and not (is_sentencepiece_available() and is_protobuf_available()):
            raise StudioError(
                f"The base model {base.title!r} needs the packages sentencepiece and protobuf for its tokenizer, and they are not installed. "
                "Run: pip install sentencepiece protobuf"
            )


def pipeline_class(family: "Family", base: "BaseFolder") -> "type[DiffusionPipeline]":
    """The diffusers class of a base. Its name comes from a downloaded file, so only the family's own are accepted."""
    import diffusers

    if base.pipeline_name not in family.pipeline_names:
        raise StudioError(f"{base.title!r} is a {base.pipeline_name}, not one of {', '.join(family.pipeline_names)}. Choose another base model.")
    return getattr(diffusers, base.pipeline_name)


def denoiser_class(family: "Family") -> "type[ModelMixin]":
    import diffusers

    return getattr(diffusers, family.denoiser_class)


def quantisation_config(quantisation: str, dtype: "torch.dtype") -> "QuantizationConfigMixin":
    """The diffusers quantisation config of a denoiser that computes in `dtype`; StudioError with what to install if the package is missing."""
    import importlib.util

    import torch
    from diffusers import BitsAndBytesConfig, TorchAoConfig

    package = QUANTISATION_PACKAGES[quantisation]
    if package == "bitsandbytes" and not torch.cuda.is_available():
        raise StudioError(f"Quantisation {quantisation} needs a GPU, and none was found. Choose quantisation none.")
    if importlib.util.find_spec(package) is None:
        raise StudioError(
            f"Quantisation {quantisation} needs the package {package}, which is not installed. Run: pip install {package}. "
            "Or choose quantisation none."
        )
    if quantisation == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    from torchao.quantization import Float8WeightOnlyConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


def convert_with_diffusers(family: "Family", tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Convert keys with the pipeline's `lora_state_dict`. Some converters require kohya's alphas, which are already folded: they get the rank."""
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
    """The layers of one text encoder under PEFT's names, without the part's name; whole-file converters leave older names there."""
    from diffusers.utils import convert_state_dict_to_peft

    found = {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
    if not found or any(".lora_A." in name for name in found):
        return found
    # convert_state_dict_to_diffusers recognises old names only by to_out_lora (diffusers 0.42), which not all files have.
    for old, new in {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}.items():
        found = {name.replace(f".{old}_lora.", f".{new}.lora_linear_layer."): tensor for name, tensor in found.items()}
    return convert_state_dict_to_peft(found)
