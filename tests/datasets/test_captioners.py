"""Captioners: the real classes made tiny, from a folder and from the Hub."""

import dataclasses
import re
import subprocess
import sys

import pytest
from PIL import Image

from studio import builtin
from studio.core import platform
from studio.core.errors import StudioError
from studio.datasets import captioners
from studio.datasets.captioners import CAPTIONERS
from studio.datasets.captioners.base import Captioner, CaptionerInfo, clean_caption, without_loops
from studio.datasets.captioners.blip import Blip
from studio.datasets.captioners.florence_2 import Florence2

PICTURES = [Image.new("RGB", size, colour) for size, colour in (((64, 48), "red"), ((40, 80), "blue"), ((64, 64), "lime"))]


def tiny_blip(folder):
    """BLIP's own layout with 50,000 weights: its [DEC] start token is not registered as special, as in the real files."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "blue", "house", "dog", "on", "hill", "small"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    torch.manual_seed(0)
    text = {"vocab_size": len(words), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()
    # Fresh weights answer with the first word for ever; a wider head makes them say something.
    model.text_decoder.cls.predictions.decoder.weight.data.mul_(40)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def tiny_florence(folder):
    import torch
    from transformers import BartTokenizer, CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    letters = {chr(c): i + 5 for i, c in enumerate([*range(33, 127), *range(0x100, 0x144)])}
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, **letters}
    tokenizer = BartTokenizer(vocab=vocab, merges=[], extra_special_tokens={"image_token": "<image>"})
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False, crop_size={"height": 64, "width": 64})
    images.image_seq_length = 17  # 4 x 4 patches and their mean
    torch.manual_seed(0)
    vision = {"depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 4], "patch_padding": [3, 1], "patch_prenorm": [False, True]}
    vision |= {"embed_dim": [16, 32], "num_heads": [2, 2], "num_groups": [2, 2], "window_size": 4, "projection_dim": 32, "drop_path_rate": 0.0}
    text = {"vocab_size": len(tokenizer), "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    text |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "model_type": "bart", "max_position_embeddings": 256}
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id)
    model = Florence2ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    Florence2Processor(images, tokenizer, post_processor_config={"pure_text": {}}).save_pretrained(folder)
    return folder


MAKERS = {Blip: tiny_blip, Florence2: tiny_florence}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Class -> folder of a tiny captioner."""
    return {model: make(tmp_path_factory.mktemp(model.__name__)) for model, make in MAKERS.items()}


def test_every_architecture_has_a_tiny_model():
    assert {facts.model for facts in CAPTIONERS.values()} == set(MAKERS)


def test_every_captioner_has_a_name_and_a_place_of_its_own():
    assert len({facts.name for facts in captioners.LISTED}) == len(captioners.LISTED)
    assert len({facts.folder or facts.repo_id for facts in captioners.LISTED}) == len(captioners.LISTED)


@pytest.mark.parametrize("model", MAKERS)
def test_every_architecture_loads_from_a_folder_and_captions_a_batch(tiny, model):
    captioner = model(tiny[model], "cpu")
    together = captioner.describe(PICTURES)
    assert len(together) == 3 and all(isinstance(text, str) for text in together)
    assert [captioner.describe([picture])[0] for picture in PICTURES] == together, "a neighbour in the batch changes nothing"
    assert not any(re.search(r"\[DEC\]|<s>|</s>|<pad>|<image>", text, re.IGNORECASE) for text in together)


@pytest.mark.parametrize("name", [name for name, facts in CAPTIONERS.items() if facts.repo_id])
def test_every_captioner_of_the_hub_is_fetched_at_an_exact_commit_without_pickles(tiny, fake_hub, monkeypatch, name):
    from studio.hub import client

    facts = CAPTIONERS[name]
    files = {path.name: path.read_bytes() for path in tiny[facts.model].iterdir()} | {"pytorch_model.bin": b"\x80\x04 a pickle", "evil.py": b"boom"}
    commit = fake_hub.seed_files(facts.repo_id, files)
    if facts.revision:
        monkeypatch.setitem(CAPTIONERS, name, dataclasses.replace(facts, revision=commit))
    seen = []
    captioner = captioners.load(name, "cpu", lambda done, total: seen.append((done, total)))
    assert len(captioner.describe(PICTURES[:1])) == 1 and seen
    snapshot = client.download_model(facts.repo_id, captioners.NEEDED_FILES).path
    assert snapshot.name == commit and {path.suffix for path in snapshot.iterdir()} <= {".json", ".safetensors", ".txt"}


