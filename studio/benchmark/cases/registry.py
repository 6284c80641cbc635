"""Registry of the GPU benchmark's cases, the most important ones first: a run that is cut short keeps these."""

from studio.benchmark.cases import caps, failures, first_step, floors, resume, savings, ways
from studio.benchmark.cases.case import Case


def registry() -> tuple[Case, ...]:
    """Every case in the order of the run."""
    executions, measured, small, floor = resume.cases_of_executions(), ways.cases(), caps.cases(), floors.cases()
    ordered = [
        executions[0],
        measured.pop("sdxl"),
        small[0],
        *executions[1:],
        small[1],
        savings.case(),
        savings.drawing_case(),
        failures.case(),
        small[2],
        floor.pop("sdxl"),
        *measured.values(),
        *small[3:],
        first_step.case(),
        *resume.cases_of_optimizers(),
        *floor.values(),
    ]
    return tuple(ordered)
