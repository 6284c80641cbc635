"""Generator: a loaded base model with a stack of adapters. The same recipe gives a bit-identical image on the same machine."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from studio.adapters.format import Adapter, check_base_compatibility, load_adapter
from studio.adapters.stack import Report, Stack
from studio.config.recipe import Recipe
from studio.core.errors import Overflow, StudioError
from studio.devices import memory, runtime
from studio.devices.footprint import ON_GPU, Placement
from studio.devices.measure import TILE_SIDE, decoding_bytes
from studio.devices.offload import Offload
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.families.init_image import InitImage

ADAPTERS_KEPT = 16
PROMPTS_KEPT = 256


def _ignore_progress(done: int, total: int) -> None:
    pass


class Generator:
    """One loaded base. Adapters, prompt embeddings and the stack are cached between images, so a changed weight costs only the denoising.

    Without a `pipeline` the base is loaded, with its parts where `placement` says; `placement_note` is then added to the notes of every image.

    `text_encoders` is for a `pipeline` without them: a context in which they are in the pipeline, with notes about them. It is entered for a
    prompt that is not cached.
    """

    def __init__(
        self,
        base: BaseFolder,
        family: Family,
        device: str = "cpu",
        dtype: str = "float32",
        pipeline: DiffusionPipeline | None = None,
        placement: Placement = ON_GPU,
        placement_note: str = "",
        text_encoders: Callable[[], AbstractContextManager[list[str]]] | None = None,
    ):
        self.base, self.family, self.device, self.dtype = base, family, device, runtime.torch_dtype(dtype)
        self.text_encoders = text_encoders
        self.offload: Offload | None = None
        self.pipeline = pipeline or self._load(dtype, placement)
        # Text encoders in RAM have a pipeline of their own: one pipeline computes on one device.
        self.encoders = family.load(base, runtime.torch_dtype(dtype), parts=family.text_encoder_names) if placement.encoders_in_ram else self.pipeline
        self.freed: dict[str, torch.nn.Module] = {}
        """Text encoders without their weights (on the meta device), for the layers of LoRAs whose prompts are encoded already."""
        self.stack = self._new_stack()
        self.placement_note = placement_note
        self.notes: list[str] = []
        self._decoding_bytes: dict[int, int] = {}
        self._adapters: dict[tuple, Adapter] = {}
        self._prompts: dict[tuple, dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def generate(
        self,
        recipe: Recipe,
        adapters: list[tuple[Path, float]],
        on_step: Callable[[int, int], None] = _ignore_progress,
        init_image: Image.Image | None = None,
    ) -> Image.Image:
        """Generate one image. `adapters` are the files of the recipe's stack; on_step(done, total) is called after each step and may raise.
        `init_image` is the image that the recipe names, if it names one.

        Raises Overflow, naming the layer and the LoRA, if the image would be black because its values are not finite.
        """
        stack = [(self._adapter(path), weight) for path, weight in adapters]
        notes = self._encode(recipe, stack)
        self._collect_notes(self.stack.set(stack), recipe)
        self.notes += notes
        init = InitImage(init_image, recipe.strength) if init_image and recipe.strength else None
        if init and (cut := init.describe_cut(self._size(recipe))):
            self.notes.append(cut)
        try:
            return self._generate(recipe, stack, on_step, init)
        except Overflow as error:
            raise Overflow(f"{self._explain_overflow(recipe, stack, on_step, init)} {error}") from None

    def _size(self, recipe: Recipe) -> tuple[int, int]:
        """(width, height)"""
        side = self.family.resolution(self.base)
        return recipe.width or side, recipe.height or side

    def _generate(
        self, recipe: Recipe, stack: list[tuple[Adapter, float]], on_step: Callable[[int, int], None], init: InitImage | None
    ) -> Image.Image:
        size = self._size(recipe)
        positive, negative = (self._for_denoiser(self._conditions(prompt, stack)) for prompt in (recipe.prompt, recipe.negative_prompt))
        if not recipe.negative_prompt:
            negative = self.family.unconditional(self.pipeline, negative)
        with self._tiling_where_needed(max(size)):
            return self.family.draw(
                self.pipeline,
                positive,
                negative,
                size,
                recipe.num_inference_steps,
                recipe.guidance_scale,
                torch.Generator("cpu").manual_seed(recipe.seed),
                on_step,
                init,
            )

    @contextlib.contextmanager
    def _tiling_where_needed(self, side: int) -> Iterator[None]:
        """Decode the image in tiles if the memory does not hold it as a whole; a note says so, since edges of tiles are blended."""
        vae = self.pipeline.vae
        if side <= TILE_SIDE:
            yield
            return
        if side not in self._decoding_bytes:
            self._decoding_bytes[side] = decoding_bytes(self.family, self.base, side, vae.dtype)
        needed, free = self._decoding_bytes[side], memory.unused_bytes(vae.device)
        if needed <= free:
            yield
            return
        self.notes.append(f"The image was decoded in tiles: as a whole it needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB is free.")
        vae.enable_tiling()
        try:
            yield
        finally:
            vae.disable_tiling()

    def _explain_overflow(
        self, recipe: Recipe, stack: list[tuple[Adapter, float]], on_step: Callable[[int, int], None], init: InitImage | None
    ) -> str:
        """Find the cause of non-finite values: generate again with every layer monitored, which is too slow for normal use, then without LoRAs."""
        advice = "Choose a smaller weight, or get another version of this LoRA."
        with self.stack.measuring() as seen, contextlib.suppress(Overflow):
            self._generate(recipe, stack, on_step, init)
        if overflowing := next((each for each in seen if math.isinf(each.times)), None):
            return f"{overflowing.title}: layer {overflowing.layer} overflows. {advice}"
        with contextlib.suppress(Overflow):
            self.stack.clear()
            self._encode(recipe, [])
            self._generate(recipe, [], on_step, init)
            if not seen:
                # A LoRA of a text encoder whose embeddings were cached earlier.
                return f"The base overflows with {' and '.join(adapter.title for adapter, weight in stack if weight)}. {advice}"
            largest = max(seen, key=lambda each: each.times)
            cause = f"mostly because of layer {largest.layer}, whose output grows {largest.times:.2g} times"
            return f"{largest.title}: the base overflows with it, {cause}. {advice}"
        base, dtype = self.family.base_title(self.base), str(self.pipeline.components[self.family.denoiser_name].dtype).removeprefix("torch.")
        return f"The base, {base}, overflows in {dtype} even without a LoRA. Choose another base, or another version of this one."

    def cache_conditions(self, prompt: str, conditions: dict[str, torch.Tensor]) -> None:
        """Cache already encoded embeddings of a prompt, so that the text encoder need not be loaded."""
        self._prompts[(prompt, ())] = conditions

    def _for_denoiser(self, conditions: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """On the device of the denoiser; in float16 also in its precision, since text encoders may compute in float32."""
        narrow = self.dtype == torch.float16
        return {name: rows.to(self.device, self.dtype if narrow and rows.is_floating_point() else None) for name, rows in conditions.items()}

    def _new_stack(self) -> Stack:
        names = (self.family.denoiser_name, *self.family.text_encoder_names)
        parts = {name: self.encoders.components[name] or self.pipeline.components[name] for name in names}
        return Stack(self.freed | {name: part for name, part in parts.items() if part is not None})

    def close(self) -> None:
        """Release what garbage collection does not: RAM that offloaded blocks have registered with the GPU."""
        if self.offload:
            self.offload.disable()

    def _load(self, dtype: str, placement: Placement) -> DiffusionPipeline:
        """The pipeline of the base with its parts where `placement` says; without text encoders if those stay in RAM."""
        family = self.family
        parts = [part for part in family.models if not (placement.encoders_in_ram and part in family.text_encoder_names)]
        straight_to = torch.device(self.device) if self.device == "cuda" and not placement.offload else None
        pipeline = family.load(self.base, runtime.torch_dtype(dtype), parts, placement.quantisation, denoiser_device=straight_to)
        for name in parts:
            part = pipeline.components[name]
            if name == family.denoiser_name and placement.offload:
                self.offload = Offload(part, family.blocks(part), torch.device(self.device))
                self.offload.enable()
            elif name != family.denoiser_name or placement.quantisation == "none":
                # Quantised weights are on the GPU already.
                part.to(self.device)
        return pipeline

    def evict_adapters(self) -> None:
        """Remove all adapters from the base and from memory."""
        self.stack.clear()
        self._adapters.clear()

    def _encode(self, recipe: Recipe, stack: list[tuple[Adapter, float]]) -> list[str]:
        """Cache the embeddings of the recipe's prompts if the text encoders have to be loaded for them, and free those; returns notes."""
        prompts = (recipe.prompt, recipe.negative_prompt)
        absent = [name for name in self.family.text_encoder_names if self.pipeline.components[name] is None]
        if self.text_encoders is None or not absent or all(_prompt_key(prompt, stack) in self._prompts for prompt in prompts):
            return []
        self.stack.clear()
        with self.text_encoders() as notes, self._freed_afterwards(absent):
            self.stack = self._new_stack()
            self.stack.set(stack)
            for prompt in prompts:
                self._conditions(prompt, stack)
        return notes

    @contextlib.contextmanager
    def _freed_afterwards(self, names: list[str]) -> Iterator[None]:
        """Context after which only the layers' names, shapes and dtypes of these parts remain."""
        try:
            yield
        finally:
            for name in names:
                self.freed[name] = self.pipeline.components[name].to("meta")

    def _adapter(self, path: Path) -> Adapter:
        try:
            stat = path.stat()
        except OSError:
            raise StudioError(f"The LoRA file {path.name} does not exist; remove it from the stack or add it again.") from None
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._adapters:
            adapter = load_adapter(path, self.family)
            check_base_compatibility(path.name, adapter.fingerprint, self.family, self.base)
            while len(self._adapters) >= ADAPTERS_KEPT:
                self._adapters.pop(next(iter(self._adapters)))
            self._adapters[key] = adapter
        return self._adapters[key]

    def _conditions(self, prompt: str, stack: list[tuple[Adapter, float]]) -> dict[str, torch.Tensor]:
        """Embeddings of one prompt on the device."""
        key = _prompt_key(prompt, stack)
        if key not in self._prompts:
            while len(self._prompts) >= PROMPTS_KEPT:
                self._prompts.pop(next(iter(self._prompts)))
            conditions = self.family.encode_prompts(self.encoders, [prompt])
            if self.text_encoders is not None:
                # A training has little GPU memory to spare.
                conditions = {name: rows.cpu() for name, rows in conditions.items()}
            if not all(torch.isfinite(rows).all() for rows in conditions.values()):
                raise Overflow(
                    f"The text encoder gives non-finite values for this prompt: {prompt[:60]!r}. Change the prompt, or choose another base."
                )
            self._prompts[key] = conditions
        return {name: rows.to(self.device) for name, rows in self._prompts[key].items()}

    def _collect_notes(self, report: Report, recipe: Recipe) -> None:
        self.notes = [
            f"{title}: {len(names)} of its layers do not exist in this base and were skipped; the first is {names[0]}."
            for title, names in report.unmatched.items()
        ]
        if self.placement_note:
            self.notes.append(self.placement_note)
        for prompt in (recipe.prompt, recipe.negative_prompt):
            if lost := self.family.truncated_text(self.pipeline, prompt):
                self.notes.append(f"The prompt is longer than the text encoder's limit; the end was ignored: “{lost}”.")


def _prompt_key(prompt: str, stack: list[tuple[Adapter, float]]) -> tuple:
    """Key of a prompt's embeddings, which depend on the adapters that change a text encoder."""
    return prompt, tuple((adapter.text_encoder_sha256, weight) for adapter, weight in stack if weight and adapter.text_encoder_sha256)
