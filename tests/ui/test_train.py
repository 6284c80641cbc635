"""The Train form: settings that fit base, dataset and GPU memory, saved and imported settings, warnings."""

import dataclasses
import inspect
import json

import pytest
from gradio.components import FormComponent
from PIL import Image

from studio import config as configs
from studio.core.access import Access
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import decode_files
from studio.devices.footprint import Footprint
from studio.families import BUILTIN_ID
from studio.jobs import estimates
from studio.jobs.launch import TrainingRequest
from studio.jobs.queue import Jobs
from studio.runs import starting_points
from studio.runs.creation import create_run
from studio.runs.run import Run
from studio.ui import app as ui
from studio.ui import studio as studio_module
from studio.ui.studio import Studio
from studio.ui.tabs import train_form, train_sweep
from tests.trained import finished_run

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


MODULES = ("train", "train_choices", "train_estimate", "train_presets")


class Request:
    headers = {}


class Page:
    """The Train tab without a browser: handlers by their name; what they return is kept as a browser would show it."""

    def __init__(self, home):
        self.app, _ = ui.build_app(home, Access())
        ours = [event for event in self.app.fns.values() if event.fn and event.fn.__module__.rpartition(".")[2] in MODULES]
        self.events = {event.fn.__name__: event for event in sorted(ours, key=lambda each: len(each.targets))}
        self.form = inspect.getclosurevars(self.events["start"].fn).nonlocals["form"]
        self.workspace, self.now = home.workspace("local"), {}

    def call(self, name: str, *values) -> dict:
        """Values for the first inputs; the rest are taken from what is shown. Returns what changed, by label or id."""
        event = self.events[name]
        rest = [self.now.get(each, each.value) for each in event.inputs[len(values) :]]
        given = [*values, *rest][: len(event.inputs)]
        place = list(inspect.signature(event.fn).parameters).index("request")
        return self.keep(event.fn(*given[:place], Request(), *given[place:]))

    def load(self, dataset_id: str) -> dict:
        """The form as it is when the page opens."""
        return self.keep(self.form.open(self.workspace, dataset_id))

    def keep(self, shown: dict) -> dict:
        changed = {each: value.get("value", self.now.get(each)) if isinstance(value, dict) else value for each, value in shown.items()}
        self.now |= changed
        self.choices = {key(each): value["choices"] for each, value in shown.items() if isinstance(value, dict) and "choices" in value}
        self.words = {key(each): value["info"] for each, value in shown.items() if isinstance(value, dict) and "info" in value}
        self.interactive = {key(each): value["interactive"] for each, value in shown.items() if isinstance(value, dict) and "interactive" in value}
        return {key(each): value for each, value in changed.items()}

    def field(self, name: str):
        return next(each for each in self.now if key(each) == name)

    def type(self, name: str, value) -> None:
        """What the user types into a field."""
        self.now[self.field(name)] = value

    def config(self):
        """The settings that Start would use."""
        event = self.events["start"]
        filled, *values = [self.now.get(each, each.value) for each in event.inputs[2:]]
        return self.form.read(train_form.Filled.read(filled), values, Dataset.open(self.workspace, self.value("train-dataset")))

    def steps(self) -> int:
        return self.config().training.max_train_steps

    def value(self, name: str):
        return next(value for each, value in self.now.items() if key(each) == name)


def key(component) -> str:
    own = component.elem_id and not component.elem_id.startswith("setting-")
    return component.elem_id if own else getattr(component, "label", None) or component.elem_id or type(component).__name__


@pytest.fixture
def dataset(workspace) -> Dataset:
    return Dataset.from_samples(workspace, "style")


@pytest.fixture
def page(home, dataset):
    page = Page(home)
    page.load(dataset.id)
    return page


def test_the_form_opens_with_settings_that_fit_the_dataset(page, dataset):
    expected = configs.for_dataset(dataset)
    assert (page.value("preset"), page.value("base"), page.steps()) == ("small-world-style", BUILTIN_ID, expected.training.max_train_steps)
    assert page.choices["preset"][:2] == [(p.title, p.name) for p in configs.presets() if p.name.startswith("small-world-style")]


