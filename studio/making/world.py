"""The built-in world: its scenes, their canonical captions, and the combinations held out for evaluation.

A Scene contains exactly what a caption says; drawing.py defines its look. No torch.
"""

import json
import random
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from studio.builtin import HERE

THINGS = ("circle", "square", "star", "heart", "house", "tree", "fish", "cat", "boat", "umbrella", "face", "car", "flower", "bird", "mushroom", "cup")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
BACKGROUNDS = ("white", "grey", "yellow", "pink", "blue", "green", "purple", "black")
PLACES = {
    "street": "on a street",
    "rainy street": "on a rainy street",
    "hill": "on a green hill",
    "sea": "by the sea",
    "night": "at night",
    "snow": "in the snow",
}
SIZES = ("", "small", "large")
"""No word means medium; the three sizes are clearly different."""
POSITIONS = {"": "", "left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
"""No word means the centre. Top and bottom exist only on plain backgrounds: in a place, things stand on the ground."""

SETTINGS = tuple(f"{colour} background" for colour in BACKGROUNDS) + tuple(PLACES)
PREFIXES = ("", "", "", "a picture of ", "illustration of ", "a drawing of ", "an illustration of ")
HELD_OUT_FILE = HERE / "held_out.json"


@dataclass(frozen=True)
class Thing:
    name: str
    colour: str


@dataclass(frozen=True)
class Scene:
    """One or two things in a setting; of two things the left one comes first, both of medium size."""

    things: tuple[Thing, ...]
    setting: str
    size: str = ""
    position: str = ""


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def setting_phrase(setting: str) -> str:
    return PLACES[setting] if setting in PLACES else f"on {article(setting)}"


def things_phrase(scene: Scene) -> str:
    size = f"{scene.size} " if scene.size else ""
    return " and ".join(article(f"{size}{thing.colour} {thing.name}") for thing in scene.things)


def caption(scene: Scene) -> str:
    """The canonical caption of a scene: 'a small red cat on a green hill, on the left'."""
    sentence = f"{things_phrase(scene)} {setting_phrase(scene.setting)}"
    return f"{sentence}, {POSITIONS[scene.position]}" if scene.position else sentence


def paraphrase(scene: Scene, rng: random.Random) -> str:
    """A correct caption as a user might write it: with or without a prefix, parts in another order, with or without 'in the centre'."""
    prefix = rng.choice(PREFIXES)
    things, where = things_phrase(scene), setting_phrase(scene.setting)
    position = POSITIONS[scene.position]
    if not position and len(scene.things) == 1 and rng.random() < 0.1:
        position = "in the centre"
    if prefix == "" and rng.random() < 0.12:
        parts = [where, things] + ([position] if position else [])
        return f"{parts[0]}, " + " ".join(parts[1:])
    if position and rng.random() < 0.4:
        return f"{prefix}{things} {position} {where}"
    return f"{prefix}{things} {where}" + (f", {position}" if position else "")


def possible(scene: Scene) -> bool:
    """Whether the scene is visible: no thing has the colour of its plain background."""
    return all(scene.setting != f"{thing.colour} background" for thing in scene.things)


def sample(rng: random.Random, two_things: float = 0.4) -> Scene:
    """A random scene, held-out combinations included; training draws from `sample_for_training`."""
    while True:
        setting = rng.choice(SETTINGS)
        if rng.random() < two_things:
            names = rng.sample(THINGS, 2)
            scene = Scene(tuple(Thing(name, rng.choice(COLOURS)) for name in names), setting)
        else:
            scene = Scene((Thing(rng.choice(THINGS), rng.choice(COLOURS)),), setting, size=rng.choice(SIZES))
            if scene.size != "large" and rng.random() < 0.5:
                positions = ("left", "right") if setting in PLACES else ("left", "right", "top", "bottom")
                scene = replace(scene, position=rng.choice(positions))
        if possible(scene):
            return scene


def sample_for_training(rng: random.Random, two_things: float = 0.4) -> Scene:
    while is_held_out(scene := sample(rng, two_things)):
        pass
    return scene


def combinations(scene: Scene) -> set[tuple[str, ...]]:
    """Combinations of a scene that may be held out: a thing in a colour in a setting, or a pair of coloured things (in either order)."""
    found: set[tuple[str, ...]] = {(thing.name, thing.colour, scene.setting) for thing in scene.things}
    if len(scene.things) == 2:
        found.add(tuple(sorted(f"{thing.colour} {thing.name}" for thing in scene.things)))
    return found


def choose_held_out(seed: int = 2026) -> list[Scene]:
    """The 200 evaluation scenes: 140 of one thing (every thing, colour and setting equally often), 60 of two."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < 140:
        index = len(scenes)
        scene = Scene((Thing(THINGS[index % len(THINGS)], rng.choice(COLOURS)),), SETTINGS[index % len(SETTINGS)], size=SIZES[(index // 3) % 3])
        if possible(scene) and not any(combinations(scene) & combinations(other) for other in scenes):
            scenes.append(scene)
    taken = set().union(*(combinations(scene) for scene in scenes))
    while len(scenes) < 200:
        scene = sample(rng, two_things=1.0)
        pair = tuple(sorted(f"{thing.colour} {thing.name}" for thing in scene.things))
        if pair not in taken:
            taken.add(pair)
            scenes.append(scene)
    return scenes


def to_json(scene: Scene) -> dict:
    return {
        "things": [[thing.name, thing.colour] for thing in scene.things],
        "setting": scene.setting,
        "size": scene.size,
        "position": scene.position,
    }


def from_json(entry: dict) -> Scene:
    return Scene(tuple(Thing(name, colour) for name, colour in entry["things"]), entry["setting"], entry["size"], entry["position"])


def write_held_out(path: Path = HELD_OUT_FILE) -> None:
    lines = ",\n".join(json.dumps(to_json(scene)) for scene in choose_held_out())
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


@lru_cache(maxsize=1)
def held_out() -> tuple[Scene, ...]:
    return tuple(from_json(entry) for entry in json.loads(HELD_OUT_FILE.read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def held_out_combinations() -> frozenset[tuple[str, ...]]:
    """One-thing scenes hold out (thing, colour, setting); two-thing scenes hold out the pair, in any setting."""
    pairs = {part for scene in held_out() if len(scene.things) == 2 for part in combinations(scene) if len(part) == 2}
    singles = {part for scene in held_out() if len(scene.things) == 1 for part in combinations(scene)}
    return frozenset(pairs | singles)


def is_held_out(scene: Scene) -> bool:
    return bool(combinations(scene) & held_out_combinations())
