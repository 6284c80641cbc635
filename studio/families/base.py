"""Interface of a family of base models. Facts are plain values; only methods that compute import torch."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from studio.core.errors import Overflow
from studio.families.facts import Autoencoder, BaseFolder, Offer, Shapes

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, ModelMixin
    from PIL import Image
    from transformers import PreTrainedTokenizerBase

    from studio.families.init_image import InitImage
    from studio.families.objectives import FlowMatching, Objective

    Conditions = dict[str, torch.Tensor]

PROMPT = "\0"
"""Placeholder of the prompt in a chat whose length is measured."""


class Family(ABC):
    """Interface that each family implements in one file; the training loop, the stack and the generator use nothing else.

    Shapes: B batch, C channels, H and W height and width (of pixels or latents), T tokens, D width of a token.
    """

    name: str
    title: str
    offers: tuple[Offer, ...]
    tags: tuple[str, ...]
    """The Hub's tags for LoRAs of this family, for the model card."""
    pipeline_names: tuple[str, ...]
    """The diffusers pipeline classes of its bases, as named in model_index.json."""
    components: tuple[str, ...]
    """Folders that are downloaded; the rest of a repository (safety checker, single-file copies) is not."""
    unused: dict[str, Any] = {}
    """from_pretrained arguments that skip unused parts."""
    denoiser_name: str = "transformer"
    """Prefix of the denoiser's keys in an adapter file."""
    denoiser_class: str
    """The diffusers class of the denoiser."""
    autoencoder: Autoencoder = Autoencoder()
    repeated_blocks: tuple[str, ...]
    """Classes of the denoiser's repeated blocks: the units of compilation, gradient checkpointing and offload."""
    text_encoder_names: tuple[str, ...] = ("text_encoder",)
    target_modules: tuple[str, ...]
    """Ends of the names of layers that are trained by default."""
    text_encoder_targets: dict[str, tuple[str, ...]] = {}
    """Text encoders whose LoRA diffusers can load -> ends of the names of their trained layers."""
    reads_lokr: bool = False
    """Whether diffusers can load LoKr files of this family."""
    float16: bool = True
    """Whether the denoiser stays within the range of float16, whose largest value is 65,504."""
    exact_cost: float | None = None
    """Share by which deterministic kernels (`runtime.exact`) lengthen a step on a GPU at the native resolution; None if that was not measured."""
    fixed_resolution: int = 1024
    padding_mask: str | None = None
    """Condition that masks the padding of `prompt_embeds`, where padding has no effect: prompts may have any length, and without padding no mask.
    None if the denoiser sees padding, as its base was trained: then the length of prompts is part of the model."""
    checkpoint_parts: tuple[str, ...] = ()
    """Parts in a single-file checkpoint of this family; empty if diffusers cannot load one."""

    def width(self, base: BaseFolder) -> int | None:
        """A width that distinguishes the bases of a family, from config.json alone: of the prompt embedding for a U-Net, of the denoiser's
        tokens for a transformer. None if LoRAs work on all bases of the family."""
        return None

    def resolution(self, base: BaseFolder) -> int:
        """The native resolution of this base: the side of its images in pixels."""
        return self.fixed_resolution

    def bucket_step(self, base: BaseFolder) -> int:
        """Sides of training images are multiples of this: a transformer joins 2 x 2 latents of 8 x 8 pixels to a token."""
        return 16

    def longest_side(self, base: BaseFolder) -> int | None:
        """Longest side in pixels that the denoiser's table of positions reaches; None for families that compute positions of any number."""
        return None

    def uses_negative_prompt(self, index: Mapping[str, Any], denoiser: Mapping[str, Any]) -> bool:
        """Whether a negative prompt has any effect on a base, from its model_index.json and its denoiser's config. Either may be incomplete, as
        in an offer: missing keys have the defaults of the class."""
        return True

    @abstractmethod
    def architecture(self, base: BaseFolder) -> str:
        """ModelSpec 1.0.0 architecture of a LoRA for this base."""

    def prediction_type(self, base: BaseFolder) -> str:
        """What the denoiser predicts: epsilon, v_prediction, or flow (the velocity of flow matching)."""
        return "flow"

    def member_title(self, width: int | None) -> str:
        """Title of the bases of this width, such as Stable Diffusion 1.5; None gives the family's title."""
        return self.title

    def offer(self, base_model: str) -> Offer | None:
        """The listed base of this family with that id."""
        return next((offer for offer in self.offers if offer.id == base_model), None)

    def base_title(self, base: BaseFolder) -> str:
        """Title of a base in messages: a listed base's name, or the title for its width."""
        known = self.offer(base.id)
        return known.name if known else self.member_title(self.width(base))

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        """The listed base with the architecture of a single file with these tensors; None for another family. Names of the denoiser's tensors are
        relative to the denoiser."""
        return None

    def load(
        self,
        base: BaseFolder,
        dtype: "torch.dtype",
        parts: Collection[str] | None = None,
        quantisation: str = "none",
        denoiser_device: "torch.device | None" = None,
    ) -> "DiffusionPipeline":
        """Load the pipeline in eval mode with frozen weights; safetensors only, no remote code, no network. `parts` are the models to load, None
        for all; tokenizers and scheduler are always loaded. `quantisation` applies to the denoiser, and so does `denoiser_device`: where it is
        loaded to, tensor by tensor from its files, if that is possible; otherwise it is on the CPU, like the rest."""
        from studio.families.loading import load_pipeline

        return load_pipeline(self, base, dtype, parts, quantisation, denoiser_device)

    def load_separately(self, base: BaseFolder) -> dict[str, Any]:
        """Parts, by name, that diffusers cannot load from this base and that are loaded here instead."""
        return {}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the parts with weights."""
        return (self.denoiser_name, "vae", *self.text_encoder_names)

    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective | FlowMatching":
        """Training objective of the denoiser: flow matching with the shift of the base's own scheduler."""
        from studio.families.objectives import FlowMatching, Shift

        return FlowMatching(Shift.of(pipeline.scheduler.config))

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """(mean, std) of the latents, shifted and scaled for the denoiser; pixels are in -1..1."""
        posterior = pipeline.vae.encode(pixels_BCHW.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        scale, shift = pipeline.vae.config.scaling_factor, pipeline.vae.config.shift_factor or 0.0
        return (posterior.mean - shift) * scale, posterior.std * scale

    def packed(self, latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        """The latents as the pipeline keeps them from step to step: as they are, or as tokens."""
        return latents_BCHW

    @abstractmethod
    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        """Conditions by name, one row per prompt, padded to the family's limit: the result does not depend on other prompts."""

    def unconditional(self, pipeline: "DiffusionPipeline", empty: "Conditions") -> "Conditions":
        """Conditions without a prompt, from the encoding of an empty one: for guidance and for caption dropout."""
        return empty

    @abstractmethod
    def truncated_text(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        """The part of a prompt beyond the text encoder's limit, which is truncated; empty if the prompt fits."""

    @abstractmethod
    def predict(self, denoiser: "ModelMixin", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        """The denoiser's prediction for noisy latents, of the same shape. t_B is from 0 (clean) to 1000 (noise), integers for a discrete schedule.
        `conditions` lack the `padding_mask` if nothing is padded: flash attention takes no mask. Does not synchronise with the host."""

    def blocks(self, denoiser: "ModelMixin") -> "list[torch.nn.Module]":
        """The denoiser's `repeated_blocks`, which are not nested."""
        return [module for module in denoiser.modules() if type(module).__name__ in self.repeated_blocks]

    def enable_gradient_checkpointing(self, denoiser: "ModelMixin") -> None:
        """Enable gradient checkpointing (Chen et al. 2016): blocks keep only their inputs and recompute activations in the backward pass."""
        denoiser.enable_gradient_checkpointing()

    @abstractmethod
    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shapes, without the batch dimension, of the inputs of `predict` for images of (height, width): "latents" and every condition; names that
        end in _mask are boolean. `config` is the denoiser's, with all defaults. Prompts are at the family's limit."""

    def trimmed_input_shapes(self, config: Mapping[str, Any], size: tuple[int, int], prompt_tokens: int, padded: bool) -> dict[str, tuple[int, ...]]:
        """`input_shapes` with prompts of `prompt_tokens` tokens, where the family can trim them. `padded`: whether a prompt of the batch is padded,
        so that the mask is an input."""
        shapes = self.input_shapes(config, size)
        if self.padding_mask is None:
            return shapes
        tokens = min(prompt_tokens, shapes["prompt_embeds"][0])
        trimmed = {name: (tokens, *shapes[name][1:]) for name in ("prompt_embeds", self.padding_mask)}
        return {name: trimmed.get(name, shape) for name, shape in shapes.items() if padded or name != self.padding_mask}

    @abstractmethod
    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        """Arguments of a pipeline call for these conditions, besides size, steps and generator."""

    def code_arguments(self, guidance_scale: float) -> dict[str, Any]:
        """Arguments of a plain diffusers call in a model card's code snippet, besides the prompt, steps and generator."""
        return {"guidance_scale": guidance_scale}

    def draw(
        self,
        pipeline: "DiffusionPipeline",
        positive: "Conditions",
        negative: "Conditions",
        size: tuple[int, int],
        num_inference_steps: int,
        guidance_scale: float,
        generator: "torch.Generator",
        on_step: Callable[[int, int], None],
        init: "InitImage | None" = None,
    ) -> "Image.Image":
        """Generate one image; size is (width, height). Overflow if values are not finite, which diffusers would turn into a black image."""
        import numpy
        import torch

        left_out = init.steps_left_out(num_inference_steps) if init else 0
        steps = num_inference_steps - left_out

        def after_step(_: "DiffusionPipeline", step: int, timestep: float, kept: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1, steps)
            # Overflow mostly happens in the first step. A check after each step would synchronise with the host each time.
            if step in (0, steps - 1) and not torch.isfinite(kept["latents"]).all():
                raise Overflow(f"The latents are not finite after step {step + 1} of {steps}.")
            return kept

        with self._begun(pipeline, init, left_out, size):
            image_HWC = pipeline(
                **self.call_arguments(positive, negative, guidance_scale),
                width=size[0],
                height=size[1],
                num_inference_steps=num_inference_steps,
                generator=generator,
                callback_on_step_end=after_step,
                output_type="np",
            ).images[0]
        if not numpy.isfinite(image_HWC).all():
            raise Overflow("The decoded image contains values that are not finite.")
        return pipeline.image_processor.numpy_to_pil(image_HWC)[0]

    def _begun(
        self, pipeline: "DiffusionPipeline", init: "InitImage | None", left_out: int, size: tuple[int, int]
    ) -> contextlib.AbstractContextManager[None]:
        """Context in which the pipeline begins with the init image, if there is one."""
        if init is None:
            return contextlib.nullcontext()
        from studio.families.init_image import begun_at

        # The mean, not a sample: the same image gives the same latents.
        mean_BCHW, _ = self.encode_images(pipeline, init.pixels(size))
        return begun_at(pipeline, self.packed(mean_BCHW), left_out)

    def convert_keys(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Convert other trainers' keys to those of diffusers and PEFT (<part>.<module>.lora_A.weight); alphas are already folded."""
        from studio.families.loading import convert_with_diffusers

        return convert_with_diffusers(self, tensors)


def text_beyond(tokenizer: "PreTrainedTokenizerBase", prompt: str, room: int) -> str:
    """The part of a prompt beyond `room` tokens; special tokens are not counted."""
    ids = tokenizer(prompt, truncation=False, add_special_tokens=False, verbose=False).input_ids
    return tokenizer.decode(ids[room:]).strip() if len(ids) > room else ""


def encode_frame(pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """`Family.encode_images` for Qwen-Image's video autoencoder: an image is a video of one frame, and every latent channel has its own shift
    and scale."""
    import torch

    vae = pipeline.vae
    posterior = vae.encode(pixels_BCHW.to(vae.device, vae.dtype).unsqueeze(2)).latent_dist
    mean_BCHW, std_BCHW = posterior.mean.squeeze(2), posterior.std.squeeze(2)
    shift_C11, scale_C11 = (torch.tensor(values).view(-1, 1, 1).to(mean_BCHW) for values in (vae.config.latents_mean, vae.config.latents_std))
    return (mean_BCHW - shift_C11) / scale_C11, std_BCHW / scale_C11


def patches(latents_BCHW: "torch.Tensor") -> "torch.Tensor":
    """Tokens of 2 x 2 latents each: (batch, tokens, 4 * channels). Chroma, Qwen-Image and Krea 2 pack latents as FLUX.1 does."""
    from diffusers import FluxPipeline

    return FluxPipeline._pack_latents(latents_BCHW, *latents_BCHW.shape)


def chat_text_beyond(tokenizer: "PreTrainedTokenizerBase", chat: list[dict], prompt: str, longest: int) -> str:
    """The part of a prompt beyond `longest` tokens of a chat; `chat` contains PROMPT in its place."""
    before = tokenizer.apply_chat_template(chat, tokenize=False).partition(PROMPT)[0]
    return text_beyond(tokenizer, prompt, longest - len(tokenizer(before, add_special_tokens=False).input_ids))


def token_positions(*counts: int, device: "torch.device") -> "torch.Tensor":
    """Position of each token on one axis per count: (tokens, axes). Created on the device, without a copy from the host."""
    import torch

    return torch.cartesian_prod(*(torch.arange(count, device=device) for count in counts))
