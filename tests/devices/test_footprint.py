"""Sizes from the settings alone, against published ones and against real steps."""

import dataclasses

import pytest
import torch

from studio import config as configs
from studio.config import fields
from studio.config.runtime import RuntimeConfig
from studio.core.errors import StudioError
from studio.devices.counting import PeakCounter, fused_kernels
from studio.devices.footprint import FIXED_BYTES, Footprint, Savings
from studio.devices.measure import count_adapter_parameters, inject_lora, measure, meta_denoiser, peak_step_bytes
from studio.devices.memory import select_savings
from studio.families import FAMILIES, get
from tests.tiny import footprint as any_footprint

CONFIG = configs.build({"model": {"family": "stable-diffusion"}, "samples": {"prompts": ["a cat"]}})
RAM = 100 * 10**9
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
SD15, SDXL, FLUX = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0", "black-forest-labs/FLUX.1-dev"


def settings(family, base, *overrides, resolution=512, **lora):
    return configs.build({"model": {"family": family, "base_model": base}, "dataset": {"resolution": resolution}, "lora": lora}, *overrides)


def step_footprint(family, base, fused=True) -> Footprint:
    """The footprint of a step at 1024 pixels and rank 16; of other phases nothing."""
    family, config = get(family), settings(family, base, resolution=1024, rank=16)
    denoiser = meta_denoiser(family, base, None)
    parameters = sum(weight.numel() for weight in denoiser.parameters())
    adapter = sum(weight.numel() for weight in inject_lora(denoiser, config, family))
    step, attention, heads = peak_step_bytes(family, denoiser, (1024, 1024), fused)
    family.enable_gradient_checkpointing(denoiser)
    checkpointed, _, _ = peak_step_bytes(family, denoiser, (1024, 1024), fused)
    return any_footprint(
        base_parameters=parameters,
        adapter_parameters=adapter,
        step_bytes=step,
        checkpointed_step_bytes=checkpointed,
        attention_bytes=attention,
        attention_heads=heads,
    )


def adapter_parameters(family, base, **lora) -> int:
    return count_adapter_parameters(settings(family, base, **lora), get(family), None)


def test_the_files_people_know_have_the_sizes_people_know():
    sd = adapter_parameters("stable-diffusion", SD15, rank=4, target_modules=ATTENTION)
    flux = adapter_parameters("flux", FLUX, rank=64, target_modules=[f"attn.{name}" for name in ATTENTION])
    assert round(dataclasses.replace(LARGE, adapter_parameters=sd).adapter_bytes("float32") / 1e6, 1) == 3.2
    assert round(dataclasses.replace(LARGE, adapter_parameters=flux).adapter_bytes("bfloat16") / 1e6) == 149


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
    assert count_adapter_parameters(config, family, base) == sum(weight.numel() for weight in working.values())
    assert all(len(offer.trainable_encoders) == len(family.text_encoder_targets) for offer in family.offers if not offer.folder)


def test_stable_diffusions_text_encoder_adds_what_people_know():
    alone, both = (adapter_parameters("stable-diffusion", SD15, rank=4, text_encoder=learns) for learns in (False, True))
    assert both - alone == 12 * 4 * 2 * 768 * 4


def test_predicted_memory_is_what_others_measured():
    """SimpleTuner's table for an H100, batch 1: SDXL at 1024 takes 13.0 GiB without and 6.5 with gradient checkpointing."""
    sdxl = step_footprint("sdxl", SDXL)
    assert sdxl.plan(CONFIG, Savings()).step / 2**30 == pytest.approx(13.0, rel=0.15)
    assert sdxl.plan(CONFIG, Savings(True)).step / 2**30 == pytest.approx(6.5, rel=0.15)


MEASURED = {
    ("fused", True, False): 47.5,
    ("fused", False, False): 47.2,
    ("fused", True, True): 26.7,
    ("math", True, True): 34.5,
}
"""(attention, exact, gradient checkpointing) -> peak GB of FLUX.1 at 1024 pixels, rank 16, on an H200: see docs/benchmarks.md. Without optimizer."""


