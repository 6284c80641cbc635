"""The commands: what they say, what they refuse, and that a training started here learns what its dataset is."""

import _thread
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from studio.benchmark.tiny import save_tiny_model
from studio.cli import commands, terminal
from studio.config.recipe import read_recipe
from studio.core.errors import StudioError
from studio.datasets import captioners
from studio.datasets.dataset import Dataset
from studio.families import BUILTIN_ID
from studio.jobs import worker
from studio.jobs.queue import DEVICE_KINDS, Jobs
from studio.jobs.worker import Worker
from studio.publishing.licensing import LICENCES
from studio.runs import library
from studio.runs.run import Run
from tests.forked import forked_trainings  # noqa: F401 - a fixture
from tests.trained import finished_run, png, write_tiny_adapter

NAMES = [command.callback.__name__ for command in commands.app.registered_commands]


@pytest.fixture
def studio(home):
    """`studio("train", ...)` -> what it printed; a StudioError is raised as it is for `main`."""

    def call(*words: object) -> str:
        done = CliRunner().invoke(commands.app, [*map(str, words), "--home", str(home.root)])
        if done.exception:
            raise done.exception
        return done.stdout

    return call


@pytest.fixture
def at_work(home, monkeypatch, forked_trainings):  # noqa: F811
    """The resident worker, in a thread of this process: nothing stays behind."""
    over = threading.Event()

    def turns():
        resident = Worker(home)
        while not over.is_set():
            resident.run_once()
            time.sleep(0.02)

    monkeypatch.setattr(worker, "ensure", lambda home: None)
    thread = threading.Thread(target=turns)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def answered(home, monkeypatch):
    """Every drawing is done at once by this: it takes the job, and gives back one picture a seed with the recipe in it."""
    from studio.config.recipe import Recipe, add_recipe

    jobs, workspace = Jobs(home.database), home.workspace("local")

    def draw(home):
        while job := jobs.claim(("generate",), os.getpid()):
            recipe = Recipe.from_json(job.payload["recipe"])
            images = [f"drawn-{recipe.seed + index}" for index in range(job.payload["count"])]
            for index, image in enumerate(images):
                asked = recipe.model_copy(update={"seed": recipe.seed + index})
                workspace.image_path(image).write_bytes(add_recipe(png(10), asked))
            jobs.finish(job.id, {"images": images, "seconds": 0.0, "notes": []})

    monkeypatch.setattr(worker, "ensure", draw)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_does(name):
    done = CliRunner().invoke(commands.app, [name, "--help"])
    assert done.exit_code == 0 and "Usage" in done.stdout


def test_the_list_of_commands_is_made_of_whole_sentences():
    listed = CliRunner().invoke(commands.app, ["--help"]).stdout.partition("Commands:")[2]
    assert all(f"  {name} " in listed for name in NAMES) and "..." not in listed


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [("caption", "captioner", captioners.CAPTIONERS), ("publish", "licence", filter(None, LICENCES)), ("generate", "base", [BUILTIN_ID])],
)
def test_help_names_what_there_is_to_choose(command, option, words):
    said = " ".join(CliRunner().invoke(commands.app, [command, "--help"]).stdout.split())
    assert f"--{option} " in said
    assert [word for word in words if word not in said] == []


def test_a_training_that_is_stopped_says_where_and_how_to_go_on(home, studio, workspace, at_work, tmp_path):
    made = studio("dataset", "--sample", "style").splitlines()[0]
    base = save_tiny_model(tmp_path / "tiny-model")
    long = ("dataset.resolution=64", "training.max_train_steps=5000", "samples.every=5000", "samples.prompts=[]", "runtime.threads=1")
    jobs = Jobs(home.database)

    def press_ctrl_c():
        while not any(job.done for job in jobs.list(kinds=("train",), states=("running",))):
            time.sleep(0.05)
        _thread.interrupt_main()

    hand = threading.Thread(target=press_ctrl_c)
    hand.start()
    done = CliRunner().invoke(commands.app, ["train", made, f"model.base_model={base}", "lora.rank=4", *long, "--home", str(home.root)])
    hand.join()
    run = Run.all(workspace)[0]
    step = run.adapters()[-1][0]
    assert done.exit_code == terminal.STOPPED == 130 and run.state == "stopped"
    assert done.stdout.splitlines() == [
        run.id,
        f"Stopped at step {step}, checkpoint saved; continue with: python -m studio resume {run.id} --home {home.root}",
    ]


