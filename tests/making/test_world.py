"""The built-in world: images show what their captions state."""

import random

from studio.making import world
from studio.making.drawing import draw
from studio.making.pen import COLOUR_VALUES
from studio.making.prompts import NEUTRAL_WORDS, near_miss, training_prompt


def test_the_world_is_as_large_as_its_card_says():
    assert len(world.THINGS) >= 16 and len(world.COLOURS) == 10
    assert len(world.BACKGROUNDS) >= 6 and len(world.PLACES) >= 4


def test_the_same_scene_and_seed_give_the_same_image():
    scene = world.sample(random.Random(3))
    assert draw(scene, random.Random(7)).tobytes() == draw(scene, random.Random(7)).tobytes()
    assert draw(scene, random.Random(7)).tobytes() != draw(scene, random.Random(8)).tobytes()


def test_every_thing_can_be_drawn_everywhere():
    for index, name in enumerate(world.THINGS):
        scene = world.Scene((world.Thing(name, "red"),), world.SETTINGS[index % len(world.SETTINGS)])
        image = draw(scene, random.Random(index))
        assert image.size == (128, 128) and image.mode == "RGB"


def test_a_thing_has_the_colour_its_caption_names():
    for colour in world.COLOURS:
        background = "black background" if colour in ("white", "yellow", "grey") else "white background"
        scene = world.Scene((world.Thing("square", colour),), background, size="large")
        pixel = draw(scene, random.Random(1)).getpixel((64, 64))
        assert max(abs(a - b) for a, b in zip(pixel, COLOUR_VALUES[colour])) < 24, colour


def test_a_caption_says_all_there_is():
    scene = world.Scene((world.Thing("cat", "orange"),), "rainy street", size="small", position="left")
    assert world.caption(scene) == "a small orange cat on a rainy street, on the left"
    pair = world.Scene((world.Thing("cat", "red"), world.Thing("umbrella", "blue")), "orange background")
    assert world.caption(pair) == "a red cat and a blue umbrella on an orange background"


def test_different_scenes_have_different_captions():
    rng = random.Random(5)
    scenes = {world.sample(rng) for _ in range(3000)}
    assert len({world.caption(scene) for scene in scenes}) == len(scenes)


def test_paraphrases_keep_the_things_and_the_setting():
    rng = random.Random(6)
    for _ in range(200):
        scene = world.sample(rng)
        words = world.paraphrase(scene, rng)
        assert world.things_phrase(scene) in words and world.setting_phrase(scene.setting) in words


def test_the_held_out_file_is_what_the_code_chooses():
    assert list(world.held_out()) == world.choose_held_out()
    assert len(world.held_out()) == 200
    assert sum(len(scene.things) == 2 for scene in world.held_out()) == 60


def test_training_never_sees_a_held_out_combination():
    rng = random.Random(8)
    assert all(world.is_held_out(scene) for scene in world.held_out())
    seen = set().union(*(world.combinations(world.sample_for_training(rng)) for _ in range(4000)))
    assert not seen & world.held_out_combinations()


def test_nothing_stands_invisibly_on_its_own_colour():
    rng = random.Random(9)
    assert all(world.possible(world.sample(rng)) for _ in range(2000))
    assert all(world.possible(scene) for scene in world.held_out())


def test_training_prompts_leave_the_trigger_words_unlearned():
    rng = random.Random(10)
    prompts = [training_prompt(world.sample(rng), rng) for _ in range(3000)]
    assert not {"ohwx", "sks", "tok"} & {word.strip(",") for prompt in prompts for word in prompt.split()}
    assert not {"ohwx", "sks", "tok"} & set(NEUTRAL_WORDS)


def test_a_near_miss_is_false():
    rng = random.Random(11)
    for _ in range(300):
        scene = world.sample(rng)
        assert world.caption(near_miss(scene, rng)) != world.caption(scene)