@pytest.mark.parametrize("base", [SD15, SDXL, "someone/own-base"])
def test_a_base_of_another_kind_loads_its_own_preset(page, dataset, base):
    shown = page.call("choose_base", dataset.id, base, "")
    expected = configs.for_dataset(dataset, "", f"model.base_model={base}")
    assert shown["base"] == base and shown["preset"] == configs.fitting_preset("style", base)
    assert page.steps() == expected.training.max_train_steps and shown["Resolution"] == expected.dataset.resolution
    page.call("choose_base", dataset.id, BUILTIN_ID, "")
    assert page.steps() == configs.for_dataset(dataset).training.max_train_steps


def test_between_two_bases_of_a_kind_only_the_revision_is_cleared_and_this_is_said(page, dataset):
    page.call("choose_base", dataset.id, SD15, "")
    page.type("Base revision", "fp16")
    page.type("base", "someone/own-base")
    shown = page.call("choose_base", dataset.id, "someone/own-base", "")
    assert shown["Base revision"] == "" and "The base revision fp16 belonged to the base before and was cleared." in shown["kept"]
    assert {each.label for each in page.form.form.inputs if key(each) in shown} == {"Base revision", "Training steps", "Alpha"}, (
        "what else was typed stays"
    )
    assert page.config().model.family == "", "the previous base's family must not be kept for an unknown base"


def test_steps_are_suggested_from_the_number_of_images(page, dataset):
    page.call("choose_base", dataset.id, SD15, "")
    assert page.steps() == 1200 and page.words["steps"].startswith("16 images: 1,200 steps suggested.")
    page.call("choose_preset", dataset.id, "stable-diffusion-style-quick", "")
    assert page.steps() == 600
    page.call("choose_base", dataset.id, BUILTIN_ID, "")
    assert "suggested" not in page.words["steps"]


def test_empty_steps_follow_the_batch_size_and_typed_ones_stay(page, dataset):
    """Computed where the form is read: no second event has to arrive before Start is pressed."""
    page.call("choose_base", dataset.id, SD15, "")
    page.type("Batch size", 2)
    assert page.steps() == 600
    page.type("steps", 777)
    page.type("Batch size", 4)
    assert page.steps() == 777
    page.type("steps", None)
    assert page.steps() == 300


def test_an_empty_alpha_follows_the_rank_and_a_typed_one_stays(page, dataset):
    page.type("rank", 64)
    assert page.config().lora.alpha == 64
    page.type("alpha", 5)
    page.type("rank", 8)
    assert page.config().lora.alpha == 5
    page.type("alpha", None)
    assert page.config().lora.alpha == 8
    page.call("choose_base", dataset.id, SDXL, "")
    page.type("rank", 64)
    assert page.config().lora.alpha == 32, "the SDXL presets use an alpha of half the rank"


def test_the_run_of_an_empty_alpha_and_empty_steps_stores_the_numbers(page, dataset, home, monkeypatch):
    monkeypatch.setattr(studio_module.worker, "ensure", lambda home: None)
    page.call("choose_base", dataset.id, SD15, "")
    page.type("rank", 4)
    start = page.events["start"]
    run_id, *_ = start.fn(dataset.id, "Ink", Request(), *[page.now.get(each, each.value) for each in start.inputs[2:]])
    stored = json.loads((Run.open(home.workspace("local"), run_id).path / "config.json").read_text())
    assert (stored["lora"]["alpha"], stored["training"]["max_train_steps"]) == (4, 1200)


TYPED = {"steps": 800, "sample-prompts": "a red fox\nohwx fox", "Learning rate": 0.003, "Resolution": 192}


