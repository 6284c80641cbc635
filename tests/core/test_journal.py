"""A journal that was not written to its end: what a power loss may leave, and what can only be damage."""

import pytest

from studio.core import journal
from studio.core.damage import Damaged

CHANGE = {"id": str}


@pytest.mark.parametrize("cut", [b"{", b'{"id": "re', b'{"id": "red", "time": 17', b'\n{"id": "red"'])
def test_a_power_loss_during_the_first_change_costs_that_change_alone(tmp_path, cut):
    path = tmp_path / "captions.jsonl"
    path.write_bytes(cut)
    assert journal.read(path, CHANGE) == []
    journal.append(path, {"id": "blue"})
    assert journal.read(path, CHANGE) == [{"id": "blue"}]


@pytest.mark.parametrize(
    "data",
    [b'{"id": "re\n', b'{"id": "re\n{"id": "b', b"[7]", b"null", b'"text"', b'{"kind": 7}', b"\x00\x00\x00\x00", b"\xff\x96 garbage"],
    ids=["an ended line", "two lines", "a list", "nothing", "a text", "another object", "zeros", "garbage"],
)
def test_what_no_power_loss_leaves_is_damage(tmp_path, data):
    path = tmp_path / "captions.jsonl"
    path.write_bytes(data)
    with pytest.raises(Damaged, match="none of them can be read"):
        journal.read(path, CHANGE)


def test_no_file_and_an_empty_file_have_no_changes(tmp_path):
    assert journal.read(tmp_path / "captions.jsonl", CHANGE) == []
    (tmp_path / "captions.jsonl").touch()
    assert journal.read(tmp_path / "captions.jsonl", CHANGE) == []
