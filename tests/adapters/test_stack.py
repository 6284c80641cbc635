import time

import pytest
import torch
from diffusers import StableDiffusionPipeline

from studio.adapters.format import Adapter, Kronecker, LowRank, load_adapter
from studio.adapters.stack import Stack
from studio.core.errors import StudioError
from tests.tiny import FAMILY, lora_tensors, save_lora, tiny_base, tiny_pipeline  # noqa: F401 - fixtures

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
PROMPT = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def stack(tiny_pipeline):  # noqa: F811
    made = Stack({"unet": tiny_pipeline.unet, "text_encoder": tiny_pipeline.text_encoder})
    yield made
    made.clear()


@torch.no_grad()
def says(pipeline):
    return pipeline.unet(NOISE, 500, PROMPT).sample


def adapter(tmp_path, pipeline, seed=0, **options) -> Adapter:
    return load_adapter(save_lora(tmp_path / f"{seed}.safetensors", lora_tensors(pipeline, seed=seed, **options)), FAMILY)


def peft(base, tmp_path, weights):
    plain = StableDiffusionPipeline.from_pretrained(base.path, safety_checker=None, use_safetensors=True)
    for seed in weights:
        plain.load_lora_weights(tmp_path, weight_name=f"{seed}.safetensors", adapter_name=f"a{seed}")
    plain.set_adapters([f"a{seed}" for seed in weights], list(weights.values()))
    return plain


def test_one_adapter_at_full_weight_is_plain_diffusers_bit_for_bit(tmp_path, tiny_base, tiny_pipeline, stack):  # noqa: F811
    report = stack.set([(adapter(tmp_path, tiny_pipeline), 1.0)])
    assert report.layers == 40 and not report.unmatched
    assert torch.equal(says(tiny_pipeline), says(peft(tiny_base, tmp_path, {0: 1.0})))


def test_three_adapters_with_weights_agree_with_peft(tmp_path, tiny_base, tiny_pipeline, stack):  # noqa: F811
    weights = {0: 0.7, 1: -0.5, 2: 1.3}
    stack.set([(adapter(tmp_path, tiny_pipeline, seed, rank=4), weight) for seed, weight in weights.items()])
    assert torch.allclose(says(tiny_pipeline), says(peft(tiny_base, tmp_path, weights)), atol=1e-5)


def test_weight_zero_and_clear_are_the_base_bit_for_bit(tmp_path, tiny_pipeline, stack):  # noqa: F811
    base = says(tiny_pipeline)
    lora = adapter(tmp_path, tiny_pipeline)
    stack.set([(lora, 1.0)])
    assert not torch.equal(says(tiny_pipeline), base)
    stack.set([(lora, 0.0)])
    assert torch.equal(says(tiny_pipeline), base)
    stack.set([(lora, 0.5)])
    stack.clear()
    assert torch.equal(says(tiny_pipeline), base)


def test_moving_a_weight_touches_numbers_only(tmp_path, tiny_pipeline, stack):  # noqa: F811
    loras = [adapter(tmp_path, tiny_pipeline, seed) for seed in (0, 1)]
    stack.set([(loras[0], 1.0), (loras[1], 1.0)])
    pairs = [(layer.changes[0].A.data_ptr(), layer.changes[0].B.data_ptr()) for layer in stack._layers.values()]
    began = time.perf_counter()
    stack.set([(loras[0], 0.25), (loras[1], -1.0)])
    assert time.perf_counter() - began < 0.05
    assert pairs == [(layer.changes[0].A.data_ptr(), layer.changes[0].B.data_ptr()) for layer in stack._layers.values()]
    moved = says(tiny_pipeline)
    stack.clear()
    stack.set([(loras[0], 0.25), (loras[1], -1.0)])
    assert torch.equal(says(tiny_pipeline), moved)


def test_convolutions_and_text_encoders_learn_too(tmp_path, tiny_base, tiny_pipeline, stack):  # noqa: F811
    tensors = {
        **lora_tensors(tiny_pipeline, targets=("conv1", "conv_shortcut", "to_k", "proj_in")),
        **{
            name.replace("text_encoder.", "text_encoder.text_model.", 1): tensor
            for name, tensor in lora_tensors(tiny_pipeline, targets=("q_proj", "fc1"), part="text_encoder").items()
        },
    }
    assert any(tensor.ndim == 4 and tensor.shape[2] == 3 for tensor in tensors.values())
    report = stack.set([(load_adapter(save_lora(tmp_path / "0.safetensors", tensors), FAMILY), 1.0)])
    assert not report.unmatched
    # diffusers would apply our U-Net's target list to these layers too; without metadata both read the keys alone.
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "0.safetensors")
    plain = peft(tiny_base, tmp_path, {0: 1.0})
    assert torch.equal(says(tiny_pipeline), says(plain))
    with torch.no_grad():
        tokens = tiny_pipeline.tokenizer("a red cat", return_tensors="pt").input_ids
        assert torch.equal(tiny_pipeline.text_encoder(tokens)[0], plain.text_encoder(tokens)[0])


