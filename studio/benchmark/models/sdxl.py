"""SDXL, tiny: two levels, two transformer blocks in the lower one, by which its LoRAs are known."""

from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from studio.benchmark.models.parts import autoencoder, clip
from studio.benchmark.models.stable_diffusion import ddim
from studio.benchmark.models.tokenizers import clip_tokenizer

CLIP_WIDTH = 16


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
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=autoencoder(scale=0.13025),
        text_encoder=clip(tokenizer, CLIP_WIDTH, layers=2),
        text_encoder_2=clip(tokenizer_2, CLIP_WIDTH, projected=True, layers=2),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=ddim(),
        add_watermarker=False,
    )
