"""FLUX.1 in three sizes, with distilled guidance as dev has it."""

from diffusers import FluxPipeline, FluxTransformer2DModel

from studio.benchmark.models.parts import NARROW, WIDE, autoencoder, clip, flow_scheduler, t5
from studio.benchmark.models.tokenizers import clip_tokenizer, t5_tokenizer

CLIP_WIDTH, T5_WIDTH = 16, 32
TINY = (8, 8, 8, 8)


def tiny() -> FluxPipeline:
    """One block of each kind."""
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
    return _whole(transformer, CLIP_WIDTH, T5_WIDTH, 4, TINY)


def small() -> FluxPipeline:
    """One double and two single blocks, a quarter as wide."""
    transformer = FluxTransformer2DModel(
        num_layers=1, num_single_layers=2, num_attention_heads=6, joint_attention_dim=768, pooled_projection_dim=256, guidance_embeds=True
    )
    return _whole(transformer, 256, 768, 16, NARROW)


def real() -> FluxPipeline:
    """The real denoiser; its text encoders have their real widths and one layer, since they are freed before the first step."""
    return _whole(FluxTransformer2DModel(guidance_embeds=True), 768, 4096, 16, WIDE)


def _whole(transformer: FluxTransformer2DModel, clip_width: int, t5_width: int, channels: int, widths: tuple[int, ...]) -> FluxPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(24 if widths == TINY else 77), t5_tokenizer()
    return FluxPipeline(
        scheduler=flow_scheduler(dynamic=True),
        vae=autoencoder(channels, shift=0.1159, scale=0.3611, quantised=False, widths=widths),
        text_encoder=clip(tokenizer, clip_width),
        tokenizer=tokenizer,
        text_encoder_2=t5(tokenizer_2, t5_width),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )
