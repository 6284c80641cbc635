"""Generation from an init image: denoising begins part of the way, from the image's latents with noise (SDEdit, Meng et al. 2022,
arXiv 2108.01073). It works with the pipeline that generates without one, also where diffusers has no image-to-image pipeline."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image


LEAST_CUT = 0.02
"""Share of an image that is worth a note when it is cut away."""


@dataclass(frozen=True)
class InitImage:
    """`strength` is the share of the steps that are run, above 0 and at most 1: how much may differ from the image."""

    image: "Image.Image"
    strength: float

    def steps_left_out(self, num_inference_steps: int) -> int:
        """As diffusers counts them."""
        return int(num_inference_steps - num_inference_steps * self.strength)

    def describe_cut(self, size: tuple[int, int]) -> str:
        """A note if much of the image lies outside of (width, height); empty otherwise."""
        width, height = self.image.size
        scale = max(size[0] / width, size[1] / height)
        lost = 1 - size[0] * size[1] / (width * height * scale**2)
        return f"The init image was cropped to {size[0]} x {size[1]}; {lost:.0%} of it is outside." if lost >= LEAST_CUT else ""

    def pixels(self, size: tuple[int, int]) -> "torch.Tensor":
        """1CHW in -1..1, scaled to cover (width, height) and cropped at the centre."""
        import numpy
        import torch
        from PIL import Image, ImageOps

        fitted = ImageOps.fit(self.image.convert("RGB"), size, Image.Resampling.LANCZOS)
        return torch.from_numpy(numpy.asarray(fitted).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


@contextlib.contextmanager
def begun_at(pipeline: "DiffusionPipeline", latents: "torch.Tensor", left_out: int) -> Iterator[None]:
    """Context in which a call of the pipeline leaves out the first steps of its schedule and begins with these latents (as the pipeline keeps them)
    and its own noise, at the level of the first step that is run.

    Pipelines make their noise before or after their schedule, which may depend on the size of the image; the second of the two adds the latents.
    """
    scheduler = pipeline.scheduler
    prepare, schedule = pipeline.prepare_latents, scheduler.set_timesteps
    noise: torch.Tensor | None = None
    scheduled = False

    def add_latents() -> None:
        if noise is not None and scheduled:
            noise.copy_(_noisy(scheduler, latents.to(noise), noise))

    @functools.wraps(schedule)
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        nonlocal scheduled
        schedule(*args, **kwargs)
        first = left_out * scheduler.order
        scheduler.timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = scheduler.sigmas[first:]
        scheduled = True
        add_latents()

    @functools.wraps(prepare)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        nonlocal noise
        prepared = prepare(*args, **kwargs)
        noise = prepared[0] if isinstance(prepared, tuple) else prepared
        add_latents()
        return prepared

    pipeline.prepare_latents, scheduler.set_timesteps = prepare_latents, set_timesteps
    try:
        yield
    finally:
        del pipeline.prepare_latents, scheduler.set_timesteps


def _noisy(scheduler: Any, latents: "torch.Tensor", noise: "torch.Tensor") -> "torch.Tensor":
    """The latents with noise at the level of the schedule's first step. Pipelines of discrete schedules scale their noise by `init_noise_sigma`."""
    t = scheduler.timesteps[:1]
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(latents, t, noise)
    return scheduler.add_noise(latents, noise / scheduler.init_noise_sigma, t)
