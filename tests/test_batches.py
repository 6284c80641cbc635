from collections import Counter

import torch
from PIL import Image

from studio.batches import Example, Examples, batch_order, read_pixels
from studio.chance import Purpose, draw

BUCKETS = [(64, 64)] * 5 + [(64, 96)] * 2


def example(value: float, bucket=(64, 64), mirrored=None) -> Example:
    return Example(bucket, torch.full((4, 2, 2), value), torch.zeros(4, 2, 2), mirrored, {"prompt_embeds": torch.full((1, 3, 2), value)})


def test_an_epoch_shows_every_picture_and_never_mixes_shapes():
    for epoch in range(20):
        batches = batch_order(BUCKETS, 3, seed=1, epoch=epoch)
        assert all(len(batch) == 3 for batch in batches)
        assert all(len({BUCKETS[index] for index in batch}) == 1 for batch in batches)
        assert set().union(*batches) == set(range(7))


def test_a_short_batch_is_filled_fairly():
    seen = Counter(index for epoch in range(400) for batch in batch_order(BUCKETS[:5], 4, seed=1, epoch=epoch) for index in batch)
    assert max(seen.values()) < 1.2 * min(seen.values())


def test_the_order_is_a_function_of_seed_and_epoch():
    assert batch_order(BUCKETS, 2, 1, 3) == batch_order(BUCKETS, 2, 1, 3)
    assert batch_order(BUCKETS, 2, 1, 3) != batch_order(BUCKETS, 2, 1, 4)
    assert batch_order(BUCKETS, 2, 1, 3) != batch_order(BUCKETS, 2, 2, 3)


def test_a_batch_does_not_depend_on_the_batches_before_it():
    def fresh():
        return Examples(
            [example(i, mirrored=(torch.zeros(4, 2, 2), torch.ones(4, 2, 2))) for i in range(7)], {"prompt_embeds": torch.zeros(1, 3, 2)}, 2, 5, 0.3
        )

    walked = fresh()
    for step in range(11):
        walked.batch(step)
    at_once, after = fresh().batch(11), walked.batch(11)
    assert torch.equal(at_once.latents_BCHW, after.latents_BCHW)
    assert torch.equal(at_once.noise_BCHW, after.noise_BCHW)
    assert torch.equal(at_once.uniform_B, after.uniform_B)
    assert torch.equal(at_once.conditions["prompt_embeds"], after.conditions["prompt_embeds"])


def test_captions_are_hidden_as_often_as_asked():
    examples = Examples([example(1.0)], {"prompt_embeds": torch.zeros(1, 3, 2)}, 1, 5, 0.25)
    hidden = sum(examples.batch(step).conditions["prompt_embeds"].sum().item() == 0 for step in range(400))
    assert 70 < hidden < 130


def test_chance_differs_between_purposes_steps_and_places_in_the_batch():
    numbers = {draw(purpose, 7, step, index).random() for purpose in Purpose for step in range(3) for index in range(3)}
    assert len(numbers) == len(Purpose) * 9
    assert draw(Purpose.NOISE, 7, 2, 1).random() == draw(Purpose.NOISE, 7, 2, 1).random()


def test_a_picture_covers_its_bucket_and_is_mirrored_on_request(tmp_path):
    picture = Image.new("RGB", (80, 40), (255, 0, 0))
    picture.paste((0, 0, 255), (40, 0, 80, 40))
    picture.save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png", (32, 48), mirror=False)
    assert pixels.shape == (1, 3, 32, 48)
    assert pixels[0, :, 16, 2].tolist() == [1.0, -1.0, -1.0]
    assert torch.equal(read_pixels(tmp_path / "a.png", (32, 48), mirror=True), pixels.flip(3))
