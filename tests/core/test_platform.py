"""Children outlive their parent and are recognised by more than their process id; memory and time are limited."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.core import platform


@pytest.mark.skipif(not platform.LINUX, reason="glibc's malloc")
@pytest.mark.parametrize("keeps", [False, True])
def test_a_process_keeps_what_it_frees_once_it_is_told_to(keeps):
    code = (
        "import ctypes, psutil; from studio.core import platform; held = lambda: psutil.Process().memory_info().rss;"
        f"{'platform.keep_freed_memory();' if keeps else ''} before = held(); libc = ctypes.CDLL(None);"
        "libc.malloc.restype = ctypes.c_void_p; block = libc.malloc(ctypes.c_size_t(10**8)); ctypes.memset(block, 1, 10**8);"
        "libc.free(ctypes.c_void_p(block)); print(held() - before)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=platform.environment()).stdout
    assert (int(said) > 90_000_000) == keeps


def test_free_memory_is_what_a_container_leaves_where_that_is_less(tmp_path, monkeypatch):
    import psutil

    whole = psutil.virtual_memory().available
    monkeypatch.setattr(platform, "CONTAINER_LIMITS", ((tmp_path, "memory.max", "memory.current"),))
    assert platform.free_memory() == pytest.approx(whole, rel=0.2)
    for name, text in (("memory.max", "1000000\n"), ("memory.current", "700000\n"), ("memory.stat", "anon 1\ninactive_file 200000\n")):
        (tmp_path / name).write_text(text)
    assert platform.free_memory() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert platform.free_memory() == pytest.approx(whole, rel=0.2)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_child_outlives_the_process_that_started_it(tmp_path):
    parent = (
        "import sys; from pathlib import Path; from studio.core import platform\n"
        "print(platform.spawn([sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1])).pid)"
    )
    output = subprocess.run([sys.executable, "-c", parent, tmp_path / "log"], capture_output=True, check=True, env=platform.environment())
    pid = int(output.stdout)
    assert platform.alive(pid)
    assert os.getsid(pid) == pid, "a closed terminal or Ctrl-C must not reach it"
    platform.end(pid)
    wait_for(lambda: not platform.alive(pid))


def test_a_secret_travels_on_stdin_and_shows_neither_in_arguments_nor_in_the_environment(tmp_path):
    code = "import sys, os; s = sys.stdin.read(); print(s == 'hf_canary', any('hf_canary' in x for x in [*sys.argv, *os.environ.values()]))"
    done = []
    platform.spawn([sys.executable, "-c", code], tmp_path / "log", secret=b"hf_canary", on_exit=done.append)
    wait_for(lambda: done)
    assert (tmp_path / "log").read_text().split() == ["True", "False"]


def test_the_parent_learns_how_a_child_ended_and_leaves_no_zombie(tmp_path):
    statuses = []
    child = platform.spawn([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", on_exit=statuses.append)
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: statuses)
    assert statuses == [-signal.SIGKILL]
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_process_that_inherited_the_number_is_not_taken_for_the_old_one():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark = platform.start_mark(child.pid)
    assert platform.alive(child.pid, mark)
    assert not platform.alive(child.pid, "another boot:123")
    platform.end(child.pid, "another boot:123")
    assert child.poll() is None, "a stranger with the same number must not be ended"
    child.kill()
    wait_for(lambda: not platform.alive(child.pid, mark))
    child.wait()


def test_a_zombie_counts_as_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_for(lambda: not platform.alive(child.pid))
    child.wait()


def test_a_process_that_ignores_the_request_is_ended_all_the_same():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    platform.end(child.pid, grace_seconds=0.2)
    assert child.wait(5) == -signal.SIGKILL


def test_memory_and_time_are_limited_where_the_system_can(tmp_path):
    memory = (
        "from studio.core import platform\nplatform.limit_self(300 << 20, 1 << 20)\ntry: bytearray(400 << 20)\nexcept MemoryError: print('refused')"
    )
    output = subprocess.run([sys.executable, "-c", memory], capture_output=True, env=platform.environment(), check=True)
    assert output.stdout == b"refused\n"
    spin = "from studio.core import platform\nplatform.limit_cpu(1)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", spin], env=platform.environment(), timeout=30).returncode == -signal.SIGXCPU
