"""Krea 2 (Krea): a flow-matching transformer over text tokens and 2 x 2 latent patches; the text comes from twelve layers of Qwen3-VL."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import Family, encode_frame, patches, text_beyond
from studio.families.facts import Autoencoder, BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import KREA_COMMUNITY

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions
    from studio.families.objectives import FlowMatching, Objective

LONGEST_PROMPT = 256
"""Tokens after the template's prefix. The pipeline's default is 512, but padding is masked and has no position, so the length does not change a
prompt's meaning; with twelve layers per token this one takes 16 MB per caption in half precision."""
DISTILLED_MU = 1.15
"""Logarithm of the pipeline's shift for the distilled checkpoint, at any image size."""

RAW = Offer(
    "krea/Krea-2-Raw",
    "Krea 2 Raw",
    "Krea 2 Raw",
    KREA_COMMUNITY,
    SamplingDefaults(52, 3.5),
    denoiser={},
    denoiser_billions=12.8,
    encoder_billions=4.4,
    gated=True,
    note="The base for training. Its publisher recommends Krea 2 Turbo for sampling; it takes the same LoRAs.",
)
TURBO = Offer(
    "krea/Krea-2-Turbo",
    "Krea 2 Turbo",
    "Krea 2 Turbo",
    KREA_COMMUNITY,
    SamplingDefaults(8, 0.0),
    denoiser={},
    denoiser_billions=12.8,
    encoder_billions=4.4,
    gated=True,
    note="For sampling in eight steps. Train on Krea 2 Raw and use the LoRA here.",
)


class Krea2(Family):
    name = "krea-2"
    title = "Krea 2"
    offers = (RAW, TURBO)
    tags = ("krea2", "krea2-diffusers")
    pipeline_names = ("Krea2Pipeline",)
    components = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    denoiser_class = "Krea2Transformer2DModel"
    autoencoder = Autoencoder("AutoencoderKLQwenImage", {}, video=True)
    # Published in bfloat16, and diffusers 0.42 does not clip its activations, as it does for FLUX.1.
    float16 = False
    repeated_blocks = ("Krea2TransformerBlock",)
    # The blocks that fuse the encoder's layers have the same names and are trained too, as in diffusers' training script.
    target_modules = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.to_gate", "ff.up", "ff.down")
    padding_mask = "prompt_embeds_mask"
    checkpoint_parts = ("transformer",)

    def architecture(self, base: BaseFolder) -> str:
        return "Krea-2/lora"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        return RAW if "txtfusion.projector.weight" in shapes else None

    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective | FlowMatching":
        from studio.families.objectives import FlowMatching, Shift

        shift = Shift(math.exp(DISTILLED_MU)) if pipeline.config.is_distilled else Shift.of(pipeline.scheduler.config)
        # Uniform noise levels, then shifted, as in Krea's own LoRA training code.
        return FlowMatching(shift, density="uniform")

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return encode_frame(pipeline, pixels_BCHW)

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        words_BTLD, mask_BT = pipeline.encode_prompt(prompts, pipeline.text_encoder.device, max_sequence_length=LONGEST_PROMPT)
        return {"prompt_embeds": words_BTLD, "prompt_embeds_mask": mask_BT}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        prefix = len(pipeline.tokenizer(pipeline.prompt_template_encode_prefix).input_ids)
        kept = LONGEST_PROMPT + pipeline.prompt_template_encode_start_idx - pipeline.prompt_template_encode_num_suffix_tokens
        return text_beyond(pipeline.tokenizer, prompt, kept - prefix)

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        return patches(latents_BCHW)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        from diffusers import Krea2Pipeline, QwenImagePipeline

        height, width = noisy_BCHW.shape[2:]
        words_BTLD = conditions["prompt_embeds"]
        predicted = denoiser(
            hidden_states=self.packed(noisy_BCHW),
            encoder_hidden_states=words_BTLD,
            timestep=(t_B / 1000).to(noisy_BCHW.dtype),
            position_ids=Krea2Pipeline.prepare_position_ids(words_BTLD.shape[1], height // 2, width // 2, noisy_BCHW.device),
            encoder_attention_mask=conditions.get("prompt_embeds_mask"),
            return_dict=False,
        )[0]
        return QwenImagePipeline._unpack_latents(predicted, height * 8, width * 8, 8)[:, :, 0]

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"] // 4, size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["num_text_layers"], config["text_hidden_dim"]),
            "prompt_embeds_mask": (LONGEST_PROMPT,),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        """Krea's guidance is cond + guidance_scale * (cond - uncond), off at 0; other families' scale is 1 higher, and off at 1."""
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "prompt_embeds_mask": positive["prompt_embeds_mask"],
            "negative_prompt_embeds": negative["prompt_embeds"],
            "negative_prompt_embeds_mask": negative["prompt_embeds_mask"],
            "guidance_scale": guidance_scale,
        }
