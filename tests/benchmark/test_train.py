"""The benchmark of training measures what it says: real programs that take turns, and yardsticks that know nothing of the studio."""

import ast
import json

import pytest

from studio.benchmark import train


def test_every_arm_steps_and_the_last_line_is_json(capsys):
    train.main(["--size", "tiny", "--rounds", "1", "--steps", "2"])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    asked = {"family", "size", "dtype", "efficiency", "vs_plain_same_precision", "vs_plain_auto", "peak_mb", "first_step_seconds"}
    assert asked <= said.keys() and said["dtype"] == "float32" and said["loss_distance_to_eager"] == 0
    assert all(seconds > 0 for seconds in said["seconds"].values()) and set(said["seconds"]) == {"floor eager", "studio float32", "plain float32"}


@pytest.mark.parametrize("script", ["floor.py", "plain.py"])
def test_the_yardsticks_import_nothing_of_the_studio(script):
    tree = ast.parse((train.Path(train.__file__).parent / script).read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in names if name.startswith("studio")]


def test_two_curves_are_as_far_apart_as_their_losses_differ():
    assert train.distance([1.0, 2.0, 9.0], [1.0, 1.0]) == 0.5
