"""Starting points: every family in two paces, steps from the number of pictures, cards of five sizes, and a person's own."""

import random
import tomllib
from types import SimpleNamespace

import pytest

from studio import config as configs
from studio import families
from studio.config import fields, memory_overlays, shipped_presets, suggestions, toml
from studio.core.errors import StudioError
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.runs import starting_points
from studio.runs.creation import create_run

NAMES = [preset.name for preset in configs.presets()]
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def pictures(count: int, subject: str = "style", word: str = "ohwx"):
    return SimpleNamespace(id="ink-1", subject=subject, trigger_word=word, images=[None] * count)


# What ships


@pytest.mark.parametrize("preset", configs.presets(), ids=NAMES)
def test_every_preset_is_for_a_family_and_a_base_that_the_studio_offers(preset):
    family = families.get(preset.family)
    assert preset.base_model in [offer.id for offer in family.offers]


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_every_family_has_a_best_and_a_quick_preset_for_every_subject(family):
    own = {(preset.subject, preset.pace) for preset in configs.presets() if preset.family == family.name}
    assert own == {(subject, pace) for subject in SUBJECTS for pace in ("best", "quick")}


@pytest.mark.parametrize("preset", configs.presets(), ids=NAMES)
def test_every_preset_gives_a_config_for_pictures_and_says_where_its_numbers_come_from(preset):
    built = configs.for_dataset(pictures(20, preset.subject), preset.name)
    assert (built.model.family, built.model.base_model, built.dataset.subject) == (preset.family, preset.base_model, preset.subject)
    assert len(built.samples.prompts) >= 3 and not any("[trigger]" in prompt for prompt in built.samples.prompts)
    assert any("ohwx" in prompt for prompt in built.samples.prompts) and any("ohwx" not in prompt for prompt in built.samples.prompts)
    assert preset.measured.startswith("measured on") or preset.measured == "estimated"
    assert preset.title and preset.description.endswith(".")


def test_a_quick_preset_is_shorter_and_smaller_than_the_best_one():
    found = {preset.name: preset for preset in configs.presets()}
    for name in [name for name in found if name.endswith(shipped_presets.QUICK)]:
        best, quick = (configs.for_dataset(pictures(25, found[name].subject), each) for each in (name.removesuffix(shipped_presets.QUICK), name))
        assert quick.training.max_train_steps <= best.training.max_train_steps * 0.55
        assert quick.dataset.resolution <= best.dataset.resolution and quick.lora.rank <= best.lora.rank
        assert found[name].title != found[name.removesuffix(shipped_presets.QUICK)].title
        assert (found[name].pace, found[name.removesuffix(shipped_presets.QUICK)].pace) == ("quick", "best")


FOR_WHOM = ("model.base_model", "dataset.subject")


@pytest.mark.parametrize("preset", [preset for preset in configs.presets() if preset.pace == "best"], ids=lambda preset: preset.name)
def test_a_preset_says_only_what_would_be_otherwise_without_it(preset):
    said = fields.flatten(preset.values)
    for path in said:
        without = fields.unflatten({name: value for name, value in said.items() if name != path})
        assert path in FOR_WHOM or configs.build(without) != configs.build(preset.values), path


def test_samples_are_drawn_as_the_makers_of_the_base_recommend_unless_said():
    sd15 = families.offer(SD15).sampling
    built = configs.preset("stable-diffusion-style")
    assert (built.samples.num_inference_steps, built.samples.guidance_scale) == (sd15.num_inference_steps, sd15.guidance_scale)
    assert configs.preset("stable-diffusion-style", "samples.num_inference_steps=7").samples.num_inference_steps == 7


def test_a_large_base_gets_a_small_file():
    large = [preset.name for preset in configs.presets() if preset.family != "stable-diffusion"]
    assert {configs.preset(name).saving.dtype for name in large} == {"bfloat16"}


def test_the_names_that_were_there_before_still_mean_the_same():
    for name in ("small-world-style", "stable-diffusion-character", "stable-diffusion-object"):
        assert configs.preset(name).dataset.subject == name.rpartition("-")[2]
    assert configs.preset("small-world-style").training.max_train_steps == 360


# Which fits


def test_the_preset_fits_the_base_or_its_family_and_somebodys_own_base_is_large():
    assert configs.fitting_preset("style") == "small-world-style"
    assert configs.fitting_preset("object", SD15) == "stable-diffusion-object"
    assert configs.fitting_preset("character", "stabilityai/stable-diffusion-xl-base-1.0") == "sdxl-character"
    assert configs.fitting_preset("style", "black-forest-labs/FLUX.1-schnell") == "flux-style"
    assert configs.fitting_preset("style", "somebody/their-own-base") == "stable-diffusion-style"


