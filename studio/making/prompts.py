"""Training captions as users might write them: paraphrases, incomplete scenes, and occasionally a meaningless word."""

import random
import string
from dataclasses import replace

from studio.making.vocabulary import EXTRA_WORDS
from studio.making.world import COLOURS, PLACES, SETTINGS, THINGS, Scene, Thing, paraphrase, possible, setting_phrase, things_phrase

NONSENSE_SHARE = 0.08
PARTIAL_SHARE = 0.08
KNOWN_WORDS = "ohwx sks tok a an and the of in on at by with to picture drawing illustration centre left right top bottom background night"
NEUTRAL_WORDS = tuple(word for word in EXTRA_WORDS.split() if word not in KNOWN_WORDS.split())
"""Meaningless words. The three trigger words are not among them: a LoRA defines their effect."""


def nonsense(rng: random.Random) -> str:
    """A word that the model should ignore, so that an unknown trigger word has little effect without a LoRA."""
    if rng.random() < 0.5:
        return rng.choice(NEUTRAL_WORDS)
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 6)))


def training_prompt(scene: Scene, rng: random.Random) -> str:
    """A correct prompt for an image; it may omit the setting or the thing."""
    if rng.random() < PARTIAL_SHARE:
        words = rng.choice((things_phrase(scene), setting_phrase(scene.setting)))
    else:
        words = paraphrase(scene, rng)
    if rng.random() < NONSENSE_SHARE:
        parts = words.split(" ")
        at = 0 if rng.random() < 0.6 else rng.randint(0, len(parts))
        words = " ".join([*parts[:at], nonsense(rng), *parts[at:]])
    return words


def other(choices: tuple[str, ...], than: str, rng: random.Random) -> str:
    return rng.choice([choice for choice in choices if choice != than])


def near_miss(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one error: a colour, a thing, the setting, or the colours of two things swapped."""
    while True:
        kind = rng.choice(("colour", "colour", "thing", "setting", "swap", "order"))
        index = rng.randrange(len(scene.things))
        things = list(scene.things)
        if kind == "colour":
            things[index] = Thing(things[index].name, other(COLOURS, things[index].colour, rng))
        elif kind == "thing":
            things[index] = Thing(other(THINGS, things[index].name, rng), things[index].colour)
        elif len(things) == 2 and kind == "swap":
            things = [Thing(things[0].name, things[1].colour), Thing(things[1].name, things[0].colour)]
        elif len(things) == 2 and kind == "order":
            things.reverse()
        setting = other((*SETTINGS, *PLACES), scene.setting, rng) if kind == "setting" else scene.setting
        miss = replace(scene, things=tuple(things), setting=setting)
        if miss != scene and possible(miss):
            return miss