@pytest.mark.parametrize("change", ["base", "preset", "memory", "dataset"])
def test_what_was_typed_survives_another_base_preset_gpu_memory_or_dataset(page, dataset, workspace, change):
    for name, value in TYPED.items():
        page.type(name, value)
    other = Dataset.from_samples(workspace, "character")
    calls = {
        "base": ("choose_base", dataset.id, SDXL, ""),
        "preset": ("choose_preset", dataset.id, "small-world-style-quick", ""),
        "memory": ("choose_memory", dataset.id, "memory-8gb"),
        "dataset": ("refresh", other.id, ""),
    }
    shown = page.call(*calls[change])
    assert {name: page.value(name) for name in TYPED} == TYPED
    if change == "memory":
        return
    assert "Kept what you changed: " in shown["kept"] and "Training steps 800" in shown["kept"] and "Sample prompts" in shown["kept"]
    preset = train_form.Filled.read(page.value("filled-with")).values
    page.call("use_preset", page.value("train-dataset"))
    assert page.value("Resolution") == preset["dataset.resolution"] and page.value("sample-prompts") == preset["samples.prompts"]
    assert page.value("kept") == ""


def test_a_preset_keeps_the_base_that_was_chosen(page, dataset):
    page.call("choose_base", dataset.id, "someone/own-base", "")
    page.call("choose_preset", dataset.id, "stable-diffusion-style-quick", "")
    assert page.value("base") == "someone/own-base" and page.steps() == 600


def test_a_value_that_does_not_fit_stands_under_its_field_and_start_says_why(page, dataset):
    page.type("Learning rate", 50)
    page.type("Batch size", None)
    page.call("summarize", dataset.id)
    field = page.field("Learning rate").elem_id
    assert f'<li data-field="{field}">Learning rate: 50 does not fit. Enter a number above 0 and at most 1.</li>' in page.value("setting-errors")
    assert "Batch size is empty. Enter a whole number from 1 to 64." in page.value("setting-errors")
    assert "Correct Batch size and Learning rate first." in page.value("costs")
    page.type("Resolution", None)
    page.call("summarize", dataset.id)
    assert "Correct Resolution, Batch size and Learning rate first." in page.value("costs")
    page.type("Resolution", 128)
    assert page.interactive["start-training"] is False
    page.type("Learning rate", 0.001)
    page.type("Batch size", 1)
    page.call("summarize", dataset.id)
    assert page.value("setting-errors") == "" and page.interactive["start-training"] is True


def test_the_estimate_follows_the_settings_that_it_depends_on(page):
    event = page.events["summarize"]
    watched = {component for component, _ in event.targets}
    labels = {each.label for each in event.inputs if each._id in watched}
    assert labels >= {"Another base", "Rank", "Batch size", "Optimizer", "EMA decay", "Learning rate", "Resolution"}


def test_images_that_are_cropped_or_enlarged_are_named_before_the_start(page, dataset, tmp_path):
    assert "image" not in page.load(dataset.id)["estimate"]
    files = []
    for name, size in (("panorama.png", (1600, 200)), ("icon.png", (64, 64))):
        Image.new("RGB", size, "navy").save(tmp_path / name)
        files.append({"path": tmp_path / name, "name": name})
    with dataset.incoming() as folder:
        dataset.add(decode_files(files, folder), folder)
    shown = page.load(dataset.id)["estimate"]
    assert "panorama.png (50%)" in shown and "icon.png (2.0 times)" in shown and shown.count('class="caution"') == 2


def test_more_images_change_the_suggestion_when_the_tab_is_opened_again(page, dataset, monkeypatch):
    page.call("choose_base", dataset.id, SD15, "")
    more = dataset.images * 2
    monkeypatch.setattr(Dataset, "images", more)
    page.call("refresh", dataset.id)
    assert page.steps() == configs.suggested_steps(configs.preset("stable-diffusion-style"), len(more)) > 1200
    page.type("steps", 50)
    monkeypatch.setattr(Dataset, "images", more * 2)
    page.call("refresh", dataset.id)
    assert page.steps() == 50


def test_another_dataset_fills_the_form_and_keeps_what_was_typed(page, dataset, workspace):
    other = Dataset.from_samples(workspace, "character")
    page.type("rank", 64)
    assert "rank" not in page.call("refresh", dataset.id)
    shown = page.call("refresh", other.id)
    assert (shown["rank"], shown["preset"], shown["train-dataset"]) == (64, "small-world-character", other.id)
    assert "Rank 64" in shown["kept"]


