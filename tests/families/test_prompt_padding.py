"""Padding of prompts that the denoiser may not see: training removes it, with the mask where nothing is left of it, and learns the same."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from studio import config as configs
from studio.config.dataset import DatasetConfig
from studio.config.training import TrainingConfig
from studio.families import FAMILIES
from studio.runs.run import Run
from studio.training import loop
from studio.training.batches import BatchLoader, ConditionCache
from studio.training.checkpoints import Disk
from studio.training.encoding_cache import Conditions, Encodings
from studio.training.examples import Example
from studio.training.loop import train
from studio.training.step import Inputs, TrainingStep
from tests.families import members
from tests.families.members import KINDS, Member, noise, of_kinds
from tests.tiny import tiny_run
from tests.training.test_distributed import fork, losses
from tests.training.test_engine import stop_at

MASKED = [family.name for family in FAMILIES if family.padding_mask]
CAPTIONS = ["", "a cat", "a dog", "a cat on a red house"]
TAGS = ["ohwx, red", "ohwx, a cat, on a red house, blue", "ohwx, a dog, picture of it", "ohwx, house", "ohwx, red cat, in a blue house"]
FEW = ("training.max_train_steps=6", "samples.prompts=[]", "saving.checkpoint_every=2")


@dataclass(frozen=True)
class Seen:
    """One call of the denoiser: the number of prompt tokens, the mask, and the number of images."""

    tokens: int
    mask: torch.Tensor | None
    images: int


@pytest.fixture
def seen(member, monkeypatch) -> list[Seen]:
    """Calls of the member's denoiser in training, in order."""
    calls: list[Seen] = []
    predict = type(member.family).predict

    def watched(family, denoiser, noisy_BCHW, t_B, conditions):
        masks = [rows for name, rows in conditions.items() if name.endswith("_mask")]
        calls.append(Seen(conditions["prompt_embeds"].shape[1], masks[0].clone() if masks else None, len(noisy_BCHW)))
        return predict(family, denoiser, noisy_BCHW, t_B, conditions)

    monkeypatch.setattr(type(member.family), "predict", watched)
    return calls


@pytest.fixture
def encodings(member, tmp_path) -> Encodings:
    return Encodings(tmp_path / "cache", replace(member.base, revision="0" * 40), member.family, torch.device("cpu"), torch.float32)


def encode(encodings: Encodings, captions: list[str], trim: bool = True) -> ConditionCache:
    cache = ConditionCache(encodings, torch.device("cpu"), trim)
    cache.encode(captions)
    return cache


def mask_of(conditions: Conditions) -> torch.Tensor | None:
    return next((rows for name, rows in conditions.items() if name.endswith("_mask")), None)


def own_length(encodings: Encodings, caption: str) -> int:
    return int(mask_of(encodings.conditions(caption)).sum())


def mixed_run(workspace, member: Member, *settings: str) -> Run:
    """A run of images with captions of several lengths and parts."""
    run = tiny_run(workspace, member.base, *FEW, *settings)
    snapshot = run.snapshot
    snapshot["pictures"] = [{**image, "caption": caption} for image, caption in zip(snapshot["pictures"], TAGS, strict=True)]
    (run.dataset_dir / "dataset.json").write_text(json.dumps(snapshot))
    return run


def trained(workspace, member: Member, *settings: str) -> Run:
    run = mixed_run(workspace, member, *settings)
    train(run, Disk())
    assert run.state == "finished"
    return run


@of_kinds(MASKED)
def test_a_caption_alone_reaches_the_denoiser_at_its_own_length_and_without_a_mask(member, seen, encodings, workspace):
    run = trained(workspace, member, "training.train_batch_size=1", "training.gradient_accumulation_steps=2", "validation.pictures=1")
    lengths = {own_length(encodings, image["caption"]) for image in run.snapshot["pictures"]}
    assert len(lengths) > 1 and {call.tokens for call in seen} == lengths
    assert all(call.mask is None for call in seen)


@of_kinds(MASKED)
def test_captions_of_several_lengths_are_padded_to_the_longest_of_the_set(member, seen, encodings, workspace):
    run = trained(workspace, member, "training.train_batch_size=2")
    longest = max(own_length(encodings, image["caption"]) for image in run.snapshot["pictures"])
    masked = [call for call in seen if call.mask is not None]
    assert masked and len({call.tokens for call in masked}) == 1
    assert longest <= masked[0].tokens < longest + 16
    assert all(call.mask.shape == (2, call.tokens) and not call.mask.all() for call in masked)


@of_kinds(MASKED)
def test_a_run_of_the_first_engine_keeps_the_limit_and_the_mask(member, seen, encodings, workspace):
    trained(workspace, member, "training.train_batch_size=1", "runtime.engine=1")
    limit = encodings.conditions("a cat")["prompt_embeds"].shape[1]
    assert {call.tokens for call in seen} == {limit} and all(call.mask is not None for call in seen)


def test_the_families_that_mask_their_padding():
    """The bases of the others were trained with padding that they see: its length is part of the model."""
    assert set(MASKED) == {"qwen-image", "krea-2", "chroma"}


