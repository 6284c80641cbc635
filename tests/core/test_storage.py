"""Replacing and deleting files that another program has open: Windows refuses that until the other program closes them."""

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from studio.core import platform, storage
from studio.core.errors import StudioError
from studio.core.workspace import Home, copy_atomically, write_atomically
from studio.datasets.dataset import Dataset
from studio.training.checkpoints import Disk, load_newest, save
from tests.training.test_checkpoints import STATE


@pytest.fixture
def windows(monkeypatch):
    """A function that makes `module.name` fail `times` times as on Windows with a file that another program has open."""
    monkeypatch.setattr(platform, "WINDOWS", True)

    def fail(module, name: str, times: float):
        real, calls = getattr(module, name), []

        def instead(*arguments, **options):
            calls.append(arguments)
            if len(calls) <= times:
                raise PermissionError(13, "Access is denied", str(arguments[0]))
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, instead)
        return calls

    return fail


def denied(path, *arguments, **options):
    raise PermissionError(13, "Access is denied", str(path))


def replace_by_disk(path: Path, data: bytes) -> None:
    Disk().replace(path, data)


def replace_by_copy(path: Path, data: bytes) -> None:
    source = path.with_name("source")
    source.write_bytes(data)
    copy_atomically(source, path)


WRITES = (write_atomically, replace_by_copy, replace_by_disk)


@pytest.mark.parametrize("write", WRITES)
def test_a_file_that_a_reader_has_open_for_a_moment_is_replaced(windows, tmp_path, write):
    target = tmp_path / "events"
    target.write_bytes(b"old")
    calls = windows(os, "replace", 3)
    write(target, b"new")
    assert target.read_bytes() == b"new" and len(calls) == 4


@pytest.mark.parametrize("write", WRITES)
def test_a_file_that_stays_open_is_an_error_after_a_second_that_names_it(windows, tmp_path, write):
    target = tmp_path / "events"
    target.write_bytes(b"old")
    windows(os, "replace", float("inf"))
    began = time.monotonic()
    with pytest.raises(StudioError, match=r"events.* cannot be replaced .*another program has it open.* Close .* try again") as raised:
        write(target, b"new")
    assert 0.9 < time.monotonic() - began < 2
    # Code that handles errors of the disk handles this one too.
    assert isinstance(raised.value, PermissionError) and isinstance(raised.value.__cause__, PermissionError)
    assert target.read_bytes() == b"old"


def test_other_errors_and_other_systems_are_not_retried(windows, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        storage.replace_file(tmp_path / "missing", tmp_path / "target")
    calls = windows(os, "replace", float("inf"))
    monkeypatch.setattr(platform, "WINDOWS", False)
    with pytest.raises(PermissionError) as raised:
        storage.replace_file(tmp_path / "missing", tmp_path / "target")
    assert len(calls) == 1 and not isinstance(raised.value, StudioError)


def test_an_old_checkpoint_that_a_reader_has_open_is_deleted_with_the_next_one(windows, tmp_path, monkeypatch):
    for step in (2, 4):
        save(tmp_path, step, STATE, {}, Disk())
    with monkeypatch.context() as open_elsewhere:
        open_elsewhere.setattr(shutil, "rmtree", denied)
        save(tmp_path, 6, STATE, {}, Disk())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000004", "step-000006"]
    save(tmp_path, 8, STATE, {}, Disk())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000008"]


def test_a_temporary_folder_that_stays_open_does_not_prevent_a_resume(windows, tmp_path):
    save(tmp_path, 2, STATE, {}, Disk())
    (tmp_path / ".aside-1").mkdir()
    windows(shutil, "rmtree", float("inf"))
    assert load_newest(tmp_path)[0] == 2


def test_a_removed_folder_that_stays_open_is_in_one_place_only(windows, workspace, monkeypatch):
    folder = workspace.dataset_path("ink")
    folder.mkdir()
    (folder / "a.txt").write_text("a red boat")
    real = os.replace
    windows(os, "replace", 0)
    monkeypatch.setattr(os, "replace", lambda source, target: denied(source) if Path(source) == folder else real(source, target))
    with pytest.raises(StudioError, match="another program has it open"):
        workspace.remove(folder)
    assert (folder / "a.txt").exists() and list(workspace.trash.iterdir()) == []


def test_a_zip_that_is_being_downloaded_is_replaced(windows, tmp_path):
    dataset = Dataset.create(Home(tmp_path / "home").workspace("local"), "ink")
    calls = windows(os, "replace", 2)
    assert zipfile.is_zipfile(dataset.export(tmp_path / "ink.zip"))
    assert len(calls) == 3
