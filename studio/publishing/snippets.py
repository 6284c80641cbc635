"""Code snippet for a published LoRA: plain diffusers code on its card that runs unchanged. No torch."""

import json
from pathlib import Path

from studio.hub.client import WEIGHTS_NAME
from studio.publishing.facts import Base, CardFacts, clean_line


def diffusers_code(facts: CardFacts, local: bool = False, revision: str | None = None) -> str:
    """Plain diffusers code that generates the first sample, or an image of the trigger word. `local`: with the local path of a base not on the Hub.

    Width and height appear only where the config sets the samples' size: else the base's default applies, whatever the training resolution.
    """
    base, samples, runtime = facts.base, facts.config.samples, facts.config.runtime
    weights = _literal(facts.repo_id or "path/to/this/folder")
    version = f", revision={_literal(revision)}" if revision else ""
    return "\n".join(
        [
            "import torch",
            *load_base_code(base, local, f"dtype=torch.{runtime.dtype or 'float32'}"),
            *(['pipeline.to("cuda")'] if runtime.device == "cuda" else []),
            f"pipeline.load_lora_weights({weights}, weight_name={_literal(WEIGHTS_NAME)}{version})",
            "image = pipeline(",
            f"    prompt={_literal(facts.prompt)},",
            f"    num_inference_steps={samples.num_inference_steps},",
            *(f"    {name}={_literal(value) if isinstance(value, str) else value}," for name, value in facts.call_arguments.items()),
            *([f"    width={samples.resolution},", f"    height={samples.resolution},"] if samples.resolution else []),
            f'    generator=torch.Generator("cpu").manual_seed({samples.seed}),',
            ").images[0]",
            'image.save("image.png")',
        ]
    )


def load_base_code(base: Base, local: bool, dtype: str) -> list[str]:
    """Lines that load the base model."""
    source = base.hub_id or (base.folder if local and base.folder else f"path/to/{base.hint or base.title}")
    pinned = f", revision={_literal(base.revision)}" if base.hub_id and base.revision else ""
    single = base.single
    if single is None:
        return ["from diffusers import DiffusionPipeline", "", f"pipeline = DiffusionPipeline.from_pretrained({_literal(source)}{pinned}, {dtype})"]
    rest = _literal(single.rest or (str(Path(source).parent) if local else f"path/to/the folder of {base.title}"))
    pinned = f", revision={_literal(single.revision)}" if single.revision else ""
    if not single.part:
        opened = f"pipeline = {single.loader_class}.from_single_file({_literal(source)}, config={rest}{pinned}, {dtype})"
        if not single.schedule:
            return [f"from diffusers import {single.loader_class}", "", opened]
        zero_snr = "rescale_betas_zero_snr" in dict(single.schedule)
        changes = ", ".join(f"{name}={_literal(value) if isinstance(value, str) else value}" for name, value in single.schedule)
        return [
            f"from diffusers import {'DDIMScheduler, ' if zero_snr else ''}{single.loader_class}",
            "",
            opened,
            f"scheduler = {'DDIMScheduler' if zero_snr else 'type(pipeline.scheduler)'}",
            f"pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, {changes})",
        ]
    return [
        f"from diffusers import {', '.join(sorted(('DiffusionPipeline', single.loader_class)))}",
        "",
        f"{single.part} = {single.loader_class}.from_single_file(",
        f"    {_literal(source)}, config={rest}, subfolder={_literal(single.part)}{pinned.replace('revision', 'config_revision')}, {dtype}",
        ")",
        f"pipeline = DiffusionPipeline.from_pretrained({rest}{pinned}, {single.part}={single.part}, {dtype})",
    ]


def _literal(text: str) -> str:
    """A Python string literal of any text. JSON's escapes mean the same in Python, except its surrogate pairs: hence no ASCII."""
    return json.dumps(clean_line(text), ensure_ascii=False)
