"""Stable Diffusion XL and models of its layout: two text encoders, with the second one's pooled embedding and the image size as extra conditions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import OPENRAIL_XL
from studio.families.unet import UNetFamily

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

SDXL_BASE = Offer(
    "stabilityai/stable-diffusion-xl-base-1.0",
    "Stable Diffusion XL",
    "Stable Diffusion XL",
    OPENRAIL_XL,
    SamplingDefaults(30, 5.0),
    denoiser={
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    denoiser_billions=2.57,
    encoder_billions=0.82,
    trainable_encoders=((12, 768), (32, 1280)),
    stored=(4, 4),
    width=2048,
)


class SDXL(UNetFamily):
    name = "sdxl"
    title = "SDXL"
    offers = (SDXL_BASE,)
    tags = ("stable-diffusion-xl", "stable-diffusion-xl-diffusers")
    pipeline_names = ("StableDiffusionXLPipeline",)
    components = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    unused = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}
    text_encoder_names = ("text_encoder", "text_encoder_2")
    text_encoder_targets = dict.fromkeys(text_encoder_names, ("q_proj", "k_proj", "v_proj", "out_proj"))
    checkpoint_parts = ("unet", "vae", "text_encoder", "text_encoder_2")

    def architecture(self, base: BaseFolder) -> str:
        return "stable-diffusion-xl-v1-base/lora"

    def member_title(self, width: int | None) -> str:
        return "SDXL" if width in (None, 2048) else f"an SDXL model with prompt embeddings of width {width}"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        # Inpainting models have five more input channels; EDM models of this layout have another noise schedule.
        if shapes.get("input_blocks.0.0.weight", (0, 4))[1] != 4 or {"edm_mean", "edm_vpred.sigma_max"} & shapes.keys():
            return None
        return SDXL_BASE if "conditioner.embedders.1.model.token_embedding.weight" in shapes else None

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        embeddings_BTD, _, pooled_BD, _ = pipeline.encode_prompt(prompts, device=pipeline.text_encoder.device, do_classifier_free_guidance=False)
        return {"prompt_embeds": embeddings_BTD, "pooled_prompt_embeds": pooled_BD}

    def unconditional(self, pipeline: "DiffusionPipeline", empty: "Conditions") -> "Conditions":
        import torch

        # SDXL's base was trained this way; derived models may differ.
        return {name: torch.zeros_like(rows) for name, rows in empty.items()} if pipeline.config.force_zeros_for_empty_prompt else empty

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        # Original size, corner of the crop, target size (Podell et al. 2023, section 2.2). Images are scaled to their bucket and
        # centre-cropped beforehand, so each is declared as uncropped at its bucket's size, as the pipeline does for sampling.
        # Created on the device: a list would be copied from the host at every step.
        time_ids_B6 = noisy_BCHW.new_zeros(len(noisy_BCHW), 6)
        time_ids_B6[:, 0::4], time_ids_B6[:, 1::4] = noisy_BCHW.shape[2] * 8, noisy_BCHW.shape[3] * 8
        added = {"text_embeds": conditions["pooled_prompt_embeds"], "time_ids": time_ids_B6}
        return denoiser(noisy_BCHW, t_B, encoder_hidden_states=conditions["prompt_embeds"], added_cond_kwargs=added, return_dict=False)[0]

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        latents = (config["in_channels"], size[0] // 8, size[1] // 8)
        return {"latents": latents, "prompt_embeds": (77, config["cross_attention_dim"]), "pooled_prompt_embeds": (pooled,)}

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "pooled_prompt_embeds": positive["pooled_prompt_embeds"],
            "negative_prompt_embeds": negative["prompt_embeds"],
            "negative_pooled_prompt_embeds": negative["pooled_prompt_embeds"],
            "guidance_scale": guidance_scale,
        }

    def convert_keys(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        from types import SimpleNamespace

        from diffusers import StableDiffusionXLPipeline
        from diffusers.utils import convert_unet_state_dict_to_peft

        from studio.families.loading import convert_text_encoder

        # kohya numbers blocks as in the original code; to renumber them the converter needs this constant of SDXL.
        converted, _ = StableDiffusionXLPipeline.lora_state_dict(tensors, unet_config=SimpleNamespace(layers_per_block=2), use_safetensors=True)
        unet = {key.removeprefix("unet."): value for key, value in converted.items() if key.startswith("unet.")}
        if unet and not any(".lora_A." in key for key in unet):
            unet = convert_unet_state_dict_to_peft(unet)
        found = {f"unet.{key}": value for key, value in unet.items()}
        for part in self.text_encoder_names:
            found |= {f"{part}.{key}": value for key, value in convert_text_encoder(part, converted).items()}
        return found
