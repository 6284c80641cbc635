"""Qwen-Image (Alibaba): a flow-matching transformer over 2 x 2 patches of latents, conditioned on the last layer of a vision-language model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import Family, encode_frame, patches, text_beyond
from studio.families.facts import Autoencoder, BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import APACHE

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

LONGEST_PROMPT = 512
"""Tokens after the template's prefix, the pipeline's default. Padding is masked and comes last, so the length does not change a prompt's
meaning."""

FIRST = Offer(
    "Qwen/Qwen-Image", "Qwen-Image", "Qwen-Image", APACHE, SamplingDefaults(50, 4.0), denoiser={}, denoiser_billions=20.4, encoder_billions=8.3
)
LATER = Offer(
    "Qwen/Qwen-Image-2512",
    "Qwen-Image 2512",
    "Qwen-Image 2512",
    APACHE,
    SamplingDefaults(50, 4.0),
    denoiser={},
    denoiser_billions=20.4,
    encoder_billions=8.3,
    note="The version of December 2025, with more natural people and textures.",
)


class QwenImage(Family):
    name = "qwen-image"
    title = "Qwen-Image"
    offers = (FIRST, LATER)
    tags = ("qwen-image", "qwen-image-diffusers")
    pipeline_names = ("QwenImagePipeline",)
    components = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    denoiser_class = "QwenImageTransformer2DModel"
    autoencoder = Autoencoder("AutoencoderKLQwenImage", {}, video=True)
    repeated_blocks = ("QwenImageTransformerBlock",)
    target_modules = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    padding_mask = "prompt_embeds_mask"
    checkpoint_parts = ("transformer",)

    def architecture(self, base: BaseFolder) -> str:
        return "Qwen-Image/lora"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        # diffusers reads no other spelling of this family than its own.
        return FIRST if "transformer_blocks.0.txt_mlp.net.0.proj.weight" in shapes else None

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        return encode_frame(pipeline, pixels_BCHW)

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        import torch
        from torch.nn.functional import pad

        # An empty prompt is a space in the publisher's code.
        texts = [prompt or " " for prompt in prompts]
        words_BTD, mask_BT = pipeline.encode_prompt(texts, pipeline.text_encoder.device, max_sequence_length=LONGEST_PROMPT)
        if mask_BT is None:  # the pipeline returns no mask if all rows are equally long
            mask_BT = torch.ones(words_BTD.shape[:2], device=words_BTD.device)
        missing = LONGEST_PROMPT - words_BTD.shape[1]
        return {"prompt_embeds": pad(words_BTD, (0, 0, 0, missing)), "prompt_embeds_mask": pad(mask_BT, (0, missing)).bool()}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        prefix = len(pipeline.tokenizer(pipeline.prompt_template_encode.partition("{}")[0]).input_ids)
        return text_beyond(pipeline.tokenizer, prompt, LONGEST_PROMPT + pipeline.prompt_template_encode_start_idx - prefix)

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        return patches(latents_BCHW)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        from diffusers import QwenImagePipeline

        batch, _, height, width = noisy_BCHW.shape
        predicted = denoiser(
            hidden_states=self.packed(noisy_BCHW),
            timestep=t_B.to(noisy_BCHW.dtype) / 1000,
            encoder_hidden_states=conditions["prompt_embeds"],
            encoder_hidden_states_mask=conditions.get("prompt_embeds_mask"),
            img_shapes=[[(1, height // 2, width // 2)]] * batch,
            return_dict=False,
        )[0]
        return QwenImagePipeline._unpack_latents(predicted, height * 8, width * 8, 8)[:, :, 0]

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"] // 4, size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["joint_attention_dim"]),
            "prompt_embeds_mask": (LONGEST_PROMPT,),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        """`guidance_scale` is passed as `true_cfg_scale`; the pipeline's own guidance_scale is for distilled models, of which none exist."""
        words = _without_padding(positive)
        against = _without_padding(negative) if guidance_scale > 1 else {"prompt_embeds": None, "prompt_embeds_mask": None}
        return words | {f"negative_{name}": rows for name, rows in against.items()} | {"true_cfg_scale": guidance_scale}

    def code_arguments(self, guidance_scale: float) -> dict[str, Any]:
        return {"true_cfg_scale": guidance_scale, "negative_prompt": " "}


def _without_padding(conditions: "Conditions") -> "Conditions":
    """Conditions at the prompt's own length, as in the pipeline: padding is masked, but longer sums round differently."""
    length = int(conditions["prompt_embeds_mask"].sum())
    return {name: rows[:, :length] for name, rows in conditions.items()}
