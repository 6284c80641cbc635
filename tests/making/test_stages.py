"""Training the built-in model from nothing: every stage runs, and one that was stopped goes on as if it had not been."""

from pathlib import Path

import pytest
import torch

from studio.making import captioner, denoiser, export, judges, pool, text_encoder, vae

STEPS = 3


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A work folder with twelve rendered images, and batches of two."""
    monkeypatch.setattr(pool, "WORLD_IMAGES", 12)
    monkeypatch.setattr(pool, "CHUNK", 6)
    for stage in (captioner, denoiser, judges, text_encoder, vae):
        monkeypatch.setattr(stage, "BATCH", 2)
    # Compiling takes longer than all of this together; it changes the time of a step only.
    monkeypatch.setattr(denoiser, "compiled", lambda unet: unet)
    for kind in ("world", "other"):
        pool.make(tmp_path, kind, 12, seed=3)
    return tmp_path


def steps(folder: Path, until: int) -> None:
    vae.train(folder, until, 0)
    vae.finish(folder, until, 0)
    if not (folder / "latents.npy").exists():
        vae.encode_pool(folder)
    text_encoder.train(folder, until, 0)
    denoiser.train(folder, until, 0)
    captioner.train(folder, until, 0)


def test_every_stage_runs_and_the_parts_fit_together(small):
    steps(small, 2)
    assert all((small / f"{name}.state").exists() for name in ("vae", "autoencoder", "text", "unet", "captioner"))
    pipeline = export.assemble(small)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cat on a street", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (128, 128)
    judge = judges.train(small, steps=2)
    assert judges.ask(judge, [image]).shape == (1, len(judges.QUESTIONS))


@pytest.mark.parametrize("stage", [vae.train, vae.finish, text_encoder.train, denoiser.train, captioner.train])
def test_a_stopped_stage_goes_on_to_the_same_weights(small, stage, monkeypatch):
    if stage is not vae.train:
        vae.train(small, 1, 0)
    if stage is denoiser.train:
        vae.encode_pool(small)
        text_encoder.train(small, 1, 0)
    before = set(small.glob("*.state"))

    def weights(stop_after: int | None) -> dict:
        for state in set(small.glob("*.state")) - before:
            state.unlink()
        if stop_after:
            with monkeypatch.context() as patched:
                stop_at(patched, stop_after)
                with pytest.raises(KeyboardInterrupt):
                    stage(small, STEPS, 0)
        stage(small, STEPS, 0)
        (written,) = set(small.glob("*.state")) - before
        return torch.load(written, weights_only=True)

    straight, stopped = weights(None), weights(2)
    for name, value in tensors(straight):
        assert torch.equal(value, dict(tensors(stopped))[name]), f"{name} differs after a stop"


def stop_at(patched: pytest.MonkeyPatch, step: int) -> None:
    """Save after every step, and break off in the middle of step number `step`."""
    from studio.making.progress import Stage

    whole = Stage.steps

    def cut(self):
        for now in whole(self):
            if now == step:
                raise KeyboardInterrupt
            yield now

    patched.setattr(Stage, "due", property(lambda self: True))
    patched.setattr(Stage, "steps", cut)


def tensors(state: dict, prefix: str = ""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from tensors(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
