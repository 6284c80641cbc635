"""Every case of the GPU benchmark as a test: no line may fail. `pytest -n 0 -m gpu tests/gpu`; the cases run once, in the benchmark's own process."""

import json
import subprocess

import pytest

from studio.benchmark.cases.case import FAILED, NOT_RUN
from studio.benchmark.cases.registry import registry
from studio.core import platform

MINUTES = 40
SECONDS = 60 * (MINUTES + 5)


@pytest.fixture(scope="session")
def lines() -> list[dict]:
    """The lines of all cases. This process may have used CUDA, and must not fork then."""
    command = platform.module_command("studio.benchmark", "gpu", "--minutes", MINUTES)
    output = subprocess.run(command, env=platform.environment(), stdout=subprocess.PIPE, text=True, timeout=SECONDS).stdout
    return json.loads(output.splitlines()[-1])["lines"]


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("name", [case.name for case in registry()])
def test_no_line_of_a_case_fails(name, lines):
    found = [line for line in lines if line["case"] == name]
    if found[0]["status"] == NOT_RUN:
        pytest.skip("no time left")
    assert [line for line in found if line["status"] == FAILED] == []
