import ast
import dataclasses
import random
import re
import unicodedata

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from studio import config
from studio.config import fields
from studio.families.licences import APACHE, OPENRAIL_XL
from studio.publishing import model_card
from studio.publishing.facts import About, Base, Rights, Sample, Trained, plain
from studio.publishing.licensing import Grant
from studio.publishing.snippets import call_code

SMALL_WORLD = Base("LoRA Studio's small world", id="lora-studio/small-world", licence=APACHE, folder="/home/ana/studio/model")
ON_HUB = Base("owner/base", id="owner/base", hub_id="owner/base", revision="a" * 40, licence=OPENRAIL_XL)
TRAINED = Trained(steps=200, seconds=61.5, pictures=16, captioned_with_trigger=16, dataset_sha256="d" * 64, adapter_sha256="e" * 64)
NASTY = [
    "sks: dog",
    "sks\nlicense: mit\nextra_gated_prompt: pay",
    "---\nlicense: mit\n---",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/track.png)",
    "</details><h1>HACKED",
    "` `` ``` ~~~ ````",
    "| a | b |\n|---|---|",
    "*bold* _it_ **x** __y__ ~~z~~",
    "1. first",
    "- item",
    "> quote",
    "# heading",
    "&lt;b&gt; &amp; &#60;",
    "http://evil.example www.evil.example me@evil.example",
    "$$x^2$$ \\(a\\) \\[b\\]",
    "{{ jinja }} {% raw %}",
    "!!python/object:os.system",
    "'\"\\'\"\"\" + __import__('os').system('id') + \"",
    "\u202eright to left\u2066",
    "nul\x00 bell\x07 esc\x1b[31m",
    "\ud800 alone",
    "emoji 👩‍🎨 naïve 日本語",
    "\u2028line\u2029para\x85nel",
    "=== \n---",
    "null",
    "yes",
    "0x1F",
    "~",
    "a" * 3000,
    "   spaces   ",
    "",
]


def about(base=SMALL_WORLD, pictures=True, **changes) -> About:
    values = {"model": {"base_model": base.id}, "dataset": {"trigger_word": "ohwx", "id": "holiday-of-ana-1234"}}
    facts = About(
        title="Ink",
        description="",
        repo_id="ana/ink",
        config=config.build(values, "dataset.resolution=128", "training.max_train_steps=200"),
        family_title="Stable Diffusion",
        family_tags=("stable-diffusion", "stable-diffusion-diffusers"),
        call_arguments={"guidance_scale": 5.0},
        base=base,
        trained=TRAINED,
        rights=Rights("I drew these.", "Ana"),
        samples=(Sample("ohwx house", "images/1.png", "images/base-1.png"),) if pictures else (),
        grant=Grant("apache-2.0"),
    )
    return dataclasses.replace(facts, **changes)


def saying(text: str) -> About:
    """A card with this text in every place where a person types."""
    facts = about(
        title=text,
        description=text,
        grant=Grant("other", text, text),
        rights=Rights(text, text, True, text),
        samples=(Sample(text, "images/1.png", "images/base-1.png"),),
    )
    # The config refuses unpaired surrogates by itself.
    kept = text.encode("utf-8", "ignore").decode()
    return dataclasses.replace(facts, config=fields.replace(facts.config, {"dataset.trigger_word": kept[:60], "samples.prompts": [kept]}))


def front(card: str) -> dict:
    return yaml.safe_load(card.removeprefix("---\n").split("\n---\n")[0])


def rendered(card: str) -> str:
    """The body as HTML by a renderer that, like the Hub's, lets HTML through and links bare addresses."""
    body = card.split("\n---\n", 1)[1]
    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(body)


def test_the_card_says_which_pictures_had_masks_and_what_the_dark_parts_counted():
    facts = about(trained=dataclasses.replace(TRAINED, masked=3))
    assert "from 16 pictures, 3 of them with a mask whose dark parts did not count." in model_card.render(facts)
    little = dataclasses.replace(facts, config=fields.replace(facts.config, {"dataset.mask_floor": 0.1}))
    assert "a mask whose dark parts counted 10%." in model_card.render(little)
    assert "with a mask" not in model_card.render(about())


def test_the_card_says_to_the_hub_what_this_is():
    assert front(model_card.render(about(ON_HUB))) == {
        "license": "apache-2.0",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "base_model": "owner/base",
        "base_model_relation": "adapter",
        "instance_prompt": "ohwx",
        "tags": ["text-to-image", "lora", "diffusers", "stable-diffusion", "stable-diffusion-diffusers", "template:sd-lora"],
        "widget": [{"text": "ohwx house", "output": {"url": "images/1.png"}}],
    }


def test_a_base_that_is_not_on_the_hub_is_named_in_the_body_alone():
    card = model_card.render(about(SMALL_WORLD))
    assert "base_model" not in front(card) and "base_model_relation" not in front(card)
    assert "small world" in card and "not on the Hub" in card


def test_every_setting_stands_on_the_card():
    facts = about(ON_HUB)
    card = model_card.render(facts)
    for leaf in fields.leaves(facts.config):
        assert f"`{leaf.path}`" in card, leaf.path


