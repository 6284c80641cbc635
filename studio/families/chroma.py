"""Chroma (lodestones): FLUX.1 [schnell] retrained without distillation, with modulation from one small network and T5 as the only text encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import Family, patches, text_beyond, token_positions
from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.flux import LONGEST_PROMPT, Flux
from studio.families.licences import APACHE

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

CHROMA_HD = Offer(
    "lodestones/Chroma1-HD", "Chroma HD", "Chroma1-HD", APACHE, SamplingDefaults(40, 3.0), denoiser={}, denoiser_billions=8.9, encoder_billions=4.8
)


class _CheckpointWithMask:
    """Gradient checkpointing that passes the attention mask. diffusers 0.42 omits it for single blocks; the double blocks before them get it as
    their last input."""

    mask_BL: "torch.Tensor | None" = None
    """None if no prompt of the batch is padded."""

    def __call__(self, block: "torch.nn.Module", *inputs: "torch.Tensor | None") -> "torch.Tensor | tuple[torch.Tensor, torch.Tensor]":
        from torch.utils.checkpoint import checkpoint

        if type(block).__name__ == "ChromaSingleTransformerBlock":
            return checkpoint(block, *inputs, self.mask_BL, use_reentrant=False)
        self.mask_BL = inputs[-1]
        return checkpoint(block, *inputs, use_reentrant=False)


class Chroma(Family):
    name = "chroma"
    title = "Chroma"
    offers = (CHROMA_HD,)
    tags = ("chroma", "chroma-diffusers")
    pipeline_names = ("ChromaPipeline",)
    components = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    unused = {"feature_extractor": None, "image_encoder": None}
    denoiser_class = "ChromaTransformer2DModel"
    repeated_blocks = ("ChromaTransformerBlock", "ChromaSingleTransformerBlock")
    target_modules = Flux.target_modules
    padding_mask = "prompt_attention_mask"
    checkpoint_parts = ("transformer",)

    def architecture(self, base: BaseFolder) -> str:
        return "chroma/lora"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        return CHROMA_HD if "distilled_guidance_layer.in_proj.weight" in shapes else None

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        """The mask leaves one padding token visible, as in the model's training."""
        words_BTD, _, mask_BT, *_ = pipeline.encode_prompt(
            prompts, device=pipeline.text_encoder.device, do_classifier_free_guidance=False, max_sequence_length=LONGEST_PROMPT
        )
        # A float mask is added to the attention scores by diffusers 0.42 (its issue 13619). A boolean mask is the one the base was trained with.
        return {"prompt_embeds": words_BTD, "prompt_attention_mask": mask_BT.bool()}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        return text_beyond(pipeline.tokenizer, prompt, LONGEST_PROMPT - 1)

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        return patches(latents_BCHW)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        import torch
        from diffusers import ChromaPipeline

        height, width = noisy_BCHW.shape[2:]
        words_BTD, mask_BT = conditions["prompt_embeds"], conditions.get("prompt_attention_mask")
        packed = self.packed(noisy_BCHW)
        mask_BL = None if mask_BT is None else torch.cat([mask_BT.bool(), mask_BT.new_ones(packed.shape[:2], dtype=torch.bool)], dim=1)
        predicted = denoiser(
            hidden_states=packed,
            timestep=t_B.to(packed.dtype) / 1000,
            encoder_hidden_states=words_BTD,
            txt_ids=torch.zeros(words_BTD.shape[1], 3, device=packed.device, dtype=packed.dtype),
            img_ids=token_positions(1, height // 2, width // 2, device=packed.device).to(packed.dtype),
            attention_mask=mask_BL,
            return_dict=False,
        )[0]
        return ChromaPipeline._unpack_latents(predicted, height * 8, width * 8, 8)

    def enable_gradient_checkpointing(self, denoiser: "ModelMixin") -> None:
        denoiser.enable_gradient_checkpointing(_CheckpointWithMask())

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"] // 4, size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["joint_attention_dim"]),
            "prompt_attention_mask": (LONGEST_PROMPT,),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        """Float masks, as the pipeline makes them, so that images match those of plain diffusers."""
        return {
            "prompt_embeds": positive["prompt_embeds"],
            "prompt_attention_mask": positive["prompt_attention_mask"].to(positive["prompt_embeds"].dtype),
            "negative_prompt_embeds": negative["prompt_embeds"],
            "negative_prompt_attention_mask": negative["prompt_attention_mask"].to(negative["prompt_embeds"].dtype),
            "guidance_scale": guidance_scale,
        }
