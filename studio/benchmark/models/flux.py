"""FLUX.1, tiny: one block of each kind, distilled guidance as dev has it."""

from diffusers import FluxPipeline, FluxTransformer2DModel

from studio.benchmark.models.parts import autoencoder, clip, flow_scheduler, t5
from studio.benchmark.models.tokenizers import clip_tokenizer, t5_tokenizer

CLIP_WIDTH, T5_WIDTH = 16, 32


def tiny() -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    return FluxPipeline(
        scheduler=flow_scheduler(dynamic=True),
        vae=autoencoder(4, shift=0.1159, scale=0.3611, quantised=False),
        text_encoder=clip(tokenizer, CLIP_WIDTH),
        tokenizer=tokenizer,
        text_encoder_2=t5(tokenizer_2, T5_WIDTH),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )
