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
from studio.publishing.facts import Base, CardFacts, Rights, Sample, Trained, clean_line
from studio.publishing.licensing import Grant
from studio.publishing.snippets import diffusers_code

SMALL_WORLD = Base("LoRA Studio's small world", id="lora-studio/small-world", licence=APACHE, folder="/home/ana/studio/model")
ON_HUB = Base("owner/base", id="owner/base", hub_id="owner/base", revision="a" * 40, licence=OPENRAIL_XL)
TRAINED = Trained(steps=200, seconds=61.5, images=16, captions_with_trigger=16, dataset_sha256="d" * 64, adapter_sha256="e" * 64)
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


def card_facts(base=SMALL_WORLD, images=True, **changes) -> CardFacts:
    values = {"model": {"base_model": base.id}, "dataset": {"trigger_word": "ohwx", "id": "holiday-of-ana-1234"}}
    facts = CardFacts(
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
        samples=(Sample("ohwx house", "images/1.png", "images/base-1.png"),) if images else (),
        grant=Grant("apache-2.0"),
    )
    return dataclasses.replace(facts, **changes)


def card_with_text(text: str) -> CardFacts:
    """A card with this text in every field for user text."""
    facts = card_facts(
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


def test_the_card_states_the_number_of_masks_and_the_weight_of_masked_out_areas():
    facts = card_facts(trained=dataclasses.replace(TRAINED, masked=3))
    assert "on 16 images, 3 of them with a mask (loss weight of masked-out areas: 0)." in model_card.render(facts)
    little = dataclasses.replace(facts, config=fields.replace(facts.config, {"dataset.mask_floor": 0.1}))
    assert "with a mask (loss weight of masked-out areas: 10%)." in model_card.render(little)
    assert "with a mask" not in model_card.render(card_facts())


def test_the_metadata_describes_the_lora_to_the_hub():
    assert front(model_card.render(card_facts(ON_HUB))) == {
        "license": "apache-2.0",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "base_model": "owner/base",
        "base_model_relation": "adapter",
        "instance_prompt": "ohwx",
        "tags": ["text-to-image", "lora", "diffusers", "stable-diffusion", "stable-diffusion-diffusers", "template:sd-lora"],
        "widget": [{"text": "ohwx house", "output": {"url": "images/1.png"}}],
    }


def test_a_base_that_is_not_on_the_hub_is_named_in_the_body_only():
    card = model_card.render(card_facts(SMALL_WORLD))
    assert "base_model" not in front(card) and "base_model_relation" not in front(card)
    assert "small world" in card and "not on the Hub" in card


def test_every_setting_is_on_the_card():
    facts = card_facts(ON_HUB)
    card = model_card.render(facts)
    for leaf in fields.leaves(facts.config):
        assert f"`{leaf.path}`" in card, leaf.path


def test_local_paths_are_not_published():
    local = Base("my-model", id="my-model", folder="/home/ana/secret/my-model")
    facts = card_facts(local)
    facts = dataclasses.replace(facts, config=fields.replace(facts.config, {"model.base_model": "/home/ana/secret/my-model"}))
    card = model_card.render(facts)
    assert "secret" not in card and "holiday-of-ana" not in card and "my-model" in card
    assert "secret" not in model_card.public_config(facts.config, local).model_dump_json()


def test_the_card_states_known_facts_and_leaves_out_unknown_ones():
    card = model_card.render(card_facts(ON_HUB))
    assert "200 steps in 62 seconds" in card and "16 images" in card and "d" * 64 in card and "e" * 64 in card and "a" * 40 in card
    assert "Not evaluated" in card and "in 16 of the 16 training captions" in card
    assert "seconds" not in model_card.render(card_facts(trained=dataclasses.replace(TRAINED, seconds=None))).split("<details>")[0]
    assert "of 200 planned" in model_card.render(card_facts(trained=dataclasses.replace(TRAINED, steps=100, stopped_early=True)))
    assert "missing in some captions" in model_card.render(card_facts(trained=dataclasses.replace(TRAINED, captions_with_trigger=3)))


def test_the_card_tells_how_an_extended_run_went_on():
    facts = card_facts()
    training = {**facts.config.training.model_dump(), "max_train_steps": 300, "extensions": [{"from_step": 200, "schedule": "keep"}]}
    longer = dataclasses.replace(facts, config=fields.replace(facts.config, {f"training.{name}": value for name, value in training.items()}))
    at_the_end = dataclasses.replace(longer, trained=dataclasses.replace(TRAINED, steps=300))
    assert "Extended by 100 steps after step 200, at the last learning rate, 0.0001, constant." in model_card.render(at_the_end)
    assert "Extended" not in model_card.render(longer), "the LoRA of step 200 has none of the added steps"


def test_a_real_person_and_their_consent_are_on_the_card():
    card = model_card.render(card_facts(rights=Rights("Photographed by me.", "Ana", True, "Signed by Ben (2026-11-01)")))
    assert "show a real person" in card and "Signed by Ben" in card and "Stated by Ana" in card
    assert "no real person" in model_card.render(card_facts())


def test_without_images_there_is_no_empty_gallery():
    card = model_card.render(card_facts(images=False))
    assert "widget" not in front(card) and "<Gallery" not in card and "No sample images" in card


def structure(html: str) -> list[str]:
    """Every tag but paragraphs: a description of several lines has several."""
    return [tag for tag in re.findall(r"<([A-Za-z][A-Za-z0-9]*)", html) if tag != "p"]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_adds_no_key_and_is_read_back_unchanged(text):
    expected = set(front(model_card.render(card_with_text("plain words"))))
    found = front(model_card.render(card_with_text(text)))
    assert set(found) | {"instance_prompt", "license_link"} == expected
    assert found["license"] == "other" and found["pipeline_tag"] == "text-to-image"
    assert found["widget"][0]["text"] == (clean_line(text) or " ")
    assert found.get("instance_prompt", "") == clean_line(text[:60])


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_is_shown_and_not_interpreted(text):
    html = rendered(model_card.render(card_with_text(text)))
    if clean_line(text):
        assert structure(html) == structure(rendered(model_card.render(card_with_text("plain words"))))
    assert not re.search(rf"(href|src)=\"(?!https://github.com/huggingface|images/|https://huggingface.co|{APACHE.link})", html)


def test_random_text_survives_the_yaml_and_the_page():
    """Fuzzing with a fixed seed: every string keeps its characters in the YAML and makes no tag in the page."""
    alphabet = "ab1 \n\t:#-|>*&!%@`'\"{}[],?<>=~$\\()_+./" + "é日\u202e\u00a0\U0001f600\x00\x1f\u2028"
    rng = random.Random(7)
    for _ in range(300):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))
        data = model_card.metadata(card_with_text(text))
        assert yaml.safe_load(data.to_yaml(line_break="\n"))["widget"][0]["text"] == (clean_line(text) or " ")
        html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(f"x {model_card.escape(text)} y\n\n{model_card.escape(text)}")
        assert set(re.findall(r"</?([A-Za-z][a-z0-9]*)", html)) <= {"p"}, text


