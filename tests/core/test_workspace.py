import signal
import sys

import pytest

from studio.core.errors import StudioError
from studio.core.workspace import Home, new_id, slug, write_atomically


@pytest.mark.parametrize("hostile", ["../x", "a/b", "..", "", "a\\b", "a\0b", "C:x", "x" * 200, "Ünïcode", ".hidden", "a..b", None, 7])
def test_an_id_that_could_leave_the_workspace_is_refused(workspace, hostile):
    for path in (workspace.dataset_path, workspace.run_path, workspace.adapter_path, workspace.image_path, workspace.restore):
        with pytest.raises(StudioError, match="is not the id"):
            path(hostile)


@pytest.mark.parametrize("owner", ["../other", "A B", "", "."])
def test_an_owner_that_could_reach_another_is_refused(tmp_path, owner):
    with pytest.raises(StudioError, match="cannot own"):
        Home(tmp_path).workspace(owner)


def test_ids_are_readable_and_cannot_be_guessed():
    first, second = new_id("Ink Style, 2nd try!"), new_id("Ink Style, 2nd try!")
    assert first.startswith("ink-style-2nd-try-") and first != second
    assert slug("日本語") == "untitled"


def test_what_was_removed_can_be_put_back(workspace):
    folder = workspace.dataset_path("ink")
    folder.mkdir()
    (folder / "a.txt").write_text("a red boat")
    trash_id = workspace.remove(folder)
    assert not folder.exists() and workspace.trashed()[0].id == trash_id
    assert workspace.restore(trash_id) == folder
    assert (folder / "a.txt").read_text() == "a red boat" and workspace.trashed() == []


def test_nothing_outside_the_workspace_is_removed(workspace, tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("x")
    link = workspace.datasets / "link"
    link.symlink_to(outside)
    for path in (outside, link, workspace.root / ".." / ".." / ".." / "precious"):
        with pytest.raises(StudioError):
            workspace.remove(path)
    assert outside.read_text() == "x"


def test_putting_back_never_overwrites(workspace):
    folder = workspace.dataset_path("ink")
    folder.mkdir()
    trash_id = workspace.remove(folder)
    folder.mkdir()
    with pytest.raises(StudioError, match="exists again"):
        workspace.restore(trash_id)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "x.json"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "not bytes")
    assert target.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is open")
def test_a_reader_sees_the_old_file_or_the_new_one_while_it_is_written(tmp_path):
    from tests.atomic import seen_while_replaced

    assert seen_while_replaced(write_atomically, tmp_path / "x.json") <= {"old", "new"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path):
    from tests.atomic import left_by_a_kill

    assert left_by_a_kill(write_atomically, tmp_path / "x.json") == ("old", signal.SIGXFSZ)


def test_drafts_of_each_owner_and_each_home_have_another_name(tmp_path):
    home, other = Home(tmp_path / "a"), Home(tmp_path / "b")
    key = home.drafts_key("local")
    assert key == Home(tmp_path / "a").drafts_key("local") and "local" not in key
    assert len({key, home.drafts_key("visitor"), other.drafts_key("local")}) == 3
    home.identity.write_bytes(b"\xff cut")
    assert home.drafts_key("local") != key