def test_gpu_memory_changes_what_makes_the_base_fit_and_keeps_typed_values(page, dataset):
    page.call("choose_base", dataset.id, "krea/Krea-2-Raw", "")
    rank = next(each for each in page.now if key(each) == "rank")
    page.now[rank] = 64
    shown = page.call("choose_memory", dataset.id, "memory-8gb")
    expected = configs.for_dataset(dataset, "krea-2-style", overlay="memory-8gb")
    assert shown["Quantisation"] == expected.runtime.quantisation == "nf4" and shown["Resolution"] == 768
    assert "rank" not in shown and page.value("rank") == 64
    shown = page.call("choose_memory", dataset.id, "")
    assert shown["Quantisation"] == "" and shown["Resolution"] == 1024


def test_the_run_gets_the_family_of_its_base(page, dataset, home, monkeypatch):
    monkeypatch.setattr(studio_module.worker, "ensure", lambda home: None)
    page.call("choose_base", dataset.id, SDXL, "")
    start = page.events["start"]
    values = [dataset.id, "Ink", *[page.now.get(each, each.value) for each in start.inputs[2:]]]
    run_id, message, _ = start.fn(*values[:2], Request(), *values[2:])
    assert message == ""
    config = Run.open(home.workspace("local"), run_id).config
    assert (config.model.family, config.model.base_model, config.dataset.trigger_word) == ("sdxl", SDXL, dataset.trigger_word)


def test_a_preset_can_be_saved_chosen_and_removed(page, dataset, workspace):
    rank = next(each for each in page.now if key(each) == "rank")
    page.now[rank] = 64
    shown = page.call("save_preset", dataset.id, "Ink, <b>slow</b>", False)
    assert (
        shown["preset"] == "mine:ink-b-slow-b"
        and "&lt;b&gt;" in shown["presets-message"]
        and shown["presets-message"].startswith('<div class="notice good"')
    )
    assert ("Ink, <b>slow</b> (yours)", "mine:ink-b-slow-b") in page.choices["preset"]
    page.call("choose_preset", dataset.id, "small-world-style", "")
    assert page.call("choose_preset", dataset.id, "mine:ink-b-slow-b", "")["rank"] == 64
    page.call("remove_preset", dataset.id, "mine:ink-b-slow-b")
    assert starting_points.saved_presets(workspace) == [] and page.value("preset") == "small-world-style"


def test_a_preset_of_the_same_name_is_replaced_only_on_request(page, dataset, workspace):
    page.call("save_preset", dataset.id, "Ink", False)
    rank = next(each for each in page.now if key(each) == "rank")
    page.now[rank] = 64
    assert "already" in page.call("save_preset", dataset.id, "Ink", False)["presets-message"]
    assert "lora" not in starting_points.find(workspace, "mine:ink").values
    page.call("save_preset", dataset.id, "Ink", True)
    assert starting_points.find(workspace, "mine:ink").values["lora"]["rank"] == 64


def test_a_runs_settings_fill_the_form(page, dataset, workspace):
    run = create_run(workspace, configs.for_dataset(dataset, "", "lora.rank=24", "training.max_train_steps=77"), dataset, "Ink")
    shown = page.call("choose_preset", dataset.id, f"run:{run.id}", "")
    assert (shown["rank"], page.steps()) == (24, 77)
    assert f"run:{run.id}" in [name for _, name in page.choices["preset"]]


def test_a_file_of_another_trainer_fills_the_form_and_skipped_settings_are_listed(page, dataset, tmp_path):
    file = tmp_path / "their <settings>.toml"
    file.write_text(
        f'network_module = "networks.lora"\nnetwork_dim = 48\nmax_train_epochs = 10\nclip_skip = 2\npretrained_model_name_or_path = "{SDXL}"\n'
        'frobnicate = "<script>"\nxformers = true\n'
    )
    shown = page.call("import_settings", dataset.id, str(file))
    assert (shown["rank"], shown["alpha"], shown["base"], shown["preset"], shown["steps"]) == (48, 1.0, SDXL, None, 160)
    report = shown["presets-message"]
    assert "clip_skip = 2" in report and "frobnicate = &lt;script&gt;" in report and "<script>" not in report
    assert report.index("clip_skip") < report.index("xformers")
    (tmp_path / "no.toml").write_text("colour = 'red'")
    assert set(page.call("import_settings", dataset.id, str(tmp_path / "no.toml"))) == {"presets-message"}


