"""What a family of base models must say and do. Facts are plain values; torch is imported only by the methods that compute."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from studio.core.errors import Overflow
from studio.families.facts import BaseFolder, Offer, Shapes

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image

    from studio.families.objectives import FlowMatching, Objective

    Conditions = dict[str, torch.Tensor]

PROMPT = "\0"
"""Stands for the prompt in a chat that is only looked at for its length."""


class Family(ABC):
    """One file per family implements this; the training loop, the stack and the generator know nothing else about it.

    Shapes: B batch, C channels, H and W height and width (of pixels or latents), T tokens, D width of a token.
    """

    name: str
    title: str
    offers: tuple[Offer, ...]
    tags: tuple[str, ...]
    """What the Hub calls LoRAs of this family, for the model card."""
    pipeline_names: tuple[str, ...]
    """The diffusers classes of its members, as their model_index.json names them."""
    components: tuple[str, ...]
    """Folders that are fetched; everything else of a repository (safety checker, single-file copies) is left there."""
    unused: dict[str, Any] = {}
    """Arguments that keep parts the studio never uses out of memory."""
    denoiser_name: str = "transformer"
    """Prefix of the denoiser's keys in an adapter file."""
    denoiser_class: str
    """The diffusers class of the denoiser."""
    repeated_blocks: tuple[str, ...]
    """Classes of the denoiser's blocks that come many times: what is compiled, checkpointed and moved as one."""
    text_encoder_names: tuple[str, ...] = ("text_encoder",)
    target_modules: tuple[str, ...]
    """Ends of the names of layers that learn unless told otherwise."""
    text_encoder_targets: dict[str, tuple[str, ...]] = {}
    """Text encoders whose LoRA diffusers reads back, and their layers that learn."""
    reads_lokr: bool = False
    """Whether diffusers reads LoKr files of this family."""
    fixed_resolution: int = 1024
    checkpoint_parts: tuple[str, ...] = ()
    """What a single-file checkpoint of this family holds; empty where diffusers reads none."""

    def width(self, base: BaseFolder) -> int | None:
        """A width that tells the members of a family apart, from config.json alone: of the prompt's embedding for a U-Net, of the denoiser's own
        tokens for a transformer. None where all members take each other's LoRAs."""
        return None

    def resolution(self, base: BaseFolder) -> int:
        """The side of the pictures this base was made for, in pixels."""
        return self.fixed_resolution

    def bucket_step(self, base: BaseFolder) -> int:
        """Sides of training pictures are multiples of this: a transformer joins 2 x 2 latents of 8 x 8 pixels to a token."""
        return 16

    def uses_negative_prompt(self, index: Mapping[str, Any], denoiser: Mapping[str, Any]) -> bool:
        """Whether a negative prompt has any effect on a member, from its model_index.json and its denoiser's config. Either may be as short as an
        offer has it: what is not there is as the class has it."""
        return True

    @abstractmethod
    def architecture(self, base: BaseFolder) -> str:
        """What ModelSpec 1.0.0 calls a LoRA of this base."""

    def prediction_type(self, base: BaseFolder) -> str:
        """What the denoiser predicts: epsilon, v_prediction, or flow (the velocity of flow matching)."""
        return "flow"

    def member_title(self, width: int | None) -> str:
        """The name of the family member of this width, such as Stable Diffusion 1.5; None is the family's own."""
        return self.title

    def offer(self, base_model: str) -> Offer | None:
        """The base of this family that the studio proposes under that id."""
        return next((offer for offer in self.offers if offer.id == base_model), None)

    def base_title(self, base: BaseFolder) -> str:
        """What a base is called in a sentence: one that the studio offers by its name, any other by the member it is."""
        known = self.offer(base.id)
        return known.name if known else self.member_title(self.width(base))

    def checkpoint_offer(self, shapes: Shapes) -> Offer | None:
        """The offer whose architecture a single file with these tensors has; None when it is none of this family's. The denoiser's names begin
        at the denoiser, whatever the file puts before them."""
        return None

    def load(self, base: BaseFolder, dtype: "torch.dtype", parts: Collection[str] | None = None, quantisation: str = "none") -> "DiffusionPipeline":
        """The pipeline in eval mode, nothing trainable; safetensors only, no remote code, no network. `parts` are the models that come into memory,
        None all of them; tokenizers and scheduler always come. `quantisation` packs the denoiser."""
        from studio.families.loading import load_pipeline

        return load_pipeline(self, base, dtype, parts, quantisation)

    def load_apart(self, base: BaseFolder) -> dict[str, Any]:
        """Parts that diffusers cannot load as the base names them, by name; the others it loads without these."""
        return {}

    @property
    def models(self) -> tuple[str, ...]:
        """The parts that have weights."""
        return (self.denoiser_name, "vae", *self.text_encoder_names)

    def objective(self, pipeline: "DiffusionPipeline", device: "torch.device") -> "Objective | FlowMatching":
        """What its denoiser is asked to predict: the velocity of a flow, shifted as the base's own scheduler says."""
        from studio.families.objectives import FlowMatching, Shift

        return FlowMatching(Shift.of(pipeline.scheduler.config))

    def encode_images(self, pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """(mean, std) of the latents, shifted and scaled as the denoiser wants them; pixels lie in -1..1."""
        posterior = pipeline.vae.encode(pixels_BCHW.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
        scale, shift = pipeline.vae.config.scaling_factor, pipeline.vae.config.shift_factor or 0.0
        return (posterior.mean - shift) * scale, posterior.std * scale

    @abstractmethod
    def encode_prompts(self, pipeline: "DiffusionPipeline", prompts: list[str]) -> "Conditions":
        """Conditions by name, one row per prompt, always of the same length, so that every step has the same shapes."""

    def unconditional(self, pipeline: "DiffusionPipeline", empty: "Conditions") -> "Conditions":
        """What the pipeline takes where there is no prompt, from the encoding of an empty one: for guidance, and for captions that are hidden."""
        return empty

    @abstractmethod
    def beyond_limit(self, pipeline: "DiffusionPipeline", prompt: str) -> str:
        """The end of a prompt that the text encoder will not read, empty when all of it fits."""

    @abstractmethod
    def predict(self, denoiser: "torch.nn.Module", noisy_BCHW: "torch.Tensor", t_B: "torch.Tensor", conditions: "Conditions") -> "torch.Tensor":
        """What the denoiser says about noisy latents, of their shape. t_B counts from 0 (clean) to 1000 (noise), in whole numbers only for a
        discrete schedule. Waits for nothing on the host."""

    def blocks(self, denoiser: "torch.nn.Module") -> "list[torch.nn.Module]":
        """Its `repeated_blocks`, none inside another."""
        return [module for module in denoiser.modules() if type(module).__name__ in self.repeated_blocks]

    def compute_twice(self, denoiser: "torch.nn.Module") -> None:
        """Switch gradient checkpointing on (Chen et al. 2016): blocks keep only what goes into them, and compute again on the way back."""
        denoiser.enable_gradient_checkpointing()

    @abstractmethod
    def input_shapes(self, config: Mapping[str, Any], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shapes, without the batch, of what `predict` takes for pictures of (height, width): "latents" and every condition, of which
        those that end in _mask hold yes or no. `config` is the denoiser's, with all its defaults."""

    @abstractmethod
    def call_arguments(self, positive: "Conditions", negative: "Conditions", guidance_scale: float) -> dict[str, Any]:
        """What the pipeline is called with for these conditions, besides size, steps and chance."""

    def code_arguments(self, guidance_scale: float) -> dict[str, Any]:
        """The same in the words of the code that a card prints: what plain diffusers is called with besides the prompt, steps and chance."""
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
    ) -> "Image.Image":
        """One picture; size is (width, height). Overflow where its numbers are not finite: diffusers would make that a black one."""
        import numpy
        import torch

        def after_step(_, step, timestep, kept):
            on_step(step + 1, num_inference_steps)
            # What overflows mostly does so at once. Asking after each step would make the host wait for each.
            if step in (0, num_inference_steps - 1) and not torch.isfinite(kept["latents"]).all():
                raise Overflow(f"The image holds numbers that are not finite after step {step + 1} of {num_inference_steps}.")
            return kept

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
            raise Overflow("The image holds numbers that are not finite once it is decoded.")
        return pipeline.image_processor.numpy_to_pil(image_HWC)[0]

    def foreign_layers(self, tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Keys of other trainers in the spelling of diffusers and PEFT (<part>.<module>.lora_A.weight); alphas are folded already."""
        from studio.families.loading import convert_foreign

        return convert_foreign(self, tensors)


def cut_end(tokenizer, prompt: str, room: int) -> str:
    """The end of a prompt that does not fit into `room` tokens; the marks around a text are not counted."""
    ids = tokenizer(prompt, truncation=False, add_special_tokens=False, verbose=False).input_ids
    return tokenizer.decode(ids[room:]).strip() if len(ids) > room else ""


def encode_frame(pipeline: "DiffusionPipeline", pixels_BCHW: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """`Family.encode_images` for the autoencoder of Qwen-Image, which was made for video: a picture is a film of one frame, and every channel of
    the latents has a shift and a scale of its own."""
    import torch

    vae = pipeline.vae
    posterior = vae.encode(pixels_BCHW.to(vae.device, vae.dtype).unsqueeze(2)).latent_dist
    mean_BCHW, std_BCHW = posterior.mean.squeeze(2), posterior.std.squeeze(2)
    shift_C11, scale_C11 = (torch.tensor(numbers).view(-1, 1, 1).to(mean_BCHW) for numbers in (vae.config.latents_mean, vae.config.latents_std))
    return (mean_BCHW - shift_C11) / scale_C11, std_BCHW / scale_C11


def cut_chat_end(tokenizer, chat: list[dict], prompt: str, longest: int) -> str:
    """The end of a prompt that is beyond `longest` tokens once it is spoken in a chat; in `chat`, PROMPT stands in its place."""
    before = tokenizer.apply_chat_template(chat, tokenize=False).partition(PROMPT)[0]
    return cut_end(tokenizer, prompt, longest - len(tokenizer(before, add_special_tokens=False).input_ids))


def token_places(*counts: int, device: "torch.device") -> "torch.Tensor":
    """Where each token stands on as many axes as there are counts, (tokens, axes). Made on the device, so that nothing waits for the host."""
    import torch

    return torch.cartesian_prod(*(torch.arange(count, device=device) for count in counts))
