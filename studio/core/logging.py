"""Logging of every process: one format, one level (LORA_STUDIO_LOG), bounded files, no token and no user text. See docs/decisions/077.

    configure("worker")                        logs to stderr, which `platform.spawn` redirects to the log file of a child
    configure("web", file=home.logs / "web.log")   logs to a rotated file; to stderr only warnings, unless LORA_STUDIO_LOG is set

User text is everything that a user typed or named: captions, prompts, trigger words, titles, file names. Records of the studio never contain
it; exception messages can, so only those known to be safe are kept. At the level debug all messages are kept. Tokens are removed at every level.
"""

import contextlib
import copy
import faulthandler
import logging
import os
import platform
import re
import stat
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

from studio import __version__
from studio.core import packages
from studio.core.errors import StudioError, traceback_without_messages

log = logging.getLogger(__name__)

LEVELS = ("error", "warning", "info", "debug")
MAX_BYTES = 1_000_000
"""Size limit of a log file."""
ROTATED_FILES = 4
"""Older files kept beside the server's log."""
KEPT_START, KEPT_END = 200_000, 400_000
"""Bytes kept of a child's log that reaches the limit. Its start has the versions and decisions."""
LOGS_OF_REQUESTS = ("httpx", "httpcore", "uvicorn.access", "urllib3")
"""Loggers that write the URLs and headers of requests. They are kept at warning, also for debug: a header may be a cookie of a login."""
SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "LORA_STUDIO_PASSWORD", "OAUTH_CLIENT_SECRET")
SHORTEST_SECRET = 4
"""A shorter value would be removed from ordinary words."""
TOKEN = re.compile(r"\bhf_[\w.-]{6,}|(?<=\bBearer )[^\s'\",]+", re.IGNORECASE)
TRUNCATED_PROMPT = re.compile(r"(The following part of your input was truncated because .*? tokens:).*", re.DOTALL)
"""The warning with which all pipelines of diffusers 0.42 quote a prompt."""
SAFE_MODULES = ("torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes", "torchao", "studio")
"""A RuntimeError raised directly in these comes from torch's kernels or a driver: shapes, devices, memory. The studio raises none itself."""


def configure(process: str, file: Path | None = None, secrets: Iterable[str] = (), default: str = "info") -> None:
    """Set up logging for this process: `process` is its name in the log, `secrets` are values to remove besides those of the environment.

    Also covers warnings, the libraries' loggers, uncaught exceptions and crashes. StudioError for an unknown LORA_STUDIO_LOG.
    """
    level = level_from(os.environ, default)
    formatter = SafeFormatter(process, (*secrets, *(os.environ.get(name, "") for name in SECRET_VARIABLES)), with_text=level == "debug")
    handlers: list[logging.Handler] = [BoundedStreamHandler()]
    if file is not None:
        if not os.environ.get("LORA_STUDIO_LOG"):
            # The terminal of whoever starts the studio: only what needs attention. The file has the rest.
            handlers[0].setLevel(logging.WARNING)
        handlers.append(RotatingFileHandler(file, maxBytes=MAX_BYTES, backupCount=ROTATED_FILES, encoding="utf-8", delay=True))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    # Libraries log warnings at most, and what they do at debug; the studio's own level is the chosen one.
    root.setLevel({"error": logging.ERROR, "debug": logging.INFO}.get(level, logging.WARNING))
    for name in ("studio", "__main__"):
        logging.getLogger(name).setLevel(level.upper())
    for name in LOGS_OF_REQUESTS:
        logging.getLogger(name).setLevel(logging.WARNING)
    _adopt_loggers()
    logging.captureWarnings(True)
    # A handler that fails (a full disk) would print the record unformatted, with its text.
    logging.raiseExceptions = False
    sys.excepthook = lambda kind, error, trace: _log_uncaught(error)
    threading.excepthook = lambda failed: _log_uncaught(failed.exc_value)
    sys.unraisablehook = lambda failed: _log_uncaught(failed.exc_value)
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            faulthandler.enable()
    log.info("LoRA Studio %s, Python %s, %s, log level %s", __version__, platform.python_version(), platform.platform(), level)


def level_from(environ: Mapping[str, str], default: str = "info") -> str:
    """The level in LORA_STUDIO_LOG, one of LEVELS; StudioError for another value."""
    level = environ.get("LORA_STUDIO_LOG", "").strip().lower() or default
    if level not in LEVELS:
        raise StudioError(f"LORA_STUDIO_LOG={environ['LORA_STUDIO_LOG']} is not a log level; choose one of: {', '.join(LEVELS)}.")
    return level


