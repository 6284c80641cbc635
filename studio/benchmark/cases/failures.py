"""Running out of memory: a run that is too large ends with advice, and the same process then trains a smaller one."""

from pathlib import Path

from studio import families
from studio.benchmark.cases.ballast import leaving
from studio.benchmark.cases.bases import NO_SAVINGS, make_run, saved_base
from studio.benchmark.cases.case import FAILED, OK, Case, Line, Machine, Report
from studio.benchmark.cases.children import in_child
from studio.benchmark.cases.resume import FAMILY

FREE = 6 * 10**9
TOO_LARGE = (*NO_SAVINGS, "training.train_batch_size=64", "runtime.execution=eager")
SMALL = (*NO_SAVINGS, "runtime.execution=eager")
SPARE_BYTES = 600 * 2**20
"""Address space that a rehearsal adds to what the process has: enough for the small run, too little for the large one."""


def case() -> Case:
    return Case("out of memory", "a run that is too large ends with advice; the process goes on", 60, run_out_of_memory)


def run_out_of_memory(machine: Machine, report: Report) -> None:
    family = families.get(FAMILY)
    base = saved_base(machine, family, "shallow")
    side = "dataset.resolution=1024" if machine.rehearsal else "dataset.resolution=512"
    large = make_run(machine, "large", family, base, 512, *TOO_LARGE, side, "dataset.repeats=64")
    small = make_run(machine, "small", family, base, 512, *SMALL, "training.max_train_steps=3")
    warm = make_run(machine, "small", family, base, 512, *SMALL, "training.max_train_steps=1")
    with leaving(machine, FREE):
        statuses = in_child(machine, train_both, machine, warm.path, large.path, small.path, log=machine.folder / "out-of-memory.log")
    messages = [event["message"] for event in large.events()[0] if event["kind"] == "failed"]
    advised = bool(messages) and "The memory is not enough" in messages[-1]
    figures = {"advice": len(large.retries()), "then": small.state}
    good = statuses == [1, 0] and advised and bool(large.retries()) and small.state == "finished"
    report(Line("too large", OK if good else FAILED, figures, messages[-1] if messages else "The run did not fail."))


def train_both(machine: Machine, warm: Path, large: Path, small: Path) -> list[int]:
    """Exit statuses of a run that is too large and of a small one in one process, after a first small one. In a rehearsal a limit on the address
    space stands in for the GPU's size."""
    from studio.training import loop

    loop.main([str(warm)])
    if not machine.rehearsal:
        return [loop.main([str(large)]), _after_failure(small)]
    import resource

    taken = int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE_BYTES, before[1]))
    first = loop.main([str(large)])
    resource.setrlimit(resource.RLIMIT_AS, before)
    return [first, _after_failure(small)]


def _after_failure(small: Path) -> int:
    """Exit status of a run in a process that frees the failed one's cycles first, as any long-lived process does."""
    import gc

    from studio.training import loop

    gc.collect()
    return loop.main([str(small)])