def test_predicted_memory_is_what_was_measured_on_a_gpu():
    for attention in ("fused", "math"):
        flux = step_footprint("flux", FLUX, fused=attention == "fused")
        for (kernel, exact, checkpointing), gigabytes in MEASURED.items():
            if kernel == attention:
                step = flux.plan(fields.replace(CONFIG, {"runtime.exact": exact}), Savings(checkpointing)).step - FIXED_BYTES
                assert step / 1e9 == pytest.approx(gigabytes, rel=0.07), (kernel, exact, checkpointing)
        if attention == "math":
            assert flux.plan(CONFIG, Savings()).step > 139.8 * 2**30, "ran out of memory on that GPU"


def test_tensors_are_counted_while_they_live():
    weight = torch.empty(1000, device="meta")
    with PeakCounter([weight]) as counter:
        first = weight * 2
        view = first[:500]
        assert counter.live == 4096 == counter.peak, "in units of 512 bytes; a view takes nothing"
        del first
        assert counter.live == 4096
        second = view + 1
        del view
        assert (counter.live, counter.peak) == (2048, 4096 + 2048)
        del second
    assert counter.live == 0


def test_a_repeated_operation_counts_the_same_tensors_again():
    images, weights, whole = (
        torch.empty(2, 4, 256, device="meta"),
        torch.empty(256, 256, device="meta"),
        torch.empty(4, dtype=torch.int64, device="meta"),
    )
    with PeakCounter([images, weights, whole]) as counter:
        first = images @ weights
        live = counter.live
        second = images @ weights
        assert counter.live == counter.peak == 2 * live, "the view in a product takes nothing, the second time too"
        assert first.shape == second.shape
        assert ((whole * 1).dtype, (whole * 1.0).dtype) == (torch.int64, torch.float32)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["stable-diffusion", "flux", "qwen-image"])
def test_a_real_step_has_the_counted_peak(name, checkpointing, tmp_path):
    from studio.benchmark.models import save_tiny
    from studio.devices.measure import forward_once, largest_bucket
    from studio.families import resolve_base

    family = get(name)
    base = resolve_base(str(save_tiny(family, tmp_path / "m")))
    config = configs.build({"model": {"base_model": str(base.path)}, "dataset": {"resolution": 64}, "lora": {"rank": 4}})
    measured = measure(config, family, base)
    denoiser = family.load(base, torch.bfloat16, parts=(family.denoiser_name,)).components[family.denoiser_name]
    inject_lora(denoiser, config, family)
    if checkpointing:
        family.enable_gradient_checkpointing(denoiser)
    with fused_kernels(), PeakCounter(denoiser.parameters()) as counter:
        forward_once(family, denoiser, largest_bucket(family, config, base)).float().square().mean().backward()
    # A CPU converts the inputs of some layers to float32, which a GPU does not.
    expected = measured.checkpointed_step_bytes if checkpointing else measured.step_bytes
    assert counter.peak == pytest.approx(expected, rel=0.2)
    assert measured.adapter_parameters == sum(weight.numel() for weight in denoiser.parameters() if weight.requires_grad)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_phase_of_every_family_is_counted(family, tmp_path):
    from studio.benchmark.models import save_tiny
    from studio.families import resolve_base

    base = resolve_base(str(save_tiny(family, tmp_path / "m")))
    config = configs.build(
        {"model": {"base_model": str(base.path)}, "dataset": {"resolution": 64}, "samples": {"prompts": ["a cat"], "resolution": 64}}
    )
    found = measure(config, family, base)
    assert all(value > 0 for value in vars(found).values()), found
    assert found.checkpointed_step_bytes < found.step_bytes
    assert found.encoder_parameters == sum(
        weight.numel() for part in family.text_encoder_names for weight in family.load(base, torch.float32).components[part].parameters()
    )
    larger = fields.replace(config, {"samples.resolution": 128})
    assert measure(larger, family, base).decode_bytes > found.decode_bytes


