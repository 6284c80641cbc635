import dataclasses
import os
from collections import Counter

import numpy
import pytest
import torch
from PIL import Image

from studio.config.dataset import DatasetConfig
from studio.config.training import TrainingConfig
from studio.config.validation import ValidationConfig
from studio.families.objectives import FlowMatching, Shift
from studio.training.batches import Batch, BatchLoader
from studio.training.distributed import SINGLE_PROCESS, Shard
from studio.training.encoding_cache import Encodings, evict_oldest, read_mask, read_pixels
from studio.training.examples import Example, load_examples, split_validation
from studio.training.order import EpochOrder, FairOrder
from studio.training.rng import Purpose, make_rng
from studio.training.validation import NOISE_QUANTILES, Validation
from tests.tiny import FAMILY, tiny_base  # noqa: F401 - fixtures

BUCKETS = [(64, 64)] * 5 + [(64, 96)] * 2


def example(value: float, mirrored=None, caption="a, b, c") -> Example:
    return Example((64, 64), torch.full((4, 2, 2), value), torch.zeros(4, 2, 2), caption, mirrored=mirrored)


def examples(count: int = 7, batch_size: int = 2, accumulation: int = 1, shard: Shard = SINGLE_PROCESS, mirrored=None, **dataset) -> BatchLoader:
    training = TrainingConfig(seed=5, train_batch_size=batch_size, gradient_accumulation_steps=accumulation, noise_offset=0.1)
    return BatchLoader([example(i, mirrored, f"ohwx, {i}, red, blue") for i in range(count)], DatasetConfig(**dataset), training, shard)


def same(one: Batch, other: Batch) -> bool:
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("latents_BCHW", "noise_BCHW", "uniform_B"))
    return tensors and one.captions == other.captions


def test_a_batch_does_not_depend_on_the_batches_before_it():
    settings = {"mirrored": example(-1.0), "flip": True, "caption_dropout": 0.3, "caption_shuffle": True}
    sequential = examples(**settings)
    for step in range(11):
        sequential.batches(step)
    assert same(examples(**settings).batches(11)[0], sequential.batches(11)[0])


def test_captions_are_dropped_at_the_configured_rate():
    seen = examples(1, 1, caption_dropout=0.25)
    assert 70 < sum(seen.batches(step)[0].captions == [""] for step in range(400)) < 130


def test_caption_parts_are_shuffled_after_the_first():
    seen = {caption for step in range(60) for caption in examples(1, 1, caption_shuffle=True).batches(step)[0].captions}
    assert len(seen) == 6 and all(caption.startswith("ohwx, ") for caption in seen)
    assert {caption for step in range(9) for caption in examples(1, 1, caption_shuffle=True, caption_keep=4).batches(step)[0].captions} == {
        "ohwx, 0, red, blue"
    }


def test_two_processes_share_the_batches_of_one_with_twice_the_batch_size():
    for step in range(5):
        whole = examples(batch_size=4, accumulation=2).batches(step)
        parts = [examples(batch_size=2, accumulation=2, shard=Shard(rank, 2)).batches(step) for rank in (0, 1)]
        for part, one in enumerate(whole):
            assert torch.equal(one.latents_BCHW, torch.cat([parts[0][part].latents_BCHW, parts[1][part].latents_BCHW]))
            assert torch.equal(one.noise_BCHW, torch.cat([parts[0][part].noise_BCHW, parts[1][part].noise_BCHW]))
            assert one.captions == parts[0][part].captions + parts[1][part].captions


def test_accumulated_batches_are_the_next_ones_and_have_random_numbers_of_their_own():
    one, two = examples(batch_size=2, accumulation=2).batches(0)
    assert set(one.captions).isdisjoint(two.captions) and not torch.equal(one.noise_BCHW, two.noise_BCHW)


def test_repeats_repeat_an_image_in_an_epoch_of_engine_1():
    training = TrainingConfig(seed=5, train_batch_size=2)
    for engine, times in ((1, 3), (2, 2)):
        loader = BatchLoader([example(i) for i in range(3)], DatasetConfig(repeats=3), training, engine=engine)
        seen = Counter(index for step in range(3) for index in loader.indices(step))
        assert set(seen.values()) == {times}


