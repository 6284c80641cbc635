"""A home folder that cannot be used ends the start with a message that names it and what to do, as errors of real systems do."""

import errno
import gc
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from studio import doctor
from studio.core import platform
from studio.core.errors import StudioError
from studio.core.locks import FileLock
from studio.core.workspace import Home
from studio.jobs import table
from studio.jobs.queue import Jobs
from studio.jobs.table import Table

ANOTHER = "Choose a home folder on a local disk that you can write to: set LORA_STUDIO_HOME"


@pytest.mark.skipif(platform.WINDOWS, reason="fcntl")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE, errno.EINVAL])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_locks_is_not_reported_as_in_use(tmp_path, monkeypatch, number, wait):
    import fcntl

    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = FileLock(tmp_path / "worker.lock", "The worker", wait)
    with pytest.raises(StudioError, match=rf"worker\.lock cannot be locked: {os.strerror(number)}.* network drive.* {ANOTHER}"):
        lock.acquire()
    with pytest.raises(StudioError, match="cannot be locked"):
        Table(tmp_path / "studio.db")


@pytest.mark.skipif(platform.WINDOWS, reason="fcntl")
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_is_held_is_in_use(tmp_path, monkeypatch, number):
    import fcntl

    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert not FileLock(tmp_path / "worker.lock", "The worker").acquire()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_lock_file_that_cannot_be_written_is_an_error_with_its_path(tmp_path, monkeypatch, number):
    (tmp_path / "studio.setup").touch()
    real = open

    def refused(path, *arguments, **options):
        if str(path).endswith("studio.setup"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(StudioError, match=rf"studio\.setup cannot be opened for writing: {os.strerror(number)}.* {ANOTHER}"):
        Table(tmp_path / "studio.db")


def test_a_home_that_cannot_be_created_is_an_error_with_its_path(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StudioError, match=rf"{tmp_path / 'file' / 'home'}.* cannot be used: .* {ANOTHER}"):
        Home(tmp_path / "file" / "home")
    home = Home(tmp_path / "home")
    (tmp_path / "home" / "owners").touch()
    with pytest.raises(StudioError, match=rf"local.* cannot be used: .* {ANOTHER}"):
        home.workspace("local")


@pytest.mark.parametrize("message", ["disk I/O error", "locking protocol", "attempt to write a readonly database"])
def test_a_database_on_a_network_drive_is_an_error_with_its_path(tmp_path, monkeypatch, message):
    class OnNetworkDrive(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if "journal_mode" in sql:
                raise sqlite3.OperationalError(message)
            return super().execute(sql, *arguments)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **options: real(*arguments, factory=OnNetworkDrive, **options))
    with pytest.raises(StudioError, match=rf"studio\.db cannot be used: {message}.* network drive.* {ANOTHER}"):
        Table(tmp_path / "studio.db")


def test_a_database_that_stays_locked_is_an_error_with_its_path(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "BUSY_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / "studio.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudioError, match=r"studio\.db cannot be used: database is locked"):
        Table(tmp_path / "studio.db")
    holder.close()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damaged_pages(path: Path) -> None:
    """The first page, with the schema, is whole; those of the rows are not."""
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


DAMAGES = {
    "garbage": lambda path: path.write_bytes(b"no database " * 1000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "damaged pages": damaged_pages,
    "a folder": a_folder,
}


@pytest.fixture
def database(tmp_path) -> Path:
    """A database with a hundred jobs, closed."""
    path = tmp_path / "studio.db"
    jobs = Jobs(path)
    jobs.submit_all("local", "generate", [({"prompt": "a cat " * 50}, None)] * 100)
    del jobs
    gc.collect()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    return path


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_database_is_set_aside_and_a_new_one_is_made(database, how, caplog):
    DAMAGES[how](database)
    before = database.read_bytes() if database.is_file() else None
    jobs = Jobs(database)
    assert not jobs.list() and jobs.submit("local", "generate", {}).state == "waiting"
    (kept,) = (database.parent / "set-aside").iterdir()
    assert (kept / "studio.db").is_dir() if before is None else (kept / "studio.db").read_bytes() == before
    assert f"is now in set-aside/{kept.name}; a new one was made" in caplog.text
    finding = doctor.set_aside(database.parent)
    assert "The list of jobs was damaged and was set aside" in finding.message and str(kept) in finding.message
    del jobs
    gc.collect()
    assert len(Jobs(database).list()) == 1, "the new one is used from now on"


def test_an_empty_database_is_a_new_one(database):
    database.write_bytes(b"")
    assert not Jobs(database).list() and not (database.parent / "set-aside").exists()


def test_a_database_that_another_process_has_open_is_not_set_aside(database):
    open_it = "import sys; from pathlib import Path; from studio.jobs.queue import Jobs; j = Jobs(Path(sys.argv[1])); print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", open_it, str(database)], cwd=platform.REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    other.stdout.readline()
    DAMAGES["garbage"](database)
    with pytest.raises(StudioError, match=r"studio\.db is damaged: .* Another process of the studio has it open"):
        Jobs(database)
    assert not (database.parent / "set-aside").exists()
    other.communicate("\n")
    assert not Jobs(database).list() and (database.parent / "set-aside").exists()


@pytest.mark.parametrize("command", [["app.py"], ["-m", "studio", "doctor"], ["-m", "studio", "generate", "a cat"]])
def test_the_page_and_every_command_end_with_the_message(tmp_path, command):
    (tmp_path / "file").touch()
    environment = platform.environment(LORA_STUDIO_HOME=str(tmp_path / "file"), LORA_STUDIO_BROWSER="0")
    ended = subprocess.run([sys.executable, *command], env=environment, cwd=platform.REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"The folder {tmp_path / 'file' / 'logs'} cannot be used: " in ended.stderr and "LORA_STUDIO_HOME" in ended.stderr
    assert "Traceback" not in ended.stderr