def test_a_base_named_on_the_command_line_brings_its_own_numbers_and_family():
    built = configs.for_dataset(pictures(25), "", "model.base_model=stabilityai/stable-diffusion-xl-base-1.0")
    assert (built.model.family, built.dataset.resolution, built.training.max_train_steps) == ("sdxl", 1024, 1500)


def test_a_base_on_this_computer_is_known_by_its_layout(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    assert configs.fitting_preset("object", str(tmp_path)) == "sdxl-object"
    assert configs.for_dataset(pictures(9), "stable-diffusion-style", f"model.base_model={tmp_path}").model.family == "sdxl"


# Steps


def test_25_pictures_suggest_1500_steps_and_quick_is_half_of_that():
    assert [suggestions.steps(25, subject) for subject in SUBJECTS] == [1500, 1500, 1500]
    assert suggestions.steps(25, "style", "quick") == 750


def test_more_pictures_suggest_more_steps_within_limits():
    for subject in SUBJECTS:
        numbers = [suggestions.steps(count, subject) for count in (1, 5, 10, 20, 40, 80, 1000)]
        assert numbers == sorted(numbers) and numbers[0] >= 600 and numbers[-1] <= 4000
    assert suggestions.steps(40, "style") < 2 * suggestions.steps(20, "style")


def test_pictures_seen_together_need_fewer_steps_but_never_too_few():
    assert suggestions.steps(25, "style", effective_batch=4) == 380
    assert suggestions.steps(25, "style", "quick", effective_batch=64) == suggestions.FEWEST_STEPS


def test_steps_are_suggested_where_neither_the_preset_nor_the_person_says_them():
    assert configs.for_dataset(pictures(36), "sdxl-style").training.max_train_steps == 1800
    assert configs.for_dataset(pictures(36), "sdxl-style", "training.train_batch_size=2").training.max_train_steps == 900
    assert configs.for_dataset(pictures(36), "sdxl-style", "training.max_train_steps=77").training.max_train_steps == 77
    assert configs.for_dataset(pictures(36), "small-world-style").training.max_train_steps == 360
    assert configs.for_dataset(pictures(46), "sdxl-style", "validation.pictures=10").training.max_train_steps == 1800


def test_the_page_can_say_why():
    assert suggestions.explain_steps(25, 1500).startswith("25 images: 1,500 steps suggested.")
    assert suggestions.explain_steps(1, 600).startswith("1 image: ")


# Cards


def test_there_is_an_overlay_for_five_sizes_and_none_is_a_preset():
    assert [overlay.name for overlay in configs.overlays()] == [f"memory-{size}gb" for size in (8, 12, 16, 24, 48)]
    assert not [name for name in NAMES if "memory" in name]


@pytest.mark.parametrize("overlay", configs.overlays(), ids=lambda overlay: overlay.name)
def test_an_overlay_changes_what_fits_and_nothing_else_for_every_preset(overlay):
    assert set(overlay.settings).union(*overlay.of_families.values(), *overlay.of_bases.values()) <= set(memory_overlays.OWNED)
    assert set(overlay.of_bases) <= {offer.id for family in families.FAMILIES for offer in family.offers}
    assert set(overlay.of_families) <= {preset.family for preset in configs.presets()}
    assert len(overlay.description.split()) > 8 and overlay.measured == "estimated"
    for name in NAMES:
        before, after = configs.preset(name), configs.preset(name, overlay=overlay.name)
        changed = [leaf.path for leaf in fields.leaves(before) if fields.get(before, leaf.path) != fields.get(after, leaf.path)]
        assert set(changed) <= set(memory_overlays.OWNED)
        assert None not in (after.runtime.gradient_checkpointing, after.runtime.quantisation, after.runtime.offload)


def test_a_larger_card_never_asks_for_more_saving():
    saving = {"none": 0, "int8": 1, "fp8": 1, "nf4": 2}
    for family in {preset.family for preset in configs.presets()}:
        asked = [configs.preset(f"{family}-style", overlay=overlay.name) for overlay in configs.overlays()]
        for small, large in zip(asked, asked[1:]):
            assert saving[small.runtime.quantisation] >= saving[large.runtime.quantisation]
            assert small.runtime.offload >= large.runtime.offload
            assert small.runtime.gradient_checkpointing >= large.runtime.gradient_checkpointing
            assert small.dataset.resolution <= large.dataset.resolution


def test_a_larger_base_of_a_family_gets_more_saving_than_the_one_of_its_presets():
    large = "stabilityai/stable-diffusion-3.5-large"
    for card in ("8gb", "12gb", "16gb"):
        medium, other = (configs.preset("sd3-style", *base, overlay=card).runtime for base in ((), (f"model.base_model={large}",)))
        assert (medium.quantisation, other.quantisation) in [("int8", "nf4"), ("none", "nf4"), ("none", "int8")]


def test_picture_size_and_batch_are_limits_and_a_smaller_batch_is_made_up_for():
    built = configs.preset("krea-2-style", "training.train_batch_size=4", "dataset.resolution=896", overlay="memory-8gb")
    assert (built.training.train_batch_size, built.dataset.resolution) == (4, 896)  # said by hand
    lowered = memory_overlays.fit(configs.preset("krea-2-style", "training.train_batch_size=4"), "memory-8gb")
    assert (lowered.training.train_batch_size, lowered.training.gradient_accumulation_steps, lowered.dataset.resolution) == (1, 4, 768)
    assert memory_overlays.fit(configs.preset("krea-2-style-quick"), "memory-8gb").dataset.resolution == 512
    assert configs.preset("small-world-style", overlay="memory-12gb").training.train_batch_size == 4


def test_a_card_is_named_by_its_memory_and_an_unknown_one_is_refused_with_the_known_ones():
    assert configs.preset("flux-style", overlay="12 GB") == configs.preset("flux-style", overlay="12gb") != configs.preset("flux-style")
    with pytest.raises(StudioError, match="'7gb'. Choose one of 8gb, 12gb, 16gb, 24gb, 48gb"):
        configs.preset("flux-style", overlay="7gb")


# One's own


def hostile(rng: random.Random) -> str:
    kinds = ['"', "'", "\\", "\n", "\r\n", "\t", "\x00", "\x1b", "\x7f", "\u2028", "🦊", "é", "= [x]", "#", "'''", '"""', "\\u0041", "a"]
    return "".join(rng.choice([rng.choice(kinds), chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))]) for _ in range(12))


