import os
import subprocess
import sys

import pytest

from studio import config
from studio.benchmark.tiny import save_tiny_model
from studio.config import optimizers
from studio.core import platform
from studio.families import BUILTIN_ID, resolve_base
from studio.jobs.estimates import Estimate
from studio.ui.components import estimate
from tests.tiny import footprint, lora_tensors, tiny_base, tiny_pipeline  # noqa: F401 - fixtures

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def settings(base_model: object, *more: str):
    return config.build({"model": {"base_model": str(base_model)}, "lora": {"rank": 4}}, *more)


def summary(*values) -> str:
    found = estimate.summarize(*values)
    return " ".join([f"{', '.join(found.parts)}.", *found.notes, *found.cautions])


def lora_bytes(pipeline, *targets: str) -> int:
    """Bytes of the matrices of a real LoRA in float32."""
    tensors = lora_tensors(pipeline, targets=targets) if targets else lora_tensors(pipeline)
    return sum(tensor.numel() * 4 for tensor in tensors.values())


def test_the_file_size_is_that_of_the_lora_matrices(tiny_base, tiny_pipeline):  # noqa: F811
    assert estimate.adapter_bytes(settings(tiny_base.path)) == lora_bytes(tiny_pipeline)
    assert estimate.adapter_bytes(settings(tiny_base.path, "lora.target_modules=['to_q', 'proj_in', 'conv1']")) == lora_bytes(
        tiny_pipeline, "to_q", "proj_in", "conv1"
    )
    assert estimate.adapter_bytes(settings(tiny_base.path, "lora.target_modules=['q']")) is None  # no layer has that name, some end like it


def test_the_shipped_base_has_a_size(workspace):
    assert "file size" in summary(workspace, settings(BUILTIN_ID))


def test_a_base_in_several_files_is_counted_whole(tmp_path, tiny_pipeline):  # noqa: F811
    folder = save_tiny_model(tmp_path / "base")
    tiny_pipeline.unet.save_pretrained(folder / "unet", max_shard_size="20KB")
    (folder / WEIGHTS).unlink()
    assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 1
    assert estimate.adapter_bytes(settings(folder)) == lora_bytes(tiny_pipeline)


def test_a_hub_base_has_a_size_once_it_was_downloaded(workspace, fake_hub, tmp_path, tiny_pipeline):  # noqa: F811
    fake_hub.seed_repo("maker/tiny", save_tiny_model(tmp_path / "repo"))
    assert "file size" not in summary(workspace, settings("maker/tiny"))
    resolve_base("maker/tiny")
    before = len(fake_hub.seen)
    assert estimate.adapter_bytes(settings("maker/tiny")) == lora_bytes(tiny_pipeline)
    assert len(fake_hub.seen) == before


def break_as_pointer(path):
    path.write_bytes(POINTER)


def break_by_a_dangling_link(path):
    path.unlink()
    os.symlink(path.parent / "gone", path)


def break_by_cutting(path):
    path.write_bytes(path.read_bytes()[:100])


BROKEN = {
    break_as_pointer: "is a git-lfs pointer",
    break_by_a_dangling_link: "cannot be opened",
    break_by_cutting: "is not a complete .safetensors file",
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda kind: kind.__name__)
def test_unreadable_weights_are_reported_beside_the_rest_of_the_estimate(break_it, workspace, tmp_path):
    folder = save_tiny_model(tmp_path / "base")
    break_it(folder / WEIGHTS)
    text = summary(workspace, settings(folder, "training.max_train_steps=300"))
    assert text.startswith("300 steps, time shown after the first steps. ") and BROKEN[break_it] in text and text.endswith(".")


def test_a_learning_rate_that_prodigy_would_multiply_is_a_caution(workspace):
    low, usual = (settings(BUILTIN_ID, "training.optimizer=prodigy", f"training.learning_rate={rate}") for rate in (1e-4, 1))
    assert estimate.summarize(workspace, low).cautions == (optimizers.rate_note("prodigy", 1e-4),)
    assert estimate.summarize(workspace, usual).cautions == estimate.summarize(workspace, settings(BUILTIN_ID)).cautions == ()


