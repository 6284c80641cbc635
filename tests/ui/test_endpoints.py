"""The API: public endpoints, access to the caller's own Workspace only, and readable errors."""

import asyncio

import gradio as gr
import pytest
from gradio_client import Client, handle_file

from studio.config.recipe import Recipe
from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.generation.init_images import keep_init_image
from studio.jobs import worker
from studio.jobs.queue import Jobs
from studio.runs import library
from studio.runs.run import Run
from studio.ui import app as ui
from studio.ui.api import images as api_images
from tests.trained import finished_run, png, write_tiny_adapter

ENDPOINTS = {
    *("/datasets", "/new_dataset", "/use_samples", "/pictures", "/add_pictures", "/edit_caption", "/caption"),
    *("/train", "/train_several", "/train_again", "/run", "/stop_run", "/resume_run", "/extend_run", "/queue", "/move_run", "/compare_runs"),
    *("/adapters", "/add_lora", "/generate", "/publish"),
}


@pytest.fixture
def ask(page):
    """`ask("/datasets", ...)` -> the result of the endpoint."""
    client = Client(page[1], verbose=False)
    return lambda name, *values, **named: client.predict(*values, **named, api_name=name)


@pytest.fixture
def idle(monkeypatch):
    """No worker runs, so jobs stay queued."""
    monkeypatch.setattr(worker, "ensure", lambda home: None)


def test_only_named_endpoints_are_public(page):
    server, url, _ = page
    public = Client(url, verbose=False).view_api(return_format="dict")
    assert set(public["named_endpoints"]) == ENDPOINTS
    assert public["unnamed_endpoints"] == {}


def test_a_program_makes_a_dataset_and_sees_it(page):
    _, url, _ = page
    client = Client(url, verbose=False)
    made = client.predict("style", api_name="/use_samples")
    assert made["pictures"] == 16
    assert client.predict(api_name="/datasets")[0]["trigger_word"] == "ohwx"


def test_a_program_gets_the_message_of_an_error(page):
    _, url, _ = page
    with pytest.raises(Exception, match="Unknown sample images 'cats'"):
        Client(url, verbose=False).predict("cats", api_name="/use_samples")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"loras": [{"weight": 1.0}]}, "is not a LoRA of a stack"),
        ({"loras": ["starter:style"]}, "is not a LoRA of a stack"),
        ({"loras": [{"ref": "starter:style", "weight": 9}]}, "weight: 9 does not fit"),
        ({"loras": [{"ref": "starter:gone"}]}, "There is no LoRA"),
        ({"num_inference_steps": 500}, "num_inference_steps: 500 does not fit. Input should be less than or equal to 200"),
        ({"seed": -1}, "seed: -1 does not fit"),
    ],
)
def test_invalid_values_of_a_recipe_are_named(page, asked, words):
    _, url, studio = page
    with pytest.raises(Exception, match=words):
        Client(url, verbose=False).predict("a cat", **asked, api_name="/generate")
    assert not studio.jobs.list(kinds=("generate",))


@pytest.mark.parametrize(("given", "numbers"), [({}, (28, 3.5)), ({"num_inference_steps": 4, "guidance_scale": 0.0}, (4, 0.0))])
def test_a_base_named_by_a_program_sets_its_sampling_defaults(ask, monkeypatch, given, numbers):
    def note(jobs, owner, kind, payload):
        recipe = Recipe.from_json(payload["recipe"])
        assert (recipe.family, recipe.num_inference_steps, recipe.guidance_scale) == ("flux", *numbers)
        assert (recipe.width, recipe.height) == (832, 1216)
        raise StudioError("Noted.")

    monkeypatch.setattr(Jobs, "submit", note)
    with pytest.raises(Exception, match="Noted"):
        ask("/generate", "a cat", base_model="black-forest-labs/FLUX.1-dev", width=832, height=1216, **given)


