"""Memory plan of the listed bases: `python -m studio.benchmark plan [--write]`.

For the first listed base of every family at its native resolution, batch 1, rank 16, AdamW, exact: the bytes that forward and backward take
beside the weights (counted on the meta device), the plan of the whole run with the savings, and what was measured on a GPU. `--write`
replaces the table in docs/benchmarks.md. Counting takes some seconds for each base; no GPU is used.

Keys of the JSON line: lines, a list of {family, base, pixels, savings, counted_gb, plan_gb, measured_gb}.
"""

import argparse
import json
import re
from pathlib import Path

from studio import config as configs
from studio import families
from studio.benchmark.cases.bases import real_offer
from studio.devices.footprint import Footprint, Plan, Savings
from studio.devices.measure import measure
from studio.families.base import Family

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- PLAN -->", "<!-- /PLAN -->"
WAYS = (Savings(), Savings(True), Savings(True, "nf4"), Savings(True, "none", True), Savings(True, "nf4", True))
MEASURED_FAMILY = "flux"
"""The base of the table "Attention on a GPU" in the document."""
MEASURED_ROW = re.compile(r"^\| fused \| (no|yes) \| yes \| [\d,]+ \| ([\d.]+) \|", re.M)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark plan", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the table in docs/benchmarks.md")
    parser.add_argument("--family", nargs="+", default=[family.name for family in families.FAMILIES], help="families (default: all)")
    options = parser.parse_args(argv)
    found = measured(DOCUMENT.read_text(encoding="utf-8"))
    lines: list[dict] = []
    for name in options.family:
        for line in plan_of(families.get(name), found):
            lines.append(line)
            print(row(line), flush=True)
    if options.write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), table(lines)), encoding="utf-8")
    print(json.dumps({"lines": lines}))
    return 0


def measured(document: str) -> dict[tuple[str, Savings], float]:
    """(family, savings) -> measured peak in GB, without optimizer and CUDA context, from the document's own table."""
    return {(MEASURED_FAMILY, Savings(checkpointing == "yes")): float(peak) for checkpointing, peak in MEASURED_ROW.findall(document)}


def plan_of(family: Family, found: dict[tuple[str, Savings], float]) -> list[dict]:
    """A line for every way to save memory."""
    offer = real_offer(family)
    values = {
        "model": {"family": family.name, "base_model": offer.id},
        "dataset": {"resolution": offer.resolution},
        "samples": {"prompts": ["a house"]},
    }
    config = configs.build(values)
    footprint = measure(config, family, None)
    assert footprint is not None, "A listed base can be measured."
    return [
        {
            "family": family.name,
            "base": offer.name,
            "pixels": offer.resolution,
            "savings": savings.describe(),
            "counted_gb": gigabytes(counted(footprint, savings)),
            "plan_gb": gigabytes(peak(footprint.plan(config, savings))),
            "measured_gb": found.get((family.name, savings)),
        }
        for savings in WAYS
    ]


def counted(footprint: Footprint, savings: Savings) -> int:
    return footprint.checkpointed_step_bytes if savings.gradient_checkpointing else footprint.step_bytes


def peak(plan: Plan) -> int:
    """Peak of training and of a sample decoded in tiles: what has to fit."""
    return max(plan.step, plan.tiled_sample)


def gigabytes(count: int) -> float:
    return round(count / 1e9, 1)


def table(lines: list[dict]) -> str:
    head = (
        "| Base | Pixels | Savings | Counted: forward and backward, GB | Plan: whole run, GB | Measured: peak of the allocator, GB |",
        "|---|---|---|---|---|---|",
    )
    return "\n".join([*head, *map(row, lines)])


def row(line: dict) -> str:
    peak_gb = "not measured" if line["measured_gb"] is None else f"{line['measured_gb']:g} (without optimizer)"
    return f"| {line['base']} | {line['pixels']} | {line['savings']} | {line['counted_gb']:.1f} | {line['plan_gb']:.1f} | {peak_gb} |"


def replaced(document: str, rows: str) -> str:
    """The document with new rows between the two marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"
