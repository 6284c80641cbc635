"""The table of the memory plan: its rows, its measured figures and its place in the document."""

import json

from studio.benchmark import plan
from studio.devices.footprint import Savings


def test_the_plan_of_a_family_has_a_line_for_every_way_to_save_memory(capsys):
    assert plan.main(["--family", "stable-diffusion"]) == 0
    lines = json.loads(capsys.readouterr().out.splitlines()[-1])["lines"]
    assert [line["savings"] for line in lines] == [savings.describe() for savings in plan.WAYS]
    assert lines[0]["counted_gb"] > lines[1]["counted_gb"] and lines[0]["plan_gb"] > lines[1]["plan_gb"] > lines[-1]["plan_gb"]


def test_measured_figures_come_from_the_document():
    found = plan.measured(plan.DOCUMENT.read_text(encoding="utf-8"))
    assert found == {("flux", Savings()): 47.5, ("flux", Savings(True)): 26.7}


def test_the_document_has_the_plan_of_every_family():
    text = plan.DOCUMENT.read_text(encoding="utf-8")
    rows = text.partition(plan.BEGIN)[2].partition(plan.END)[0].strip().splitlines()[2:]
    offers = [plan.real_offer(family).name for family in plan.families.FAMILIES]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [name for name in offers for _ in plan.WAYS]


def test_only_the_table_is_replaced():
    document = f"before\n{plan.BEGIN}\nold\n{plan.END}\nafter\n"
    assert plan.replaced(document, "new") == f"before\n{plan.BEGIN}\nnew\n{plan.END}\nafter\n"
