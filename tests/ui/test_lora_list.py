"""The LoRA list: rows of plain data, the stack made from them, and HTML in which a title stays text."""

import json

import pytest

from studio.config.recipe import StackEntry
from studio.families import BUILTIN_ID
from studio.runs import library
from studio.ui.components import lora_list
from tests.trained import finished_run, write_tiny_adapter

SD15, SDXL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"
HOSTILE = '"><script>alert(1)</script>'


def row(**differs) -> dict:
    shown = {"ref": "file:x", "title": "Ink", "weight": 1.0, "on": True, "trigger_words": ["ohwx"], "image": "", "origin": "", "base": "a/base"}
    made_for = {"family": "stable-diffusion", "width": 768, "made_for": "Stable Diffusion 1.5", "fits": True, "switch": ""}
    return shown | made_for | differs


def test_a_title_can_only_ever_be_text():
    strange = row(title=HOSTILE, made_for=HOSTILE, switch=HOSTILE, fits=False)
    shown = lora_list.show([row(title=HOSTILE, image=HOSTILE), strange]) + lora_list.chips([row(title=HOSTILE, trigger_words=[HOSTILE])], HOSTILE)
    assert "<script" not in shown


def test_a_row_shows_its_weight_and_its_switch():
    shown = lora_list.show([row(weight=1.25, on=False)])
    assert 'value="1.25"' in shown and "<output>1.25</output>" in shown
    assert 'class="off"' in shown and "checked" not in shown
    assert 'class="weigh hot"' in shown


def test_a_lora_of_the_hub_shows_its_repository_and_licence(workspace):
    write_tiny_adapter(workspace.adapter_path("theirs"), {})
    origin = {"hub": "maker/zorvex", "revision": "c" * 40, "licence": "cc-by-4.0"}
    workspace.adapter_path("theirs").with_suffix(".json").write_text(json.dumps({"title": "Zorvex", "source": origin}))
    adapter = library.find(workspace, "file:theirs")
    assert "<small>for Stable Diffusion, maker/zorvex, cc-by-4.0</small>" in lora_list.show([lora_list.row(adapter)])


def test_an_empty_list_says_what_to_do():
    assert "Add a LoRA" in lora_list.show([])


@pytest.mark.parametrize("prompt, missing", [("a cat", True), ("OHWX a cat", False), ("ohwxy a cat", True)])
def test_a_chip_is_grey_while_the_prompt_lacks_its_word(prompt, missing):
    assert ('class="chip missing"' in lora_list.chips([row()], prompt)) == missing


def test_rows_that_are_off_have_no_chip():
    assert lora_list.chips([row(on=False)], "") == ""


def test_only_rows_that_act_are_in_the_stack(workspace):
    style, light = (library.find(workspace, f"starter:{name}") for name in ("style", "dusk"))
    rows = [row(ref=style.ref), row(ref="file:off", on=False), row(ref="file:zero", weight=0.0), row(ref=light.ref, weight=-0.5)]
    assert lora_list.stack(workspace, rows) == [
        StackEntry(adapter=style.ref, weight=1.0, title=style.title, sha256=style.sha256),
        StackEntry(adapter=light.ref, weight=-0.5, title=light.title, sha256=light.sha256),
    ]


def test_a_run_in_training_is_used_with_its_newest_checkpoint(workspace):
    run = finished_run(workspace)
    (named,) = lora_list.stack(workspace, [row(ref=f"run:{run.id}")])
    assert named.sha256 == library.find(workspace, f"run:{run.id}").sha256
    run.append({"kind": "started", "step": 200, "total": 400, "resumed": True})
    (named,) = lora_list.stack(workspace, [row(ref=f"run:{run.id}")])
    assert named.sha256 is None
    (named,) = lora_list.stack(workspace, [row(ref=f"run:{run.id}@100")])
    assert named.sha256 == library.find(workspace, f"run:{run.id}@100").sha256


def test_a_lora_of_another_family_or_width_is_left_out_and_one_of_a_related_base_is_used(workspace):
    theirs = [row(base=""), row(family="sdxl", width=2048, base=SDXL), row(width=1024, base=""), row(base="ada/own-sd15")]
    rows = lora_list.fitted(workspace, theirs, SD15)
    assert [r["fits"] for r in rows] == [True, False, False, True]
    assert [r["on"] for r in rows] == [True] * 4
    assert lora_list.chips(rows, "").count("chip missing") == 2


