"""FLUX.2, tiny: klein with Qwen 3, dev with Mistral 3 and guidance; the text models as deep as the layers that are read need."""

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Pipeline, Flux2Transformer2DModel
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PreTrainedTokenizerFast

from studio.benchmark.models.parts import flow_scheduler, qwen3
from studio.benchmark.models.tokenizers import mistral_tokenizer, qwen_tokenizer

TEXT_WIDTH = 16
KLEIN_LAYERS, DEV_LAYERS = 28, 31
"""One more than the deepest layer that is read, because a norm follows the last one."""


def tiny(member: str = "klein") -> Flux2KleinPipeline | Flux2Pipeline:
    """`member` is klein or dev, which is wider."""
    shared = {"scheduler": flow_scheduler(dynamic=True), "vae": autoencoder()}
    if member == "klein":
        tokenizer = qwen_tokenizer()
        text_encoder = qwen3(tokenizer, TEXT_WIDTH, KLEIN_LAYERS, speaks=True)
        return Flux2KleinPipeline(**shared, text_encoder=text_encoder, tokenizer=tokenizer, transformer=transformer(heads=2, guided=False))
    tokenizer = mistral_tokenizer()
    return Flux2Pipeline(**shared, text_encoder=mistral3(tokenizer), tokenizer=tokenizer, transformer=transformer(heads=3, guided=True))


def transformer(heads: int, guided: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=3 * TEXT_WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def autoencoder() -> AutoencoderKLFlux2:
    """8 x 8 pixels per latent, with batch-norm statistics other than the defaults 0 and 1."""
    made = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=64)
    torch.nn.init.normal_(made.bn.running_mean)
    torch.nn.init.uniform_(made.bn.running_var, 0.5, 2.0)
    return made.eval()


def mistral3(tokenizer: PreTrainedTokenizerFast) -> Mistral3ForConditionalGeneration:
    """Includes the vision tower that the class requires and no prompt uses."""
    text = {
        "model_type": "mistral",
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": DEV_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
    }
    eye = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 32,
        "patch_size": 16,
    }
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=eye, image_token_index=0)).eval()