def test_what_was_stopped_before_it_began_says_so(home, studio, workspace, monkeypatch):
    run, jobs = finished_run(workspace), Jobs(home.database)
    monkeypatch.setattr(worker, "ensure", lambda home: [jobs.cancel(job.id) for job in jobs.list()])
    done = CliRunner().invoke(commands.app, ["resume", run.id, "--home", str(home.root)])
    assert done.exit_code == terminal.STOPPED
    assert done.stdout.startswith(f"Stopped before the first step; continue with: python -m studio resume {run.id}")
    done = CliRunner().invoke(commands.app, ["generate", "a cat", "--out", str(home.root / "cat.png"), "--home", str(home.root)])
    assert (done.exit_code, done.stdout) == (terminal.STOPPED, "Stopped.\n")


def test_a_worker_that_dies_is_replaced_while_somebody_waits(home, studio, monkeypatch, tmp_path, answered):
    draw, times = worker.ensure, []

    def dies_at_first(home):
        times.append(time.monotonic())
        if len(times) > 1:
            draw(home)

    monkeypatch.setattr(worker, "ensure", dies_at_first)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.2)
    studio("generate", "a cat", "--out", tmp_path / "cat.png")
    assert len(times) == 2 and (tmp_path / "cat.png").exists()


def test_a_worker_that_cannot_start_ends_the_wait_with_its_reason(home, studio, monkeypatch, tmp_path):
    def broken(home):
        raise StudioError("The worker process ends right after it starts.")

    monkeypatch.setattr(worker, "ensure", broken)
    with pytest.raises(StudioError, match="ends right after it starts"):
        studio("generate", "a cat", "--out", tmp_path / "cat.png")
    assert not Jobs(home.database).list(kinds=DEVICE_KINDS, states=("waiting", "running"))


@pytest.mark.parametrize("words", [("generate", "a cat", "--out"), ("save", "starter:style")])
def test_a_place_where_nothing_can_be_saved_is_refused_before_the_work(home, studio, tmp_path, words):
    for place, sentence in ((tmp_path / "gone" / "cat.png", "There is no folder '.*gone'"), (tmp_path / "gone" / "cat.zip", "There is no folder")):
        with pytest.raises(StudioError, match=sentence):
            studio(*words, place)
    with pytest.raises(StudioError, match="is a folder"):
        studio("generate", "a cat", "--out", tmp_path)
    assert not Jobs(home.database).list()


def test_what_the_disk_refuses_is_a_sentence(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["studio", "show", "jobs", "--home", "/dev/null/no-folder"])
    with pytest.raises(SystemExit) as end:
        commands.main()
    said = capsys.readouterr().err
    assert end.value.code == 1 and "/dev/null" in said and "Traceback" not in said


def test_a_removed_dataset_is_listed_and_put_back(studio, workspace):
    dataset = Dataset.from_samples(workspace, "style")
    trashed = workspace.remove(dataset.path)
    assert trashed in studio("show", "removed")
    assert studio("restore", trashed).strip() == dataset.id
    assert len(dataset.images) == 16 and "No removed items" in studio("show", "removed")


def test_several_pictures_are_saved_side_by_side_each_with_its_recipe(studio, answered, tmp_path):
    asked = ("--negative", "a dog", "--seed", "3", "--count", "2", "--revision", "v1.5", "--base", "maker/base")
    printed = studio("generate", "a cat", *asked, "--out", tmp_path / "cat.png").splitlines()
    assert printed == [str(tmp_path / "cat-1.png"), str(tmp_path / "cat-2.png")]
    recipes = [read_recipe((tmp_path / f"cat-{n}.png").read_bytes()) for n in (1, 2)]
    assert [recipe.seed for recipe in recipes] == [3, 4] and not (tmp_path / "cat.png").exists()
    assert {(r.prompt, r.negative_prompt, r.base_model, r.revision) for r in recipes} == {("a cat", "a dog", "maker/base", "v1.5")}


def test_a_base_is_drawn_as_its_makers_recommend_unless_numbers_are_given(studio, answered, tmp_path):
    flux = ("--base", "black-forest-labs/FLUX.1-dev", "--width", "832", "--height", "1216")
    for given, numbers in (((), (28, 3.5)), (("--steps", "4", "--guidance", "0"), (4, 0.0))):
        studio("generate", "a cat", *flux, *given, "--out", tmp_path / "cat.png")
        recipe = read_recipe((tmp_path / "cat.png").read_bytes())
        assert (recipe.family, recipe.num_inference_steps, recipe.guidance_scale) == ("flux", *numbers)
        assert (recipe.width, recipe.height) == (832, 1216)


def test_an_init_image_and_its_strength_are_in_the_recipe(studio, answered, tmp_path):
    (tmp_path / "sketch.png").write_bytes(png(90, size=64))
    studio("generate", "a cat", "--init-image", tmp_path / "sketch.png", "--strength", "0.35", "--out", tmp_path / "cat.png")
    recipe = read_recipe((tmp_path / "cat.png").read_bytes())
    assert recipe.strength == 0.35 and len(recipe.init_image) == 64
    for given, words in ((("--strength", "0.5"), "applies to an init image"), (("--init-image", tmp_path / "no.png"), "There is no file")):
        with pytest.raises(StudioError, match=words):
            studio("generate", "a cat", *given, "--out", tmp_path / "cat.png")


def test_a_listed_lora_says_whom_it_was_made_for(studio):
    assert studio("show", "adapters").count("LoRA Studio's small world") == 3


def test_one_picture_is_saved_under_the_name_it_was_given(studio, answered, tmp_path):
    assert studio("generate", "a cat", "--out", tmp_path / "cat.png") == f"{tmp_path / 'cat.png'}\n"
    recipe = read_recipe((tmp_path / "cat.png").read_bytes())
    assert (recipe.base_model, recipe.revision, recipe.negative_prompt) == (BUILTIN_ID, None, "")


def test_pictures_can_be_added_to_a_dataset_that_is_there(studio, workspace, tmp_path):
    made = studio("dataset", "Ink").splitlines()[0]
    (tmp_path / "a.png").write_bytes(png(50, size=64))
    (tmp_path / "a.txt").write_text("a grey card")
    (tmp_path / "odd.png").write_bytes(b"no picture")
    printed = studio("add", made, tmp_path / "a.png", tmp_path / "a.txt", tmp_path / "odd.png")
    assert "1 images and 1 captions added." in printed and "not used: odd.png" in printed
    assert [picture.caption for picture in Dataset.open(workspace, made).images] == ["a grey card"]
    (tmp_path / "a-mask.png").write_bytes(png(200, size=64))
    printed = studio("add", made, tmp_path / "a-mask.png")
    assert "0 images and 0 captions, 1 masks added." in printed and "Only the light parts are trained on." in printed
    with pytest.raises(StudioError, match="no longer exists"):
        studio("add", "gone", tmp_path / "a.png")


def test_a_lora_file_is_brought_and_can_be_found(studio, workspace, tmp_path):
    write_tiny_adapter(tmp_path / "Ink Dreams.safetensors", {"trigger_word": "ohwx"})
    ref, about = studio("lora", tmp_path / "Ink Dreams.safetensors").splitlines()
    assert library.find(workspace, ref).title == "Ink Dreams"
    assert about == "Ink Dreams, rank 4, trigger word: ohwx"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gone.safetensors",), "There is no file 'gone.safetensors'"),
        (("./gone",), "There is no file"),
        (("{file}", "--revision", "main"), "--revision and --file apply only to the Hub"),
        (("{bad}",), "pickle"),
        (("one-word",), "'one-word' is not the id of a Hub repository"),
    ],
)
def test_a_lora_that_cannot_be_brought_is_a_sentence(home, studio, workspace, tmp_path, words, sentence):
    write_tiny_adapter(tmp_path / "good.safetensors", {})
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04\x95evil pickle")
    with pytest.raises(StudioError, match=sentence):
        studio("lora", *(word.format(file=tmp_path / "good.safetensors", bad=tmp_path / "bad.safetensors") for word in words))
    assert all(card.source == "starter" for card in library.list_adapters(workspace))


