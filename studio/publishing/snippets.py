"""The lines of plain diffusers that draw with a published LoRA: on its card, and run as they stand by whoever copies them. No torch."""

import json
from pathlib import Path

from studio.hub.client import WEIGHTS_NAME
from studio.publishing.facts import About, Base, plain


def call_code(about: About, here: bool = False, revision: str | None = None) -> str:
    """Plain diffusers code that draws with this LoRA, its first sample if it has one. `here`: with this computer's folder of a base not on the Hub.

    It names a width and height only where the samples were given some: else they have the base's own, whatever size the pictures were.
    """
    base, samples, runtime = about.base, about.config.samples, about.config.runtime
    weights = _literal(about.repo_id or "path/to/this/folder")
    version = f", revision={_literal(revision)}" if revision else ""
    return "\n".join(
        [
            "import torch",
            *opening(base, here, f"dtype=torch.{runtime.dtype or 'float32'}"),
            *(['pipeline.to("cuda")'] if runtime.device == "cuda" else []),
            f"pipeline.load_lora_weights({weights}, weight_name={_literal(WEIGHTS_NAME)}{version})",
            "image = pipeline(",
            f"    prompt={_literal(about.prompt)},",
            f"    num_inference_steps={samples.num_inference_steps},",
            *(f"    {name}={_literal(value) if isinstance(value, str) else value}," for name, value in about.call_arguments.items()),
            *([f"    width={samples.resolution},", f"    height={samples.resolution},"] if samples.resolution else []),
            f'    generator=torch.Generator("cpu").manual_seed({samples.seed}),',
            ").images[0]",
            'image.save("picture.png")',
        ]
    )


def opening(base: Base, here: bool, dtype: str) -> list[str]:
    """The lines that open the base."""
    source = base.hub_id or (base.folder if here and base.folder else f"path/to/{base.hint or base.title}")
    pinned = f", revision={_literal(base.revision)}" if base.hub_id and base.revision else ""
    single = base.single
    if single is None:
        return ["from diffusers import DiffusionPipeline", "", f"pipeline = DiffusionPipeline.from_pretrained({_literal(source)}{pinned}, {dtype})"]
    rest = _literal(single.rest or (str(Path(source).parent) if here else f"path/to/the folder of {base.title}"))
    pinned = f", revision={_literal(single.revision)}" if single.revision else ""
    if not single.part:
        opened = f"pipeline = {single.opened_by}.from_single_file({_literal(source)}, config={rest}{pinned}, {dtype})"
        if not single.schedule:
            return [f"from diffusers import {single.opened_by}", "", opened]
        to_the_end = "rescale_betas_zero_snr" in dict(single.schedule)
        changes = ", ".join(f"{name}={_literal(value) if isinstance(value, str) else value}" for name, value in single.schedule)
        return [
            f"from diffusers import {'DDIMScheduler, ' if to_the_end else ''}{single.opened_by}",
            "",
            opened,
            f"scheduler = {'DDIMScheduler' if to_the_end else 'type(pipeline.scheduler)'}",
            f"pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, {changes})",
        ]
    return [
        f"from diffusers import {', '.join(sorted(('DiffusionPipeline', single.opened_by)))}",
        "",
        f"{single.part} = {single.opened_by}.from_single_file(",
        f"    {_literal(source)}, config={rest}, subfolder={_literal(single.part)}{pinned.replace('revision', 'config_revision')}, {dtype}",
        ")",
        f"pipeline = DiffusionPipeline.from_pretrained({rest}{pinned}, {single.part}={single.part}, {dtype})",
    ]


def _literal(text: str) -> str:
    """A Python string literal of any text. JSON's escapes mean the same in Python, except its surrogate pairs: hence no ASCII."""
    return json.dumps(plain(text), ensure_ascii=False)
