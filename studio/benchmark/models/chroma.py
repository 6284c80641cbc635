"""Chroma, tiny: one block of each kind."""

from diffusers import ChromaPipeline, ChromaTransformer2DModel

from studio.benchmark.models.parts import autoencoder, flow_scheduler, t5
from studio.benchmark.models.tokenizers import t5_tokenizer

T5_WIDTH = 32


def tiny() -> ChromaPipeline:
    tokenizer = t5_tokenizer()
    return ChromaPipeline(
        scheduler=flow_scheduler(),
        vae=autoencoder(4, shift=0.1159, scale=0.3611, quantised=False),
        text_encoder=t5(tokenizer, T5_WIDTH),
        tokenizer=tokenizer,
        transformer=ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=16,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
    )