@of_kinds([kind for kind in KINDS if kind.partition(":")[0] not in MASKED])
def test_padding_that_is_seen_stays(member, encodings):
    trimmed, full = encode(encodings, CAPTIONS), encode(encodings, CAPTIONS, trim=False)
    for name, rows in trimmed(CAPTIONS).items():
        assert torch.equal(rows, full(CAPTIONS)[name])


def prediction(member: Member, conditions: Conditions) -> torch.Tensor:
    rows = len(conditions["prompt_embeds"])
    return member.family.predict(member.denoiser, noise((rows, *member.latent_shape)), torch.linspace(200.0, 800.0, rows), conditions)


@of_kinds(MASKED)
@pytest.mark.parametrize("one_length", [False, True], ids=["own length", "one length"])
@pytest.mark.parametrize("captions", [["a cat"], ["a cat", "a dog"], CAPTIONS, ["x" * 600], ["x" * 600, "a cat"]], ids=len)
@torch.no_grad()
def test_the_loss_is_that_of_prompts_padded_to_the_limit(member, encodings, captions, one_length):
    """Within rounding of float32, also for a prompt that fills the limit."""
    every = [*CAPTIONS, *captions]
    trimmed, full = encode(encodings, every)(captions, one_length), encode(encodings, every, trim=False)(captions)
    target = noise((len(captions), *member.latent_shape), 1)
    loss, expected = ((prediction(member, each) - target).square().mean((1, 2, 3)) for each in (trimmed, full))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


@of_kinds(MASKED)
@pytest.mark.parametrize("one_length", [False, True], ids=["own length", "one length"])
def test_the_mask_is_absent_exactly_if_nothing_is_padded(member, encodings, one_length):
    cache = encode(encodings, CAPTIONS)
    lengths = [own_length(encodings, caption) for caption in CAPTIONS]
    assert lengths[1] == lengths[2] < lengths[3]
    for captions in ([0], [1], [3], [1, 2], [1, 3], [0, 1, 2, 3]):
        conditions = cache([CAPTIONS[index] for index in captions], one_length)
        real = torch.tensor([lengths[index] for index in captions])
        mask, tokens = mask_of(conditions), conditions["prompt_embeds"].shape[1]
        assert (mask is None) == bool((real == tokens).all())
        assert mask is None or (mask.dtype == torch.bool and torch.equal(mask.sum(1), real) and mask.shape[1] == tokens)
        assert tokens == cache.length if one_length or len(set(real.tolist())) > 1 else tokens == real[0]


@of_kinds(MASKED)
def test_captions_of_one_length_have_one_shape_and_no_mask_beside_dropped_ones(member, encodings):
    """Where each shape is compiled or captured, a set has at most two: with and without a mask."""
    cache = encode(encodings, ["", "", "a cat", "a dog"])
    assert cache.length == own_length(encodings, "a cat")
    alone, dropped = cache(["a dog"], True), cache([""], True)
    assert mask_of(alone) is None and mask_of(dropped) is not None
    empty = torch.zeros(1)
    plain, masked = (Inputs(empty, empty, empty, None, conditions) for conditions in (alone, dropped))
    assert plain.shapes() != masked.shapes() and len(masked.tensors()) == len(plain.tensors()) + 1


@of_kinds(MASKED)
def test_what_is_compiled_or_captured_gets_one_length(member, encodings):
    cache = encode(encodings, CAPTIONS)
    config = configs.build({"runtime": {"device": "cpu", "dtype": "float32"}})
    step = TrainingStep(config, member.family, member.pipeline, member.family.objective(member.pipeline, cache.device), None, cache, None)
    shown = [Example((64, 64), noise((16, 8, 8)), torch.zeros(16, 8, 8), caption) for caption in CAPTIONS[1:]]
    loader = BatchLoader(shown, DatasetConfig(), TrainingConfig(train_batch_size=1))
    lengths = {
        execution: {step.inputs(batch, execution).conditions["prompt_embeds"].shape[1] for number in range(3) for batch in loader.batches(number)}
        for execution in ("eager", "compiled", "graph")
    }
    assert lengths["compiled"] == lengths["graph"] == {cache.length}
    assert lengths["eager"] == {own_length(encodings, caption) for caption in CAPTIONS[1:]}


@of_kinds(MASKED)
def test_a_shuffled_caption_longer_than_the_set_is_padded_to_the_limit(member, encodings):
    encodings.load(member.family.text_encoder_names)
    cache, longer = encode(encodings, ["", "a cat"]), "a cat on a red house by the sea"
    limit = encodings.conditions("a cat")["prompt_embeds"].shape[1]
    assert cache([longer])["prompt_embeds"].shape[1] == own_length(encodings, longer) > cache.length
    for conditions in (cache([longer, "a cat"]), cache([longer], True)):
        assert conditions["prompt_embeds"].shape[1] == limit and not mask_of(conditions).all()