def test_any_text_and_number_survives_the_way_through_toml():
    rng = random.Random(5)
    for _ in range(300):
        table = {
            "text": hostile(rng),
            "texts": [hostile(rng) for _ in range(3)],
            "yes": rng.random() < 0.5,
            "whole": rng.randrange(-(2**40), 2**40),
            "small": rng.random() * 10 ** rng.randrange(-9, 9),
        }
        assert tomllib.loads(toml.dumps({"preset": table, "empty": {}}, "a comment")) == {"preset": table}
    assert tomllib.loads(toml.dumps({"a": {"rate": 1e-05, "size": 1e16}})) == {"a": {"rate": 1e-05, "size": 1e16}}


def test_what_was_saved_comes_back_for_other_pictures_with_their_word(workspace):
    changed = ("lora.rank=24", "training.learning_rate=1e-5", 'samples.prompts=["ohwx \\"ink\\"\\nbird", "a bird"]', "runtime.quantisation=nf4")
    config = configs.for_dataset(pictures(25), "flux-style", *changed)
    saved = starting_points.save(workspace, 'Tinte "langsam"', config, 25)
    assert (saved.name, saved.title, saved.path.parent) == ("mine:tinte-langsam", 'Tinte "langsam"', workspace.presets)
    again = starting_points.build_config(workspace, pictures(36, word="sks"), saved.name)
    assert (again.lora.rank, again.lora.alpha, again.training.learning_rate, again.runtime.quantisation) == (24, 24, 1e-5, "nf4")
    assert again.samples.prompts == ['sks "ink" bird', "a bird"] and again.dataset.trigger_word == "sks"
    assert again.training.max_train_steps == 1800  # suggested, as it was when it was saved
    assert (again.model.family, again.model.base_model) == ("flux", "black-forest-labs/FLUX.1-dev")


def test_a_saved_preset_says_only_what_differs_and_nothing_about_the_pictures(workspace):
    config = configs.for_dataset(pictures(25), "stable-diffusion-style", "training.max_train_steps=1500", "lora.rank=8")
    text = starting_points.save(workspace, "Ink", config).path.read_text()
    assert "rank = 8" in text and "max_train_steps = 1500" in text
    assert not [word for word in ("alpha", "ohwx", "ink-1", "resolution", "seed") if word in text]


