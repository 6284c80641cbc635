"""One log for every process: its format and level, no token and no user text, bounded files."""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from studio.core import platform
from studio.core.errors import StudioError
from studio.core.logging import KEPT_END, KEPT_START, LEVELS, MAX_BYTES, ROTATED_FILES, level_from

TOKEN = "hf_Unmistakable" + "Q7w" * 8
SECRET = "unmistakable password 4711"
TEXT = "unmistakablecaption of a purple walrus"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (ERROR|WARNING|INFO|DEBUG|CRITICAL) test [\w.]+: .+")
SETUP = """
import logging, sys
from pathlib import Path
from studio.core.logging import configure
configure('test')
log = logging.getLogger('studio.x')
"""


def run(code: str, level: str | None = "info", setup: str = SETUP, **environment: str) -> str:
    """What a process with this code writes to stderr."""
    env = platform.environment(**environment)
    env.pop("LORA_STUDIO_LOG", None)
    if level is not None:
        env["LORA_STUDIO_LOG"] = level
    return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, env=env, timeout=120).stderr


def child(code: str, log) -> str:
    """The log file of a child process with this code."""
    ended = []
    platform.spawn([sys.executable, "-c", SETUP + code], log, on_exit=ended.append)
    deadline = time.monotonic() + 60
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return log.read_text()


def test_a_record_is_a_line_with_time_level_process_and_logger():
    lines = run("log.warning('careful: %s', 7)", TZ="Asia/Tokyo").splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert lines[0].endswith("log level info") and "LoRA Studio 0.1.0, Python 3." in lines[0]
    assert re.search(r"Z WARNING test studio\.x: careful: 7$", lines[-1])
    written = datetime.fromisoformat(lines[-1].partition(" ")[0])
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_sets_the_level(level):
    printed = run("".join(f"log.{name}('this is {name}')\n" for name in LEVELS), level)
    assert [name for name in LEVELS if f"this is {name}" in printed] == list(LEVELS[: LEVELS.index(level) + 1])


def test_the_default_level_is_info_and_the_case_of_a_level_does_not_matter():
    assert level_from({}) == level_from({"LORA_STUDIO_LOG": ""}) == "info"
    assert level_from({"LORA_STUDIO_LOG": "Debug"}) == "debug"
    assert "log level info" in run("", None)


def test_an_unknown_level_is_refused_with_those_that_are_allowed():
    with pytest.raises(StudioError, match="LORA_STUDIO_LOG=loud is not a log level; choose one of: error, warning, info, debug."):
        level_from({"LORA_STUDIO_LOG": "loud"})


@pytest.mark.parametrize("command", [["app.py"], ["-m", "studio", "show", "runs"]], ids=["app.py", "command line"])
def test_a_process_with_an_unknown_level_does_not_start(command, tmp_path):
    env = platform.environment(LORA_STUDIO_LOG="loud", LORA_STUDIO_HOME=str(tmp_path))
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=platform.REPOSITORY, timeout=120)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "LORA_STUDIO_LOG=loud is not a log level; choose one of: error, warning, info, debug." in ended.stderr


LEAKS = f"""
token, secret, text = {TOKEN!r}, {SECRET!r}, {TEXT!r}
log.warning("token " + token)
log.warning("header Bearer %s of %r", "abc.def-123", {{"token": token}})
log.warning(secret)
try:
    raise ValueError(f"{{token}} {{text}}")
except ValueError as error:
    log.exception("an exception was logged")
    log.warning("an exception as an argument: %s", error)
    try:
        raise KeyError(text) from error
    except KeyError:
        log.exception("another one")
logging.getLogger("lib").warning("from a library: %s", token)
import warnings; warnings.warn("a warning " + token)
"""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_token_is_written_at_any_level(level):
    printed = run(LEAKS, level, HF_TOKEN=TOKEN, LORA_STUDIO_PASSWORD=SECRET)
    assert "an exception was logged" in printed and "from a library: [" in printed and "UserWarning: a warning [" in printed
    assert TOKEN not in printed and SECRET not in printed and "abc.def-123" not in printed
    assert "token [" in printed, "what remains shows that something was removed"