def test_the_engine_of_a_run_decides_its_order():
    shown, training = [dataclasses.replace(example(i), bucket=BUCKETS[i]) for i in range(7)], TrainingConfig(seed=5, train_batch_size=3)
    for engine, kind in ((1, EpochOrder), (2, FairOrder)):
        loader, order = BatchLoader(shown, DatasetConfig(), training, engine=engine, stream=1), kind(BUCKETS, 3, 5, stream=1)
        assert [loader.indices(step) for step in range(30)] == [order.batch(step) for step in range(30)]


def test_validation_images_are_chosen_by_the_seed_and_one_image_is_left():
    images = [{"sha256": str(index)} for index in range(6)]
    kept, held = split_validation(images, 2, seed=3)
    assert len(held) == 2 and len(kept) == 4 and split_validation(images, 2, seed=3) == (kept, held)
    assert len(split_validation(images, 50, seed=3)[0]) == 1 and split_validation(images, 0, seed=3) == (images, [])


def test_a_mask_is_as_large_as_the_latents_and_keeps_its_floor(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "m.png")
    kept = read_mask(tmp_path / "m.png", (64, 64), (8, 8), mirror=False, floor=0.1)
    assert kept.shape == (1, 8, 8) and kept[0, 0].tolist() == pytest.approx([1] * 4 + [0.1] * 4)
    assert torch.equal(read_mask(tmp_path / "m.png", (64, 64), (8, 8), mirror=True, floor=0.1), kept.flip(2))


class Blocks:
    """Encodings whose latents are the means of 8 x 8 pixels: unlike a real VAE they do not depend on pixels beyond a mask's edge."""

    class family:
        bucket_step = staticmethod(lambda base: 8)
        longest_side = staticmethod(lambda base: None)

    base = None
    notes: list[str] = []

    def latents(self, path, sha256, size, mirror):
        mean_CHW = torch.nn.functional.avg_pool2d(read_pixels(path, size, mirror), 8)[0]
        return mean_CHW, torch.zeros_like(mean_CHW)


