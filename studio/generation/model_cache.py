"""Cache of loaded models in the worker: base models with their adapters, and a captioner.

A GPU holds one of them; a CPU holds two bases and a captioner. torch is imported with the first model.
"""

import functools
import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from studio import families
from studio.config.recipe import Recipe
from studio.core.imports import without_garbage_collection
from studio.core.workspace import Workspace
from studio.datasets import captioners
from studio.devices.footprint import ON_GPU, Placement
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.generation.images import Drawn, OnStep, generate_image

if TYPE_CHECKING:
    from studio.datasets.captioners.base import Captioner
    from studio.generation.generator import Generator

log = logging.getLogger(__name__)

BASES_KEPT = {"cpu": 2, "cuda": 1}
SMALL_BYTES = 500 * 1000**2
"""A base up to this size may stay in RAM during training; larger ones are evicted."""


@functools.cache
def _generator_class() -> "type[Generator]":
    """Imported once: what is garbage at that moment is kept for good."""
    with without_garbage_collection():
        from studio.generation.generator import Generator
    return Generator


class ModelCache:
    """Loaded models on one device, which is chosen when the first model is needed."""

    def __init__(self):
        self.device = ""
        self.dtype = ""
        self.generators: dict[tuple, Generator] = {}
        self.captioners: dict[str, Captioner] = {}

    def choose_device(self) -> str:
        """Import torch and choose device, precision and threads, before any tensor exists. Returns the device."""
        if self.device:
            return self.device
        from studio.config.runtime import RuntimeConfig
        from studio.devices import runtime

        chosen = runtime.resolve(RuntimeConfig(exact=False))
        runtime.apply(chosen)
        assert chosen.device is not None and chosen.dtype is not None, "runtime.resolve fills them in."
        self.device, self.dtype = chosen.device, chosen.dtype
        return self.device

    def is_loaded(self, recipe: Recipe) -> bool:
        """Whether the recipe's base is loaded, so that generation starts at once."""
        return _key(recipe) in self.generators

    def generator(self, recipe: Recipe) -> "Generator":
        """The generator for the recipe's base; loads it and evicts the least recently used one."""
        self.choose_device()
        key = _key(recipe)
        if key in self.generators:
            self.generators[key] = self.generators.pop(key)
        else:
            base = families.resolve_base(recipe.base_model, recipe.revision)
            family = families.from_folder(base, recipe.family)
            if self.device == "cuda":
                self.captioners.clear()
            while len(self.generators) >= BASES_KEPT[self.device]:
                self._evict(next(iter(self.generators)))
            self._collect_garbage()
            dtype = self.dtype if family.float16 or self.dtype != "float16" else "float32"
            placement, note = self._place(base, family, recipe, dtype)
            log.info("Loading the base %s, family %s, on %s in %s: %s", base.id, family.name, self.device, dtype, placement)
            self.generators[key] = _generator_class()(base, family, self.device, dtype, placement=placement, placement_note=note)
        return self.generators[key]

    def _place(self, base: BaseFolder, family: Family, recipe: Recipe, dtype: str) -> tuple[Placement, str]:
        """Where the parts of a base fit, and a note for its images."""
        if self.device != "cuda":
            return ON_GPU, ""
        from studio.devices import memory
        from studio.devices.measure import measure_generation

        native = family.resolution(base)
        size = max(recipe.height or native, native), max(recipe.width or native, native)
        guidance = family.uses_negative_prompt(base.component_config("", "model_index.json"), base.component_config(family.denoiser_name))
        footprint = measure_generation(family, base, size, guidance)
        return memory.place_generation(footprint, dtype, memory.free_bytes(self.device), memory.free_bytes("cpu"))

    def captioner(self, name: str, on_progress: Callable[[int, int], None]) -> "Captioner":
        """The captioner; loads it and evicts the other one, and on a GPU also the bases."""
        self.choose_device()
        if name not in self.captioners:
            self.captioners.clear()
            if self.device == "cuda":
                self._evict(*self.generators)
            self._collect_garbage()
            self.captioners[name] = captioners.load(name, self.device, on_progress)
        return self.captioners[name]

    def generate(self, recipe: Recipe, workspace: Workspace, on_step: OnStep) -> Drawn:
        return generate_image(self.generator(recipe), recipe, workspace, on_step)

    def free_memory(self) -> None:
        """Free memory before training: on a GPU all models, on a CPU the large ones."""
        if not self.device:
            return
        self.captioners.clear()
        for key, generator in list(self.generators.items()):
            if self.device == "cuda" or _bytes(generator) > SMALL_BYTES:
                self._evict(key)
        self._collect_garbage()

    def clear(self) -> None:
        """Evict all models, for example after running out of memory, when one may be partially loaded."""
        self._evict(*self.generators)
        self.captioners.clear()
        if self.device:
            self._collect_garbage()

    def _evict(self, *keys: tuple) -> None:
        for key in keys:
            self.generators.pop(key).close()

    def _collect_garbage(self) -> None:
        import torch

        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def _key(recipe: Recipe) -> tuple:
    return recipe.base_model, recipe.revision


def _bytes(generator: "Generator") -> int:
    import torch

    # Tokenizers are callable too, so weights are found by class.
    modules = [part for part in generator.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.nbytes for module in modules for weight in module.parameters())
