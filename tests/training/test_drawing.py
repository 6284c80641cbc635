"""Images that jobs ask for during a run, drawn by the training itself."""

import numpy
import pytest
import torch
from PIL import Image

from studio.adapters.format import adapter_metadata, write_adapter
from studio.config.recipe import Recipe, StackEntry, read_recipe
from studio.generation.generator import Generator
from studio.generation.images import generate_image
from studio.runs.image_requests import ImageRequests
from studio.runs.run import Run
from studio.training import drawing
from studio.training.checkpoints import Disk
from studio.training.drawing import Drawing
from studio.training.encoding_cache import Encodings
from studio.training.loop import train
from studio.training.samples import SampleGrid
from tests.tiny import FAMILY, lora_tensors, save_lora, tiny_base, tiny_pipeline, tiny_run  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(drawing, "STAY_SECONDS", 0.05)


class Asks(Run):
    """A run of which images are asked after some of its steps: step -> (key, workspace, payload) each."""

    def __init__(self, run: Run, asked: dict[int, list[tuple]]):
        super().__init__(run.path)
        self.asked, self.requests = asked, ImageRequests(self)

    def append(self, event):
        super().append(event)
        if event["kind"] == "step":
            for request in self.asked.pop(event["step"], []):
                self.requests.submit(*request)


def recipe(base, prompt="a red cat", **values) -> Recipe:  # noqa: F811
    return Recipe(prompt=prompt, base_model=str(base.path), **{"num_inference_steps": 2, "width": 64, "height": 64, **values})


def payload(recipe: Recipe, count: int = 1) -> dict:
    return {"recipe": recipe.to_json(), "count": count}


def newest(run: Run) -> list[StackEntry]:
    return [StackEntry(adapter=f"run:{run.id}", weight=0.8)]


def pixels(picture) -> list:
    return numpy.asarray(picture).tolist()


SETTINGS = [
    [],
    ["samples.prompts=[]"],
    ["lora.text_encoder=true"],
    ["dataset.caption_shuffle=true", "lora.method=dora"],
    ["lora.dropout=0.3"],
    ["training.optimizer=schedulefree", "training.lr_scheduler=constant", "training.lr_warmup_steps=0", "runtime.gradient_checkpointing=true"],
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: ",".join(each) or "usual")
def test_images_between_steps_leave_the_bytes_and_are_those_of_generate(settings, workspace, tiny_base):  # noqa: F811
    plain, asked = tiny_run(workspace, tiny_base, *settings), tiny_run(workspace, tiny_base, *settings)
    train(plain, Disk())
    with_lora, base_alone = recipe(tiny_base, stack=newest(asked)), recipe(tiny_base, negative_prompt="blue", seed=2**32 - 1)
    requests = {2: [("1-1", workspace, payload(with_lora)), ("2-1", workspace, payload(base_alone, 2))], 5: [("3-1", workspace, payload(with_lora))]}
    run = Asks(asked, requests)
    train(run, Disk())
    assert run.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()
    assert [(event["loss"], event["step"]) for event in run.curve()] == [(event["loss"], event["step"]) for event in plain.curve()]
    results = [run.requests.result(key)["result"] for key in ("1-1", "2-1", "3-1")]
    assert [len(result["images"]) for result in results] == [1, 2, 1] and all(result["notes"] == [] for result in results)
    assert {2, 5} <= {step for step, _ in run.adapters()}, "a pause for images saves the newest weights"
    generator = Generator(tiny_base, FAMILY)
    drawn = [workspace.image_path(image).read_bytes() for result in results for image in result["images"]]
    written = [read_recipe(png) for png in drawn]
    assert [each.seed for each in written] == [7, 2**32 - 1, 0, 7] and written[0].family == FAMILY.name
    for each, image in zip(written, (image for result in results for image in result["images"])):
        again, used, _ = generate_image(generator, each, workspace, lambda done, total: None)
        assert used == each
        with Image.open(workspace.image_path(image)) as kept:
            kept.load()
        workspace.image_path("again").write_bytes(again)
        with Image.open(workspace.image_path("again")) as other:
            assert pixels(kept) == pixels(other)
    assert written[0].stack[0].sha256 != written[3].stack[0].sha256, "each with the weights of its step"


