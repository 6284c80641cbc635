"""Z-Image, tiny: one layer of each kind, and padding tokens that differ from zero."""

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel

from studio.benchmark.models.parts import autoencoder, flow_scheduler, qwen3
from studio.benchmark.models.tokenizers import qwen_tokenizer

QWEN_WIDTH = 16


def tiny() -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=48,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=QWEN_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    # The class initialises them with zeros.
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    tokenizer = qwen_tokenizer()
    return ZImagePipeline(
        scheduler=flow_scheduler(shift=6.0),
        vae=autoencoder(16, shift=0.1159, scale=0.3611, quantised=False),
        text_encoder=qwen3(tokenizer, QWEN_WIDTH, layers=2),
        tokenizer=tokenizer,
        transformer=transformer,
    )