def test_a_broken_preset_is_reported_in_the_form(page, dataset, workspace):
    (workspace.presets / "broken.toml").write_text("[lora]\nrank = 'many'")
    shown = page.call("choose_preset", dataset.id, "mine:broken", "")
    assert "Rank: " in shown["HTML"] and 'role="alert"' in shown["HTML"]
    page.call("remove_preset", dataset.id, "mine:broken")
    assert starting_points.saved_presets(workspace) == []


def test_photographs_are_warned_about_only_for_a_base_of_shapes(dataset, monkeypatch):
    class Photo:
        looks_like_photo = True

    monkeypatch.setattr(Dataset, "images", [Photo()])
    assert "generates simple shapes only" in train_form.warnings(dataset, BUILTIN_ID)
    assert "generates simple shapes only" not in train_form.warnings(dataset, SD15)


def test_a_refused_job_leaves_no_run(home, dataset, workspace, monkeypatch):
    studio = Studio(home, Access(), Jobs(home.database))

    def full(*_, **__):
        raise StudioError("You have 8 jobs that wait or run.")

    monkeypatch.setattr(Jobs, "submit_all", full)
    with pytest.raises(StudioError, match="8 jobs"):
        studio.train("local", dataset, [TrainingRequest(configs.for_dataset(dataset), "")])
    assert Run.all(workspace) == [] and not list(workspace.runs.iterdir())


def test_a_sweep_validates_every_config_before_any_is_queued(dataset):
    config = configs.for_dataset(dataset)
    made = train_sweep.plan(dataset, config, "Ink", 1, [("lora.rank", "8, 32"), ("training.seed", "1,2")])
    assert [each.title for each in made] == [f"Ink, rank {rank}, seed {seed}" for rank in (8, 32) for seed in (1, 2)]
    assert [each.config.lora.alpha for each in made] == [8, 8, 32, 32] and {each.config.dataset.id for each in made} == {dataset.id}
    kept = train_sweep.plan(dataset, config, "", None, [("lora.rank", "8,32"), ("", "")])
    assert [each.config.lora.alpha for each in kept] == [config.lora.alpha] * 2 and kept[0].title == kept[0].note == ""
    noted = train_sweep.plan(dataset, config, "", 1, [("lora.rank", "8"), ("training.seed", "1,2")])
    assert [(each.title, each.note) for each in noted] == [("", "seed 1"), ("", "seed 2")]
    assert [each.note for each in train_sweep.plan(dataset, config, "", 1, [("lora.alpha", "4,8")])] == ["alpha 4", "alpha 8"]
    halved = train_sweep.plan(dataset, config, "", 0.5, [("lora.rank", "8,32")])
    assert [each.config.lora.alpha for each in halved] == [4, 16]
    assert train_sweep.plan(dataset, config, "", 1, [("lora.rank", " "), ("", "")]) == []
    with pytest.raises(StudioError, match="Batch size: 'many' does not fit"):
        train_sweep.plan(dataset, config, "", 1, [("training.train_batch_size", "1, many")])


def test_a_sweep_shows_the_number_of_runs_and_the_total_time(dataset, workspace):
    made = train_sweep.plan(dataset, configs.for_dataset(dataset), "Ink", 1, [("lora.rank", "8,16,32")])
    assert "3 runs, time shown after the first steps" in train_sweep.summarize(workspace, dataset, made)
    run = create_run(workspace, configs.for_dataset(dataset), dataset)
    run.append({"kind": "step", "step": 1, "loss": 0.1, "seconds_per_step": 1.3})
    shown = train_sweep.summarize(workspace, dataset, made)
    assert "3 runs, about 23 minutes in all" in shown and "Ink, rank 32" in shown
    unnamed = train_sweep.plan(dataset, configs.for_dataset(dataset), "", 1, [("lora.rank", "8,16")])
    assert "Sample style · rank 16 · " in train_sweep.summarize(workspace, dataset, unnamed)


