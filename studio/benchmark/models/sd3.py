"""Stable Diffusion 3.5, tiny: with the layout of medium, whose first blocks have two self-attentions on the image."""

from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from studio.benchmark.models.parts import autoencoder, clip, flow_scheduler, t5
from studio.benchmark.models.tokenizers import clip_tokenizer, t5_tokenizer

CLIP_WIDTH, T5_WIDTH = 16, 32


def tiny(heads: int = 2) -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=heads,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=8 * heads,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    tokenizer, tokenizer_2, tokenizer_3 = clip_tokenizer(), clip_tokenizer(), t5_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0),
        vae=autoencoder(16, shift=0.0609, scale=1.5305, quantised=False),
        text_encoder=clip(tokenizer, CLIP_WIDTH, projected=True, layers=2),
        tokenizer=tokenizer,
        text_encoder_2=clip(tokenizer_2, CLIP_WIDTH, projected=True, layers=2),
        tokenizer_2=tokenizer_2,
        text_encoder_3=t5(tokenizer_3, T5_WIDTH),
        tokenizer_3=tokenizer_3,
    )