def test_a_program_sends_an_init_image_as_a_file_and_no_path_of_the_server(page, ask, monkeypatch, tmp_path):
    seen = []

    def note(jobs, owner, kind, payload):
        seen.append(Recipe.from_json(payload["recipe"]))
        raise StudioError("Noted.")

    def keep(*values):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return keep_init_image(*values)

    monkeypatch.setattr(api_images, "keep_init_image", keep)
    monkeypatch.setattr(Jobs, "submit", note)
    (tmp_path / "sketch.png").write_bytes(png(90, size=64))
    with pytest.raises(Exception, match="Noted"):
        ask("/generate", "a cat", init_image=handle_file(tmp_path / "sketch.png"), strength=0.35)
    assert seen[0].strength == 0.35 and seen[0].init_image
    for value, words in (({"strength": 2}, "strength: 2 does not fit"), ({"strength": 0}, "strength: 0 does not fit")):
        with pytest.raises(Exception, match=words):
            ask("/generate", "a cat", init_image=handle_file(tmp_path / "sketch.png"), **value)
    with pytest.raises(Exception, match="applies to an init image"):
        ask("/generate", "a cat", strength=0.5)
    with pytest.raises(Exception, match="is not an uploaded file"):
        ask("/generate", "a cat", init_image={"path": str(tmp_path / "sketch.png"), "meta": {"_type": "file"}})


def test_publishing_without_a_token_leaves_no_job_behind(page, monkeypatch):
    _, url, studio = page
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    client = Client(url, verbose=False)
    with pytest.raises(Exception, match="needs a Hugging Face login"):
        client.predict("run:x", "ink", "I made them.", "", api_name="/publish")
    with pytest.raises(Exception, match="repo: '.* does not fit"):
        client.predict("run:x", "i" * 300, "I made them.", "hf_x", api_name="/publish")
    assert not studio.jobs.list(kinds=("publish",))


def test_every_endpoint_has_a_description_and_typed_parameters(page):
    for name, about in Client(page[1], verbose=False).view_api(return_format="dict")["named_endpoints"].items():
        assert len(about["description"].split()) > 5, name
        assert all(value["python_type"]["type"] != "Any" for value in about["parameters"]), name


def test_an_endpoint_that_takes_files_declares_it(page):
    public = Client(page[1], verbose=False).view_api(return_format="dict")["named_endpoints"]
    assert public["/add_pictures"]["parameters"][1]["python_type"]["type"] == "list[filepath]"


def test_a_program_makes_a_dataset_of_its_own_images(ask, tmp_path):
    (tmp_path / "card.png").write_bytes(png(50, size=64))
    (tmp_path / "card.txt").write_text("a grey card")
    (tmp_path / "odd.png").write_bytes(b"no picture")
    made = ask("/new_dataset", "Cards", subject="object", trigger_word="ohwx", consent="They agreed.")
    result = ask("/add_pictures", made["id"], [handle_file(tmp_path / name) for name in ("card.png", "card.txt", "odd.png")])
    assert (result["added"], result["captions"], [each["name"] for each in result["refused"]]) == (1, 1, ["odd.png"])
    listed = next(each for each in ask("/datasets") if each["id"] == made["id"])
    assert (listed["subject"], listed["trigger_word"], listed["pictures"]) == ("object", "ohwx", 1)
    (image,) = ask("/pictures", made["id"])
    assert (image["name"], image["caption"], image["caption_source"], image["width"]) == ("card.png", "a grey card", "file", 64)
    assert image["mask"] == ""
    (tmp_path / "card-mask.png").write_bytes(png(200, size=64))
    assert ask("/add_pictures", made["id"], [handle_file(tmp_path / "card-mask.png")])["masks"] == 1
    assert f"/mask/{made['id']}/" in ask("/pictures", made["id"])[0]["mask"]