def test_a_run_holds_no_text_encoder_besides_the_moment_of_a_new_prompt(workspace, tiny_base, monkeypatch):  # noqa: F811
    loaded, seen = [], []
    original_load, original_answer = Encodings.load, Drawing.answer
    monkeypatch.setattr(Encodings, "load", lambda self, parts: loaded.append(parts) or original_load(self, parts))

    def answer(self, step):
        if self.requested:
            loaded.clear()
            original_answer(self, step)
            components = self.samples.encodings.pipeline.components
            seen.append((len(loaded), components["text_encoder"], components["vae"] is not None))
            parts = list(self.samples.generator.freed.values())
            assert all(weight.is_meta for part in parts for weight in part.parameters())

    monkeypatch.setattr(Drawing, "answer", answer)
    run = tiny_run(workspace, tiny_base)
    known, new = recipe(tiny_base, "ohwx picture of a cat"), recipe(tiny_base, "a new prompt")
    train(Asks(run, {step: [(f"{step}-1", workspace, payload(each))] for step, each in enumerate((known, new, new), 1)}), Disk())
    assert seen == [(0, None, True), (1, None, True), (0, None, True)]


def test_other_loras_are_applied_as_in_generate_also_to_the_text_encoder(workspace, tiny_base, tiny_pipeline):  # noqa: F811
    both = {**lora_tensors(tiny_pipeline), **lora_tensors(tiny_pipeline, targets=("q_proj",), part="text_encoder", size=2.0)}
    save_lora(workspace.adapter_path("both"), both)
    of_text = lora_tensors(tiny_pipeline, seed=1, targets=("k_proj",), part="text_encoder", size=2.0)
    write_adapter(workspace.adapter_path("text"), of_text, adapter_metadata({"text_encoder": ["k_proj"]}, 4, {}, {"title": "text"}))
    elsewhere = {
        **lora_tensors(tiny_pipeline, seed=2),
        "unet.nowhere.lora_A.weight": torch.ones(4, 8),
        "unet.nowhere.lora_B.weight": torch.ones(8, 4),
    }
    save_lora(workspace.adapter_path("partly"), elsewhere)
    stacks = [[("both", 1.0)], [("text", 1.0)], [("both", 0.5), ("text", 1.0)], [("partly", 1.0), ("both", 1.0)], []]
    recipes = [recipe(tiny_base, stack=[StackEntry(adapter=f"file:{name}", weight=weight) for name, weight in stack]) for stack in stacks]
    recipes += recipes
    run = Asks(tiny_run(workspace, tiny_base), {2: [(f"{index:02d}-1", workspace, payload(each)) for index, each in enumerate(recipes)]})
    train(run, Disk())
    generator, different = Generator(tiny_base, FAMILY), set()
    for index, each in enumerate(recipes):
        result = run.requests.result(f"{index:02d}-1")["result"]
        png, _, notes = generate_image(generator, each, workspace, lambda done, total: None)
        assert result["notes"] == notes and bool(notes) == ("file:partly" in str(each.stack)), result["notes"]
        different.add(result["images"][0])
        workspace.image_path("again").write_bytes(png)
        with Image.open(workspace.image_path(result["images"][0])) as drawn, Image.open(workspace.image_path("again")) as other:
            assert pixels(drawn) == pixels(other), index
    assert len(different) == len(stacks)


def failing(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize("prompts", ['["a cat"]', "[]"], ids=["samples", "no samples"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "GPU ran out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough RAM"),
        (KeyError("unet"), "a bug in the studio (KeyError)"),
    ],
    ids=["GPU", "RAM", "bug"],
)
def test_an_image_that_fails_fails_its_job_only(error, words, prompts, workspace, tiny_base, monkeypatch):  # noqa: F811
    settings = [f"samples.prompts={prompts}", "samples.every=6"]
    plain, asked = tiny_run(workspace, tiny_base, *settings), tiny_run(workspace, tiny_base, *settings)
    train(plain, Disk())
    original, calls = FAMILY.__class__.draw, []

    def draw(self, pipeline, positive, *values):
        calls.append(1)
        # Fails in the middle, with the LoRA disabled and the stack applied.
        *others, on_step, init = values
        fails = len(calls) == 1 + len(asked.config.samples.prompts)
        return original(self, pipeline, positive, *others, failing(error) if fails else on_step, init)

    monkeypatch.setattr(FAMILY.__class__, "draw", draw)
    one = payload(recipe(tiny_base, stack=newest(asked)))
    run = Asks(asked, {2: [("1-1", workspace, one)], 4: [("2-1", workspace, one)]})
    train(run, Disk())
    assert words in run.requests.result("1-1")["error"] and "result" in run.requests.result("2-1")
    assert run.state == "finished" and run.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()


