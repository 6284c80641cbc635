"""Stable Diffusion, tiny: images of 64 x 64, latents of 8 x 8."""

from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from studio.benchmark.models.parts import NARROW, WIDE, autoencoder, clip
from studio.benchmark.models.tokenizers import clip_tokenizer


def tiny(width: int = 32, prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    tokenizer = clip_tokenizer()
    text_encoder = clip(tokenizer, width)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=ddim(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def small() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with less than a third of its channels: 78 million parameters, one second per step on one core."""
    tokenizer = clip_tokenizer(77)
    return _whole(
        tokenizer,
        clip(tokenizer, 256, layers=12),
        UNet2DConditionModel(sample_size=32, block_out_channels=(96, 192, 384, 384), cross_attention_dim=256, attention_head_dim=8),
        autoencoder(widths=NARROW),
    )


def real() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 at its real size."""
    tokenizer = clip_tokenizer(77)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return _whole(tokenizer, clip(tokenizer, 768, layers=12), unet, autoencoder(widths=WIDE))


def _whole(tokenizer, text_encoder, unet, vae) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def ddim(prediction_type: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, prediction_type=prediction_type
    )
