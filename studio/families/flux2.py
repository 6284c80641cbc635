"""FLUX.2 (Black Forest Labs): a flow-matching transformer over latents normalised by the autoencoder's statistics, 2 x 2 of them per token.

dev encodes prompts with Mistral 3 and is guidance-distilled; klein encodes them with Qwen 3, and its base models use classifier-free guidance.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.families.base import PROMPT, Family, chat_text_beyond, token_positions
from studio.families.facts import Autoencoder, BaseFolder, Offer, SamplingDefaults, Shapes
from studio.families.licences import APACHE, FLUX_2

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin

    from studio.families.base import Conditions
    from studio.families.objectives import FlowMatching, Objective

LONGEST_PROMPT = 512
"""Tokens of the chat around a prompt, the pipelines' default."""
GUIDANCE = 1.0
"""Value of dev's guidance embedding during training, as for FLUX.1."""
MEMBERS = {6144: "FLUX.2 [dev]", 3072: "FLUX.2 [klein] 4B", 4096: "FLUX.2 [klein] 9B"}
MOST_SINGLE_BLOCKS = 48
"""Number in dev; klein has 20 or 24."""

KLEIN_4B = Offer(
    "black-forest-labs/FLUX.2-klein-base-4B",
    "FLUX.2 klein 4B",
    "FLUX.2 [klein] 4B Base",
    APACHE,
    SamplingDefaults(50, 4.0),
    denoiser={"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False},
    denoiser_billions=3.9,
    width=3072,
    encoder_billions=4.0,
    note="The base model, which its publisher recommends for training. FLUX.2 [klein] 4B without Base is the distilled version, for fast sampling.",
)
KLEIN_9B = Offer(
    "black-forest-labs/FLUX.2-klein-base-9B",
    "FLUX.2 klein 9B",
    "FLUX.2 [klein] 9B Base",
    FLUX_2,
    SamplingDefaults(50, 4.0),
    denoiser={"num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288, "guidance_embeds": False},
    denoiser_billions=9.1,
    width=4096,
    encoder_billions=8.2,
    gated=True,
    note="The base model, which its publisher recommends for training. FLUX.2 [klein] 9B without Base is the distilled version, for fast sampling.",
)
DEV = Offer(
    "black-forest-labs/FLUX.2-dev",
    "FLUX.2 dev",
    "FLUX.2 [dev]",
    FLUX_2,
    SamplingDefaults(50, 4.0),
    denoiser={},
    denoiser_billions=32.2,
    width=6144,
    encoder_billions=24.0,
    gated=True,
)
OFFERS = {3072: KLEIN_4B, 4096: KLEIN_9B, 6144: DEV}
"""Token width -> listed base."""


class Flux2(Family):
    name = "flux2"
    title = "FLUX.2"
    offers = tuple(OFFERS.values())
    tags = ("flux2", "flux2-diffusers")
    pipeline_names = ("Flux2Pipeline", "Flux2KleinPipeline")
    components = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    denoiser_class = "Flux2Transformer2DModel"
    autoencoder = Autoencoder("AutoencoderKLFlux2", {})
    repeated_blocks = ("Flux2TransformerBlock", "Flux2SingleTransformerBlock")
    target_modules = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        "attn.to_qkv_mlp_proj",
        # Full names: in the other blocks `attn.to_out` is a ModuleList, which cannot be trained.
        *(f"single_transformer_blocks.{index}.attn.to_out" for index in range(MOST_SINGLE_BLOCKS)),
    )
    reads_lokr = True
    checkpoint_parts = ("transformer",)

    def width(self, base: BaseFolder) -> int | None:
        denoiser = base.component_config("transformer")
        return denoiser["num_attention_heads"] * denoiser["attention_head_dim"]

    def uses_negative_prompt(self, index: Mapping[str, Any], denoiser: Mapping[str, Any]) -> bool:
        # dev has a guidance embedding, and the fast versions of klein are distilled.
        return not (_takes_guidance(denoiser) or index.get("is_distilled"))

    def architecture(self, base: BaseFolder) -> str:
        if _takes_guidance(base.component_config("transformer")):
            return "Flux.2-dev/lora"
        return "Flux.2-klein-9b/lora" if self.width(base) == 4096 else "Flux.2-klein-4b/lora"

    def member_title(self, width: int | None) -> str:
        return self.title if width is None else MEMBERS.get(width, f"a FLUX.2 model of width {width}")

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        return OFFERS.get(shapes.get("double_stream_modulation_img.lin.weight", (0, 0))[1])

    def load_separately(self, base: BaseFolder) -> dict[str, Any]:
        # dev's tokenizer is declared as a multimodal processor, which requires torchvision; for text its tokenizer gives the same tokens.
        if base.pipeline_name != "Flux2Pipeline":
            return {}
        from transformers import AutoTokenizer

        return {"tokenizer": AutoTokenizer.from_pretrained(base.path / "tokenizer", local_files_only=True)}

    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective | FlowMatching":
        from studio.families.objectives import FlowMatching, Shift

        # The pipelines shift noise levels further for fewer inference steps; this is their line for 200 steps.
        return FlowMatching(Shift.of(pipeline.scheduler.config), patch=1)

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        import torch
        from diffusers import Flux2Pipeline

        vae = pipeline.vae
        posterior = vae.encode(pixels_BCHW.to(vae.device, vae.dtype)).latent_dist
        mean_C11 = vae.bn.running_mean.view(-1, 1, 1)
        std_C11 = torch.sqrt(vae.bn.running_var.view(-1, 1, 1) + vae.config.batch_norm_eps)
        return (Flux2Pipeline._patchify_latents(posterior.mean) - mean_C11) / std_C11, Flux2Pipeline._patchify_latents(posterior.std) / std_C11

    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        """Only dev has the condition `guidance`, which identifies it below."""
        import torch
        from diffusers import Flux2Pipeline

        embeddings_BTD, _ = pipeline.encode_prompt(prompts, pipeline.text_encoder.device, max_sequence_length=LONGEST_PROMPT)
        conditions = {"prompt_embeds": embeddings_BTD}
        if isinstance(pipeline, Flux2Pipeline):
            conditions["guidance"] = torch.full((len(prompts),), GUIDANCE, device=embeddings_BTD.device)
        return conditions

    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        from diffusers import Flux2Pipeline
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        dev = isinstance(pipeline, Flux2Pipeline)
        chat = format_input([PROMPT], pipeline.system_message)[0] if dev else [{"role": "user", "content": PROMPT}]
        return chat_text_beyond(pipeline.tokenizer, chat, prompt, LONGEST_PROMPT)

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        from diffusers import Flux2Pipeline

        return Flux2Pipeline._pack_latents(latents_BCHW)

    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        height, width = noisy_BCHW.shape[2:]
        words_BTD = conditions["prompt_embeds"]
        predicted_BTC = denoiser(
            hidden_states=self.packed(noisy_BCHW),
            timestep=t_B.to(noisy_BCHW.dtype) / 1000,
            guidance=conditions.get("guidance"),
            encoder_hidden_states=words_BTD,
            txt_ids=token_positions(1, 1, 1, words_BTD.shape[1], device=noisy_BCHW.device),
            img_ids=token_positions(1, height, width, 1, device=noisy_BCHW.device),
            return_dict=False,
        )[0]
        return predicted_BTC.transpose(1, 2).unflatten(2, (height, width))

    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        shapes = {
            "latents": (config["in_channels"], size[0] // 16, size[1] // 16),
            "prompt_embeds": (LONGEST_PROMPT, config["joint_attention_dim"]),
        }
        return shapes | ({"guidance": ()} if config["guidance_embeds"] else {})

    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        arguments = {"prompt_embeds": positive["prompt_embeds"], "guidance_scale": guidance_scale}
        return arguments if "guidance" in positive else arguments | {"negative_prompt_embeds": negative["prompt_embeds"]}

    def convert_keys(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        # diffusers treats every lora_down file as kohya's and drops the layers of files with ComfyUI's block names.
        if not any(name.startswith("lora_unet_") for name in tensors):
            tensors = {name.replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B."): tensor for name, tensor in tensors.items()}
        return super().convert_keys(tensors)


def _takes_guidance(denoiser: Mapping[str, Any]) -> bool:
    # dev's config predates the key; the default of its class is True.
    return denoiser.get("guidance_embeds", True)