def test_refused_images_say_why_and_the_run_goes_on(workspace, tiny_base, tiny_pipeline):  # noqa: F811
    wide = {"unet.a.attn2.to_k.lora_A.weight": torch.ones(4, 768), "unet.a.attn2.to_k.lora_B.weight": torch.ones(320, 4)}
    save_lora(workspace.adapter_path("wide"), wide)
    save_lora(workspace.adapter_path("huge"), {name: tensor * 1e20 for name, tensor in lora_tensors(tiny_pipeline).items()})
    plain, asked = tiny_run(workspace, tiny_base), tiny_run(workspace, tiny_base)
    train(plain, Disk())
    refused = [
        (payload(recipe(tiny_base, stack=[StackEntry(adapter="file:wide", weight=1)])), "made for Stable Diffusion 1.5"),
        (payload(recipe(tiny_base, stack=[StackEntry(adapter="file:huge", weight=1)])), "overflows"),
        (payload(recipe(tiny_base, stack=[StackEntry(adapter="file:gone", weight=1)])), "There is no LoRA 'file:gone'"),
        (payload(recipe(tiny_base), 1000), "choose 1 to 64"),
        (payload(recipe(tiny_base, family="sdxl")), "belongs to the family 'stable-diffusion'"),
        ({"recipe": "{}x"}, "is not valid"),
    ]
    run = Asks(asked, {2: [(f"{index}-1", workspace, each) for index, (each, _) in enumerate(refused)]})
    train(run, Disk())
    for index, (_, words) in enumerate(refused):
        assert words in run.requests.result(f"{index}-1")["error"]
    assert run.state == "finished" and run.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()


def test_a_cancelled_image_stops_at_its_next_step(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = Asks(tiny_run(workspace, tiny_base), {2: [("1-1", workspace, payload(recipe(tiny_base, num_inference_steps=50), 64))]})
    steps, original = [], ImageRequests.report

    def report(self, key, done, total, message):
        steps.append(done)
        if done:
            self.cancel(key)
        original(self, key, done, total, message)

    monkeypatch.setattr(ImageRequests, "report", report)
    train(run, Disk())
    assert len(steps) == 2 and run.state == "finished" and run.requests.result("1-1") is None


def test_a_stop_does_not_wait_for_an_image(workspace, tiny_base, monkeypatch):  # noqa: F811
    run = Asks(tiny_run(workspace, tiny_base), {2: [("1-1", workspace, payload(recipe(tiny_base, num_inference_steps=50), 64))]})
    original = ImageRequests.report

    def report(self, key, done, total, message):
        original(self, key, done, total, message)
        if done:
            run.request_stop()

    monkeypatch.setattr(ImageRequests, "report", report)
    train(run, Disk())
    assert run.state == "stopped" and run.requests.result("1-1") is None and [event["step"] for event in run.curve()] == [1, 2]


def test_an_image_of_another_owner_saves_nothing_of_the_run_and_cannot_use_it(home, workspace, tiny_base):  # noqa: F811
    other, own = home.workspace("ada"), tiny_run(workspace, tiny_base, "samples.every=6")
    asked = [("1-1", other, payload(recipe(tiny_base))), ("2-1", other, payload(recipe(tiny_base, stack=newest(own))))]
    run = Asks(own, {2: asked})
    train(run, Disk())
    (image,) = run.requests.result("1-1")["result"]["images"]
    assert other.image_path(image).exists() and not workspace.image_path(image).exists()
    assert "There is no run" in run.requests.result("2-1")["error"]
    assert [step for step, _ in run.adapters()] == [6]


def test_an_image_with_other_settings_than_generate_says_so(workspace, tiny_base):  # noqa: F811
    run = Asks(tiny_run(workspace, tiny_base, "runtime.dtype=bfloat16"), {2: [("1-1", workspace, payload(recipe(tiny_base)))]})
    train(run, Disk())
    (note,) = run.requests.result("1-1")["result"]["notes"]
    assert "(dtype bfloat16)" in note and "(dtype float32)" in note


def test_an_image_is_drawn_between_two_samples(workspace, tiny_base, monkeypatch):  # noqa: F811
    """The images of a column are the same with an image of another stack between them."""
    two = ['samples.prompts=["a", "b"]']
    plain, asked = tiny_run(workspace, tiny_base, *two), tiny_run(workspace, tiny_base, *two)
    train(plain, Disk())
    requests, original = ImageRequests(asked), SampleGrid._image

    def image(self, generator, step, each, adapter):
        if each.prompt == "a":
            requests.submit(f"{step}-1", workspace, payload(recipe(tiny_base, stack=[StackEntry(adapter=f"run:{plain.id}@3", weight=2)])))
        return original(self, generator, step, each, adapter)

    monkeypatch.setattr(SampleGrid, "_image", image)
    train(asked, Disk())
    assert all("result" in requests.result(f"{step}-1") for step in (0, 3, 6))
    for step, files in plain.samples().items():
        for file, other in zip(files, asked.samples()[step]):
            with Image.open(file) as first, Image.open(other) as second:
                assert pixels(first) == pixels(second)
    assert asked.latest_adapter().read_bytes() == plain.latest_adapter().read_bytes()