def test_where_it_lay_on_the_makers_computer_stays_there():
    local = Base("my-model", id="my-model", folder="/home/ana/secret/my-model")
    facts = about(local)
    facts = dataclasses.replace(facts, config=fields.replace(facts.config, {"model.base_model": "/home/ana/secret/my-model"}))
    card = model_card.render(facts)
    assert "secret" not in card and "holiday-of-ana" not in card and "my-model" in card
    assert "secret" not in model_card.public_config(facts.config, local).model_dump_json()


def test_facts_are_told_and_what_is_unknown_is_not_made_up():
    card = model_card.render(about(ON_HUB))
    assert "200 steps in 62 seconds" in card and "16 pictures" in card and "d" * 64 in card and "e" * 64 in card and "a" * 40 in card
    assert "not measured" in card and "in 16 of the 16 captions" in card
    assert "seconds" not in model_card.render(about(trained=dataclasses.replace(TRAINED, seconds=None))).split("<details>")[0]
    assert "of the 200 planned" in model_card.render(about(trained=dataclasses.replace(TRAINED, steps=100, stopped_early=True)))
    assert "missing in some captions" in model_card.render(about(trained=dataclasses.replace(TRAINED, captioned_with_trigger=3)))


def test_a_real_person_and_their_consent_stand_on_the_card():
    card = model_card.render(about(rights=Rights("Photographed by me.", "Ana", True, "Signed by Ben (2026-11-01)")))
    assert "show a real person" in card and "Signed by Ben" in card and "Stated by Ana" in card
    assert "no real person" in model_card.render(about())


def test_without_pictures_there_is_no_empty_gallery():
    card = model_card.render(about(pictures=False))
    assert "widget" not in front(card) and "<Gallery" not in card and "No sample pictures" in card


def structure(html: str) -> list[str]:
    """Every tag but paragraphs: a description of several lines has several."""
    return [tag for tag in re.findall(r"<([A-Za-z][A-Za-z0-9]*)", html) if tag != "p"]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_adds_no_key_and_comes_back_as_it_was(text):
    expected = set(front(model_card.render(saying("plain words"))))
    found = front(model_card.render(saying(text)))
    assert set(found) | {"instance_prompt", "license_link"} == expected
    assert found["license"] == "other" and found["pipeline_tag"] == "text-to-image"
    assert found["widget"][0]["text"] == (plain(text) or " ")
    assert found.get("instance_prompt", "") == plain(text[:60])


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_is_shown_and_not_obeyed(text):
    html = rendered(model_card.render(saying(text)))
    if plain(text):
        assert structure(html) == structure(rendered(model_card.render(saying("plain words"))))
    assert not re.search(rf"(href|src)=\"(?!https://github.com/huggingface|images/|https://huggingface.co|{APACHE.link})", html)


def test_random_text_survives_the_yaml_and_the_page():
    """Fuzzing with a fixed seed: every string keeps its characters in the YAML and makes no tag in the page."""
    alphabet = "ab1 \n\t:#-|>*&!%@`'\"{}[],?<>=~$\\()_+./" + "é日\u202e\u00a0\U0001f600\x00\x1f\u2028"
    rng = random.Random(7)
    for _ in range(300):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))
        data = model_card.metadata(saying(text))
        assert yaml.safe_load(data.to_yaml(line_break="\n"))["widget"][0]["text"] == (plain(text) or " ")
        html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(f"x {model_card.escape(text)} y\n\n{model_card.escape(text)}")
        assert set(re.findall(r"</?([A-Za-z][a-z0-9]*)", html)) <= {"p"}, text


def test_plain_text_keeps_letters_of_every_script_and_drops_what_deceives():
    assert plain("  naïve 日本語 👩‍🎨 \n x ") == "naïve 日本語 👩‍🎨 x"
    shown = plain("".join(chr(code) for code in range(0x2100)))
    assert all(unicodedata.category(char) not in ("Cc", "Cs") and not 0x202A <= ord(char) < 0x202F for char in shown)
    assert plain("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_the_code_is_python_and_holds_the_prompt_as_data(text):
    code = call_code(saying(text))
    tree = ast.parse(code)
    calls = sorted({node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)})
    assert calls == ["Generator", "from_pretrained", "load_lora_weights", "manual_seed", "save"]
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert plain(text) in strings


def test_the_code_names_base_revision_repository_and_file():
    code = call_code(about(ON_HUB), revision="b" * 40)
    for part in ("owner/base", "a" * 40, "ana/ink", "b" * 40, "pytorch_lora_weights.safetensors", "ohwx house"):
        assert part in code
    assert SMALL_WORLD.folder not in call_code(about()) and SMALL_WORLD.folder in call_code(about(), here=True)


def test_the_size_it_was_taught_at_is_not_taken_for_the_size_the_samples_have():
    """Samples are drawn at the base's own size, which is what a pipeline does that is told none."""
    assert "width" not in call_code(about(ON_HUB)) and "height" not in call_code(about(ON_HUB))
    assert "taught at 128 x 128 pixels; the samples have the base model's own size" in model_card.render(about())
    assert "taught at 128 x 128 pixels; other sizes were not tried" in model_card.render(about(pictures=False))


def test_the_card_reads_back_with_the_hubs_own_reader():
    facts = about(ON_HUB)
    assert ModelCard(model_card.render(facts)).data.to_dict() == model_card.metadata(facts).to_dict()