def test_a_plan_counts_the_phases_of_a_run():
    none, graph = (fields.replace(CONFIG, {"runtime.execution": execution}) for execution in (None, "graph"))
    plan, recorded = LARGE.plan(none, Savings()), LARGE.plan(graph, Savings())
    assert recorded.sample - plan.sample > LARGE.step_bytes, "a CUDA graph keeps the memory of a step"
    assert LARGE.plan(fields.replace(none, {"runtime.exact": False}), Savings()).step < plan.step
    assert LARGE.plan(fields.replace(none, {"training.train_batch_size": 2}), Savings()).step > plan.step + LARGE.step_bytes
    assert LARGE.plan(fields.replace(none, {"lora.text_encoder": True}), Savings()).step == plan.step + 2 * LARGE.encoder_parameters
    assert LARGE.plan(fields.replace(none, {"samples.prompts": []}), Savings()).sample == FIXED_BYTES
    assert plan.tiled_sample < plan.sample and plan.needed(plan.step) == plan.step


LARGE = Footprint(
    base_parameters=12_000_000_000,
    adapter_parameters=45_000_000,
    resident_parameters=630_000_000,
    encoder_parameters=4_900_000_000,
    step_bytes=26_000_000_000,
    checkpointed_step_bytes=2_000_000_000,
    attention_bytes=56_623_104,
    attention_heads=24,
    sample_bytes=500_000_000,
    encode_bytes=3_000_000_000,
    decode_bytes=1_800_000_000,
    tile_bytes=600_000_000,
)


@pytest.mark.parametrize(
    ("gigabytes", "savings"),
    [
        (80, Savings()),
        (40, Savings(True)),
        (36, Savings(True)),
        (16, Savings(True, "nf4")),
        (9, Savings(True, "none", True)),
        (4.6, Savings(True, "nf4", True)),
    ],
)
def test_the_fastest_savings_that_fit_are_chosen_and_reported(gigabytes, savings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    chosen, reason = select_savings(LARGE, RuntimeConfig(), CONFIG, int(gigabytes * 10**9), RAM)
    assert chosen == savings
    assert f"Free memory: {gigabytes:.1f} GB" in reason


def test_a_sample_that_does_not_fit_is_decoded_in_tiles():
    none = LARGE.plan(CONFIG, Savings())
    large_sample = dataclasses.replace(LARGE, decode_bytes=40_000_000_000)
    plan = large_sample.plan(CONFIG, Savings())
    assert plan.step == none.step < plan.sample
    for free, tiles in ((plan.sample, False), (plan.step, True)):
        savings, reason = select_savings(large_sample, RuntimeConfig(), CONFIG, free, RAM)
        assert savings == Savings() and ("decoded in tiles" in reason) is tiles


def test_blocks_are_only_offloaded_to_ram_that_holds_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for free_ram, savings in ((RAM, Savings(True, "none", True)), (20 * 10**9, Savings(True, "nf4", True))):
        assert select_savings(LARGE, RuntimeConfig(), CONFIG, 9 * 10**9, free_ram)[0] == savings


def test_requested_settings_are_kept_and_too_little_memory_is_reported():
    chosen, reason = select_savings(LARGE, RuntimeConfig(quantisation="none", offload=False), CONFIG, 16 * 10**9, RAM)
    assert chosen == Savings(True)
    assert "may still be too little" in reason


def test_offload_requires_gradient_checkpointing():
    assert select_savings(LARGE, RuntimeConfig(offload=True), CONFIG, 9 * 10**9, RAM)[0].gradient_checkpointing
    with pytest.raises(StudioError, match="Switch both on"):
        select_savings(LARGE, RuntimeConfig(offload=True, gradient_checkpointing=False), CONFIG, 9 * 10**9, RAM)


def test_on_a_cpu_only_supported_savings_are_chosen_and_float32_needs_more_memory():
    for gigabytes, checkpointing in ((200, False), (16, True)):
        chosen, _ = select_savings(LARGE, RuntimeConfig(device="cpu", dtype="float32"), CONFIG, gigabytes * 10**9, RAM)
        assert chosen == Savings(checkpointing)
    assert LARGE.plan(CONFIG, Savings(), "float32").step > 1.9 * LARGE.plan(CONFIG, Savings()).step


def test_without_bitsandbytes_nothing_is_quantised(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert select_savings(LARGE, RuntimeConfig(), CONFIG, 16 * 10**9, RAM)[0] == Savings(True, "none", True)