@of_kinds(["stable-diffusion", *MASKED])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_shuffled_caption_joins_one_of_the_cache_on_a_gpu(member, tmp_path):
    encodings = Encodings(tmp_path / "cache", replace(member.base, revision="0" * 40), member.family, torch.device("cuda"), torch.float32)
    encodings.load(member.family.text_encoder_names)
    conditions = encode(encodings, ["", "a cat"])(["a cat", "a dog"])
    assert {rows.device.type for rows in conditions.values()} == {"cpu"}


@of_kinds(MASKED)
def test_prompts_are_kept_on_the_disk_as_they_were_encoded(member, encodings):
    before = encodings.conditions("a cat")
    encode(encodings, CAPTIONS)(CAPTIONS)
    again = encodings.conditions("a cat")
    assert all(torch.equal(again[name], rows) for name, rows in before.items())
    assert len(list(encodings.folder.iterdir())) == len(CAPTIONS)


def gradients(member: Member, conditions: Conditions) -> dict[str, torch.Tensor]:
    prediction(member, conditions).square().sum().backward()
    found = {name: weight.grad.clone() for name, weight in member.denoiser.named_parameters() if weight.grad is not None}
    member.denoiser.zero_grad()
    return found


@of_kinds(MASKED)
@pytest.mark.parametrize("captions", [["a cat"], CAPTIONS], ids=["without a mask", "with a mask"])
def test_gradients_are_those_of_the_limit_with_and_without_checkpointing(member, encodings, captions):
    trimmed, full = encode(encodings, CAPTIONS)(captions), encode(encodings, CAPTIONS, trim=False)(captions)
    assert (mask_of(trimmed) is None) == (len(captions) == 1)
    part = member.family.denoiser_name
    with members.taught(member, {part: members.low_rank(member)[part]}):
        member.denoiser.train()
        expected, once = gradients(member, full), gradients(member, trimmed)
        member.family.enable_gradient_checkpointing(member.denoiser)
        twice = gradients(member, trimmed)
        member.denoiser.disable_gradient_checkpointing()
        member.denoiser.eval()
    assert expected.keys() == once.keys() == twice.keys() and any(gradient.abs().sum() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(once[name], gradient, rtol=1e-4, atol=1e-5 * max(scale, 1.0))
        torch.testing.assert_close(twice[name], once[name], rtol=1e-5, atol=1e-6 * max(scale, 1.0))


RESUMED = {
    "alone": ["training.train_batch_size=1", "training.gradient_accumulation_steps=2", "dataset.caption_dropout=0.3"],
    "together": ["training.train_batch_size=2", "dataset.caption_dropout=0.3", "runtime.gradient_checkpointing=true", "validation.pictures=1"],
    "shuffled": ["training.train_batch_size=2", "dataset.caption_shuffle=true"],
    "prior images": ["training.train_batch_size=1", "prior.prompt=a picture of a cat", "prior.pictures=2", "samples.num_inference_steps=1"],
}


@of_kinds(MASKED)
@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
def test_a_run_of_mixed_captions_stopped_and_resumed_ends_in_the_same_bytes(member, settings, workspace):
    expected = trained(workspace, member, *settings).latest_adapter().read_bytes()
    interrupted = mixed_run(workspace, member, *settings)
    stop_at(interrupted, 3)
    train(interrupted, Disk())
    assert interrupted.latest_adapter().read_bytes() == expected


@of_kinds(MASKED)
def test_prompts_with_all_their_padding_train_the_same_apart_from_rounding(member, workspace, monkeypatch):
    trimmed = trained(workspace, member, "training.train_batch_size=2")
    monkeypatch.setattr(loop, "ConditionCache", lambda encodings, device, trim: ConditionCache(encodings, device, trim=False))
    assert losses(trained(workspace, member, "training.train_batch_size=2")) == pytest.approx(losses(trimmed), rel=1e-3)


@of_kinds(["chroma"])
@pytest.mark.timeout(200)
def test_two_processes_whose_prompts_differ_in_length_train_as_one(member, workspace):
    one = trained(workspace, member, "training.train_batch_size=2")
    two = mixed_run(workspace, member, "training.train_batch_size=1", "runtime.processes=2")
    assert fork(two) == pytest.approx(losses(one), rel=1e-3)


def test_the_shapes_of_trimmed_prompts_are_those_that_the_denoiser_gets(member, encodings):
    """What is measured before a run is what the run uses."""
    cache = encode(encodings, CAPTIONS)
    for captions, padded in ((["a cat"], False), (CAPTIONS, True)):
        conditions = cache(captions)
        tokens = conditions["prompt_embeds"].shape[1]
        shapes = member.family.trimmed_input_shapes(member.denoiser.config, (64, 64), tokens, padded)
        full = member.family.input_shapes(member.denoiser.config, (64, 64))
        if member.family.padding_mask is None:
            assert shapes == full
            continue
        assert shapes.keys() == conditions.keys() | {"latents"} and shapes["latents"] == full["latents"]
        assert all(shapes[name] == tuple(rows.shape[1:]) for name, rows in conditions.items())
    longer = member.family.trimmed_input_shapes(member.denoiser.config, (64, 64), 10_000, True)
    assert longer == member.family.input_shapes(member.denoiser.config, (64, 64)), "no prompt is longer than the limit"
