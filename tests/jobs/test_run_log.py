"""The logs of real processes: worker, training, jobs and server. What a maintainer needs is in them, what a user typed is not."""

import json
import re
import subprocess
import sys
import time

import pytest

from studio import config
from studio.benchmark.tiny import save_tiny_model
from studio.config.recipe import Recipe
from studio.core import packages, platform
from studio.core.workspace import Home
from studio.jobs import worker
from studio.jobs.queue import Jobs
from studio.runs.creation import create_run, repeat_run
from tests.trained import captioned_dataset, png

WORDS = ("quuxtitle", "quuxcaption", "quuxprompt", "quuxtrigger", "quuxfile", "quuxbase", "walrus", "holiday")
"""Each occurs in one kind of text that a user types (the last in the dataset's title), and nowhere in code or libraries."""
TOKEN = "hf_Quuxtoken" + "Q7w" * 8
LONG = " ".join(f"of {number} walrus" for number in range(60))
"""More than the 77 tokens of CLIP's context, and than the 24 of the tiny model's."""


def wait_for(jobs: Jobs, *ids: int) -> None:
    deadline = time.monotonic() + 240
    while any(jobs.get(each).unfinished for each in ids):
        assert time.monotonic() < deadline, [jobs.get(each) for each in ids]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A home after a training, images, an import and a failure of each, all by real processes: (home, runs, jobs)."""
    folder = tmp_path_factory.mktemp("used")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        patch.delenv("LORA_STUDIO_LOG", raising=False)
        yield _use(folder)


def _use(folder):
    home = Home(folder / "home")
    workspace, jobs = home.workspace("local"), Jobs(home.database)
    base = str(save_tiny_model(folder / "tiny-model"))
    dataset = captioned_dataset(workspace, "style", "")
    for number, image in enumerate(dataset.images):
        dataset.set_caption(image.id, f"picture {number} {LONG} quuxcaption", "hand")
    values = {
        "model": {"base_model": base},
        "dataset": {"id": dataset.id, "resolution": 64, "trigger_word": "quuxtrigger"},
        "lora": {"rank": 4, "alpha": 8.0},
        "training": {"max_train_steps": 4, "learning_rate": 1e-3},
        "samples": {"prompts": [f"[trigger] {LONG} quuxprompt"], "every": 2, "num_inference_steps": 1},
        "saving": {"checkpoint_every": 2},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    good = create_run(workspace, config.build(values), dataset, "quuxtitle")
    # An uncaught exception whose message quotes a path: an image that is neither cached nor there.
    broken = repeat_run(good, workspace, good.config, "quuxtitle broken")
    snapshot = json.loads((broken.dataset_dir / "dataset.json").read_text())
    for index, image in enumerate(snapshot["pictures"]):
        image |= {"file": "quuxfile.png", "sha256": f"{index:064x}"}
    (broken.dataset_dir / "dataset.json").write_text(json.dumps(snapshot))
    # A StudioError whose message quotes a setting.
    refused = repeat_run(good, workspace, config.build(values, f"model.base_model={folder}/quuxbase"), "quuxtitle refused")
    runs = [good, broken, refused]
    worker.ensure(home)
    trainings = [jobs.submit("local", "train", {"run": run.id}).id for run in runs]
    wait_for(jobs, *trainings)
    side = {"width": 64, "height": 64, "num_inference_steps": 1}
    image = Recipe(prompt=f"{LONG} quuxprompt", base_model=base, **side).to_json()
    missing = Recipe(prompt="quuxprompt", base_model=f"{folder}/quuxbase", **side).to_json()
    drawn = [jobs.submit("local", "generate", {"recipe": recipe}).id for recipe in (image, missing)]
    (folder / "quuxfile.png").write_bytes(png(100, 64))
    (folder / "quuxfile.safetensors").write_bytes(b"\x00" * 100)
    files = [{"path": str(folder / f"quuxfile.{suffix}"), "name": f"quuxfile.{suffix}"} for suffix in ("png", "safetensors")]
    imports = [
        jobs.submit("local", "import", {"dataset": dataset.id, "files": files}),
        jobs.submit("local", "import", {"dataset": "../holiday", "files": files}),
        jobs.submit("local", "adapter", {"files": files}),
    ]
    for job in imports:
        jobs.start(job, secret=TOKEN.encode())
    wait_for(jobs, *drawn, *(job.id for job in imports))
    states = [jobs.get(each).state for each in (*trainings, *drawn)]
    assert states == ["done", "failed", "failed", "done", "failed"], [jobs.get(each).error for each in (*trainings, *drawn)]
    return home, runs, jobs


def log_of(home, run) -> str:
    return (home.logs / f"{run.id}.log").read_text()


def test_no_log_contains_what_the_user_typed_or_a_token(used):
    home, runs, jobs = used
    logs = {path.name: path.read_text() for path in home.logs.iterdir()}
    assert {"worker.log", *(f"{run.id}.log" for run in runs)} <= set(logs) and sum(name.startswith("job-") for name in logs) == 3
    found = [(name, word, line) for name, text in logs.items() for line in text.splitlines() for word in (*WORDS, TOKEN) if word in line.lower()]
    assert found == []
    assert all(TOKEN not in text for text in logs.values())


def test_a_prompt_and_a_caption_that_are_truncated_are_mentioned(used):
    home, (run, *_), _ = used
    for text in (log_of(home, run), (home.logs / "worker.log").read_text()):
        assert re.search(r"sequences up to \d+ tokens: \(text removed\)", text)
    assert "WARNING train studio.training.examples: 3 of 3 captions are too long for this base; the end is ignored" in log_of(home, run)


def test_the_log_of_a_run_begins_with_versions_and_decisions(used):
    home, (run, *_), _ = used
    lines = log_of(home, run).splitlines()
    assert re.search(r"INFO train .*: LoRA Studio 0\.1\.0, Python 3\.\d+\.\d+, \w+", lines[0])
    assert all(f"{name} {packages.installed(name)}" in lines[1] for name in packages.tested() if packages.installed(name))
    text = "\n".join(lines)
    assert re.search(r"device: cpu \(.+\), [\d.]+ GB of RAM free, \d+ cores, 1 threads; dtype float32, attention fused, exact True", text)
    assert "base: tiny-model, family stable-diffusion, revision of a local folder" in text
    assert f"dataset: 3 images, 0 masks, sha256 {run.snapshot['sha256']}" in text
    assert "optimizer: adamw, learning rate 0.001, constant" in text
    resolved = re.search("resolved automatically: (.*)", text)[1]
    for setting in ("dtype=float32", "gradient_checkpointing=False", "quantisation=none", "offload=False", "execution=eager"):
        assert f"runtime.{setting}" in resolved
    assert "lora.alpha=8.0" in re.search("settings other than the defaults: (.*)", text)[1]


def test_the_log_of_a_run_has_its_progress_and_its_end_but_not_every_step(used):
    home, (run, *_), _ = used
    text = log_of(home, run)
    assert re.findall(r"(\w+) at step (\d) of 4, [\d.]+ s per step", text) == [
        *[("samples", "2"), ("checkpoint", "2"), ("samples", "4"), ("checkpoint", "4")]
    ]
    assert re.search(r"finished at step 4 after [\d.]+ s; peak memory \d+ MB", text.splitlines()[-1])
    phases = "".join(rf", {phase} [\d.]+" for phase in ("settings", "encoding", "loading", "samples", "step"))
    assert re.search(rf"first step [\d.]+ s after the start of the process: imports [\d.]+{phases}\n", text)
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in text.splitlines()), "library output goes through our format"


def test_the_log_of_a_failed_run_has_the_traceback(used):
    home, (_, broken, refused), _ = used
    assert "the run failed at step 0" in log_of(home, broken) and "uncaught exception" in log_of(home, broken)
    assert "in load_examples" in log_of(home, broken) and "FileNotFoundError: [Errno 2]" in log_of(home, broken)
    assert "StudioError\n" in log_of(home, refused) and "in resolve_config" in log_of(home, refused)


def test_the_worker_logs_each_job_and_how_its_training_ended(used):
    home, runs, jobs = used
    text = (home.logs / "worker.log").read_text()
    assert "Z INFO worker " in text.splitlines()[0]
    assert re.search(r"training of job 1 has ended: last event finished, step 4, exit status 0", text)
    assert re.search(r"job 4 \(generate\) returns after [\d.]+ s", text)
    assert re.search(r"WARNING worker .*job 5 \(generate\) failed after .*\nStudioError\n  File ", text)


def test_debug_logs_messages_but_no_token(tmp_path, used):
    home, (_, _, refused), _ = used
    env = platform.environment(LORA_STUDIO_LOG="debug", HF_TOKEN=TOKEN)
    ended = subprocess.run(platform.module_command("studio.training", refused.path), env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "quuxbase" in ended.stderr and TOKEN not in ended.stderr


def test_every_process_of_a_distributed_run_names_itself(used):
    code = "from studio.training.run_log import configure_process; configure_process(); import logging; logging.warning('here')"
    env = platform.environment(RANK="1", WORLD_SIZE="2")
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert "WARNING train-1 root: here" in ended.stderr and "packages" not in ended.stderr


def test_the_server_logs_its_versions_and_mode_in_the_home(tmp_path):
    env = platform.environment(LORA_STUDIO_HOME=str(tmp_path), LORA_STUDIO_BROWSER="0", HF_TOKEN=TOKEN)
    for name in ("LORA_STUDIO_LOG", "LORA_STUDIO_PASSWORD", "LORA_STUDIO_HOST"):
        env.pop(name, None)
    server = subprocess.Popen([sys.executable, "app.py"], cwd=platform.REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "LoRA Studio runs at http://127.0.0.1:" in server.stdout.readline()
        deadline = time.monotonic() + 30
        while "packages: " not in (text := (tmp_path / "logs" / "web.log").read_text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
    finally:
        server.terminate()
        printed = server.communicate(timeout=30)[1]
    assert re.search(r"INFO web .*: LoRA Studio 0\.1\.0, Python 3", text.splitlines()[0])
    assert re.search(r"mode local, port \d+", text) and "gradio " in text and printed == ""
    assert TOKEN not in text + printed