def gradient(folder, right, **dataset) -> torch.Tensor:
    """Gradient of one weight per channel after four steps on an image that is red on its unmasked left and `right` elsewhere."""
    folder.mkdir(exist_ok=True)
    image = Image.new("RGB", (64, 64), "red")
    image.paste(right, (32, 0, 64, 64))
    image.save(folder / "a.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(folder / "m.png")
    listing = [{"file": "a.png", "sha256": sha256, "caption": "a card", "width": 64, "height": 64, "mask": "m.png"} for sha256 in "ab"]
    config = DatasetConfig(resolution=64, flip=True, **dataset)
    loaded = load_examples(listing, folder, config, Blocks(), lambda: False, lambda *_: None)
    weight = torch.ones(3, 1, 1, requires_grad=True)
    objective = FlowMatching(Shift())
    for step in range(4):
        (batch,) = BatchLoader(loaded, config, TrainingConfig(seed=5, train_batch_size=2)).batches(step)
        t_B = objective.timesteps(batch.uniform_B, (8, 8))
        noisy_BCHW = objective.add_noise(batch.latents_BCHW, batch.noise_BCHW, t_B)
        objective.losses(weight * noisy_BCHW, batch.latents_BCHW, batch.noise_BCHW, t_B, batch.mask_B1HW).mean().backward()
    return weight.grad


def test_masked_pixels_have_no_gradient(tmp_path):
    blue, noise = "blue", Image.effect_noise((32, 64), 90).convert("RGB")
    assert torch.equal(gradient(tmp_path, blue), gradient(tmp_path, noise))
    assert not torch.allclose(gradient(tmp_path, blue, mask_floor=0.1), gradient(tmp_path, noise, mask_floor=0.1))
    assert not torch.allclose(gradient(tmp_path, blue, masks=False), gradient(tmp_path, noise, masks=False))


def test_the_least_recently_used_encodings_are_evicted_first(tmp_path):
    for index in range(4):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(b"x" * 100)
        os.utime(path, (index, index))
    evict_oldest(tmp_path, 250)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["2", "3"]


def test_random_numbers_differ_between_purposes_steps_and_indices():
    numbers = {make_rng(purpose, 7, step, index).random() for purpose in Purpose for step in range(3) for index in range(3)}
    assert len(numbers) == len(Purpose) * 9
    assert make_rng(Purpose.NOISE, 7, 2, 1).random() == make_rng(Purpose.NOISE, 7, 2, 1).random()


def test_an_image_covers_its_bucket_and_is_mirrored_on_request(tmp_path):
    image = Image.new("RGB", (80, 40), (255, 0, 0))
    image.paste((0, 0, 255), (40, 0, 80, 40))
    image.save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png", (32, 48), mirror=False)
    assert pixels.shape == (1, 3, 32, 48)
    assert pixels[0, :, 16, 2].tolist() == [1.0, -1.0, -1.0]
    assert torch.equal(read_pixels(tmp_path / "a.png", (32, 48), mirror=True), pixels.flip(3))


def test_latents_are_sampled_from_their_posterior_at_every_step():
    """mean + std * noise (Kingma & Welling 2013), where the noise is a function of (seed, step, index in the global batch)."""
    generator = torch.Generator().manual_seed(0)
    shown = [Example((64, 64), torch.randn(4, 2, 2, generator=generator), torch.rand(4, 2, 2, generator=generator) + 0.1, str(i)) for i in range(3)]
    seen = BatchLoader(shown, DatasetConfig(), TrainingConfig(seed=5, train_batch_size=2, gradient_accumulation_steps=2))
    for step in range(4):
        for part, batch in enumerate(seen.batches(step)):
            for place, (latents_CHW, caption) in enumerate(zip(batch.latents_BCHW, batch.captions)):
                one = shown[int(caption)]
                normal = make_rng(Purpose.POSTERIOR, 5, step, 2 * part + place).standard_normal((4, 2, 2), dtype=numpy.float32)
                assert torch.equal(latents_CHW, one.mean_CHW + one.std_CHW * torch.from_numpy(normal)), (step, part, place)


def test_the_cache_stores_mean_and_std_of_the_posterior(tmp_path, tiny_base):  # noqa: F811
    """As diffusers' VAE gives them, in the scale that the denoiser was trained in; with a std of zero only the mean would be trained."""
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a.png")
    encodings = Encodings(tmp_path / "cache", tiny_base, FAMILY, torch.device("cpu"), torch.float32)
    vae = FAMILY.load(tiny_base, torch.float32, parts=("vae",)).components["vae"]
    with torch.no_grad():
        posterior = vae.encode(read_pixels(tmp_path / "a.png", (64, 64), mirror=False)).latent_dist
    for _ in ("encoded", "from the cache"):
        mean_CHW, std_CHW = encodings.latents(tmp_path / "a.png", "0" * 64, (64, 64), mirror=False)
        assert torch.equal(mean_CHW, posterior.mean[0] * vae.config.scaling_factor)
        assert torch.equal(std_CHW, posterior.std[0] * vae.config.scaling_factor) and std_CHW.min() > 0


def test_validation_uses_the_mean_of_the_posterior():
    """The validation loss may change only with the weights, so its latents are not sampled."""
    held = [Example((64, 64), torch.full((4, 2, 2), float(i)), torch.ones(4, 2, 2), "") for i in range(2)]
    validation = Validation(held, ValidationConfig(), 5, training_step=None)
    for index, one in enumerate(held):
        for quantile in NOISE_QUANTILES:
            assert torch.equal(validation._batch(index, quantile).latents_BCHW[0], one.mean_CHW)


@pytest.mark.parametrize(("engine", "bucket"), [(1, (48, 88)), (2, (32, 128))])
def test_a_run_keeps_the_bucket_table_of_its_engine(tmp_path, engine, bucket):
    Image.new("RGB", (256, 64)).save(tmp_path / "a.png")
    listing = [{"file": "a.png", "sha256": "a", "caption": "a card", "width": 256, "height": 64}]
    (loaded,) = load_examples(listing, tmp_path, DatasetConfig(resolution=64), Blocks(), lambda: False, lambda *_: None, engine)
    assert loaded.bucket == bucket and loaded.mean_CHW.shape == (3, bucket[0] // 8, bucket[1] // 8)
