"""Stable Diffusion 3 and 3.5 (Stability AI): a flow-matching transformer conditioned on two CLIP encoders and T5."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import Family, text_beyond
from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import STABILITY_COMMUNITY

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

LONGEST_PROMPT = 256
"""Tokens of T5 that the pipeline keeps by default; the CLIP encoders read the first 75."""

MEDIUM = Offer(
    "stabilityai/stable-diffusion-3.5-medium",
    "Stable Diffusion 3.5 medium",
    "Stable Diffusion 3.5 medium",
    STABILITY_COMMUNITY,
    SamplingDefaults(40, 4.5),
    denoiser={
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
        "qk_norm": "rms_norm",
    },
    denoiser_billions=2.24,
    width=1536,
    encoder_billions=5.6,
    trainable_encoders=((12, 768), (32, 1280)),
    gated=True,
)
LARGE = Offer(
    "stabilityai/stable-diffusion-3.5-large",
    "Stable Diffusion 3.5 large",
    "Stable Diffusion 3.5 large",
    STABILITY_COMMUNITY,
    SamplingDefaults(28, 3.5),
    denoiser={
        "num_layers": 38,
        "num_attention_heads": 38,
        "caption_projection_dim": 2432,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    },
    denoiser_billions=8.06,
    width=2432,
    encoder_billions=5.6,
    trainable_encoders=((12, 768), (32, 1280)),
    gated=True,
)

MEMBERS = {1536: "Stable Diffusion 3.5 medium", 2432: "Stable Diffusion 3.5 large"}
"""Token width -> base. The older Stable Diffusion 3 medium has the same width as 3.5 medium."""


class StableDiffusion3(Family):
    name = "sd3"
    title = "Stable Diffusion 3.5"
    offers = (MEDIUM, LARGE)
    tags = ("sd3", "sd3-diffusers")
    pipeline_names = ("StableDiffusion3Pipeline",)
    components = (
        *("transformer", "vae", "scheduler"),
        *("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"),
    )
    unused = {"feature_extractor": None, "image_encoder": None}
    denoiser_class = "SD3Transformer2DModel"
    repeated_blocks = ("JointTransformerBlock",)
    text_encoder_names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    # The second attention of medium's first blocks (attn2) is not trained, as in diffusers' own training script.
    target_modules = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    )
    text_encoder_targets = dict.fromkeys(("text_encoder", "text_encoder_2"), ("q_proj", "k_proj", "v_proj", "out_proj"))
    checkpoint_parts = ("transformer",)

    def width(self, base: BaseFolder) -> int | None:
        transformer = base.component_config("transformer")
        return transformer["num_attention_heads"] * transformer["attention_head_dim"]

    def resolution(self, base: BaseFolder) -> int:
        return base.component_config("transformer")["sample_size"] * 8

    def longest_side(self, base: BaseFolder) -> int | None:
        transformer = base.component_config("transformer")
        table = transformer.get("pos_embed_max_size")
        return table and table * transformer.get("patch_size", 2) * 8

    def architecture(self, base: BaseFolder) -> str:
        if not base.component_config("transformer").get("qk_norm"):
            return "stable-diffusion-v3-medium/lora"
        return f"stable-diffusion-v3.5-{'large' if self.width(base) == 2432 else 'medium'}/lora"

    def member_title(self, width: int | None) -> str:
        return self.title if width is None else MEMBERS.get(width, f"a {self.title} model of width {width}")

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        if "joint_blocks.37.x_block.mlp.fc1.weight" in shapes:
            return LARGE
        return MEDIUM if "joint_blocks.0.x_block.attn2.qkv.weight" in shapes else None

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        embeddings_BTD, _, pooled_BD, _ = pipeline.encode_prompt(
            *(prompts, prompts, prompts),
            device=pipeline.text_encoder.device,
            do_classifier_free_guidance=False,
            max_sequence_length=LONGEST_PROMPT,
        )
        return {"prompt_embeds": embeddings_BTD, "pooled_prompt_embeds": pooled_BD}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        return text_beyond(pipeline.tokenizer_3, prompt, LONGEST_PROMPT - 1)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        return denoiser(
            hidden_states=noisy_BCHW,
            timestep=t_B,
            encoder_hidden_states=conditions["prompt_embeds"],
            pooled_projections=conditions["pooled_prompt_embeds"],
            return_dict=False,
        )[0]

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"], size[0] // 8, size[1] // 8),
            "prompt_embeds": (77 + LONGEST_PROMPT, config["joint_attention_dim"]),
            "pooled_prompt_embeds": (config["pooled_projection_dim"],),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "pooled_prompt_embeds": positive["pooled_prompt_embeds"],
            "negative_prompt_embeds": negative["prompt_embeds"],
            "negative_pooled_prompt_embeds": negative["pooled_prompt_embeds"],
            "guidance_scale": guidance_scale,
        }
