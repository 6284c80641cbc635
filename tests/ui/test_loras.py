"""The list of LoRAs: rows of plain data, what is drawn from them, and HTML that stays HTML whatever a title says."""

import json

import pytest

from studio import library
from studio.recipe import StackEntry
from studio.ui import loras
from tests.trained import finished_run, write_tiny_adapter

HOSTILE = '"><script>alert(1)</script>'


def row(**differs) -> dict:
    return {"ref": "file:x", "title": "Ink", "weight": 1.0, "on": True, "words": ["ohwx"], "picture": "", "from": "", "base": "a/base"} | differs


def test_a_title_can_only_ever_be_text():
    shown = loras.show([row(title=HOSTILE, picture=HOSTILE)]) + loras.chips([row(title=HOSTILE, words=[HOSTILE])], HOSTILE)
    assert "<script" not in shown


def test_a_row_shows_its_weight_and_its_switch():
    shown = loras.show([row(weight=1.25, on=False)])
    assert 'value="1.25"' in shown and "<output>1.25</output>" in shown
    assert 'class="off"' in shown and "checked" not in shown
    assert 'class="weigh hot"' in shown


def test_a_lora_of_the_hub_says_where_it_came_from_and_its_licence(workspace):
    write_tiny_adapter(workspace.adapter_path("theirs"), {})
    origin = {"hub": "maker/zorvex", "revision": "c" * 40, "licence": "cc-by-4.0"}
    workspace.adapter_path("theirs").with_suffix(".json").write_text(json.dumps({"title": "Zorvex", "source": origin}))
    card = library.find(workspace, "file:theirs")
    assert "<small>maker/zorvex, cc-by-4.0</small>" in loras.show([loras.row(card)])


def test_an_empty_list_says_what_to_do():
    assert "Add a LoRA" in loras.show([])


@pytest.mark.parametrize("prompt, missing", [("a cat", True), ("OHWX a cat", False), ("ohwxy a cat", True)])
def test_a_chip_is_grey_while_the_prompt_lacks_its_word(prompt, missing):
    assert ('class="chip missing"' in loras.chips([row()], prompt)) == missing


def test_rows_that_are_off_have_no_chip():
    assert loras.chips([row(on=False)], "") == ""


def test_only_rows_that_act_are_drawn(workspace):
    style, light = (library.find(workspace, f"starter:{name}") for name in ("style", "dusk"))
    rows = [row(ref=style.ref), row(ref="file:off", on=False), row(ref="file:zero", weight=0.0), row(ref=light.ref, weight=-0.5)]
    assert loras.stack(workspace, rows) == [
        StackEntry(adapter=style.ref, weight=1.0, title=style.title, sha256=style.sha256),
        StackEntry(adapter=light.ref, weight=-0.5, title=light.title, sha256=light.sha256),
    ]


def test_a_run_that_is_learning_is_drawn_with_its_newest_save(workspace):
    run = finished_run(workspace)
    (named,) = loras.stack(workspace, [row(ref=f"run:{run.id}")])
    assert named.sha256 == library.find(workspace, f"run:{run.id}").sha256
    run.append({"kind": "started", "step": 200, "total": 400, "resumed": True})
    (named,) = loras.stack(workspace, [row(ref=f"run:{run.id}")])
    assert named.sha256 is None
    (named,) = loras.stack(workspace, [row(ref=f"run:{run.id}@100")])
    assert named.sha256 == library.find(workspace, f"run:{run.id}@100").sha256


def test_loras_of_another_base_are_switched_off_and_named():
    rows, strange = loras.fitting([row(title="Old"), row(title="New", base="b/base"), row(title="Unknown", base="")], "b/base")
    assert [r["on"] for r in rows] == [False, True, True]
    assert strange == ["Old"]


def test_of_two_with_the_same_title_only_the_one_for_another_base_is_switched_off():
    rows, strange = loras.fitting([row(), row(base="b/base")], "b/base")
    assert [r["on"] for r in rows] == [False, True]
    assert strange == ["Ink"]


def test_a_recipe_whose_loras_are_gone_says_which(workspace):
    gone = [StackEntry(adapter="file:gone", title="Ink"), StackEntry(adapter="run:gone@10"), StackEntry(adapter="file:../../x")]
    rows, missing, changed = loras.rows_of(workspace, gone)
    assert rows == changed == []
    assert missing == ["Ink", "run:gone@10", "file:../../x"]


def test_a_recipe_finds_the_save_it_was_drawn_with_or_says_that_there_is_none(workspace):
    run = finished_run(workspace)
    early = library.find(workspace, f"run:{run.id}@100")
    rows, missing, changed = loras.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", weight=0.5, sha256=early.sha256)])
    assert [r["ref"] for r in rows] == [early.ref] and missing == changed == []
    assert loras.stack(workspace, rows)[0].sha256 == early.sha256
    rows, missing, changed = loras.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", sha256="0" * 64)])
    assert [r["ref"] for r in rows] == [f"run:{run.id}"] and changed == ["Ink"]


def test_only_a_known_base_is_taken_from_a_file(workspace):
    run = finished_run(workspace, "model.base_model=ada/own")
    present = ("a/base", None)
    assert loras.known_base(workspace, (run.config.model.base_model, None), present) == (("ada/own", None), "")
    assert loras.known_base(workspace, ("", None), present) == (present, "")
    kept, said = loras.known_base(workspace, ("ada/own", "c" * 40), present)
    assert kept == ("ada/own", None) and "another version of ada/own (cccccccc)" in said
    kept, said = loras.known_base(workspace, ("mallory/huge", None), present)
    assert kept == present and said == "Made with mallory/huge; choose it under Base model to fetch it."


def test_every_family_offers_its_bases(workspace):
    assert "lora-studio/small-world" in [base for _, base in loras.bases(workspace)]
