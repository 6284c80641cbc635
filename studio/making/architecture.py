"""Architectures of the four networks, untrained: ordinary diffusers and transformers classes at a size two CPU cores can train in an hour.

The U-Net computes mostly at 8x8 and 4x4, where a CPU is fastest per parameter.
"""

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from studio.builtin import RESOLUTION
from studio.making.head_start import start_as_average
from studio.making.vocabulary import MAX_TOKENS

TEXT_WIDTH = 192
LATENT_SIZE = RESOLUTION // 8
LATENT_CHANNELS = 8


def autoencoder() -> AutoencoderKL:
    """Factor 8 as in Stable Diffusion, a quarter of its width; eight latent channels instead of four, since four lose thin lines."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 48, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # Few, wide groups: normalising two channels at a time, as 16 groups would here, removes the brightness of flat areas.
        norm_num_groups=4,
        sample_size=RESOLUTION,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    start_as_average(vae)
    return vae


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=6,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def denoiser() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        # diffusers calls the number of heads attention_head_dim here (its issue 2011): 32 channels per head.
        attention_head_dim=(2, 4, 5),
        norm_num_groups=8,
        use_linear_projection=True,
    )


def scheduler() -> DPMSolverMultistepScheduler:
    """The schedule of Stable Diffusion with v-prediction as in 2.1, which reproduces flat colours far better than epsilon on a model this small."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def pipeline(vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def captioner(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    """BLIP with a vision tower of 64 patches; about 4.5 M parameters."""
    width, heads, layers = 192, 6, 4
    special = {
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "encoder_hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 64,
        "projection_dim": width,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        **special,
    }
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 5,
        "num_attention_heads": heads,
        "image_size": RESOLUTION,
        "patch_size": 16,
        "projection_dim": width,
    }
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=width, image_text_hidden_size=width))


def caption_processor(tokenizer: BertTokenizer) -> BlipProcessor:
    images = BlipImageProcessor(size={"height": RESOLUTION, "width": RESOLUTION}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return BlipProcessor(images, tokenizer)
