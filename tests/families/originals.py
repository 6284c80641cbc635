"""Tiny members in the layouts that their makers publish: one file, other names, parts of layers joined. What diffusers' converters undo."""

import re
import types
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import single_file_model
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]

DENOISER = "model.diffusion_model."
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3"}
RESNET |= {"conv_shortcut": "skip_connection"}
UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0"}
UNET |= {"conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
VAE = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
OPEN_CLIP |= {"self_attn.out_proj": "attn.out_proj", "embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final"}
OPEN_CLIP |= {"embeddings.position_embedding.weight": "positional_embedding"}
FLUX_ENDS = {"final_layer.linear": "proj_out", "img_in": "x_embedder", "txt_in": "context_embedder"}
FLUX_TIME = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
}
FLUX_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
FLUX_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out", "norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
FLUX2 = {
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    **FLUX_ENDS,
}
FLUX2_DOUBLE = FLUX_DOUBLE | {
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
FLUX2_SINGLE = {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out", "norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
SD3 = {
    "pos_embed": "pos_embed.pos_embed",
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
SD3_BLOCK = {
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
    "x_block.attn.proj": "attn.to_out.0",
    "context_block.attn.proj": "attn.to_add_out",
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}
Z_IMAGE = {"final_layer": "all_final_layer.2-1", "x_embedder": "all_x_embedder.2-1", "out": "to_out.0", "q_norm": "norm_q", "k_norm": "norm_k"}
KREA = {
    "first": "img_in",
    "tmlp.0": "time_embed.linear_1",
    "tmlp.2": "time_embed.linear_2",
    "tproj.1": "time_mod_proj",
    "txtmlp.0.scale": "txt_in.norm.weight",
    "txtmlp.1": "txt_in.linear_1",
    "txtmlp.3": "txt_in.linear_2",
    "last.linear": "final_layer.linear",
    "last.norm.scale": "final_layer.norm.weight",
    "last.modulation.lin": "final_layer.scale_shift_table",
}
KREA_BLOCK = {
    "attn.wq": "attn.to_q",
    "attn.wk": "attn.to_k",
    "attn.wv": "attn.to_v",
    "attn.wo": "attn.to_out.0",
    "attn.gate": "attn.to_gate",
    "attn.qknorm.qnorm.scale": "attn.norm_q.weight",
    "attn.qknorm.knorm.scale": "attn.norm_k.weight",
    "mlp": "ff",
    "prenorm.scale": "norm1.weight",
    "postnorm.scale": "norm2.weight",
    "mod.lin": "scale_shift_table",
}
"""Each table: the maker's name -> the one in diffusers, of the layers of one kind."""


def save_original(name: str, pipeline: DiffusionPipeline, path: Path) -> Path:
    """One file as its makers, or those who share it, lay it out: every model of a U-Net's pipeline, the denoiser of the others."""
    save_file({key: tensor.detach().clone().contiguous() for key, tensor in ORIGINALS[name](pipeline).items()}, path)
    return path


def stable_diffusion(pipeline: DiffusionPipeline) -> Weights:
    clip = {f"cond_stage_model.transformer.text_model.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    # As the files of 1.x have it, though it is no weight.
    clip["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(pipeline.tokenizer.model_max_length)[None]
    return unet(pipeline.unet) | vae(pipeline.vae) | clip


def stable_diffusion_2(pipeline: DiffusionPipeline) -> Weights:
    return unet(pipeline.unet) | vae(pipeline.vae) | open_clip(pipeline.text_encoder, "cond_stage_model.model.")


def sdxl(pipeline: DiffusionPipeline) -> Weights:
    clip = {f"conditioner.embedders.0.transformer.text_model.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    return unet(pipeline.unet) | vae(pipeline.vae) | clip | open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")


def unet(model: torch.nn.Module) -> Weights:
    """Blocks are counted through: each resnet, each change of size is one."""
    layers, found = model.config.layers_per_block, {}
    for name, tensor in model.state_dict().items():
        plain, ending = name.rsplit(".", 1)
        if plain in UNET:
            found[f"{DENOISER}{UNET[plain]}.{ending}"] = tensor
            continue
        side, *rest = re.fullmatch(r"(down|mid|up)_block(?:s\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name).groups()
        block, kind, index, inside = int(rest[0] or 0), rest[1], int(rest[2]), rest[3]
        if kind == "resnets":
            inside = _renamed(inside, RESNET)
        attends = f"up_blocks.{block}.attentions.0.norm.weight" in model.state_dict()
        place = {
            ("down", "resnets"): f"input_blocks.{(layers + 1) * block + index + 1}.0",
            ("down", "attentions"): f"input_blocks.{(layers + 1) * block + index + 1}.1",
            ("down", "downsamplers"): f"input_blocks.{(layers + 1) * (block + 1)}.0",
            ("mid", "resnets"): f"middle_block.{2 * index}",
            ("mid", "attentions"): f"middle_block.{2 * index + 1}",
            ("up", "resnets"): f"output_blocks.{(layers + 1) * block + index}.0",
            ("up", "attentions"): f"output_blocks.{(layers + 1) * block + index}.1",
            ("up", "upsamplers"): f"output_blocks.{(layers + 1) * block + layers}.{2 if attends else 1}",
        }[side, kind]
        found[f"{DENOISER}{place}.{inside.replace('conv.', 'op.') if kind == 'downsamplers' else inside}"] = tensor
    return found


def vae(model: torch.nn.Module) -> Weights:
    """Attention by convolutions of one pixel; the decoder's blocks counted from the picture's side."""
    last, found = len(model.config.up_block_types) - 1, {}
    for name, tensor in model.state_dict().items():
        if ".attentions.0." in name:
            start, inside = name.split("mid_block.attentions.0.")
            inside = _renamed(inside, VAE_ATTENTION)
            name, tensor = f"{start}mid.attn_1.{inside}", tensor if inside.startswith("norm") or tensor.ndim == 1 else tensor[:, :, None, None]
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{last - int(match[1])}.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample", name)
        found[f"first_stage_model.{_renamed(name, VAE)}"] = tensor
    return found


def open_clip(model: torch.nn.Module, prefix: str) -> Weights:
    """Queries, keys and values in one matrix; the projection turned round."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    found = {}
    for name, tensor in weights.items():
        if name == "text_projection.weight":
            found[f"{prefix}text_projection"] = tensor.T
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            joined = torch.cat([weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
            found[f"{prefix}transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = joined
        elif not re.search(r"self_attn\.[kv]_proj", name):
            found[prefix + _renamed(name, OPEN_CLIP)] = tensor
    # 2.x has no projection that anybody asks for, but its file has one, by which the size of the joined matrix is known.
    width = weights["embeddings.token_embedding.weight"].shape[1]
    return {f"{prefix}text_projection": torch.zeros(width, width), f"{prefix}logit_scale": torch.tensor(4.6)} | found


def flux(pipeline: DiffusionPipeline) -> Weights:
    return _flux_blocks(pipeline.transformer, FLUX_ENDS | FLUX_TIME, FLUX_DOUBLE, FLUX_SINGLE)


def chroma(pipeline: DiffusionPipeline) -> Weights:
    """The small network that makes the modulation, too."""
    guidance = {f"distilled_guidance_layer.{end}": f"distilled_guidance_layer.{end}" for end in ("in_proj", "out_proj")}
    found = _flux_blocks(pipeline.transformer, FLUX_ENDS | guidance, FLUX_DOUBLE, FLUX_SINGLE)
    for name, tensor in pipeline.transformer.state_dict().items():
        if match := re.fullmatch(r"distilled_guidance_layer\.layers\.(\d+)\.linear_(\d)\.(.+)", name):
            found[f"distilled_guidance_layer.layers.{match[1]}.{'in' if match[2] == '1' else 'out'}_layer.{match[3]}"] = tensor
        if match := re.fullmatch(r"distilled_guidance_layer\.norms\.(\d+)\.weight", name):
            found[f"distilled_guidance_layer.norms.{match[1]}.scale"] = tensor
    return found


def flux2(pipeline: DiffusionPipeline) -> Weights:
    return _flux_blocks(pipeline.transformer, FLUX2, FLUX2_DOUBLE, FLUX2_SINGLE)


def _flux_blocks(model: torch.nn.Module, ends: dict[str, str], double: dict[str, str], single: dict[str, str]) -> Weights:
    """Double blocks with one qkv a stream, single ones with qkv and the feed-forward in one; the last shift before the last scale."""
    weights, found = model.state_dict(), {}
    for name, tensor in weights.items():
        plain, ending = name.rsplit(".", 1)
        if plain == "norm_out.linear":
            found[f"final_layer.adaLN_modulation.1.{ending}"] = _halves_swapped(tensor)
        elif plain in ends.values():
            found[f"{_key(ends, plain)}.{ending}"] = tensor
        elif match := re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", plain):
            blocks, known = (f"single_blocks.{match[2]}", single) if match[1] else (f"double_blocks.{match[2]}", double)
            before = name.removesuffix(f"{match[3]}.{ending}")
            if match[3] in known.values():
                inside = _key(known, match[3])
                found[f"{blocks}.{inside}.{'scale' if inside.endswith('_norm') else ending}"] = tensor
            elif match[3] == "attn.to_q":
                parts = ["attn.to_q", "attn.to_k", "attn.to_v", *(["proj_mlp"] if match[1] else [])]
                inside = "linear1" if match[1] else "img_attn.qkv"
                found[f"{blocks}.{inside}.{ending}"] = torch.cat([weights[f"{before}{part}.{ending}"] for part in parts])
            elif match[3] == "attn.add_q_proj":
                found[f"{blocks}.txt_attn.qkv.{ending}"] = torch.cat([weights[f"{before}attn.add_{part}_proj.{ending}"] for part in "qkv"])
    return found


def sd3(pipeline: DiffusionPipeline) -> Weights:
    """One qkv an attention; the shift before the scale where nothing but them is modulated. Under the prefix of files that hold more."""
    weights, found = pipeline.transformer.state_dict(), {}
    last = pipeline.transformer.config.num_layers - 1
    for name, tensor in weights.items():
        plain, ending = name.rsplit(".", 1)
        if name == "pos_embed.pos_embed":
            found["pos_embed"] = tensor
        elif plain == "norm_out.linear":
            found[f"final_layer.adaLN_modulation.1.{ending}"] = _halves_swapped(tensor)
        elif plain in SD3.values():
            found[f"{_key(SD3, plain)}.{ending}"] = tensor
        elif plain == "context_embedder":
            found[name] = tensor
        elif match := re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", plain):
            block, before = f"joint_blocks.{match[1]}", f"transformer_blocks.{match[1]}"
            if match[2] in SD3_BLOCK.values():
                swapped = match[2] == "norm1_context.linear" and int(match[1]) == last
                found[f"{block}.{_key(SD3_BLOCK, match[2])}.{ending}"] = _halves_swapped(tensor) if swapped else tensor
            elif match[2] in ("attn.to_q", "attn2.to_q"):
                attention = match[2].split(".")[0]
                found[f"{block}.x_block.{attention}.qkv.{ending}"] = torch.cat(
                    [weights[f"{before}.{attention}.to_{part}.{ending}"] for part in "qkv"]
                )
            elif match[2] == "attn.add_q_proj":
                found[f"{block}.context_block.attn.qkv.{ending}"] = torch.cat([weights[f"{before}.attn.add_{part}_proj.{ending}"] for part in "qkv"])
    return {f"{DENOISER}{name}": tensor for name, tensor in found.items()}


def z_image(pipeline: DiffusionPipeline) -> Weights:
    weights, found = pipeline.transformer.state_dict(), {}
    for name, tensor in weights.items():
        if name.endswith((".to_k.weight", ".to_v.weight")):
            continue
        if name.endswith(".to_q.weight"):
            tensor, name = torch.cat([weights[name.replace("to_q", f"to_{part}")] for part in "qkv"]), name.replace("to_q", "qkv")
        found[_renamed(name, {ours: theirs for theirs, ours in Z_IMAGE.items()})] = tensor
    return found


def krea_2(pipeline: DiffusionPipeline) -> Weights:
    """The six modulations of a block in one row."""
    found = {}
    for name, tensor in pipeline.transformer.state_dict().items():
        if name.startswith("transformer_blocks.") and name.endswith("scale_shift_table"):
            tensor = tensor.flatten()
        plain = next((ours for ours in KREA.values() if name == ours or name.startswith(f"{ours}.")), None)
        if plain:
            found[_key(KREA, plain) + name.removeprefix(plain)] = tensor
            continue
        name = re.sub(r"^transformer_blocks\.", "blocks.", re.sub(r"^text_fusion\.", "txtfusion.", name))
        for theirs, ours in KREA_BLOCK.items():
            name = re.sub(rf"(?<=\.){re.escape(ours)}(?=\.|$)", theirs, name)
        found[name] = tensor
    return found


def qwen_image(pipeline: DiffusionPipeline) -> Weights:
    """By diffusers' own names, which are its makers'; under the prefix of files for ComfyUI."""
    return {f"{DENOISER}{name}": tensor for name, tensor in pipeline.transformer.state_dict().items()}


ORIGINALS = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion: 2.x": stable_diffusion_2,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "flux2": flux2,
    "qwen-image": qwen_image,
    "z-image": z_image,
    "krea-2": krea_2,
    "chroma": chroma,
}


def let_flux_be(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' converters of FLUX.1 and Chroma have the real width, 3072, in their code; the same code with a tiny one."""
    for name in ("FluxTransformer2DModel", "ChromaTransformer2DModel"):
        known = single_file_model.SINGLE_FILE_LOADABLE_CLASSES[name]
        code = known["checkpoint_mapping_fn"].__code__
        assert 3072 in code.co_consts
        code = code.replace(co_consts=tuple(width if value == 3072 else value for value in code.co_consts))
        monkeypatch.setitem(known, "checkpoint_mapping_fn", types.FunctionType(code, known["checkpoint_mapping_fn"].__globals__))


def _key(table: dict[str, str], wanted: str) -> str:
    return next(theirs for theirs, ours in table.items() if ours == wanted)


def _halves_swapped(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat(tuple(reversed(tensor.chunk(2))))


def _renamed(name: str, changes: dict[str, str]) -> str:
    for ours, theirs in changes.items():
        name = re.sub(rf"(?<![^.]){re.escape(ours)}(?![^.])", theirs, name)
    return name
