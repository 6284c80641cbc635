"""A base in memory plus a stack of adapters -> pictures. The same recipe gives the same picture, bit for bit, on the same machine."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from studio.adapters.format import Adapter, check_base_compatibility, load_adapter
from studio.adapters.stack import Report, Stack
from studio.config.recipe import Recipe
from studio.core.errors import Overflow, StudioError
from studio.devices import runtime
from studio.families.base import Family
from studio.families.facts import BaseFolder

ADAPTERS_KEPT = 16
PROMPTS_KEPT = 256


def _say_nothing(done: int, total: int) -> None:
    pass


class Generator:
    """One base, loaded once. Adapters, prompt embeddings and the stack stay between pictures, so a moved slider costs only the drawing."""

    def __init__(self, base: BaseFolder, family: Family, device: str = "cpu", dtype: str = "float32", pipeline: DiffusionPipeline | None = None):
        self.base, self.family, self.device = base, family, device
        self.pipeline = pipeline or family.load(base, runtime.torch_dtype(dtype)).to(device)
        self.stack = self._new_stack()
        self.notes: list[str] = []
        self._adapters: dict[tuple, Adapter] = {}
        self._prompts: dict[tuple, dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def draw(self, recipe: Recipe, adapters: list[tuple[Path, float]], on_step: Callable[[int, int], None] = _say_nothing) -> Image.Image:
        """One picture. `adapters` are the files behind the recipe's stack; on_step(done, total) is called after each step and may raise.

        Overflow, with the layer and the LoRA, where the picture would be black because its numbers are not finite.
        """
        stack = [(self._adapter(path), weight) for path, weight in adapters]
        self._note(self.stack.set(stack), recipe)
        try:
            return self._drawn(recipe, stack, on_step)
        except Overflow as error:
            raise Overflow(f"{self._blame(recipe, stack, on_step)} {error}") from None

    def _drawn(self, recipe: Recipe, stack: list[tuple[Adapter, float]], on_step: Callable[[int, int], None]) -> Image.Image:
        side = self.family.resolution(self.base)
        positive, negative = (self._conditions(prompt, stack) for prompt in (recipe.prompt, recipe.negative_prompt))
        if not recipe.negative_prompt:
            negative = self.family.unconditional(self.pipeline, negative)
        return self.family.draw(
            self.pipeline,
            positive,
            negative,
            (recipe.width or side, recipe.height or side),
            recipe.num_inference_steps,
            recipe.guidance_scale,
            torch.Generator("cpu").manual_seed(recipe.seed),
            on_step,
        )

    def _blame(self, recipe: Recipe, stack: list[tuple[Adapter, float]], on_step: Callable[[int, int], None]) -> str:
        """Why a picture is not finite, and what to do. It is drawn again with every layer watched, too slow for pictures that go well, then alone."""
        advice = "Choose a smaller weight, or get another version of this LoRA."
        with self.stack.measuring() as seen, contextlib.suppress(Overflow):
            self._drawn(recipe, stack, on_step)
        if broken := next((each for each in seen if math.isinf(each.times)), None):
            return f"{broken.title}: layer {broken.layer} overflows. {advice}"
        with contextlib.suppress(Overflow):
            self.stack.clear()
            self._drawn(recipe, [], on_step)
            if not seen:
                # A text encoder's LoRA whose conditions were kept from before.
                return f"The base overflows with {' and '.join(adapter.title for adapter, weight in stack if weight)}. {advice}"
            loudest = max(seen, key=lambda each: each.times)
            return f"{loudest.title}: the base overflows with it, most by layer {loudest.layer}, made {loudest.times:.2g} times as large. {advice}"
        base, dtype = self.family.base_title(self.base), str(self.pipeline.components[self.family.denoiser_name].dtype).removeprefix("torch.")
        return f"The base, {base}, overflows in {dtype}, also without a LoRA. Choose another base, or another version of this one."

    def learn_prompt(self, prompt: str, conditions: dict[str, torch.Tensor]) -> None:
        """Draw this prompt from conditions that were encoded already: the text encoder need not be there."""
        self._prompts[(prompt, ())] = {name: rows.to(self.device) for name, rows in conditions.items()}

    def _new_stack(self) -> Stack:
        names = (self.family.denoiser_name, *self.family.text_encoder_names)
        return Stack({name: part for name in names if (part := self.pipeline.components[name]) is not None})

    def _adapter(self, path: Path) -> Adapter:
        try:
            stat = path.stat()
        except OSError:
            raise StudioError(f"The LoRA file {path.name} is gone; take it off the list or add it again.") from None
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._adapters:
            adapter = load_adapter(path, self.family)
            check_base_compatibility(path.name, adapter.fingerprint, self.family, self.base)
            while len(self._adapters) >= ADAPTERS_KEPT:
                self._adapters.pop(next(iter(self._adapters)))
            self._adapters[key] = adapter
        return self._adapters[key]

    def _conditions(self, prompt: str, stack: list[tuple[Adapter, float]]) -> dict[str, torch.Tensor]:
        """Embeddings of one prompt; they depend on those adapters alone that change a text encoder."""
        changed_by = tuple((adapter.text_encoder_sha256, weight) for adapter, weight in stack if weight and adapter.text_encoder_sha256)
        key = (prompt, changed_by)
        if key not in self._prompts:
            while len(self._prompts) >= PROMPTS_KEPT:
                self._prompts.pop(next(iter(self._prompts)))
            conditions = self.family.encode_prompts(self.pipeline, [prompt])
            if not all(torch.isfinite(rows).all() for rows in conditions.values()):
                raise Overflow(f"The prompt holds numbers that are not finite once it is encoded: {prompt[:60]!r}.")
            self._prompts[key] = conditions
        return self._prompts[key]

    def _note(self, report: Report, recipe: Recipe) -> None:
        self.notes = [
            f"{title}: {len(names)} of its layers are not in this base and were left out, the first is {names[0]}."
            for title, names in report.unmatched.items()
        ]
        for prompt in (recipe.prompt, recipe.negative_prompt):
            if lost := self.family.truncated_text(self.pipeline, prompt):
                self.notes.append(f"The prompt is longer than this base reads; its end was ignored: “{lost}”.")
