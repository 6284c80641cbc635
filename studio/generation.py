"""A base in memory plus a stack of adapters -> pictures. The same recipe gives the same picture, bit for bit, on the same machine."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from studio import runtime
from studio.adapters import Adapter, load_adapter, refuse_other_base
from studio.errors import StudioError
from studio.families.base import BaseFolder, Family
from studio.recipe import Recipe
from studio.stack import Report, Stack

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
        """One picture. `adapters` are the files behind the recipe's stack; on_step(done, total) is called after each step and may raise."""
        stack = [(self._adapter(path), weight) for path, weight in adapters]
        self._note(self.stack.set(stack), recipe)
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
            refuse_other_base(path.name, adapter.fingerprint, self.family, self.base)
            while len(self._adapters) >= ADAPTERS_KEPT:
                self._adapters.pop(next(iter(self._adapters)))
            self._adapters[key] = adapter
        return self._adapters[key]

    def _conditions(self, prompt: str, stack: list[tuple[Adapter, float]]) -> dict[str, torch.Tensor]:
        """Embeddings of one prompt; they depend on those adapters alone that change a text encoder."""
        texts = tuple(f"{name}." for name in self.family.text_encoder_names)
        changed_by = tuple((id(adapter), weight) for adapter, weight in stack if weight and any(name.startswith(texts) for name in adapter.layers))
        key = (prompt, changed_by)
        if key not in self._prompts:
            while len(self._prompts) >= PROMPTS_KEPT:
                self._prompts.pop(next(iter(self._prompts)))
            self._prompts[key] = self.family.encode_prompts(self.pipeline, [prompt])
        return self._prompts[key]

    def _note(self, report: Report, recipe: Recipe) -> None:
        self.notes = [
            f"{title}: {len(names)} of its layers are not in this base and were left out, the first is {names[0]}."
            for title, names in report.unmatched.items()
        ]
        for prompt in (recipe.prompt, recipe.negative_prompt):
            if lost := self.family.beyond_limit(self.pipeline, prompt):
                self.notes.append(f"The prompt is longer than this base reads; its end was ignored: “{lost}”.")
