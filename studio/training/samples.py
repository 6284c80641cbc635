"""The film of a run: a row per sample prompt, a column for the base and for every adapter saved, all from the same seed.

Columns are drawn by the generator, from the adapter file itself, so what people see here is what the file draws anywhere.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from studio.adapters.layers import enable
from studio.config import TrainConfig
from studio.config.recipe import Recipe, StackEntry, add_recipe
from studio.core import hashes
from studio.core.errors import Overflow
from studio.datasets.trigger_words import fill_placeholder
from studio.families.base import Family
from studio.families.facts import BaseFolder
from studio.generation.generator import Generator
from studio.runs.run import Run
from studio.training.checkpoints import Disk
from studio.training.encoding_cache import Conditions, Encodings
from studio.training.lora import targets


class Film:
    def __init__(self, run: Run, config: TrainConfig, base: BaseFolder, family: Family, encodings: Encodings, disk: Disk):
        self.run, self.config, self.base, self.family, self.encodings, self.disk = run, config, base, family, encodings, disk
        self.prompts = [fill_placeholder(prompt, config.dataset.trigger_word) for prompt in config.samples.prompts]
        self.seconds_per_column = 0.0
        self.conditions: dict[str, Conditions] = {}
        self.generator: Generator | None = None

    def learn_prompts(self) -> None:
        """Encode the sample prompts while the text encoders are at hand."""
        self.conditions = {prompt: self.encodings.conditions(prompt) for prompt in [*self.prompts, ""]} if self.prompts else {}

    def get_ready(self) -> None:
        """Once the denoiser is there, and before it is given its trainable halves."""
        if not self.prompts:
            return
        self.encodings.load_decoder()
        runtime = self.config.runtime
        self.generator = Generator(self.base, self.family, device=runtime.device, dtype=runtime.dtype, pipeline=self.encodings.pipeline)
        for prompt, conditions in self.conditions.items():
            self.generator.cache_conditions(prompt, conditions)

    def seconds_left(self, step: int) -> float:
        """How long the columns still to come will take."""
        every, total = self.config.samples.every, self.config.training.max_train_steps
        columns = total // every - step // every + (total % every > 0)
        return columns * self.seconds_per_column

    def has_column(self, step: int) -> bool:
        """Whether the run saves its LoRA and draws with it after this step."""
        return step % self.config.samples.every == 0 or step == self.config.training.max_train_steps

    def draw(self, step: int, adapter: Path | None, rest: Callable[[], None]) -> bool:
        """One column; False when a wish to stop cut it short. Training's own halves are switched off meanwhile, and no random number of
        training is touched.

        `rest` is called before each picture: whoever waits for the machine need not wait for the whole column.
        """
        folder = self.run.samples_dir / f"{step:06d}"
        files = [folder / f"{row:02d}.png" for row in range(len(self.prompts))]
        if not self.prompts or all(file.exists() for file in files):
            return True
        began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        learning = [self.encodings.pipeline.components[part] for part in targets(self.config, self.family)]
        for part in learning:
            part.eval()
            enable(part, False)
        stack = self._stack(step, adapter) if adapter else []
        whole = True
        for prompt, file in zip(self.prompts, files):
            rest()
            if self.run.stop_requested:
                whole = False
                break
            recipe = self._recipe(prompt, stack)
            # Compiled blocks would be compiled anew for another size, and for every hook of the stack.
            with torch.compiler.set_stance("force_eager"):
                picture = self._picture(step, recipe, adapter)
            png = io.BytesIO()
            picture.save(png, format="PNG")
            self.disk.replace(file, add_recipe(png.getvalue(), recipe))
        self.generator.stack.clear()
        for part in learning:
            enable(part, True)
            part.train()
        if whole:
            self.run.append({"kind": "sample", "step": step, "files": [file.name for file in files], "prompts": self.prompts})
            self.seconds_per_column = time.monotonic() - began
        return whole

    def _picture(self, step: int, recipe: Recipe, adapter: Path | None) -> Image.Image:
        """One sample. Where its numbers overflow it is black, with a note in the run: training goes on, and a later LoRA may be well again."""
        try:
            return self.generator.generate(recipe, [(adapter, 1.0)] if adapter else [])
        except Overflow as error:
            self.run.append({"kind": "note", "message": f"The sample {recipe.prompt[:60]!r} of step {step} is black. {error}"})
            side = self.config.samples.resolution or self.family.resolution(self.base)
            return Image.new("RGB", (side, side))

    def _stack(self, step: int, adapter: Path) -> list[StackEntry]:
        title = f"{self.run.title}, step {step}"
        return [StackEntry(adapter=f"run:{self.run.id}@{step}", weight=1.0, title=title, sha256=hashes.sha256(adapter))]

    def _recipe(self, prompt: str, stack: list[StackEntry]) -> Recipe:
        samples = self.config.samples
        return Recipe(
            prompt=prompt,
            family=self.family.name,
            base_model=self.config.model.base_model,
            revision=self.base.revision,
            stack=stack,
            seed=samples.seed,
            num_inference_steps=samples.num_inference_steps,
            guidance_scale=samples.guidance_scale,
            width=samples.resolution,
            height=samples.resolution,
        )
