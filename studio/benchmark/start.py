"""Startup time of the studio: `python -m studio.benchmark start`.

Three apps take turns in fresh processes: the studio, a bare Gradio app with one text box, and the same app with torch, diffusers
and transformers imported at startup, as most trainers do. Time is measured from process start to the first HTTP 200.
Then, for one studio: RAM of the idle web process, seconds until the page is interactive in Chromium, and the round trip of an
event during training. All figures are measured from outside the studio.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
BARE = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Textbox()
demo.launch(server_name="127.0.0.1", server_port=int({port}), quiet=True)
"""
UP_FRONT = """
import torch, transformers, diffusers
from diffusers import StableDiffusionPipeline
from transformers import BlipForConditionalGeneration, Florence2ForConditionalGeneration
"""
READY_TIMEOUT_SECONDS = 120
GENERATE_ID = "generate-images"
"""Id of the Generate button on the page."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m studio.benchmark start", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="number of starts of each app, in turn (default 3)")
    parser.add_argument("--events", type=int, default=60, help="number of events timed during training (default 60)")
    options = parser.parse_args(argv)

    seconds: dict[str, list[float]] = {"studio": [], "bare": [], "up front": []}
    for _ in range(options.rounds):
        for name, times in seconds.items():
            times.append(_time_to_ready(name))
    ready, bare, heavy = (statistics.median(seconds[name]) for name in ("studio", "bare", "up front"))
    figures = {
        "ready_seconds": round(ready, 2),
        "bare_seconds": round(bare, 2),
        "up_front_seconds": round(heavy, 2),
        "ready_ratio": round(heavy / ready, 2),
        "bare_ratio": round(bare / ready, 2),
        **_one_studio(options.events),
    }
    table = Table("figure", "measured", "goal", title="Start")
    goals = {"ready_ratio": ">= 4", "idle_mb": "<= 170", "interactive_seconds": "<= 2.5", "event_ms": "<= 50", "torch_in_web_process": "False"}
    for name, value in figures.items():
        table.add_row(name, str(value), goals.get(name, ""))
    Console().print(table)
    print(json.dumps(figures))


def _time_to_ready(name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process, port = _start(name, Path(folder))
        try:
            _wait_for_page(port, process)
            return time.perf_counter() - started
        finally:
            _stop(process, Path(folder))


def _one_studio(events: int) -> dict:
    """RAM, page and event figures of one studio with a new home."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        process, port = _start("studio", home)
        try:
            _wait_for_page(port, process)
            time.sleep(15)  # the worker has started by then, so the process is idle
            status = Path(f"/proc/{process.pid}/status").read_text()
            idle_mb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1000
            torch_loaded = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
            interactive = [_interactive_seconds(port) for _ in range(3)]
            return {
                "idle_mb": round(idle_mb),
                "torch_in_web_process": torch_loaded,
                "interactive_seconds": round(statistics.median(interactive), 2),
                "event_ms": round(statistics.median(_event_ms(home, port, events)), 1),
            }
        finally:
            _stop(process, home)


def _interactive_seconds(port: int) -> float:
    """From navigation until the Generate button is clickable, in Chromium with an empty profile."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        started = time.perf_counter()
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.locator(f"#{GENERATE_ID}").click(trial=True)
        seconds = time.perf_counter() - started
        browser.close()
        return seconds


def _event_ms(home: Path, port: int, events: int) -> list[float]:
    """Round trips of a small named endpoint during training, from the request to the completion event.

    Over one persistent connection, like a browser: gradio_client opens three with a TLS context each for every call, which adds 50 ms.
    """
    import httpx

    from studio import config
    from studio.core.workspace import Home
    from studio.datasets.dataset import Dataset
    from studio.jobs.queue import Jobs
    from studio.runs.creation import create_run

    place = Home(home)
    workspace, jobs = place.workspace("local"), Jobs(place.database)
    dataset = Dataset.from_samples(workspace, "style")
    settings = config.preset("small-world-style", f"dataset.id={dataset.id}", "training.max_train_steps=5000", "samples.every=5000")
    run = create_run(workspace, settings, dataset)
    job = jobs.submit("local", "train", {"run": run.id})
    deadline = time.monotonic() + 180
    while not any(event["kind"] == "step" for event in run.events()[0]):
        if time.monotonic() > deadline:
            raise SystemExit(f"Training did not start within 180 seconds: {jobs.get(job.id)}")
        time.sleep(0.2)
    times = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/gradio_api/call") as client:
        for _ in range(events + 1):
            started = time.perf_counter()
            event = client.post("/adapters", json={"data": []}).raise_for_status().json()["event_id"]
            with client.stream("GET", f"/adapters/{event}") as answer:
                if "event: complete" not in answer.iter_lines():
                    raise SystemExit("The endpoint did not answer.")
            times.append((time.perf_counter() - started) * 1000)
    jobs.cancel(job.id)
    while jobs.get(job.id).state == "running":
        time.sleep(0.2)
    return times[1:]


def _start(name: str, home: Path) -> tuple[subprocess.Popen, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "LORA_STUDIO_HOME": str(home), "GRADIO_SERVER_PORT": str(port), "LORA_STUDIO_PORT": str(port)}
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "LORA_STUDIO_BROWSER": "0"}
    program = BARE.format(port=port) if name == "bare" else UP_FRONT + BARE.format(port=port)
    command = [sys.executable, "app.py"] if name == "studio" else [sys.executable, "-c", program]
    with open(home / "server.log", "wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT), port


def _wait_for_page(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"The app ended with code {process.returncode} before it answered.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise SystemExit(f"The app did not answer within {READY_TIMEOUT_SECONDS} seconds.")


def _stop(process: subprocess.Popen, home: Path) -> None:
    """Stop the web process, then wait until its worker has noticed and exited, so that the home is free."""
    process.terminate()
    process.wait(20)
    deadline = time.monotonic() + 30
    while (home / "worker.lock").exists() and _held(home / "worker.lock") and time.monotonic() < deadline:
        time.sleep(0.2)


def _held(lock: Path) -> bool:
    from studio.core.errors import StudioError
    from studio.core.locks import FileLock

    try:
        with FileLock(lock, "The worker"):
            return False
    except StudioError:
        return True