def test_plain_text_keeps_letters_of_every_script_and_drops_what_deceives():
    assert clean_line("  naïve 日本語 👩‍🎨 \n x ") == "naïve 日本語 👩‍🎨 x"
    shown = clean_line("".join(chr(code) for code in range(0x2100)))
    assert all(unicodedata.category(char) not in ("Cc", "Cs") and not 0x202A <= ord(char) < 0x202F for char in shown)
    assert clean_line("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_the_code_is_python_and_holds_the_prompt_as_data(text):
    code = diffusers_code(card_with_text(text))
    tree = ast.parse(code)
    calls = sorted({node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)})
    assert calls == ["Generator", "from_pretrained", "load_lora_weights", "manual_seed", "save"]
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert clean_line(text) in strings


def test_the_code_names_base_revision_repository_and_file():
    code = diffusers_code(card_facts(ON_HUB), revision="b" * 40)
    for part in ("owner/base", "a" * 40, "ana/ink", "b" * 40, "pytorch_lora_weights.safetensors", "ohwx house"):
        assert part in code
    assert SMALL_WORLD.folder not in diffusers_code(card_facts()) and SMALL_WORLD.folder in diffusers_code(card_facts(), local=True)


def test_the_size_it_was_taught_at_is_not_taken_for_the_size_the_samples_have():
    """Samples are drawn at the base's own size, which is what a pipeline does that is told none."""
    assert "width" not in diffusers_code(card_facts(ON_HUB)) and "height" not in diffusers_code(card_facts(ON_HUB))
    assert "Trained at 128 x 128 pixels; the samples have the base model's default size" in model_card.render(card_facts())
    assert "Trained at 128 x 128 pixels; other sizes were not tested" in model_card.render(card_facts(images=False))


def test_the_card_reads_back_with_the_hubs_own_reader():
    facts = card_facts(ON_HUB)
    assert ModelCard(model_card.render(facts)).data.to_dict() == model_card.metadata(facts).to_dict()