def test_an_estimate_needs_no_torch():
    code = (
        "import sys; from studio import config; from studio.ui.components import estimate; assert estimate.adapter_bytes(config.build({}));"
        "estimate.adapter_bytes(config.build({'model': {'base_model': 'maker/none'}})); assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


LARGE = footprint(
    base_parameters=1_000_000_000,
    adapter_parameters=16_000_000,
    step_bytes=3_000_000_000,
    checkpointed_step_bytes=600_000_000,
    resident_parameters=300_000_000,
)


def test_a_measured_estimate_holds_for_any_rank(workspace, monkeypatch):
    monkeypatch.setattr(platform, "free_memory", lambda: 8_000_000_000)
    counted = Estimate(LARGE, 1_000_000, None, None)
    text = summary(workspace, settings("owner/large", "lora.rank=8", "saving.dtype=bfloat16"), counted)
    assert "file size 16.0\u00a0MB" in text and "about 6.0 GB of memory. Free memory: 7.4 GB. Chosen: no memory savings" in text
    less = summary(workspace, settings("owner/large", "lora.rank=8", "runtime.gradient_checkpointing=true"), counted)
    assert "file size 32.0\u00a0MB" in less and "about 3.5 GB of memory" in less


def test_the_memory_follows_the_optimizer_and_the_ema(workspace, monkeypatch):
    monkeypatch.setattr(platform, "free_memory", lambda: 80_000_000_000)
    counted = Estimate(LARGE, 10_000_000, None, None)
    adamw, lion, with_ema = (
        summary(workspace, settings("owner/large", "lora.rank=116", *more), counted)
        for more in (["training.optimizer=adamw"], ["training.optimizer=lion"], ["training.optimizer=adamw", "training.ema_decay=0.99"])
    )
    # 1,016 million trainable parameters, at 8 bytes of state with AdamW, 4 with Lion, and 4 for the EMA.
    assert "about 24.1 GB of memory" in adamw and "about 20.0 GB of memory" in lion and "about 28.2 GB of memory" in with_ema


def test_a_gpu_is_named_with_its_memory_savings(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    counted = Estimate(LARGE, 1_000_000, 4_000_000_000, "GPU 4000")
    text = summary(workspace, settings("owner/large"), counted)
    assert "GPU 4000: Free memory: 4.0 GB. Chosen: gradient checkpointing" in text and "No GPU" not in text


def test_without_a_gpu_ram_counts_and_slow_training_is_reported_before_any_download(workspace, monkeypatch):
    monkeypatch.setattr(platform, "free_memory", lambda: 4_000_000_000)
    text = summary(workspace, settings("owner/large"), Estimate(LARGE, 1_000_000, None, None, "float32"))
    assert "Free memory: 3.7 GB. Chosen: gradient checkpointing" in text and "may still be too little" in text
    assert text.endswith("No GPU found: training a base this large on the CPU takes hours or days.")
    small = footprint(base_parameters=100_000_000, adapter_parameters=16_000_000, step_bytes=300_000_000, checkpointed_step_bytes=60_000_000)
    text = summary(workspace, settings("owner/small"), Estimate(small, 1_000_000, None, None))
    assert "memory:" not in text and "GPU" not in text
    chosen = settings("owner/large", "runtime.device=cpu")
    assert "No GPU found" in summary(workspace, chosen, Estimate(LARGE, 1_000_000, 10**10, "GPU"))


@pytest.mark.parametrize(("setting", "reason"), [("lora.text_encoder=true", "is trained too"), ("dataset.caption_shuffle=true", "each new order")])
def test_a_text_encoder_that_stays_in_memory_is_reported_with_its_size(workspace, setting, reason):
    flux = "black-forest-labs/FLUX.1-dev"
    assert "9.8 GB more" in (text := summary(workspace, settings(flux, setting))) and reason in text
    assert "text encoder" not in summary(workspace, settings(flux))


def test_a_quantisation_that_needs_a_gpu_is_cautioned_about_on_a_cpu(workspace, tiny_base):  # noqa: F811
    measured = Estimate(footprint(base_parameters=10, adapter_parameters=10), 1, None, None, "float32")
    shown = estimate.summarize(workspace, settings(tiny_base.path, "runtime.quantisation=nf4", "runtime.device=cpu"), measured)
    assert any("nf4 needs a GPU" in caution for caution in shown.cautions)


def test_the_cost_of_exact_resume_is_noted_before_the_start_where_it_is_high(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flux, measured = "black-forest-labs/FLUX.1-dev", Estimate(LARGE, 1_000_000, 80_000_000_000, "GPU 80")
    assert "Exact resume makes a step of FLUX.1 take about 31% longer on a GPU." in summary(workspace, settings(flux), measured)
    for without, estimated in (
        (settings(flux, "runtime.exact=false"), measured),
        (settings(flux), Estimate(LARGE, 1_000_000, None, None)),
        (settings("stabilityai/stable-diffusion-xl-base-1.0"), measured),
    ):
        assert "Exact resume" not in summary(workspace, without, estimated)