def test_a_token_that_is_not_in_the_environment_is_recognised():
    printed = run(LEAKS)
    assert TOKEN not in printed and "token [token]" in printed


def test_a_secret_that_a_process_was_given_is_removed():
    printed = run("configure('test', secrets=['tok-4711']); log.info('given tok-4711')")
    assert "given [secret]" in printed


def test_messages_of_exceptions_are_left_out_with_their_place_kept():
    printed = run(LEAKS)
    assert TEXT not in printed
    assert "ValueError\n" in printed and "KeyError\n" in printed and 'File "<string>", line' in printed
    assert TEXT in run(LEAKS, "debug")


def test_messages_of_torch_and_of_the_operating_system_are_kept():
    code = """
import torch
for fail in (lambda: torch.nn.functional.linear(torch.zeros(2), torch.zeros(3, 5)), lambda: open("/missing/unmistakablecaption")):
    try: fail()
    except (RuntimeError, OSError): log.exception("failed")
import torch.nn as nn
try: nn.Linear(3, 4)(torch.zeros(2, 5))
except RuntimeError: log.exception("failed in torch")
"""
    printed = run(code)
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x5 and 3x4)" in printed
    assert "FileNotFoundError: [Errno 2] No such file or directory\n" in printed and "unmistakablecaption" not in printed


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (f"raise ValueError({TEXT!r} + {TOKEN!r})", "ValueError"),
        (f"import threading\ndef fail(): raise KeyError({TEXT!r})\nt = threading.Thread(target=fail); t.start(); t.join()", "KeyError"),
        (f"class A:\n    def __del__(self): raise LookupError({TEXT!r})\na = A(); del a", "LookupError"),
        (f"import asyncio\nasync def fail(): raise OSError({TEXT!r})\nasync def main(): asyncio.create_task(fail()); await asyncio.sleep(0.1)\n"
         "asyncio.run(main())", "OSError"),
    ],
    ids=["main thread", "thread", "destructor", "asyncio"],
)  # fmt: skip
def test_an_uncaught_exception_is_logged_like_any_other(code, kind):
    printed = run(code)
    assert re.search(rf"Z (CRITICAL|ERROR) test .*\n(.*\n)*{kind}\n", printed), printed
    assert TEXT not in printed and TOKEN not in printed


def test_a_crash_of_native_code_leaves_the_python_stack():
    assert "Fatal Python error: Segmentation fault" in run("import faulthandler; faulthandler._sigsegv()")


def test_a_failed_job_names_no_message(tmp_path):
    code = f"""
from studio.core.errors import StudioError
try: raise StudioError({TEXT!r})
except StudioError: log.warning("job 1 failed", exc_info=True)
"""
    printed = run(code)
    assert TEXT not in printed and "StudioError\n" in printed


LIBRARY = """
def library():
    lib = logging.getLogger("diffusers"); lib.addHandler(logging.StreamHandler()); lib.propagate = False; lib.setLevel(logging.WARNING)
    other = logging.getLogger("torch"); handler = logging.StreamHandler(); other.addHandler(handler); other.propagate = False
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_handlers_that_libraries_add_are_replaced_by_ours(when):
    setup = "import logging\n" + LIBRARY + ("library()\n" + SETUP if when == "before" else SETUP + "library()\n")
    printed = run(
        "logging.getLogger('diffusers.pipelines.x').warning('from diffusers')\nlogging.getLogger('torch').warning('from torch')", setup=setup
    )
    lines = [line for line in printed.splitlines() if "from" in line]
    assert len(lines) == 2 and all(LINE.fullmatch(line) for line in lines), printed


def test_real_libraries_log_through_us():
    code = """