def test_consent_given_by_a_program_is_kept(page, ask):
    _, _, studio = page
    made = ask("/new_dataset", "Ada", subject="character", consent="Ada agreed by letter")
    dataset = Dataset.open(studio.home.workspace("local"), made["id"])
    assert dataset.real_person and dataset.consent["text"] == "Ada agreed by letter"
    with pytest.raises(Exception, match="choose one of style"):
        ask("/new_dataset", "Ada", subject="weapon")


def test_a_caption_edited_by_a_program_counts_as_one_made_by_hand(page, ask):
    made = ask("/use_samples", "style")
    first = ask("/pictures", made["id"])[0]
    assert ask("/edit_caption", made["id"], first["id"], "ohwx, a boat at sea") == {"changed": True}
    assert ask("/edit_caption", made["id"], first["id"], "ohwx, a boat at sea") == {"changed": False}
    now = ask("/pictures", made["id"])[0]
    assert (now["caption"], now["caption_source"]) == ("ohwx, a boat at sea", "hand")
    with pytest.raises(Exception, match="no longer in the dataset"):
        ask("/edit_caption", made["id"], "0" * 64, "x")


@pytest.mark.parametrize("disguise", ["plain path", "without its word", "with its word", "as a stream", "upwards", "no path", "text"])
def test_a_file_that_was_not_uploaded_is_never_read(page, ask, tmp_path, disguise):
    _, _, studio = page
    (tmp_path / "secret.png").write_bytes(png(50, size=64))
    secret, word = str(tmp_path / "secret.png"), {"_type": "gradio.FileData"}
    from gradio.utils import get_upload_folder

    asked = {
        "plain path": secret,
        "without its word": {"path": secret},
        "with its word": {"path": secret, "meta": word},
        "as a stream": {"path": secret, "is_stream": True, "meta": word},
        "upwards": {"path": f"{get_upload_folder()}/../../{secret}"},
        "no path": {"meta": {}},
        "text": "card.png",
    }[disguise]
    made = studio.home.workspace("local")
    dataset = Dataset.create(made, "Cards")
    # gradio_client would upload what says of itself that it is a file; a stranger's program need not.
    answer = call(page, "add_pictures", [dataset.id, [asked]])
    assert answer["success"] is False and dataset.images == []
    assert not [job for job in studio.jobs.list(kinds=("import",)) if job.payload["dataset"] == dataset.id]


def test_a_program_downloads_a_lora_from_the_hub(page, ask, fake_hub, monkeypatch, tmp_path):
    _, _, studio = page
    write_tiny_adapter(tmp_path / "lora.safetensors", {})
    weights = (tmp_path / "lora.safetensors").read_bytes()
    old = fake_hub.seed_files("maker/ink", {"a.safetensors": weights, "b.safetensors": weights}, private=True)
    fake_hub.seed_files("maker/ink", {"a.safetensors": b"a newer version"}, private=True)
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    added = ask("/add_lora", "maker/ink", revision=old, filename="a.safetensors")
    assert (added["title"], added["source"], added["rank"]) == ("ink", "hub", 4)
    adapter = library.find(studio.home.workspace("local"), added["ref"])
    assert (adapter.origin["revision"], adapter.origin["file"]) == (old, "a.safetensors")
    with pytest.raises(Exception, match="choose one"):
        ask("/add_lora", "maker/ink")


def test_a_program_stops_and_resumes_a_training(page, ask, idle):
    _, _, studio = page
    run = finished_run(studio.home.workspace("local"))
    assert ask("/run", run.id)["state"] == "finished"
    with pytest.raises(Exception, match="cannot be stopped"):
        ask("/stop_run", run.id)
    going = ask("/resume_run", run.id)
    assert ask("/resume_run", run.id) == going, "one training a run"
    assert ask("/run", run.id)["state"] == "waiting"
    studio.jobs.claim(("train",), 1)
    assert ask("/stop_run", run.id) == going
    assert run.stop_requested and studio.jobs.get(going["job"]).cancel_requested
    with pytest.raises(Exception, match="still saving"):
        ask("/resume_run", run.id)
    studio.jobs.mark_cancelled(going["job"], {"run": run.id, "step": 200})
    assert ask("/resume_run", run.id)["job"] > going["job"]
    assert ask("/stop_run", run.id)["run"] == run.id


