"""What the worker keeps in memory between jobs, so that a caption or a picture starts at once: bases, their adapters, a captioner.

On a graphics card there is room for one of them; on the processor for two bases and a captioner. torch loads with the first of them.
"""

import gc
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from studio import families
from studio.config.recipe import Recipe
from studio.core.workspace import Workspace
from studio.datasets import captioners
from studio.runs import library

if TYPE_CHECKING:
    from studio.datasets.captioners import Captioner
    from studio.generation.generator import Generator

BASES_KEPT = {"cpu": 2, "cuda": 1}
SMALL_BYTES = 500 * 1000**2
"""A base of at most this size may stay while a training computes; anything larger is given up for it."""


class Resident:
    """Models in memory on one device, chosen when the first is needed."""

    def __init__(self):
        self.device = ""
        self.dtype = ""
        self.generators: dict[tuple, Generator] = {}
        self.captioners: dict[str, Captioner] = {}

    def wake(self) -> None:
        """Load torch and settle device, precision and threads, before any tensor exists."""
        if self.device:
            return
        from studio.config.runtime import RuntimeConfig
        from studio.devices import runtime

        chosen = runtime.choose(RuntimeConfig(exact=False))
        runtime.apply(chosen)
        self.device, self.dtype = chosen.device, chosen.dtype

    def holds(self, recipe: Recipe) -> bool:
        """Whether the recipe's base is in memory, so that drawing starts at once."""
        return _key(recipe) in self.generators

    def generator(self, recipe: Recipe) -> "Generator":
        """The recipe's base, loaded; the longest unused one makes room."""
        self.wake()
        from studio.generation.generator import Generator

        key = _key(recipe)
        if key in self.generators:
            self.generators[key] = self.generators.pop(key)
        else:
            base = families.resolve_base(recipe.base_model, recipe.revision)
            family = families.from_folder(base, recipe.family)
            if self.device == "cuda":
                self.captioners.clear()
            while len(self.generators) >= BASES_KEPT[self.device]:
                self.generators.pop(next(iter(self.generators)))
            self._tidy()
            self.generators[key] = Generator(base, family, self.device, self.dtype)
        return self.generators[key]

    def captioner(self, name: str, on_progress: Callable[[int, int], None]) -> "Captioner":
        """One captioner at a time; on a graphics card the bases make room for it."""
        self.wake()
        if name not in self.captioners:
            self.captioners.clear()
            if self.device == "cuda":
                self.generators.clear()
            self._tidy()
            self.captioners[name] = captioners.load(name, self.device, on_progress)
        return self.captioners[name]

    def draw(self, recipe: Recipe, workspace: Workspace, on_step: Callable[[int, int], None]) -> tuple[bytes, Recipe, list[str]]:
        """(PNG without a recipe, the recipe as it was really drawn, notes)."""
        generator = self.generator(recipe)
        adapters, recipe, notes = _adapters(recipe, workspace)
        recipe = recipe.model_copy(update={"family": generator.family.name, "revision": generator.base.revision or recipe.revision})
        picture = generator.draw(recipe, adapters, on_step)
        png = io.BytesIO()
        picture.save(png, format="PNG", compress_level=4)
        return png.getvalue(), recipe, notes + generator.notes

    def make_room(self) -> None:
        """Before a training: on a graphics card everything goes, on the processor what is large."""
        if not self.device:
            return
        self.captioners.clear()
        for key, generator in list(self.generators.items()):
            if self.device == "cuda" or _bytes(generator) > SMALL_BYTES:
                del self.generators[key]
        self._tidy()

    def drop_all(self) -> None:
        """After running out of memory nothing half loaded may stay."""
        self.generators.clear()
        self.captioners.clear()
        if self.device:
            self._tidy()

    def _tidy(self) -> None:
        import torch

        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def _key(recipe: Recipe) -> tuple:
    return recipe.base_model, recipe.revision


def _adapters(recipe: Recipe, workspace: Workspace) -> tuple[list[tuple[Path, float]], Recipe, list[str]]:
    """The files of the entries that are on, and the recipe with the hashes of exactly those files.

    A recipe names a run's newest LoRA and its hash. When the run has gone on since, the save with that hash is looked for, so that an
    old picture's recipe draws that picture.
    """
    files, entries, notes = [], [], []
    for entry in recipe.stack:
        if entry.on and entry.weight:
            card = library.find(workspace, entry.adapter)
            if entry.sha256 and card.sha256 != entry.sha256:
                card = library.with_hash(workspace, entry.adapter, entry.sha256) or card
                if card.sha256 != entry.sha256:
                    notes.append(f"{card.title} has changed since this recipe was written; it was drawn as it is now.")
            entry = entry.model_copy(update={"sha256": card.sha256})
            files.append((card.path, entry.weight))
        entries.append(entry)
    return files, recipe.model_copy(update={"stack": entries}), notes


def _bytes(generator: "Generator") -> int:
    import torch

    # Tokenizers are callable too, so only the class tells who has weights.
    modules = [part for part in generator.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.nbytes for module in modules for weight in module.parameters())