from diffusers.utils import logging as d; d.get_logger("diffusers.x").warning("of diffusers")
from transformers.utils import logging as t; t.get_logger("transformers.x").warning("of transformers")
from huggingface_hub.utils import logging as h; h.get_logger("huggingface_hub.x").warning("of the hub")
import uvicorn; uvicorn.Config(None, log_level="warning"); logging.getLogger("uvicorn.error").error("of uvicorn")
import torch; logging.getLogger("torch.distributed").warning("of torch")
"""
    printed = run(code)
    lines = [line for line in printed.splitlines() if re.search(r": of (the )?\w+$", line)]
    assert len(lines) == 5 and all(LINE.fullmatch(line) for line in lines), printed


def test_a_warning_about_a_truncated_prompt_keeps_the_fact_and_drops_the_prompt():
    text = f"The following part of your input was truncated because CLIP can only handle sequences up to 77 tokens: [{TEXT!r}]"
    code = f"logging.getLogger('diffusers.pipelines.x').warning({text!r})"
    printed = run(code)
    assert "sequences up to 77 tokens: (text removed)" in printed and TEXT not in printed
    assert TEXT in run(code, "debug")


@pytest.mark.parametrize("level", ["info", "debug"])
def test_addresses_of_requests_are_not_logged(level):
    code = "for name in ('httpx', 'uvicorn.access', 'httpcore.http11'): logging.getLogger(name).info('GET /?prompt=secret')"
    assert "secret" not in run(code, level)


def test_a_record_that_cannot_be_formatted_is_not_printed_raw():
    assert TEXT not in run(f"log.info('%d', {TEXT!r})")


def test_the_log_of_a_child_keeps_its_start_and_its_end(tmp_path):
    log = tmp_path / "run.log"
    written = child("for i in range(40_000): log.info('line number %d', i)", log)
    assert len(written.encode()) <= MAX_BYTES
    lines = written.splitlines()
    assert "LoRA Studio 0.1.0" in lines[0] and lines[-1].endswith("line number 39999")
    (gap,) = [index for index, line in enumerate(lines) if "bytes dropped" in line]
    assert all(LINE.fullmatch(line) for line in lines[:gap] + lines[gap + 1 :])
    assert KEPT_START * 0.99 < len("\n".join(lines[:gap])) <= KEPT_START and len("\n".join(lines[gap:])) >= KEPT_END * 0.99
    assert "line number 0" in lines[1]
    again = child("log.info('resumed')", log)
    assert again.startswith(lines[0]) and again.rstrip().endswith("resumed")


def test_the_log_of_the_server_is_rotated(tmp_path):
    file = tmp_path / "web.log"
    run(f"configure('test', file=Path({str(file)!r}))\nfor i in range(20_000): log.info('%d ' + 'x' * 250, i)")
    files = sorted(tmp_path.iterdir())
    assert len(files) == ROTATED_FILES + 1 and all(each.stat().st_size <= MAX_BYTES for each in files)
    assert " 19999 xxx" in file.read_text()[-400:]


@pytest.mark.parametrize(("level", "shown"), [(None, False), ("info", True)])
def test_the_server_prints_only_warnings_unless_a_level_is_set(tmp_path, level, shown):
    file = tmp_path / "web.log"
    printed = run(f"configure('test', file=Path({str(file)!r})); log.info('facts'); log.warning('trouble')", level)
    assert "trouble" in printed and ("facts" in printed) is shown
    assert "trouble" in (written := file.read_text()) and "facts" in written


def test_a_file_that_a_shell_redirects_to_is_left_alone(tmp_path):
    with open(tmp_path / "mine.log", "wb") as mine:
        command = [sys.executable, "-c", SETUP + "for i in range(20_000): log.info('line number %d', i)"]
        subprocess.run(command, stderr=mine, check=True, env=platform.environment())
    assert os.path.getsize(tmp_path / "mine.log") > MAX_BYTES


def test_setting_up_imports_no_heavy_library():
    printed = run("print([name for name in ('torch', 'transformers', 'diffusers', 'gradio') if name in sys.modules], file=sys.stderr)")
    assert printed.rstrip().endswith("[]")


def test_an_uncaught_exception_of_a_command_is_logged_like_any_other(tmp_path):
    code = f"""
import sys
from studio.cli import commands
def fail(home): raise ValueError({TEXT!r})
commands.open_home = fail
sys.argv = ["studio", "show", "runs", "--home", {str(tmp_path)!r}]
commands.main()
"""
    printed = run(code, setup="")
    assert re.search(r"Z CRITICAL cli .*: uncaught exception\nValueError\n", printed) and TEXT not in printed, printed