def test_a_program_starts_a_training(page, ask, idle):
    _, _, studio = page
    made = ask("/use_samples", "character")
    started = ask("/train", made["id"], settings=["lora.rank=4"], title="Pim")
    run = Run.open(studio.home.workspace("local"), started["run"])
    assert (run.title, run.config.lora.rank, studio.jobs.get(started["job"]).state) == ("Pim", 4, "waiting")
    ask("/stop_run", run.id)


def test_a_program_queues_several_values_and_puts_them_in_order(page, ask, idle):
    _, _, studio = page
    made = ask("/use_samples", "style")
    begun = ask("/train_several", made["id"], ["lora.rank=4,8,16"], title="Ink")
    assert [each["title"] for each in begun] == ["Ink, rank 4", "Ink, rank 8", "Ink, rank 16"]
    assert [each["run"] for each in ask("/queue")] == [each["run"] for each in begun]
    moved = ask("/move_run", begun[2]["run"], "first")
    assert [(each["title"], each["state"], each["steps"]) for each in moved][0] == ("Ink, rank 16", "waiting", 360)
    with pytest.raises(Exception, match="choose one of first, up, down"):
        ask("/move_run", begun[0]["run"], "sideways")
    for each in begun:
        ask("/stop_run", each["run"])
    assert ask("/queue") == [] and ask("/run", begun[0]["run"])["state"] == "created"
    with pytest.raises(Exception, match="not in the queue"):
        ask("/move_run", begun[0]["run"], "first")
    with pytest.raises(Exception, match="4096 does not fit"):
        ask("/train_several", made["id"], ["lora.rank=4,4096"])
    assert ask("/queue") == []


def test_a_program_extends_a_run_and_repeats_a_failed_one(page, ask, idle):
    _, _, studio = page
    run = finished_run(studio.home.workspace("local"))
    (run.checkpoints_dir / "step-000200").mkdir()
    (run.checkpoints_dir / "step-000200" / "manifest.json").write_text("{}")
    going = ask("/extend_run", run.id, 100)
    assert going["run"] == run.id and ask("/run", run.id)["steps"] == 300
    ask("/stop_run", run.id)
    retries = [{"title": "rank 4", "set": {"lora.rank": 4}}]
    run.append({"kind": "failed", "step": 200, "message": "The memory is not enough.", "retries": retries})
    shown = ask("/run", run.id)
    assert (shown["state"], shown["retries"]) == ("failed", retries)
    run.append({"kind": "finished", "step": 300})
    ask("/extend_run", run.id, 50, "new")
    assert [each.schedule for each in run.config.training.extensions] == ["keep", "new"]
    ask("/stop_run", run.id)
    again = ask("/train_again", run.id, ["lora.rank=4"])
    assert [each["title"] for each in again] == ["Ink, rank 4"]
    assert Run.open(studio.home.workspace("local"), again[0]["run"]).config.training.max_train_steps == 350
    ask("/stop_run", again[0]["run"])


def test_a_program_compares_runs(page, ask):
    _, _, studio = page
    runs = [finished_run(studio.home.workspace("local"), f"lora.rank={rank}") for rank in (8, 32)]
    shown = ask("/compare_runs", [run.id for run in runs])
    assert shown["settings"] == [{"setting": "lora.rank", "title": "Rank", "values": ["8", "32"]}]
    assert shown["step"] == 200 and shown["loss"] == [0.1, 0.1]
    assert shown["samples"]["a house"] == [f"/studio/file/sample/{run.id}/200/1" for run in runs]
    with pytest.raises(Exception, match="choose 2 to 6"):
        ask("/compare_runs", [runs[0].id])