def test_a_private_lora_is_fetched_from_the_hub_with_the_login_of_this_computer(home, studio, workspace, fake_hub, monkeypatch, tmp_path):
    write_tiny_adapter(tmp_path / "lora.safetensors", {})
    weights = (tmp_path / "lora.safetensors").read_bytes()
    commit = fake_hub.seed_files("maker/ink", {"a.safetensors": weights, "b.safetensors": weights}, private=True)
    monkeypatch.setenv("HF_TOKEN", fake_hub.token)
    ref = studio("lora", "maker/ink", "--file", "b.safetensors", "--revision", "main").splitlines()[0]
    assert library.find(workspace, ref).origin["revision"] == commit
    assert library.find(workspace, ref).origin["file"] == "b.safetensors"
    for file in home.root.rglob("*"):
        assert file.is_dir() or fake_hub.token.encode() not in file.read_bytes()


@pytest.mark.parametrize("folder", ["out", "out.zip"])
def test_another_licence_is_saved_with_its_name_and_link(studio, workspace, tmp_path, folder):
    run = finished_run(workspace)
    named = ("--licence", "other", "--licence-name", "Ink Licence", "--licence-link", "https://example.org/ink")
    studio("save", f"run:{run.id}", tmp_path / folder, *named)
    if folder == "out":
        card = (tmp_path / "out" / "README.md").read_text()
        assert "license: other" in card and "https://example.org/ink" in card


def test_publishing_under_another_licence_sends_its_name_and_link(home, studio, monkeypatch):
    asked = {}

    def start(jobs, job, secret=None):
        asked.update(job.payload)
        return jobs.cancel(job.id)

    monkeypatch.setattr(Jobs, "start", start)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_made_up_token")
    named = ("--licence", "other", "--licence-name", "Ink Licence", "--licence-link", "https://example.org/ink")
    words = ["publish", "run:x", "ink", "--rights", "I made them.", *named, "--home", str(home.root)]
    assert CliRunner().invoke(commands.app, words).exit_code == terminal.STOPPED
    assert (asked["licence"], asked["licence_name"], asked["licence_link"]) == ("other", "Ink Licence", "https://example.org/ink")
    assert "hf_made_up_token" not in json.dumps(asked)


@pytest.mark.parametrize("together", [["a.png"], ["--subject", "object"], ["--trigger", "ohwx"], ["--consent", "they agreed"]])
def test_a_sample_set_takes_nothing_that_it_brings_itself(studio, workspace, together):
    with pytest.raises(StudioError, match="give only --sample and a title"):
        studio("dataset", "Mine", *together, "--sample", "style")
    assert Dataset.all(workspace) == []


def test_a_dataset_needs_a_title(studio):
    with pytest.raises(StudioError, match="has no title"):
        studio("dataset")