def test_a_preset_is_not_overwritten_silently(workspace):
    starting_points.save(workspace, "Ink", configs.preset("stable-diffusion-style", "lora.rank=8"))
    with pytest.raises(StudioError, match="already a preset 'Ink'.*Replace"):
        starting_points.save(workspace, "ink!", configs.preset("stable-diffusion-style", "lora.rank=4"))
    assert starting_points.find(workspace, "mine:ink").values["lora"]["rank"] == 8
    starting_points.save(workspace, "ink!", configs.preset("stable-diffusion-style", "lora.rank=4"), replace=True)
    assert starting_points.find(workspace, "mine:ink").values["lora"]["rank"] == 4 and len(starting_points.saved_presets(workspace)) == 1


def test_titles_in_any_script_are_kept_apart(workspace):
    first, second = (starting_points.save(workspace, title, configs.preset("stable-diffusion-style")) for title in ("墨", "狐"))
    assert first.name != second.name and [preset.title for preset in starting_points.saved_presets(workspace)] == sorted(["墨", "狐"])
    with pytest.raises(StudioError, match="has no title"):
        starting_points.save(workspace, " \n ", configs.preset("stable-diffusion-style"))


def test_owners_do_not_see_each_others_presets(home):
    one, other = home.workspace("one"), home.workspace("other")
    starting_points.save(one, "Ink", configs.preset("stable-diffusion-style"))
    assert starting_points.saved_presets(other) == [] and [preset.name for preset in starting_points.saved_presets(one)] == ["mine:ink"]
    with pytest.raises(StudioError):
        starting_points.build_config(other, pictures(9), "mine:ink")
    with pytest.raises(StudioError, match="is not the id of a preset"):
        starting_points.find(other, "mine:../../one/presets/ink")


def test_a_removed_preset_is_listed_with_its_title_and_comes_back(workspace):
    from studio.runs import trash

    saved = starting_points.save(workspace, "Ink, slow", configs.preset("stable-diffusion-style"))
    starting_points.remove(workspace, saved.name)
    ((gone, title),) = trash.list_removed(workspace, "presets")
    assert title == "Ink, slow" and starting_points.saved_presets(workspace) == []
    workspace.restore(gone.id)
    assert starting_points.find(workspace, saved.name) == saved
    with pytest.raises(StudioError, match="only saved presets can"):
        starting_points.remove(workspace, "small-world-style")


def test_a_preset_that_cannot_be_read_is_shown_as_such(workspace):
    (workspace.presets / "broken.toml").write_text("[lora]\nrank = 'many'")
    (listed,) = starting_points.saved_presets(workspace)
    assert "cannot be read" in listed.title
    with pytest.raises(StudioError, match="Rank"):
        starting_points.build_config(workspace, pictures(9), listed.name)


def test_a_runs_settings_come_back_without_its_machine_and_its_word(workspace):
    dataset = Dataset.from_samples(workspace, "style")
    asked = configs.for_dataset(dataset, "", "lora.rank=12", "training.max_train_steps=123")
    run = create_run(workspace, asked, dataset, "Ink")
    run.write_config(fields.replace(asked, {"runtime.device": "cuda", "runtime.threads": 16, "runtime.quantisation": "nf4"}))
    again = starting_points.build_config(workspace, pictures(30, "character", "sks"), f"run:{run.id}")
    assert (again.lora.rank, again.training.max_train_steps) == (12, 123)
    assert (again.runtime.device, again.runtime.threads, again.runtime.quantisation) == (None, None, None)
    assert (again.dataset.subject, again.dataset.trigger_word, again.dataset.id) == ("character", "sks", "ink-1")
    assert any("sks" in prompt for prompt in again.samples.prompts)
    assert not any(dataset.trigger_word in prompt for prompt in again.samples.prompts)


def test_goals_are_the_two_paces_for_the_base_then_ones_own_then_runs(workspace):
    dataset = Dataset.from_samples(workspace, "style")
    starting_points.save(workspace, "Ink, slow", configs.for_dataset(dataset))
    run = create_run(workspace, configs.for_dataset(dataset), dataset, "Ink")
    names = [name for _, name in starting_points.list_choices(workspace, "style")]
    assert names == ["small-world-style", "small-world-style-quick", "mine:ink-slow", f"run:{run.id}"]
    assert [name for _, name in starting_points.list_choices(workspace, "object", SD15)][:2] == [
        "stable-diffusion-object",
        "stable-diffusion-object-quick",
    ]
    unknown = [name for _, name in starting_points.list_choices(workspace, "style", "somebody/their-own-base")]
    assert {"sdxl-style", "flux-style-quick", "stable-diffusion-style"} <= set(unknown)