def test_a_program_may_choose_a_preset_and_a_gpu_size(page, ask, idle):
    _, _, studio = page
    made = ask("/use_samples", "style")
    settings = ["model.base_model=stabilityai/stable-diffusion-xl-base-1.0"]
    started = ask("/train", made["id"], preset="sdxl-style-quick", settings=settings, memory="8gb")
    config = Run.open(studio.home.workspace("local"), started["run"]).config
    assert (config.model.family, config.runtime.quantisation, config.training.max_train_steps) == ("sdxl", "int8", 600)
    ask("/stop_run", started["run"])
    with pytest.raises(Exception, match="Choose one of 8gb"):
        ask("/train", made["id"], memory="9gb")


FOREIGN = {
    "pictures": ["{dataset}"],
    "add_pictures": ["{dataset}", []],
    "edit_caption": ["{dataset}", "{picture}", "mine now"],
    "caption": ["{dataset}"],
    "train": ["{dataset}"],
    "run": ["{run}"],
    "stop_run": ["{run}"],
    "resume_run": ["{run}"],
    "train_several": ["{dataset}", ["lora.rank=4,8"]],
    "train_again": ["{run}"],
    "extend_run": ["{run}", 100],
    "move_run": ["{run}", "first"],
    "compare_runs": [["{run}", "{run}"]],
    "generate": ["a cat", [{"ref": "run:{run}", "weight": 1.0}]],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_belongs_to_another_visitor_cannot_be_reached(home, idle, name):
    mine, theirs = "visitor-" + "a" * 32, "visitor-" + "b" * 32
    run = finished_run(home.workspace(theirs))
    dataset = Dataset.open(home.workspace(theirs), run.snapshot["dataset"])
    Jobs(home.database).submit(theirs, "train", {"run": run.id}, key=run.job_key)
    before = dataset.sha256()
    app, studio = ui.build_app(home, Access(mode=Mode.space))

    class Visitor:
        headers = {"x-studio-visitor": mine}

    def named(value):
        match value:
            case str():
                return value.format(dataset=dataset.id, run=run.id, picture=dataset.images[0].id)
            case dict():
                return {key: named(each) for key, each in value.items()}
            case list():
                return [named(each) for each in value]
        return value

    endpoint = next(event.fn for event in app.fns.values() if event.api_name == name)
    given = [named(value) for value in FOREIGN[name]]
    # The request is where the function asks for it, between the values that have no default and those that have one.
    place = list(endpoint.__annotations__).index("request")
    given.insert(place, Visitor())
    with pytest.raises(gr.Error, match="no longer exists|not here|There is no run"):
        answer = endpoint(*given)
        if asyncio.iscoroutine(answer):
            asyncio.run(answer)
    assert dataset.sha256() == before and not run.stop_requested and studio.jobs.list(mine) == []


def test_every_endpoint_that_takes_an_id_is_tried_with_a_foreign_one(page):
    public = Client(page[1], verbose=False).view_api(return_format="dict")["named_endpoints"]
    ids = {"dataset", "run", "runs", "loras", "adapter"}
    taking = {name.strip("/") for name, about in public.items() if ids & {value["parameter_name"] for value in about["parameters"]}}
    # Publishing looks into its owner's workspace in a process of its own.
    assert taking - {"publish"} == set(FOREIGN)


def call(page, name: str, values: list) -> dict:
    """The endpoint by plain HTTP, as Gradio's own page calls it; the last word of its answer."""
    import json

    import httpx

    _, url, _ = page
    began = httpx.post(f"{url}gradio_api/call/{name}", json={"data": values}).json()
    answer = httpx.get(f"{url}gradio_api/call/{name}/{began['event_id']}", timeout=60).text
    event, _, data = answer.strip().rpartition("event: ")[2].partition("\n")
    return {"success": event == "complete", "data": json.loads(data.removeprefix("data: ") or "null")}
