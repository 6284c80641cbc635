"""Krea 2, tiny: two taps of the encoder's layers, fewer keys than queries, as the real one has."""

from diffusers import Krea2Pipeline, Krea2Transformer2DModel
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLModel

from studio.benchmark.models.parts import flow_scheduler, frame_autoencoder
from studio.benchmark.models.tokenizers import qwen_tokenizer

WIDTH = 16


def tiny(is_distilled: bool = False) -> Krea2Pipeline:
    transformer = Krea2Transformer2DModel(
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    tokenizer = qwen_tokenizer()
    return Krea2Pipeline(
        scheduler=flow_scheduler(dynamic=True),
        vae=frame_autoencoder(),
        text_encoder=text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
        text_encoder_select_layers=(1, 2),
        is_distilled=is_distilled,
    )


def text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3VLModel:
    words = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    }
    eyes = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "deepstack_visual_indexes": [0],
    }
    return Qwen3VLModel(Qwen3VLConfig(text_config=words, vision_config=eyes)).eval()