def log_packages() -> None:
    """Log the versions of the pinned packages, and which of them differ from the tested ones."""
    needed = packages.tested()
    versions = {name: packages.installed(name) for name in needed}
    log.info("packages: %s", ", ".join(f"{name} {version or '(missing)'}" for name, version in versions.items()))
    if other := packages.untested(needed, versions):
        log.warning("packages in other versions than the tested ones: %s", "; ".join(other))


class SafeFormatter(logging.Formatter):
    """Formats a record as one line with time (UTC), level, process and logger; removes tokens and, unless `with_text`, user text."""

    converter = staticmethod(time.gmtime)

    def __init__(self, process: str, secrets: Iterable[str], with_text: bool):
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {process} %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.secrets = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        self.with_text = with_text

    def format(self, record: logging.LogRecord) -> str:
        # A copy, because other formatters see the record too, and exc_text caches their traceback.
        record = copy.copy(record)
        record.exc_text = None
        if not self.with_text and isinstance(record.args, tuple):
            record.args = tuple(_described(value) if isinstance(value, BaseException) else value for value in record.args)
        if not self.with_text and record.name == "asyncio":
            # The lines after the first are the task and the handle, whose repr quotes an exception.
            record.msg, record.args = record.getMessage().partition("\n")[0], None
        text = super().format(record)
        if not self.with_text:
            text = TRUNCATED_PROMPT.sub(r"\1 (text removed)", text)
        return self.without_secrets(text)

    def formatException(self, ei) -> str:
        error = ei[1]
        if self.with_text or error is None:
            return super().formatException(ei)
        return traceback_without_messages(error, safe_message).rstrip()

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "[secret]")
        return TOKEN.sub("[token]", text)


def safe_message(error: BaseException) -> str:
    """The message of an exception if it cannot contain user text, otherwise empty."""
    if isinstance(error, OSError) and error.errno:
        return f"[Errno {error.errno}] {os.strerror(error.errno)}"
    if isinstance(error, ImportError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] if trace is not None else ""
    return str(error) if isinstance(error, RuntimeError) and module in SAFE_MODULES else ""


def _described(error: BaseException) -> str:
    message = safe_message(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class BoundedStreamHandler(logging.StreamHandler):
    """Logs to stderr. If that is a log file which `platform.spawn` opened, drops the middle of the file when it exceeds MAX_BYTES.

    Rotating is no option there: the descriptor is shared with the processes of a distributed run and with native code.
    """

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        # A terminal or pipe is no file, and a file redirected by a shell cannot be read through the descriptor; both are left alone.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            drop_middle(self.stream.fileno())


def drop_middle(descriptor: int, limit: int = MAX_BYTES, start: int = KEPT_START, end: int = KEPT_END) -> None:
    """Shorten a file that exceeds `limit` bytes to whole lines of its first `start` and last `end` bytes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= limit:
        return
    os.lseek(descriptor, 0, os.SEEK_SET)
    head = os.read(descriptor, start)
    head = head[: head.rfind(b"\n") + 1]
    os.lseek(descriptor, status.st_size - end, os.SEEK_SET)
    tail = os.read(descriptor, end).partition(b"\n")[2]
    os.ftruncate(descriptor, len(head))
    os.lseek(descriptor, 0, os.SEEK_END)
    os.write(descriptor, b"... %d bytes dropped ...\n" % (status.st_size - len(head) - len(tail)) + tail)


class LibraryLogger(logging.Logger):
    """A logger whose records reach the root's handlers. Libraries add handlers of their own that write to stderr, and stop propagation:
    diffusers, transformers, torch and uvicorn do. Such a handler is not added, and the logger propagates instead."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        if type(hdlr) is logging.StreamHandler:
            self.__dict__["adopted"] = True
        else:
            super().addHandler(hdlr)

    @property
    def propagate(self) -> bool:
        return self.__dict__["propagate"] or self.__dict__.get("adopted", False)

    @propagate.setter
    def propagate(self, value: bool) -> None:
        self.__dict__["propagate"] = value


def _adopt_loggers() -> None:
    """Make every logger a LibraryLogger: those of libraries that were imported before, and those still to come."""
    logging.setLoggerClass(LibraryLogger)
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if type(logger) is logging.Logger:
            logger.__class__ = LibraryLogger
            own, logger.handlers = logger.handlers, []
            for handler in own:
                logger.addHandler(handler)


def _log_uncaught(error: BaseException | None) -> None:
    """Log an exception that nothing caught; without its message, as everywhere."""
    if isinstance(error, KeyboardInterrupt):
        log.error("interrupted")
    elif error is not None and not isinstance(error, SystemExit):
        log.critical("uncaught exception", exc_info=error)
