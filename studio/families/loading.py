"""From a folder or a single file to a pipeline in memory, the same way for every family; and foreign LoRAs through diffusers' converters."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from studio.errors import StudioError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, PipelineQuantizationConfig

    from studio.families.base import BaseFolder, Family

PACKERS = {
    "nf4": ("bitsandbytes", "bitsandbytes_4bit"),
    "int8": ("bitsandbytes", "bitsandbytes_8bit"),
    "fp8": ("torchao", "torchao"),
}
"""quantisation -> the package it needs, and diffusers' name for its backend."""


def load_pipeline(
    family: "Family", base: "BaseFolder", dtype: "torch.dtype", parts: Collection[str] | None, quantisation: str
) -> "DiffusionPipeline":
    import torch

    kind = pipeline_class(family, base)
    _check_tokenizers(family, base)
    apart = family.load_apart(base)
    absent = dict.fromkeys([*(name for name in family.models if parts is not None and name not in parts), *apart])
    given, in_file = dict(absent), [name for name in family.checkpoint_parts if base.checkpoint and name not in absent]
    if in_file and family.checkpoint_parts == (family.denoiser_name,):
        given[family.denoiser_name] = denoiser_class(family).from_single_file(
            base.checkpoint, config=str(base.path), subfolder=family.denoiser_name, dtype=dtype, local_files_only=True
        )
    if in_file and len(family.checkpoint_parts) > 1:
        pipeline = kind.from_single_file(base.checkpoint, config=str(base.path), dtype=dtype, local_files_only=True, **family.unused)
        pipeline.register_modules(**absent)
    else:
        # An fp16 copy is taken only where there is no other: its file names carry the variant.
        folder = base.path / family.denoiser_name
        only_half = folder.exists() and not any(not path.stem.endswith(".fp16") for path in folder.glob("*.safetensors"))
        if quantisation != "none" and family.denoiser_name not in given:
            given["quantization_config"] = packing(family, quantisation)
        pipeline = kind.from_pretrained(
            base.path,
            dtype=dtype,
            variant="fp16" if only_half and not base.checkpoint else None,
            use_safetensors=True,
            local_files_only=True,
            **family.unused,
            **given,
        )
    pipeline.register_modules(**apart)
    pipeline.set_progress_bar_config(disable=True)
    for name in family.models:
        if isinstance(pipeline.components[name], torch.nn.Module):
            pipeline.components[name].requires_grad_(False).eval()
    return pipeline


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


def packing(family: "Family", quantisation: str) -> "PipelineQuantizationConfig":
    """How diffusers packs the denoiser's layers; StudioError with what to install when the package is not here."""
    import importlib.util

    import torch
    from diffusers import PipelineQuantizationConfig

    package, backend = PACKERS[quantisation]
    if importlib.util.find_spec(package) is None:
        raise StudioError(
            f"Packing the base as {quantisation} needs the package {package}, which is not installed. Run: pip install {package}. "
            "Or choose no packing (quantisation none)."
        )
    if quantisation == "nf4":
        settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    elif quantisation == "int8":
        settings = {"load_in_8bit": True}
    else:
        from torchao.quantization import Float8WeightOnlyConfig

        settings = {"quant_type": Float8WeightOnlyConfig()}
    return PipelineQuantizationConfig(quant_backend=backend, quant_kwargs=settings, components_to_quantize=[family.denoiser_name])


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
    return {name: tensor for name, tensor in converted.items() if not name.endswith(".alpha")}
