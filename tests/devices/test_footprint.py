"""Sizes from the settings alone, against published ones and against real steps."""

import pytest
import torch

from studio import config as configs
from studio.config.runtime import RuntimeConfig
from studio.config.training import TrainingConfig
from studio.core.errors import StudioError
from studio.devices.footprint import Footprint
from studio.devices.measure import measure
from studio.devices.memory import select_savings
from studio.families import FAMILIES, get

TRAINING = TrainingConfig(train_batch_size=1, optimizer="adamw")
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
SD15, SDXL, FLUX = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0", "black-forest-labs/FLUX.1-dev"


def footprint(family, base, resolution=512, **lora) -> Footprint:
    config = configs.build({"model": {"family": family, "base_model": base}, "dataset": {"resolution": resolution}, "lora": lora})
    return measure(config, get(family), None)


def test_the_files_people_know_have_the_sizes_people_know():
    sd, flux = (
        footprint("stable-diffusion", SD15, 64, rank=4, target_modules=ATTENTION),
        footprint("flux", FLUX, 64, rank=64, target_modules=[f"attn.{name}" for name in ATTENTION]),
    )
    assert round(sd.adapter_bytes("float32") / 1e6, 1) == 3.2
    assert round(flux.adapter_bytes("bfloat16") / 1e6) == 149


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.text_encoder_targets], ids=lambda family: family.name)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_text_encoders_that_learn_count(family, method, tmp_path):
    from studio.benchmark.models import save_tiny
    from studio.families import resolve_base
    from studio.training.lora import add_lora

    base = resolve_base(str(save_tiny(family, tmp_path / "m")))
    asked = {"lora": {"rank": 4, "text_encoder": True, "method": method}, "dataset": {"resolution": 64}}
    config = configs.build({"model": {"base_model": str(base.path)}, **asked})
    working = add_lora(family.load(base, torch.float32), config, family, torch.float32)
    assert measure(config, family, base).adapter_parameters == sum(weight.numel() for weight in working.values())
    assert all(len(offer.trainable_encoders) == len(family.text_encoder_targets) for offer in family.offers if not offer.folder)


def test_stable_diffusions_text_encoder_adds_what_people_know():
    alone, both = (footprint("stable-diffusion", SD15, 64, rank=4, text_encoder=learns).adapter_parameters for learns in (False, True))
    assert both - alone == 12 * 4 * 2 * 768 * 4


def test_predicted_memory_is_what_others_measured():
    """SimpleTuner's table for an H100, batch 1: SDXL at 1024 takes 13.0 GiB without and 6.5 with gradient checkpointing."""
    sdxl = footprint("sdxl", SDXL, 1024, rank=16)
    assert sdxl.memory(TRAINING, False, "none", False) / 2**30 == pytest.approx(13.0, rel=0.15)
    assert sdxl.memory(TRAINING, True, "none", False) / 2**30 == pytest.approx(6.5, rel=0.15)


def test_what_autograd_keeps_is_what_a_real_step_keeps(tmp_path):
    from studio.adapters.layers import inject, peft_config
    from studio.benchmark.models import save_tiny
    from studio.families import resolve_base

    family = get("stable-diffusion")
    base = resolve_base(str(save_tiny(family, tmp_path / "m")))
    config = configs.build({"model": {"base_model": str(base.path)}, "dataset": {"resolution": 64}, "lora": {"rank": 4}})
    measured = measure(config, family, base)
    denoiser = family.load(base, torch.bfloat16).unet
    inject(denoiser, peft_config("lora", 4, 4, 0.0, list(family.target_modules)))
    denoiser.train()
    own, kept = {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    shapes = family.input_shapes(denoiser.config, (64, 64))
    inputs = {name: torch.randn(1, *shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        family.predict(denoiser, inputs.pop("latents"), torch.tensor([500.0]), inputs)
    assert measured.activation_bytes == pytest.approx(sum(kept.values()), rel=0.1)
    assert measured.adapter_parameters == sum(weight.numel() for weight in denoiser.parameters() if weight.requires_grad)


LARGE = Footprint(
    base_parameters=12_000_000_000,
    adapter_parameters=45_000_000,
    activation_bytes=26_000_000_000,
    checkpointed_bytes=1_600_000_000,
    blocks=57,
    resident_parameters=630_000_000,
)


@pytest.mark.parametrize(
    ("gigabytes", "checkpointing", "quantisation", "offload"),
    [
        (80, False, "none", False),
        (40, True, "none", False),
        (36, True, "none", False),
        (16, True, "nf4", False),
        (9, True, "none", True),
        (4.6, True, "nf4", True),
    ],
)
def test_the_fastest_savings_that_fit_are_chosen_and_reported(gigabytes, checkpointing, quantisation, offload, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    chosen, reason = select_savings(LARGE, RuntimeConfig(), TRAINING, gigabytes * 10**9)
    assert chosen == {"gradient_checkpointing": checkpointing, "quantisation": quantisation, "offload": offload}
    assert f"Free memory: {gigabytes:.1f} GB" in reason


def test_requested_settings_are_kept_and_too_little_memory_is_reported():
    chosen, _ = select_savings(LARGE, RuntimeConfig(quantisation="none", offload=False), TRAINING, 16 * 10**9)
    assert chosen == {"gradient_checkpointing": True, "quantisation": "none", "offload": False}
    _, reason = select_savings(LARGE, RuntimeConfig(quantisation="none", offload=False), TRAINING, 16 * 10**9)
    assert "may still be too little" in reason


def test_offload_requires_gradient_checkpointing():
    assert select_savings(LARGE, RuntimeConfig(offload=True), TRAINING, 9 * 10**9)[0]["gradient_checkpointing"] is True
    with pytest.raises(StudioError, match="Switch both on"):
        select_savings(LARGE, RuntimeConfig(offload=True, gradient_checkpointing=False), TRAINING, 9 * 10**9)


def test_on_a_cpu_only_supported_savings_are_chosen_and_float32_needs_more_memory():
    for gigabytes, checkpointing in ((200, False), (16, True)):
        chosen, _ = select_savings(LARGE, RuntimeConfig(device="cpu", dtype="float32"), TRAINING, gigabytes * 10**9)
        assert chosen == {"gradient_checkpointing": checkpointing, "quantisation": "none", "offload": False}
    assert LARGE.memory(TRAINING, False, "none", False, "float32") > 1.9 * LARGE.memory(TRAINING, False, "none", False)


def test_without_bitsandbytes_nothing_is_quantised(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    chosen, _ = select_savings(LARGE, RuntimeConfig(), TRAINING, 16 * 10**9)
    assert chosen == {"gradient_checkpointing": True, "quantisation": "none", "offload": True}
