"""FLUX.1 (Black Forest Labs): a flow-matching transformer over 2 x 2 patches of latents, conditioned on CLIP's pooled embedding and T5's tokens."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import Family, patches, text_beyond, token_positions
from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import APACHE, FLUX_DEV

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

LONGEST_PROMPT = 512
"""Tokens of T5 that the pipeline keeps by default."""
GUIDANCE = 1.0
"""Value of the distilled guidance embedding during training. At 1 a LoRA learns what the images show; higher values are for sampling."""

DEV = Offer(
    "black-forest-labs/FLUX.1-dev",
    "FLUX.1 dev",
    "FLUX.1 [dev]",
    FLUX_DEV,
    SamplingDefaults(28, 3.5),
    denoiser={"guidance_embeds": True},
    denoiser_billions=11.9,
    encoder_billions=4.9,
    trainable_encoders=((12, 768),),
    gated=True,
)
SCHNELL = Offer(
    "black-forest-labs/FLUX.1-schnell",
    "FLUX.1 schnell",
    "FLUX.1 [schnell]",
    APACHE,
    SamplingDefaults(4, 0.0),
    denoiser={},
    denoiser_billions=11.9,
    encoder_billions=4.9,
    trainable_encoders=((12, 768),),
    note="Distilled for four steps. Training weakens that: use more steps with the LoRA, or train on FLUX.1 dev.",
)


class Flux(Family):
    name = "flux"
    title = "FLUX.1"
    offers = (DEV, SCHNELL)
    tags = ("flux", "flux-diffusers")
    pipeline_names = ("FluxPipeline",)
    components = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    unused = {"feature_extractor": None, "image_encoder": None}
    denoiser_class = "FluxTransformer2DModel"
    repeated_blocks = ("FluxTransformerBlock", "FluxSingleTransformerBlock")
    # H200, torch 2.11: 683 ms against 520. The backward pass of flash attention is the difference.
    exact_cost = 0.31
    text_encoder_names = ("text_encoder", "text_encoder_2")
    target_modules = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    )
    text_encoder_targets = {"text_encoder": ("q_proj", "k_proj", "v_proj", "out_proj")}
    checkpoint_parts = ("transformer",)

    def uses_negative_prompt(self, index: Mapping[str, Any], denoiser: Mapping[str, Any]) -> bool:
        return False

    def architecture(self, base: BaseFolder) -> str:
        return "flux-1-dev/lora" if base.component_config("transformer").get("guidance_embeds") else "flux-1-schnell/lora"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        # Chroma and FLUX.2 have blocks of the same names, but no pooled text embedding.
        if not {"double_blocks.0.img_attn.qkv.weight", "txt_in.weight", "vector_in.in_layer.weight"} <= shapes.keys():
            return None
        return DEV if "guidance_in.in_layer.weight" in shapes else SCHNELL

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        embeddings_BTD, pooled_BD, _ = pipeline.encode_prompt(prompts, prompts, pipeline.text_encoder.device, max_sequence_length=LONGEST_PROMPT)
        return {"prompt_embeds": embeddings_BTD, "pooled_prompt_embeds": pooled_BD}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        return text_beyond(pipeline.tokenizer_2, prompt, LONGEST_PROMPT - 1)

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        return patches(latents_BCHW)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        import torch
        from diffusers import FluxPipeline

        height, width = noisy_BCHW.shape[2:]
        words_BTD = conditions["prompt_embeds"]
        packed = self.packed(noisy_BCHW)
        predicted = denoiser(
            hidden_states=packed,
            timestep=t_B.to(packed.dtype) / 1000,
            guidance=torch.full_like(t_B, GUIDANCE) if denoiser.config.guidance_embeds else None,
            pooled_projections=conditions["pooled_prompt_embeds"],
            encoder_hidden_states=words_BTD,
            txt_ids=torch.zeros(words_BTD.shape[1], 3, device=packed.device, dtype=packed.dtype),
            img_ids=token_positions(1, height // 2, width // 2, device=packed.device).to(packed.dtype),
            return_dict=False,
        )[0]
        return FluxPipeline._unpack_latents(predicted, height * 8, width * 8, 8)

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"] // 4, size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["joint_attention_dim"]),
            "pooled_prompt_embeds": (config["pooled_projection_dim"],),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "pooled_prompt_embeds": positive["pooled_prompt_embeds"],
            "guidance_scale": guidance_scale,
        }
