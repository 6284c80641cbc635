"""The weights that ship, opened as anybody would open them: plain diffusers, plain transformers."""

import random

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from studio.builtin import CAPTIONER_DIR, MODEL_DIR
from studio.config.recipe import read_recipe
from studio.making import first_image
from studio.making.drawing import draw
from studio.making.first_image import FIRST_DIR, STACK
from studio.making.vocabulary import MAX_TOKENS, prompt_tokenizer
from studio.making.world import caption, sample
from studio.runs import library

BYTES_ALLOWED = 40 * 2**20


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(MODEL_DIR, dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_the_model_is_an_ordinary_stable_diffusion(pipeline):
    assert pipeline.safety_checker is None and not pipeline.config.requires_safety_checker
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.text_encoder.config.eos_token_id == pipeline.tokenizer.eos_token_id


def test_it_generates_its_default_size(pipeline):
    image = pipeline("a red cat on a street", num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (128, 128)
    assert np.asarray(image).std() > 10


def test_the_prompt_matters(pipeline):
    def colour(prompt: str) -> np.ndarray:
        image = pipeline(prompt, num_inference_steps=6, generator=torch.Generator().manual_seed(1)).images[0]
        return np.asarray(image, np.float32).mean((0, 1))

    blue, yellow = colour("a white star on a blue background"), colour("a white star on a yellow background")
    assert blue[2] - blue[0] > yellow[2] - yellow[0] + 30


def test_every_word_of_the_world_is_one_token():
    tokenizer = prompt_tokenizer()
    rng = random.Random(0)
    for _ in range(200):
        sentence = caption(sample(rng))
        assert tokenizer.tokenize(sentence) == [f"{word}</w>" for word in sentence.replace(",", " ,").split()]
    assert tokenizer.tokenize("ohwx sks TOK") == ["ohwx</w>", "sks</w>", "tok</w>"]


def test_any_text_becomes_tokens():
    tokenizer = prompt_tokenizer()
    for text in ("", "Straßenkatze 🐈", "日本", "x" * 200):
        ids = tokenizer(text, padding="max_length", truncation=True, max_length=MAX_TOKENS).input_ids
        assert len(ids) == MAX_TOKENS and ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_the_captioner_describes_what_is_rendered():
    processor = BlipProcessor.from_pretrained(CAPTIONER_DIR)
    model = BlipForConditionalGeneration.from_pretrained(CAPTIONER_DIR, dtype=torch.float32).eval()
    rngs = [random.Random(f"test {index}") for index in range(12)]
    scenes = [sample(rng) for rng in rngs]
    inputs = processor(images=[draw(scene, rng) for scene, rng in zip(scenes, rngs)], return_tensors="pt")
    written = processor.batch_decode(model.generate(**inputs, max_new_tokens=30), skip_special_tokens=True)
    assert sum(text == caption(scene) for text, scene in zip(written, scenes)) >= 8, list(zip(written, map(caption, scenes)))


def test_the_first_pair_is_generated_by_its_own_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(first_image, "FIRST_DIR", tmp_path)
    first_image.make(first_image.SEED)
    for name in ("base.png", "stack.png"):
        shipped, made = (Image.open(folder / name) for folder in (FIRST_DIR, tmp_path))
        assert read_recipe((FIRST_DIR / name).read_bytes()) == read_recipe((tmp_path / name).read_bytes())
        # Bit-identical on the computer that made them; others round differently.
        assert np.abs(np.asarray(shipped, np.float32) - np.asarray(made, np.float32)).mean() < 2, name


def test_the_first_image_names_the_shipped_starters():
    shipped = {card.ref: card.sha256 for card in library.starters()}
    stack = read_recipe((FIRST_DIR / "stack.png").read_bytes()).stack
    assert {entry.adapter: entry.sha256 for entry in stack} == {f"starter:{name}": shipped[f"starter:{name}"] for name in STACK}


def test_all_that_ships_stays_small():
    files = [path for folder in ("model", "captioner", "loras", "samples") for path in (MODEL_DIR.parent / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= BYTES_ALLOWED
