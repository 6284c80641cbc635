"""Z-Image (Tongyi-MAI, arXiv 2511.22699): a single-stream flow-matching transformer over image and text tokens, with Qwen 3 as text encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import PROMPT, Family, chat_text_beyond, token_positions
from studio.families.facts import BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import APACHE

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions

LONGEST_PROMPT = 512
"""Tokens of the chat around a prompt, the pipeline's default. Every prompt is padded to it and masked."""
MOST_LAYERS = 30

Z_IMAGE = Offer(
    "Tongyi-MAI/Z-Image", "Z-Image", "Z-Image", APACHE, SamplingDefaults(50, 4.0), denoiser={}, denoiser_billions=6.2, encoder_billions=4.0
)
TURBO = Offer(
    "Tongyi-MAI/Z-Image-Turbo",
    "Z-Image Turbo",
    "Z-Image-Turbo",
    APACHE,
    SamplingDefaults(9, 0.0),
    denoiser={},
    denoiser_billions=6.2,
    encoder_billions=4.0,
    stored=(4, 2),
    note="Distilled for eight steps, which training soon undoes. Train on Z-Image and use Turbo for sampling.",
)


class ZImage(Family):
    name = "z-image"
    title = "Z-Image"
    offers = (Z_IMAGE, TURBO)
    tags = ("z-image", "z-image-diffusers")
    pipeline_names = ("ZImagePipeline",)
    components = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    denoiser_class = "ZImageTransformer2DModel"
    # Its activations exceed the range (Tongyi-MAI/Z-Image, issue 14), and diffusers 0.42 does not clip them.
    float16 = False
    repeated_blocks = ("ZImageTransformerBlock",)
    # Full names: the ends alone would also match the two refiners, which process only text or only image tokens.
    target_modules = tuple(f"layers.{index}.attention.{name}" for index in range(MOST_LAYERS) for name in ("to_q", "to_k", "to_v", "to_out.0"))
    reads_lokr = True
    checkpoint_parts = ("transformer",)

    def architecture(self, base: BaseFolder) -> str:
        return "Z-Image/lora"

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        # Lumina Image 2 has layers of the same names, but no padding token for text.
        return Z_IMAGE if "cap_pad_token" in shapes else None

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        import torch

        # A copy: the pipeline overwrites the list with the chats that it makes of the prompts.
        rows, _ = pipeline.encode_prompt(
            list(prompts), pipeline.text_encoder.device, do_classifier_free_guidance=False, max_sequence_length=LONGEST_PROMPT
        )
        words_BTD = torch.stack([torch.nn.functional.pad(row_TD, (0, 0, 0, LONGEST_PROMPT - len(row_TD))) for row_TD in rows])
        lengths_B1 = torch.tensor([[len(row_TD)] for row_TD in rows], device=words_BTD.device)
        return {"prompt_embeds": words_BTD, "prompt_mask": torch.arange(LONGEST_PROMPT, device=words_BTD.device) < lengths_B1}

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        return chat_text_beyond(pipeline.tokenizer, [{"role": "user", "content": PROMPT}], prompt, LONGEST_PROMPT)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        """ZImageTransformer2DModel.forward with fixed shapes; the original takes lists of any length and synchronises with the host."""
        import torch
        from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF

        def run(layer: "torch.nn.Module", *inputs: "torch.Tensor | None") -> "torch.Tensor":
            recompute = denoiser.gradient_checkpointing and torch.is_grad_enabled()
            return denoiser._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)

        batch, channels, height, width = noisy_BCHW.shape
        rows, columns, device = height // 2, width // 2, noisy_BCHW.device
        time_BD = denoiser.t_embedder((1000 - t_B) / 1000 * denoiser.t_scale).type_as(noisy_BCHW)

        # Each text is padded to a multiple of 32 positions with a learned token; the image tokens follow.
        mask_BT = conditions["prompt_mask"].bool()
        count = mask_BT.shape[1]
        filled_B1 = (mask_BT.sum(1, keepdim=True) + SEQ_MULTI_OF - 1) // SEQ_MULTI_OF * SEQ_MULTI_OF
        index_T = torch.arange(count, device=device)
        seen_BT = index_T < filled_B1
        text_places_T3 = torch.nn.functional.pad(index_T[:, None] + 1, (0, 2))
        text_turns_BTF = denoiser.rope_embedder(text_places_T3).expand(batch, -1, -1)
        words_BTD = torch.where(mask_BT[..., None], denoiser.cap_embedder(conditions["prompt_embeds"]), denoiser.cap_pad_token)
        for layer in denoiser.context_refiner:
            words_BTD = run(layer, words_BTD, seen_BT, text_turns_BTF)

        spare = -(rows * columns) % SEQ_MULTI_OF
        patches = noisy_BCHW.reshape(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, 4 * channels)
        tokens_BND = denoiser.all_x_embedder["2-1"](patches)
        tokens_BND = torch.cat([tokens_BND, denoiser.x_pad_token.to(tokens_BND).expand(batch, spare, -1)], dim=1)
        grid_N3 = token_positions(1, rows, columns, device=device)
        behind_B13 = torch.nn.functional.pad(filled_B1 + 1, (0, 2))[:, None]
        places_BN3 = torch.nn.functional.pad(grid_N3 + behind_B13, (0, 0, 0, spare))
        turns_BNF = denoiser.rope_embedder(places_BN3.flatten(0, 1)).unflatten(0, (batch, -1))
        for layer in denoiser.noise_refiner:
            tokens_BND = run(layer, tokens_BND, None, turns_BNF, time_BD)

        stream_BSD = torch.cat([tokens_BND, words_BTD], dim=1)
        stream_turns_BSF = torch.cat([turns_BNF, text_turns_BTF], dim=1)
        stream_seen_BS = torch.cat([seen_BT.new_ones(tokens_BND.shape[:2]), seen_BT], dim=1)
        for layer in denoiser.layers:
            stream_BSD = run(layer, stream_BSD, stream_seen_BS, stream_turns_BSF, time_BD)

        predicted = denoiser.all_final_layer["2-1"](stream_BSD, c=time_BD)[:, : rows * columns]
        # Its time is 1 at clean images and it predicts the velocity towards them, so the velocity towards noise is the negative.
        return -predicted.reshape(batch, rows, columns, 2, 2, channels).permute(0, 5, 1, 3, 2, 4).reshape(noisy_BCHW.shape)

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {
            "latents": (config["in_channels"], size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["cap_feat_dim"]),
            "prompt_mask": (LONGEST_PROMPT,),
        }

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        return {
            "prompt_embeds": _without_padding(positive),
            "negative_prompt_embeds": _without_padding(negative),
            "guidance_scale": guidance_scale,
        }


def _without_padding(conditions: "Conditions") -> "list[torch.Tensor]":
    """Each prompt at its own length, as the pipeline expects."""
    return [row_TD[mask_T.bool()] for row_TD, mask_T in zip(conditions["prompt_embeds"], conditions["prompt_mask"], strict=True)]
