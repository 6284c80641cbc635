"""Parts that several families share, at tiny size, of real classes and random weights. Everything is in eval mode: dropout would change images."""

from diffusers import AutoencoderKL, AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WIDE = (128, 256, 512, 512)
"""Channels of the real autoencoders."""
NARROW = (32, 64, 128, 128)
"""Channels next to small denoisers: a real autoencoder would dominate a step that encodes, and overstate the gain of caching latents."""


def clip(tokenizer: CLIPTokenizer, width: int, projected: bool = False, layers: int = 1) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5(tokenizer: T5Tokenizer, width: int) -> T5EncoderModel:
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return T5EncoderModel(config).eval()


def qwen3(tokenizer: Qwen2Tokenizer, width: int, layers: int, speaks: bool = False) -> Qwen3Model | Qwen3ForCausalLM:
    """`speaks`: with the language-model head, which is never used."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return (Qwen3ForCausalLM if speaks else Qwen3Model)(config).eval()


def autoencoder(
    channels: int = 4, shift: float | None = None, scale: float = 0.18215, quantised: bool = True, widths: tuple[int, ...] = (8, 8, 8, 8)
) -> AutoencoderKL:
    """8 x 8 pixels per latent."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1 if widths[0] < 32 else 2,
        latent_channels=channels,
        norm_num_groups=4 if widths[0] < 32 else 32,
        sample_size=64,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
    ).eval()


def frame_autoencoder() -> AutoencoderKLQwenImage:
    """Video autoencoder with the real shifts and scales of its 16 channels; 8 x 8 pixels per latent, one frame in and out."""
    return AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def flow_scheduler(shift: float = 1.0, dynamic: bool = False) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=dynamic)
