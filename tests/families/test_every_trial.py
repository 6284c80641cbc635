"""The trial of executions builds the denoiser of every family with random weights and times steps with its LoRA."""

import json

import pytest
import torch

from studio import config as configs
from studio.devices import runtime
from studio.families import FAMILIES
from studio.training import trial
from tests.families.members import Member, of_kinds


@pytest.fixture(autouse=True)
def keep_settings_of_torch():
    """The trial is a process of its own elsewhere."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch._dynamo.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = False


def request_of(member: Member, *overrides: str) -> trial.Request:
    values = {
        "model": {"family": member.family.name, "base_model": str(member.base.path)},
        "lora": {"rank": 4},
        "training": {"train_batch_size": 2},
        "runtime": {"device": "cpu", "dtype": "float32", "threads": 1, "attention": "fused", "gradient_checkpointing": False},
    }
    request = trial.Request(configs.build(values, *overrides), member.base, [(64, 96)], True, ["eager", "compiled"], "eager")
    assert trial.Request.from_json(json.loads(json.dumps(request.to_json()))) == request
    return request


def reports(request: trial.Request) -> list[dict]:
    written: list[dict] = []
    trial.main(request, written.append)
    return [report for report in written if "alive" not in report]


@of_kinds([family.name for family in FAMILIES])
def test_eager_and_compiled_steps_are_timed(member):
    ready, eager, compiled = reports(request_of(member))
    assert ready == {"ready": True}
    assert eager.keys() == compiled.keys() == {"execution", "preparation_seconds", "seconds_per_step"}
    assert (eager["execution"], compiled["execution"]) == ("eager", "compiled") and eager["seconds_per_step"] > 0


@of_kinds([family.name for family in FAMILIES])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_denoiser_is_the_loaded_one_except_for_the_weights(dtype, member):
    kind = runtime.torch_dtype(dtype)
    made = trial.random_denoiser(member.family, member.base, torch.device("cpu"), kind)
    loaded = member.family.load(member.base, kind, parts=(member.family.denoiser_name,)).components[member.family.denoiser_name]
    facts = [
        {name: (one.shape, one.dtype, one.device, one.requires_grad) for name, one in (*each.named_parameters(), *each.named_buffers())}
        for each in (made, loaded)
    ]
    assert facts[0] == facts[1] and made.training == loaded.training
    buffers = dict(loaded.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in made.named_buffers())
    assert all(weight.float().std() > 0 for weight in made.parameters() if weight.numel() > 1)


@of_kinds(["stable-diffusion"])
@pytest.mark.parametrize(
    "settings",
    [
        ["runtime.gradient_checkpointing=true", "lora.dropout=0.1", "lora.text_encoder=true", "training.gradient_accumulation_steps=2"],
        ["prior.prompt=a cat", "lora.method=dora", "training.optimizer=prodigy"],
    ],
    ids=["text encoder", "prior"],
)
def test_a_trial_has_the_settings_of_its_run(settings, member):
    request = request_of(member, *settings)
    assert [report.get("execution") for report in reports(request)] == [None, "eager", "compiled"]


@of_kinds(["stable-diffusion"])
def test_a_failure_ends_the_trial_with_its_reason(member):
    """The next execution is tried by another process."""
    request = request_of(member)
    unknown = trial.Request(request.config, request.base, request.sizes, request.masked, ["compiled", "eager"], "no-such-backend")
    written = reports(unknown)
    assert [report.get("execution") for report in written] == [None, "compiled"] and "no-such-backend" in written[1]["failed"]
