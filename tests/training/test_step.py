"""Inputs of a training step."""

import pytest
import torch

from studio import config as configs
from studio import families
from studio.benchmark.models import save_tiny
from studio.config.runtime import ENGINE
from studio.families import FAMILIES
from studio.training.batches import Batch, ConditionCache
from studio.training.distributed import ProcessGroup
from studio.training.encoding_cache import Encodings
from studio.training.lora import add_lora
from studio.training.parameters import TrainedParameters
from studio.training.step import TrainingStep

WITH_TRAINABLE_ENCODERS = [family.name for family in FAMILIES if family.text_encoder_targets]


@pytest.fixture(scope="module", params=WITH_TRAINABLE_ENCODERS)
def base(request, tmp_path_factory):
    return families.resolve_base(str(save_tiny(families.get(request.param), tmp_path_factory.mktemp(request.param) / "tiny")))


def step_that_trains_text_encoders(base, folder, engine: int) -> TrainingStep:
    family, device = families.from_folder(base), torch.device("cpu")
    runtime = {"device": "cpu", "dtype": "float32", "threads": 1, "engine": engine}
    config = configs.build({"model": {"base_model": str(base.path)}, "lora": {"rank": 4, "text_encoder": True}, "runtime": runtime})
    encodings = Encodings(folder, base, family, device, torch.float32)
    pipeline = encodings.pipeline
    encodings.load((*family.text_encoder_names, family.denoiser_name))
    working = add_lora(pipeline, config, family, torch.float32)
    text_encoder_names = {name for name in working if not name.startswith(f"{family.denoiser_name}.")}
    parameters = TrainedParameters(working, config.training, engine, text_encoder_names)
    objective = family.objective(pipeline, device)
    return TrainingStep(config, family, pipeline, objective, parameters, ConditionCache(encodings, device, trim=True), ProcessGroup())


def batch(*captions: str) -> Batch:
    latents = torch.zeros(len(captions), 4, 8, 8)
    return Batch(latents, latents, torch.full((len(captions),), 0.5, dtype=torch.float64), list(captions))


def test_a_dropped_caption_is_the_unconditional_input_also_while_text_encoders_are_trained(base, tmp_path):
    step = step_that_trains_text_encoders(base, tmp_path, ENGINE)
    with torch.no_grad():
        empty = step.family.encode_prompts(step.pipeline, [""])
        cat = step.family.encode_prompts(step.pipeline, ["a cat"])
    unconditional = step.family.unconditional(step.pipeline, empty)
    conditions = step.inputs(batch("a cat", "")).conditions
    for name, rows in conditions.items():
        assert torch.allclose(rows[1:], unconditional[name], atol=1e-5) and torch.allclose(rows[:1], cat[name], atol=1e-5), name
        assert torch.equal(rows[1:], unconditional[name]) or unconditional[name] is empty[name]


def test_captions_train_the_text_encoder_beside_dropped_ones(base, tmp_path):
    step = step_that_trains_text_encoders(base, tmp_path, ENGINE)

    def gradient(row: int) -> float:
        for weight in step.parameters.working.values():
            weight.grad = None
        rows = [rows[row].float().square().sum() for rows in step.inputs(batch("a cat", "")).conditions.values() if rows.requires_grad]
        torch.stack(rows).sum().backward()
        trained = [weight for name, weight in step.parameters.working.items() if name.startswith("text_encoder") and weight.grad is not None]
        return sum(weight.grad.abs().sum().item() for weight in trained)

    with torch.no_grad():
        empty = step.family.encode_prompts(step.pipeline, [""])
    assert gradient(0) > 0
    learned = step.family.unconditional(step.pipeline, empty) is empty
    assert (gradient(1) > 0) == learned


def test_a_run_of_the_first_engine_keeps_the_encoding_of_an_empty_caption(base, tmp_path):
    step = step_that_trains_text_encoders(base, tmp_path, 1)
    conditions, encoded = step.inputs(batch("a cat", "")).conditions, step.family.encode_prompts(step.pipeline, ["a cat", ""])
    assert all(torch.equal(rows, encoded[name]) for name, rows in conditions.items())
