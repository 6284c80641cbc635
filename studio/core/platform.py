"""Child processes, memory and resource limits: what differs between Linux, macOS and Windows.

Children are started from an argument list (never a shell) and outlive their parent; a secret reaches them on stdin only.
"""

import _thread
import contextlib
import ctypes
import errno
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

WINDOWS = sys.platform == "win32"
LINUX = sys.platform.startswith("linux")
REPOSITORY = Path(__file__).resolve().parents[2]

CGROUPS = Path("/sys/fs/cgroup")
CONTAINER_LIMITS = (
    (CGROUPS, "memory.max", "memory.current"),
    (CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""(folder, limit file, usage file) of Linux control groups, version 2 and 1."""

OOM_COUNTERS = (Path("/proc/vmstat"), CGROUPS / "memory.events", CGROUPS / "memory" / "memory.oom_control")
"""Files with a line "oom_kill <number>": of the machine since Linux 4.13, of control groups version 2 and 1."""
SECONDS_TO_SHOW = 2
MADV_PAGEOUT = 21
"""madvise(2), since Linux 5.4."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when the thread that started it ends."""
GLIBC_KEEPS = ((-1, -1), (-4, 0))
"""mallopt(3): M_TRIM_THRESHOLD never, M_MMAP_MAX none, so that large blocks are not returned individually either."""

if not WINDOWS:
    import resource


def module_command(module: str, *arguments: str | int | Path, count: int = 1) -> list[str]:
    """Argument list to run one of our modules with this Python, or `count` distributed processes of it.

    accelerate calls several processes on one computer multi_gpu, even on the CPU.
    """
    module_arguments = ["-m", module, *map(str, arguments)]
    if count == 1:
        return [sys.executable, *module_arguments]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", str(count)]
    return [*launcher, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", *module_arguments]


def has_file_manager() -> bool:
    """Whether `show_in_folder` has a program to call."""
    return WINDOWS or sys.platform == "darwin" or shutil.which("xdg-open") is not None


def show_in_folder(file: Path) -> None:
    """Open the folder of a file in the file manager of this computer, with the file selected where the system can. OSError if that fails."""
    if WINDOWS:
        command = ["explorer", "/select,", str(file)]
    else:
        command = ["open", "-R", str(file)] if sys.platform == "darwin" else ["xdg-open", str(file.parent)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # xdg-open without a desktop fails at once; explorer ends with 1 even after it has opened the folder.
        if child.wait(SECONDS_TO_SHOW) and not WINDOWS:
            raise OSError(errno.ENODEV, "no file manager could be started")
    except subprocess.TimeoutExpired:
        threading.Thread(target=child.wait, name=f"reap-{child.pid}", daemon=True).start()


def environment(**extra: str) -> dict[str, str]:
    """The parent's environment, with our modules importable from whatever folder the child starts in.

    OpenMP threads sleep while they wait instead of spinning: with one busy process beside it on 2 cores a U-Net call takes 0.05 s instead
    of up to 1 s. OpenMP reads the variable when torch is loaded, so it must be set here.
    """
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, **extra}


def spawn(
    argv: list[str],
    log: Path,
    secret: bytes | None = None,
    on_exit: Callable[[int], None] | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.Popen:
    """Start a child that outlives this process, with its output appended to `log`.

    `secret` is written to its stdin, which is then closed. A thread reaps the child (no zombies) and calls `on_exit` with its exit
    status, negative for a signal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Readable, so that the child can shorten it: see logging.drop_middle.
    with open(log, "a+b") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if secret is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env or environment(),
            close_fds=True,
            **_detached(),
        )
    if secret is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
            stdin.write(secret)

    def reap() -> None:
        status = child.wait()
        if on_exit is not None:
            on_exit(status)

    threading.Thread(target=reap, name=f"reap-{child.pid}", daemon=True).start()
    return child


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":  # not WINDOWS: mypy understands this comparison only, and skips the branch elsewhere
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def start_mark(pid: int) -> str | None:
    """Start time of process `pid` as a string that is unique among processes with the same pid; None if it does not exist.

    On Linux it is the boot id and the kernel's tick count, which do not depend on the clock; elsewhere psutil's time.
    """
    if LINUX:
        try:
            # The command name in brackets may itself contain spaces and brackets: read the fields after the last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        if fields[0] in "ZX":
            return None
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()[:8]}:{fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def seconds_since_start() -> float:
    """Age of this process."""
    import psutil

    return time.time() - psutil.Process().create_time()


def alive(pid: int | None, mark: str | None = None) -> bool:
    """Whether process `pid` is running and, if a mark is given, is still the same process."""
    if not pid or pid < 0:
        return False
    now = start_mark(pid)
    return now is not None and (mark is None or mark == now)


def end(pid: int, mark: str | None = None, grace_seconds: float = 3.0) -> None:
    """Terminate a process: SIGTERM, then SIGKILL. Another process with a reused pid is not touched."""
    if not alive(pid, mark):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while alive(pid, mark) and time.monotonic() < deadline:
            time.sleep(0.02)
        if alive(pid, mark) and not WINDOWS:
            os.kill(pid, signal.SIGKILL)


def end_with_parent(pipe: IO) -> None:
    """End this process when its parent ends, however that happens: `pipe` is its standard input, which the parent keeps open. On Linux the kernel
    also kills it, in case none of its threads can run."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))

    def watch() -> None:
        # Not pipe.read(): Python aborts at its end if a thread holds the lock of a file object.
        while os.read(pipe.fileno(), 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def interrupt_main_thread() -> None:
    """Raise KeyboardInterrupt in the main thread, even during a blocking read if the system supports it."""
    if WINDOWS:
        _thread.interrupt_main()
    else:
        main = threading.main_thread().ident
        assert main is not None, "The main thread has started."
        signal.pthread_kill(main, signal.SIGINT)


def be_nice(level: int = 10) -> None:
    """Lower the priority of this process, so that the web page stays responsive."""
    if not WINDOWS:
        os.nice(level)


def prefer_as_oom_victim() -> None:
    """Make Linux kill this process instead of the web server when memory runs out."""
    if LINUX:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def peak_memory() -> int:
    """Peak RAM of this process in bytes; 0 if the system does not report it."""
    if WINDOWS:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak * 1024 if LINUX else peak


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for reuse. A training step frees and allocates gigabytes, and returning them to Linux each time would fault
    in every page again. Has no effect without glibc."""
    if not LINUX:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    for parameter, value in GLIBC_KEEPS:
        mallopt(parameter, value)


def page_out_files(ranges: Iterable[tuple[int, int]]) -> None:
    """Take memory-mapped files out of RAM: (address, bytes) each. Nothing is lost, because pages are read again when they are used. Memory that
    is not mapped from a file is left alone. Has no effect except on Linux."""
    if not LINUX:
        return
    mappings = [line.split() for line in Path("/proc/self/maps").read_text(errors="replace").splitlines()]
    files = [tuple(int(end, 16) for end in fields[0].split("-")) for fields in mappings if fields[4] != "0"]
    madvise = ctypes.CDLL(None).madvise
    for address, size in ranges:
        first, last = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE, (address + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and any(start <= first and last <= end for start, end in files):
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_PAGEOUT)


def release_freed_memory() -> None:
    """Return freed memory to the system, after something large that `keep_freed_memory` would keep. Has no effect without glibc."""
    if LINUX:
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> int:
    """Free RAM in bytes: of the machine, or of the container if that has less."""
    import psutil

    free = psutil.virtual_memory().available
    for folder, limit, used in CONTAINER_LIMITS:
        try:
            cached = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines()).get("inactive_file", 0)
            in_use = int((folder / used).read_text()) - int(cached)
            free = min(free, int((folder / limit).read_text()) - in_use)
        except (OSError, ValueError):
            # No limit: the file is missing, or contains "max".
            continue
    return max(0, free)


def oom_kills() -> int:
    """How many processes Linux has ended because RAM ran out, on this machine and in this container; 0 where it does not count them."""
    total = 0
    for file in OOM_COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            total += sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))
    return total


def limit_self(memory_bytes: int, largest_file_bytes: int) -> None:
    """Limit this process permanently: address space, size of written files, no core dumps. No effect on Windows."""
    if not WINDOWS:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))
        if LINUX:
            # macOS does not allow lowering the address space of a running process.
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def limit_cpu(seconds_from_now: int) -> None:
    """Let the kernel kill this process after that much more CPU time; call again to extend it. No effect on Windows."""
    if not WINDOWS:
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds_from_now, hard))


def processor() -> str:
    """Name of the CPU, or its architecture where the system does not report it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    import platform

    return platform.processor() or platform.machine()


def nvidia_driver() -> str:
    """Version of the NVIDIA driver on Linux, or empty."""
    with contextlib.suppress(OSError):
        if found := re.search(r"Kernel Module\D*([\d.]+)", Path("/proc/driver/nvidia/version").read_text(errors="replace")):
            return found[1]
    return ""
