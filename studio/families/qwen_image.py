"""Qwen-Image (Alibaba): a flow-matching transformer over 2 x 2 patches of latents, told what to draw by a vision-language model's last layer."""

from studio.families.base import Family, cut_end, encode_frame
from studio.families.facts import Drawing, Offer
from studio.families.licences import APACHE

LONGEST_PROMPT = 512
"""Tokens after the template's opening: what the pipeline reads by default. Shorter prompts are padded to it and the padding is masked, so that
every step has the same shapes; a prompt means the same at any length."""

FIRST = Offer("Qwen/Qwen-Image", "Qwen-Image", "Qwen-Image", APACHE, Drawing(50, 4.0), denoiser={}, denoiser_billions=20.4, encoder_billions=8.3)
LATER = Offer(
    "Qwen/Qwen-Image-2512",
    "Qwen-Image 2512",
    "Qwen-Image 2512",
    APACHE,
    Drawing(50, 4.0),
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
    repeated_blocks = ("QwenImageTransformerBlock",)
    target_modules = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    checkpoint_parts = ("transformer",)

    def architecture(self, base):
        return "Qwen-Image/lora"

    def checkpoint_offer(self, shapes):
        # diffusers reads no other spelling of this family than its own.
        return FIRST if "transformer_blocks.0.txt_mlp.net.0.proj.weight" in shapes else None

    def encode_images(self, pipeline, pixels_BCHW):
        return encode_frame(pipeline, pixels_BCHW)

    def encode_prompts(self, pipeline, prompts):
        import torch
        from torch.nn.functional import pad

        # Its makers say "nothing" by a space.
        spoken = [prompt or " " for prompt in prompts]
        words_BTD, mask_BT = pipeline.encode_prompt(spoken, pipeline.text_encoder.device, max_sequence_length=LONGEST_PROMPT)
        if mask_BT is None:  # what the pipeline says when no row is shorter than another
            mask_BT = torch.ones(words_BTD.shape[:2], device=words_BTD.device)
        missing = LONGEST_PROMPT - words_BTD.shape[1]
        return {"prompt_embeds": pad(words_BTD, (0, 0, 0, missing)), "prompt_embeds_mask": pad(mask_BT, (0, missing)).bool()}

    def beyond_limit(self, pipeline, prompt):
        opening = len(pipeline.tokenizer(pipeline.prompt_template_encode.partition("{}")[0]).input_ids)
        return cut_end(pipeline.tokenizer, prompt, LONGEST_PROMPT + pipeline.prompt_template_encode_start_idx - opening)

    def predict(self, denoiser, noisy_BCHW, t_B, conditions):
        from diffusers import QwenImagePipeline

        batch, channels, height, width = noisy_BCHW.shape
        said = denoiser(
            hidden_states=QwenImagePipeline._pack_latents(noisy_BCHW, batch, channels, height, width),
            timestep=t_B.to(noisy_BCHW.dtype) / 1000,
            encoder_hidden_states=conditions["prompt_embeds"],
            encoder_hidden_states_mask=conditions["prompt_embeds_mask"],
            img_shapes=[[(1, height // 2, width // 2)]] * batch,
            return_dict=False,
        )[0]
        return QwenImagePipeline._unpack_latents(said, height * 8, width * 8, 8)[:, :, 0]

    def input_shapes(self, config, size):
        return {
            "latents": (config["in_channels"] // 4, size[0] // 8, size[1] // 8),
            "prompt_embeds": (LONGEST_PROMPT, config["joint_attention_dim"]),
            "prompt_embeds_mask": (LONGEST_PROMPT,),
        }

    def call_arguments(self, positive, negative, guidance_scale):
        """`guidance_scale` goes in as `true_cfg_scale`; the pipeline's own guidance_scale is for distilled models, of which there are none."""
        words = _without_padding(positive)
        against = _without_padding(negative) if guidance_scale > 1 else {"prompt_embeds": None, "prompt_embeds_mask": None}
        return words | {f"negative_{name}": rows for name, rows in against.items()} | {"true_cfg_scale": guidance_scale}

    def code_arguments(self, guidance_scale):
        return {"true_cfg_scale": guidance_scale, "negative_prompt": " "}


def _without_padding(conditions):
    """As long as the words are, as the pipeline has them: padding is masked, but longer sums round otherwise."""
    length = int(conditions["prompt_embeds_mask"].sum())
    return {name: rows[:, :length] for name, rows in conditions.items()}