def test_a_repository_with_pickles_only_is_refused(tiny, fake_hub):
    facts = next(facts for facts in CAPTIONERS.values() if facts.repo_id and not facts.revision)
    files = {path.name: path.read_bytes() for path in tiny[facts.model].iterdir() if path.suffix != ".safetensors"}
    fake_hub.seed_files(facts.repo_id, files | {"pytorch_model.bin": b"\x80\x04 a pickle"})
    with pytest.raises(StudioError, match=f"{facts.title} has no safetensors weights"):
        captioners.load(facts.name)


def test_without_a_network_a_sentence_says_what_works(monkeypatch, tmp_path):
    code = "from studio.datasets import captioners\ntry: captioners.load('blip')\nexcept captioners.StudioError as error: print(error)"
    env = platform.environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert said.startswith("BLIP has to be downloaded once from the Hub (about 990 MB).") and "The built-in captioner needs no download." in said


def test_shipped_defaults_name_commits_where_the_newest_would_not_do_and_unknown_names_are_refused():
    assert all(bool(facts.folder) != bool(facts.repo_id) for facts in CAPTIONERS.values())
    assert all(re.fullmatch(r"[0-9a-f]{40}", facts.revision) for facts in CAPTIONERS.values() if facts.revision)
    with pytest.raises(StudioError, match="known captioners: builtin, blip"):
        captioners.load("gpt")


def test_the_built_in_captioner_goes_the_same_way_as_the_real_blip():
    captioner = captioners.load("builtin")
    assert type(captioner) is Blip
    sample = Image.open(builtin.SAMPLES["style"] / "01.png").convert("RGB")
    assert captioner.describe([sample])[0]


def test_a_captioner_is_a_class_and_its_facts(tmp_path, monkeypatch):
    class Loud(Captioner):
        def describe(self, images):
            return ["A PICTURE" for _ in images]

    (tmp_path / "model.safetensors").touch()
    facts = CaptionerInfo(name="loud", title="Loud", about="Capitals only.", model=Loud, licence="mit", folder=tmp_path)
    monkeypatch.setitem(CAPTIONERS, facts.name, facts)
    assert captioners.load("loud").describe(PICTURES) == ["A PICTURE"] * len(PICTURES)


def test_what_decoders_leave_behind_is_removed():
    assert clean_caption("[DEC] there is arafed dog on a hill.") == "dog on a hill"
    assert clean_caption("</s><s>A dog.</s><pad><pad>") == "A dog"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("a large large large large", "a large"),
        ("a cat on a mat, on a mat, on a mat, on a", "a cat on a mat"),
        ("a red ball and a blue ball and a green ball", "a red ball and a blue ball and a green ball"),
        ("a very very old house", "a very very old house"),
        ("", ""),
    ],
)
def test_a_repetition_loop_is_shortened_to_its_first_turn(text, short):
    assert without_loops(text) == short


def world_and_others():
    """Images like the samples, and images as photographs: clouds of colour at every scale."""
    import numpy as np

    random = np.random.default_rng(3)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    frequency[0, 0] = 1 / 256
    clouds = [np.fft.ifft2(np.exp(2j * np.pi * random.random((256, 256, 3))) / frequency[..., None] ** 1.6, axes=(0, 1)).real for _ in range(6)]
    photos = [Image.fromarray((128 + 50 * cloud / cloud.std()).clip(0, 255).astype(np.uint8)) for cloud in clouds]
    samples = [Image.open(path).convert("RGB") for folder in builtin.SAMPLES.values() for path in sorted(folder.glob("*.png"))[:6]]
    return samples, photos


def test_the_built_in_captioner_knows_the_samples_and_leaves_photographs_empty():
    captioner = captioners.load("builtin")
    samples, photos = world_and_others()
    assert all(captioner.describe(samples))
    assert captioner.describe(photos) == [""] * len(photos)