def test_bringing_pictures_says_what_was_not_used_and_what_is_worth_knowing(studio, tmp_path):
    (tmp_path / "odd [x].png").write_bytes(b"no picture")
    (tmp_path / "a.png").write_bytes(png(50, size=64))
    (tmp_path / "b.png").write_bytes(png(50, size=64))
    printed = studio("dataset", "Ink", tmp_path / "odd [x].png", tmp_path / "a.png", tmp_path / "b.png")
    assert "1 images and 0 captions added." in printed
    assert "not used: odd [x].png" in printed
    assert "same" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("generate", "a cat", "--steps", "500"), "num_inference_steps: 500 does not fit. Input should be less than or equal to 200"),
        (("generate", "a cat", "--seed", "-1"), "seed: -1 does not fit"),
        (("generate", "a cat", "--lora", "starter:style=much"), "'much' is not a valid weight"),
        (("save", "run:gone", "out", "--licence", "l" * 100), "licence: '.* does not fit"),
        (("train", "gone"), "no longer exists"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(studio, words, sentence):
    with pytest.raises(StudioError, match=sentence):
        studio(*words)


def test_a_path_is_printed_in_one_piece_whatever_is_in_it(studio, workspace, tmp_path):
    run = finished_run(workspace)
    out = tmp_path / ("a [bold] long name " * 8).strip()
    assert studio("save", f"run:{run.id}", out).splitlines() == [str(out)]


def test_an_id_in_a_list_can_be_copied(studio, workspace):
    run = finished_run(workspace, title="A long title that leaves little room for the other columns of the table, and goes on")
    assert studio("show", "runs").splitlines()[1].split("  ") == [run.id, run.title, "finished"]


def test_an_error_is_a_sentence_on_the_other_stream(home):
    said = subprocess.run(
        [sys.executable, "-m", "studio", "train", "[x]", "--home", str(home.root)], capture_output=True, text=True, env=os.environ, timeout=120
    )
    assert said.returncode == 1 and said.stdout == "" and "'[x]'" in said.stderr and "Traceback" not in said.stderr


def test_a_sample_set_may_be_given_a_title(studio, workspace):
    made = studio("dataset", "My ink", "--sample", "style").splitlines()[0]
    assert Dataset.open(workspace, made).title == "My ink"


@pytest.fixture
def nobody_works(monkeypatch):
    """What is queued stays queued."""
    monkeypatch.setattr(worker, "ensure", lambda home: None)


def test_several_values_are_queued_as_several_runs(home, studio, workspace, nobody_works):
    made = studio("dataset", "--sample", "style").splitlines()[0]
    printed = studio("train", made, "lora.rank=8,16", "dataset.flip=true,false", "--title", "Ink", "--no-wait").splitlines()
    runs = [Run.open(workspace, run_id) for run_id in printed]
    assert [run.title for run in runs] == [f"Ink, rank {rank}, flip {flip}" for rank in (8, 16) for flip in ("true", "false")]
    assert [run.config.lora.alpha for run in runs] == [8, 8, 16, 16] and [run.config.dataset.flip for run in runs] == [True, False] * 2
    assert [job.payload["run"] for job in Jobs(home.database).queue()] == printed


def test_when_one_of_several_values_is_wrong_nothing_is_queued(home, studio, workspace, nobody_works):
    made = studio("dataset", "--sample", "style").splitlines()[0]
    with pytest.raises(StudioError, match="Rank: 4096 does not fit"):
        studio("train", made, "lora.rank=8,4096", "--no-wait")
    with pytest.raises(StudioError, match="give 21 runs"):
        studio("train", made, "training.seed=" + ",".join(map(str, range(21))), "--no-wait")
    assert Run.all(workspace) == [] and Jobs(home.database).list() == []


def test_the_queue_is_listed_put_in_order_and_emptied(home, studio, workspace, nobody_works):
    assert studio("queue") == "No running or waiting jobs.\n"
    made = studio("dataset", "--sample", "style").splitlines()[0]
    runs = studio("train", made, "lora.rank=4,8,16", "--title", "Ink", "--no-wait").splitlines()
    jobs = Jobs(home.database)
    ids = [str(job.id) for job in jobs.queue()]

    def listed(printed):
        return [line.split()[0] for line in printed.splitlines()[1:]]

    assert listed(studio("queue")) == ids and runs[0] in studio("queue") and "Ink, rank 4" in studio("queue")
    assert listed(studio("queue", "move", ids[2], "first")) == [ids[2], ids[0], ids[1]]
    assert listed(studio("queue", "move", ids[2], "down")) == [ids[0], ids[2], ids[1]]
    assert studio("queue", "cancel", ids[0]) == "Cancelled.\n"
    jobs.claim(("train",), os.getpid())
    assert studio("queue", "cancel", ids[2]) == "Stopping.\n" and jobs.cancel_requested(int(ids[2]))
    assert Run.open(workspace, runs[0]).state == "created", "taken out, not failed"
    for words in (("cancel", ids[0]), ("move", ids[0], "up"), ("move", ids[1], "sideways"), ("cancel", "99")):
        with pytest.raises(StudioError, match="has already ended|cannot be moved|choose one of first|no job 99"):
            studio("queue", *words)


def test_a_character_is_trained_and_then_trained_longer(home, studio, workspace, at_work, tmp_path):
    made = studio("dataset", "--sample", "character").splitlines()[0]
    base = save_tiny_model(tmp_path / "tiny-model")
    quick = ("dataset.resolution=64", "training.max_train_steps=2", "training.train_batch_size=1", "samples.prompts=[]", "runtime.threads=1")
    printed = studio("train", made, f"model.base_model={base}", "lora.rank=4", "--title", "Ink", *quick).splitlines()
    run = Run.open(workspace, printed[0])
    assert (run.config.dataset.subject, run.config.dataset.trigger_word) == ("character", Dataset.open(workspace, made).trigger_word)
    assert run.state == "finished" and str(run.adapter_at(2)) in printed
    printed = studio("extend", run.id, "1").splitlines()
    assert printed == [run.id, str(run.adapter_at(3)), f"run:{run.id}"]
    assert [event["step"] for event in run.curve()] == [1, 2, 3] and run.state == "finished"


def test_a_run_is_trained_again_with_another_setting(home, studio, workspace, monkeypatch):
    jobs, first = Jobs(home.database), finished_run(workspace, title="Ink")

    def work(home):
        while job := jobs.claim(("train",), os.getpid()):
            jobs.finish(job.id, {"adapter": f"run:{job.payload['run']}"})

    monkeypatch.setattr(worker, "ensure", work)
    again = Run.open(workspace, studio("again", first.id, "lora.rank=3").splitlines()[0])
    assert (again.title, again.config.lora.rank, again.config.training.max_train_steps) == ("Ink, rank 3", 3, 200)


def test_one_of_several_that_fails_does_not_keep_the_others_from_learning(home, studio, workspace, monkeypatch):
    jobs = Jobs(home.database)

    def work(home):
        while job := jobs.claim(("train",), os.getpid()):
            run = Run.open(workspace, job.payload["run"])
            if run.config.lora.rank == 4:
                jobs.fail(job.id, "The memory is not enough.")
            else:
                run.append({"kind": "finished", "step": 1, "seconds": 1})
                jobs.finish(job.id, {"adapter": f"run:{run.id}"})

    monkeypatch.setattr(worker, "ensure", work)
    made = studio("dataset", "--sample", "style").splitlines()[0]
    done = CliRunner().invoke(commands.app, ["train", made, "lora.rank=4,8", "--title", "Ink", "--home", str(home.root)])
    assert str(done.exception) == "Ink, rank 4: The memory is not enough." and "run:ink-rank-8" in done.stdout


def test_one_of_several_that_is_taken_out_elsewhere_leaves_the_others_waiting(home, studio, workspace, monkeypatch):
    jobs = Jobs(home.database)

    def work(home):
        first, *rest = jobs.queue(("train",)) or [None]
        if first and first.payload["run"].startswith("ink-rank-4"):
            jobs.cancel(first.id)
        elif first:
            job = jobs.claim(("train",), os.getpid())
            jobs.finish(job.id, {"adapter": f"run:{job.payload['run']}"})

    monkeypatch.setattr(worker, "ensure", work)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.05)
    made = studio("dataset", "--sample", "style").splitlines()[0]
    done = CliRunner().invoke(commands.app, ["train", made, "lora.rank=4,8", "--title", "Ink", "--home", str(home.root)])
    assert done.exit_code == terminal.STOPPED and "run:ink-rank-8" in done.stdout
    assert [job.state for job in jobs.list()] == ["done", "cancelled"]


def test_ctrl_c_stops_all_of_several(home, studio, workspace, monkeypatch):
    jobs = Jobs(home.database)
    monkeypatch.setattr(worker, "ensure", lambda home: None)
    made = studio("dataset", "--sample", "style").splitlines()[0]

    def press_ctrl_c():
        while len(jobs.queue()) < 3:
            time.sleep(0.05)
        time.sleep(0.3)
        _thread.interrupt_main()

    hand = threading.Thread(target=press_ctrl_c)
    hand.start()
    done = CliRunner().invoke(commands.app, ["train", made, "lora.rank=4,8,16", "--home", str(home.root)])
    hand.join()
    assert done.exit_code == terminal.STOPPED and jobs.queue() == []
    assert done.stdout.count("Stopped before the first step; continue with: python -m studio resume") == 3