def test_a_lora_of_krea_raw_fits_turbo(workspace):
    trained = row(family="krea-2", width=None, base="krea/Krea-2-Raw")
    assert lora_list.fitted(workspace, [trained], "krea/Krea-2-Turbo")[0]["fits"]


def test_a_lora_acts_again_once_its_base_is_chosen(workspace):
    out = lora_list.fitted(workspace, [row(on=True)], BUILTIN_ID)
    back = lora_list.fitted(workspace, out, SD15)
    assert not out[0]["fits"] and back[0]["fits"] and lora_list.acts(back[0]) and lora_list.stack(workspace, out) == []


def test_on_a_base_not_downloaded_yet_a_lora_fits_only_if_made_for_it(workspace):
    rows = lora_list.fitted(workspace, [row(title="Old"), row(title="New", base="b/base"), row(title="Unknown", base="")], "b/base")
    assert [r["fits"] for r in rows] == [False, True, True]


def test_a_row_that_does_not_fit_names_its_base_and_offers_it(workspace):
    (r,) = lora_list.fitted(workspace, [row(family="flux", width=None, made_for="FLUX.1", base="")], SD15)
    shown = lora_list.show([r])
    assert 'class="off"' in shown and "disabled" in shown and "Made for FLUX.1: it does nothing on the chosen base." in shown
    assert 'data-click="switch" data-base="black-forest-labs/FLUX.1-dev"' in shown and "Switch to FLUX.1 [dev] (34\u00a0GB to download)" in shown
    assert 'type="range"' not in shown


def test_a_row_offers_the_base_of_its_run_but_not_one_named_by_a_file(workspace):
    own = finished_run(workspace, "model.base_model=ada/own")
    rows = [row(base="black-forest-labs/FLUX.1-schnell", family="flux", width=None), row(base="ada/own"), row(base="mallory/huge", width=5)]
    switches = [r["switch"] for r in lora_list.fitted(workspace, rows, SDXL)]
    assert switches == ["black-forest-labs/FLUX.1-schnell", own.config.model.base_model, ""]


def test_a_lora_of_an_unsupported_family_has_no_switch_button(workspace):
    (r,) = lora_list.fitted(workspace, [row(family="lumina2", width=None, made_for="Lumina Image 2", base="")], SD15)
    assert "Made for Lumina Image 2" in lora_list.show([r]) and 'data-click="switch"' not in lora_list.show([r])


def test_a_starter_shows_nothing_new_on_its_own_base(workspace):
    rows = lora_list.starter_rows()
    assert lora_list.show(lora_list.fitted(workspace, rows, BUILTIN_ID)) == lora_list.show(rows) and "Made for" not in lora_list.show(rows)
    assert "Made for LoRA Studio&#39;s small world" in lora_list.show(lora_list.fitted(workspace, rows, SD15))


def test_loras_missing_from_a_recipe_are_named(workspace):
    gone = [StackEntry(adapter="file:gone", title="Ink"), StackEntry(adapter="run:gone@10"), StackEntry(adapter="file:../../x")]
    rows, missing, changed = lora_list.rows_of(workspace, gone)
    assert rows == changed == []
    assert missing == ["Ink", "run:gone@10", "file:../../x"]


def test_a_recipe_finds_its_checkpoint_or_reports_that_it_changed(workspace):
    run = finished_run(workspace)
    early = library.find(workspace, f"run:{run.id}@100")
    rows, missing, changed = lora_list.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", weight=0.5, sha256=early.sha256)])
    assert [r["ref"] for r in rows] == [early.ref] and missing == changed == []
    assert lora_list.stack(workspace, rows)[0].sha256 == early.sha256
    rows, missing, changed = lora_list.rows_of(workspace, [StackEntry(adapter=f"run:{run.id}", sha256="0" * 64)])
    assert [r["ref"] for r in rows] == [f"run:{run.id}"] and changed == ["Ink"]


def test_only_a_known_base_is_taken_from_a_file(workspace):
    run = finished_run(workspace, "model.base_model=ada/own")
    present = ("a/base", None)
    assert lora_list.known_base(workspace, (run.config.model.base_model, None), present) == (("ada/own", None), "")
    assert lora_list.known_base(workspace, ("", None), present) == (present, "")
    kept, message = lora_list.known_base(workspace, ("ada/own", "c" * 40), present)
    assert kept == ("ada/own", None) and "another revision of ada/own (cccccccc)" in message
    kept, message = lora_list.known_base(workspace, ("mallory/huge", None), present)
    assert kept == present and message == "Made with mallory/huge; choose it under Base model to download it."
