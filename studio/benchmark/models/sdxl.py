"""SDXL in several sizes. The tiny one has two levels and two transformer blocks in the lower one, by which its LoRAs are recognised."""

from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel

from studio.benchmark.models.parts import NARROW, WIDE, autoencoder, clip
from studio.benchmark.models.stable_diffusion import ddim
from studio.benchmark.models.tokenizers import clip_tokenizer
from studio.families.sdxl import SDXL_BASE

CLIP_WIDTH = 16
LEVELS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}


def small() -> StableDiffusionXLPipeline:
    """SDXL's layout with a quarter of its channels and two blocks where it has ten."""
    unet = UNet2DConditionModel(
        sample_size=32,
        **LEVELS,
        block_out_channels=(96, 192, 384),
        transformer_layers_per_block=[1, 1, 2],
        cross_attention_dim=512,
        attention_head_dim=[3, 6, 12],
        projection_class_embeddings_input_dim=6 * 256 + 256,
    )
    return _whole(unet, 256, autoencoder(scale=0.13025, widths=NARROW), 77)


def real() -> StableDiffusionXLPipeline:
    """SDXL's real denoiser; its text encoders have their real widths and two layers, since they are freed before the first step."""
    return _whole(UNet2DConditionModel(**(SDXL_BASE.denoiser or {})), 768, autoencoder(scale=0.13025, widths=WIDE), 77, second=1280)


def shallow() -> StableDiffusionXLPipeline:
    """SDXL's real widths with one transformer block at each place, where it has up to ten."""
    unet = UNet2DConditionModel(**{**(SDXL_BASE.denoiser or {}), "transformer_layers_per_block": [1, 1, 1]})
    return _whole(unet, 768, autoencoder(scale=0.13025, widths=WIDE), 77, second=1280)


def tiny() -> StableDiffusionXLPipeline:
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        transformer_layers_per_block=[1, 2],
        cross_attention_dim=2 * CLIP_WIDTH,
        attention_head_dim=[1, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + CLIP_WIDTH,
        norm_num_groups=4,
    )
    return _whole(unet, CLIP_WIDTH, autoencoder(scale=0.13025), 24)


def _whole(unet: UNet2DConditionModel, width: int, vae: AutoencoderKL, length: int, second: int | None = None) -> StableDiffusionXLPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(length), clip_tokenizer(length)
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=clip(tokenizer, width, layers=2),
        text_encoder_2=clip(tokenizer_2, second or width, projected=True, layers=2),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=ddim(),
        add_watermarker=False,
    )