def test_an_adapter_that_matches_nothing_is_an_error_and_changes_nothing(tiny_pipeline, stack):  # noqa: F811
    stranger = Adapter("stranger", {"unet.nowhere": LowRank(torch.ones(1, 1), torch.ones(1, 1))}, None)
    base = says(tiny_pipeline)
    with pytest.raises(StudioError, match="stranger matches no layer"):
        stack.set([(stranger, 1.0)])
    assert torch.equal(says(tiny_pipeline), base)


def test_wrong_sizes_are_an_error_that_leaves_the_stack_as_it_was(tmp_path, tiny_pipeline, stack):  # noqa: F811
    good = adapter(tmp_path, tiny_pipeline)
    stack.set([(good, 1.0)])
    before = says(tiny_pipeline)
    name = next(iter(good.layers))
    with pytest.raises(StudioError, match="does not fit this base"):
        stack.set([(Adapter("wide", {name: LowRank(torch.ones(2, 999), torch.ones(7, 2))}, None), 1.0)])
    assert torch.equal(says(tiny_pipeline), before)


def test_layers_the_base_lacks_are_reported(tmp_path, tiny_pipeline, stack):  # noqa: F811
    lora = adapter(tmp_path, tiny_pipeline)
    more = Adapter("more", {**lora.layers, "unet.extra.to_q": LowRank(torch.ones(1, 1), torch.ones(1, 1))}, None)
    assert stack.set([(more, 1.0)]).unmatched == {"more": ["unet.extra.to_q"]}


def test_a_weight_that_is_no_number_is_refused(tmp_path, tiny_pipeline, stack):  # noqa: F811
    with pytest.raises(StudioError, match="nan"):
        stack.set([(adapter(tmp_path, tiny_pipeline), float("nan"))])


def half_layer() -> tuple[torch.nn.Module, Stack]:
    root = torch.nn.Module()
    root.to_q = torch.nn.Linear(4, 4, bias=False, dtype=torch.float16)
    return root, Stack({"unet": root})


def loud(size: float, kind: str = "plain") -> Adapter:
    change = {
        "plain": LowRank(torch.ones(2, 4), torch.full((4, 2), size)),
        "magnitude": LowRank(torch.ones(2, 4), torch.ones(4, 2), torch.full((4,), size)),
        "lokr": Kronecker(torch.full((2, 2), size), torch.ones(2, 2)),
    }[kind]
    return Adapter("loud", {"unet.to_q": change}, None)


@pytest.mark.parametrize("kind", ["plain", "magnitude", "lokr"])
def test_numbers_too_large_for_the_base_are_refused_by_lora_and_layer(kind):
    _, stack = half_layer()
    with pytest.raises(StudioError, match=r"loud.*layer unet\.to_q.*1e\+05.*float16.*65,504"):
        stack.set([(loud(1e5, kind), 1.0)])
    stack.set([(loud(6e4, kind), 1.0)])


@pytest.mark.parametrize("kind", ["plain", "lokr"])
def test_a_weight_that_makes_numbers_too_large_is_refused_and_leaves_the_stack_as_it_was(kind):
    root, stack = half_layer()
    lora, x = loud(20_000.0, kind), torch.full((1, 4), 0.1, dtype=torch.float16)
    stack.set([(lora, 1.0)])
    before = root.to_q(x)
    with pytest.raises(StudioError, match=r"loud.*layer unet\.to_q.*weight 4.*float16.*smaller weight"):
        stack.set([(lora, 4.0)])
    assert torch.equal(root.to_q(x), before)


def test_the_layer_and_the_lora_that_overflow_while_drawing_are_found():
    root, stack = half_layer()
    calm = Adapter("calm", loud(0.1).layers, None)
    stack.set([(calm, 1.0), (loud(60_000.0), 1.0)])
    x = torch.full((1, 4), 10.0, dtype=torch.float16)
    with stack.measuring() as seen:
        root.to_q(x)
        root.to_q(torch.full_like(x, float("nan")))
    assert [(each.layer, each.title) for each in seen] == [("unet.to_q", "calm"), ("unet.to_q", "loud")], "broken input is no fault of the layer"
    assert seen[0].times < 100 and seen[1].times == float("inf")
    root.to_q(x)
    assert len(seen) == 2