def test_only_settings_with_a_single_value_can_be_swept():
    offered = {path for _, path in train_sweep.choices()}
    assert {"lora.rank", "training.learning_rate", "training.optimizer", "dataset.flip"} <= offered
    assert not {"samples.prompts", "lora.target_modules", "prior.prompt", "dataset.id", "dataset.trigger_word", "lora.start_from"} & offered


def values(shown: dict) -> dict:
    """What a handler puts into the fields, by their labels."""
    fields = [(component.label, value) for component, value in shown.items() if isinstance(component, FormComponent)]
    return {label: value.get("value") if isinstance(value, dict) else value for label, value in fields}


@pytest.fixture
def fill(home):
    """`fill("copy_settings", run, dataset)` -> the form after that button, by label."""
    app, _ = ui.build_app(home, Access())

    def press(name, run, dataset_id):
        event = next(event for event in app.fns.values() if event.fn and event.fn.__name__ == name and event.fn.__module__.endswith("train_from_run"))
        return values(event.fn(run.id, dataset_id, Request()))

    return press


def test_a_runs_settings_fill_the_form_with_its_own_dataset(fill, workspace, dataset):
    other = Dataset.from_samples(workspace, "character")
    config = configs.for_dataset(other, "", "lora.rank=4", "lora.alpha=2", "training.max_train_steps=77")
    run = create_run(workspace, config, other, "Pim")
    run.write_config(config.model_copy(update={"runtime": config.runtime.model_copy(update={"threads": 1})}))
    form = fill("copy_settings", run, dataset.id)
    assert (form["Another dataset"], form["Training steps"], form["Alpha"], form["CPU threads"]) == (other.id, 77, 2, None)
    workspace.remove(other.path)
    assert fill("copy_settings", run, dataset.id)["Another dataset"] == dataset.id


def test_starting_from_a_lora_keeps_the_chosen_dataset_and_takes_its_rank(fill, workspace, dataset):
    run = finished_run(workspace, "lora.rank=4")
    form = fill("start_from", run, dataset.id)
    assert (form["Another dataset"], form["Rank"], form["Start from a LoRA"]) == (dataset.id, 4, f"run:{run.id}@200")


def test_a_memory_that_was_measured_before_is_shown_after_every_choice(page, dataset, home):
    """Not only once a setting is typed."""
    measured = {
        "footprint": dict.fromkeys((each.name for each in dataclasses.fields(Footprint)), 1_000_000),
        "numbers_a_rank": 1000,
        "free_bytes": None,
        "card": None,
    }

    def measure() -> None:
        path = home.root / "estimates" / f"{estimates.key(page.config())}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(measured))

    page.call("choose_base", dataset.id, "someone/own-base", "")
    measure()
    page.call("choose_base", dataset.id, BUILTIN_ID, "")
    measure()
    calls = [("choose_base", dataset.id, "someone/own-base", ""), ("choose_base", dataset.id, BUILTIN_ID, ""), ("refresh", dataset.id)]
    for call in [*calls, ("choose_preset", dataset.id, "small-world-style-quick", ""), ("choose_memory", dataset.id, "")]:
        assert "GB of memory" in page.call(*call)["costs"], call
    assert "GB of memory" in page.load(dataset.id)["costs"]


def test_the_base_and_what_was_typed_stay_when_a_preset_is_removed(page, dataset):
    page.call("choose_base", dataset.id, SD15, "")
    page.call("save_preset", dataset.id, "Ink", False)
    page.type("steps", 777)
    shown = page.call("remove_preset", dataset.id, "mine:ink", "")
    assert (shown["base"], shown["preset"], shown["steps"]) == (SD15, "stable-diffusion-style", 777) and "Training steps 777" in shown["kept"]
