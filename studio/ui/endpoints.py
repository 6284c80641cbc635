"""The same six nouns for programs: named API endpoints with type hints. Every other handler of the page is private."""

import json

import gradio as gr

from studio import config as configs
from studio import library, worker
from studio.dataset import Dataset
from studio.errors import StudioError
from studio.jobs import Job
from studio.recipe import Recipe, StackEntry
from studio.runs import Run
from studio.ui import files
from studio.ui.studio import Studio


def add(studio: Studio) -> None:
    """Call inside the Blocks."""

    async def result(job: Job) -> dict:
        done = await studio.finished(job)
        if done.state != "done":
            raise gr.Error(done.error or f"The {done.kind} job ended as {done.state}.", print_exception=False)
        return done.result

    def in_words(error: StudioError) -> gr.Error:
        return gr.Error(str(error), print_exception=False)

    def adapters(request: gr.Request) -> list[dict]:
        """Every LoRA that can go into a stack: ref, title, source, trigger words, family, base model, rank."""
        cards = library.list_adapters(studio.workspace(request))
        return [
            {
                "ref": c.ref,
                "title": c.title,
                "source": c.source,
                "trigger_words": c.trigger_words,
                "family": c.family,
                "base_model": c.base_model,
                "rank": c.rank,
            }
            for c in cards
        ]

    def datasets(request: gr.Request) -> list[dict]:
        """Every dataset: id, title, subject, trigger word, number of pictures."""
        found = Dataset.all(studio.workspace(request))
        return [{"id": d.id, "title": d.title, "subject": d.subject, "trigger_word": d.trigger_word, "pictures": len(d.pictures)} for d in found]

    def use_samples(name: str, request: gr.Request) -> dict:
        """A new dataset with the sample pictures: style or character."""
        try:
            dataset = Dataset.from_samples(studio.workspace(request), name)
        except StudioError as error:
            raise in_words(error) from None
        return {"id": dataset.id, "title": dataset.title, "pictures": len(dataset.pictures)}

    async def caption(dataset: str, request: gr.Request, captioner: str = "builtin", only_empty: bool = True, class_noun: str = "") -> dict:
        """Write captions; hand-made ones are kept, and the trigger word takes the place of `class_noun`. Returns counts once it is done."""
        asked = {"dataset": dataset, "captioner": captioner, "only_empty": only_empty, "class_noun": class_noun}
        job = studio.jobs.submit(studio.owner(request), "caption", asked)
        worker.ensure(studio.home)
        return await result(job)

    def train(dataset: str, request: gr.Request, preset: str = "", settings: list[str] | None = None, title: str = "") -> dict:
        """Start a training, with settings such as "lora.rank=8" on top of the preset; returns the run and its job at once. Ask /run how it goes."""
        workspace = studio.workspace(request)
        try:
            pictures = Dataset.open(workspace, dataset)
            words = [
                f"dataset.id={json.dumps(pictures.id)}",
                f"dataset.subject={json.dumps(pictures.subject)}",
                f"dataset.trigger_word={json.dumps(pictures.trigger_word)}",
            ]
            config = configs.preset(preset, *words, *(settings or [])) if preset else configs.build({}, *words, *(settings or []))
            run = Run.create(workspace, config, pictures, title)
        except StudioError as error:
            raise in_words(error) from None
        job = studio.jobs.submit(studio.owner(request), "train", {"run": run.id}, key=f"train-{run.id}")
        worker.ensure(studio.home)
        return {"run": run.id, "job": job.id}

    def run(run: str, request: gr.Request) -> dict:
        """How a run is doing: state, step, loss, saved LoRAs by step."""
        try:
            opened = Run.open(studio.workspace(request), run)
        except StudioError as error:
            raise in_words(error) from None
        curve = opened.curve()
        last = curve[-1] if curve else {}
        return {
            "state": opened.state,
            "step": last.get("step", 0),
            "loss": last.get("loss"),
            "adapters": [f"run:{opened.id}@{step}" for step, _ in opened.adapters()],
        }

    async def generate(
        prompt: str,
        request: gr.Request,
        loras: list[dict] | None = None,
        seed: int = 7,
        num_inference_steps: int = 20,
        guidance_scale: float = 5.0,
        negative_prompt: str = "",
        base_model: str = "lora-studio/small-world",
        count: int = 1,
    ) -> list[dict]:
        """Draw; loras is [{"ref": ..., "weight": 1.0}, ...]. Returns the address and the recipe of each picture."""
        workspace = studio.workspace(request)
        try:
            stack = [
                StackEntry(adapter=each["ref"], weight=each.get("weight", 1.0), title=library.find(workspace, each["ref"]).title)
                for each in loras or []
            ]
            recipe = Recipe(
                prompt=prompt,
                negative_prompt=negative_prompt,
                base_model=base_model,
                stack=stack,
                seed=seed,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
            )
        except StudioError as error:
            raise in_words(error) from None
        job = studio.jobs.submit(studio.owner(request), "generate", {"recipe": recipe.to_json(), "count": count})
        worker.ensure(studio.home)
        images = (await result(job))["images"]
        return [{"id": each, "address": "/" + files.url("image", each), "recipe": recipe.to_json()} for each in images]

    async def publish(adapter: str, repo: str, rights: str, token: str, request: gr.Request, private: bool = True, licence: str = "") -> dict:
        """Publish one of your runs with its card; returns the address, the commit and code that calls it. The token is kept nowhere."""
        from studio import hub
        from studio.release import Request

        wish = Request(adapter=adapter, repo=repo, rights=rights, private=private, licence=licence)
        job = studio.jobs.submit(studio.owner(request), "publish", wish.model_dump())
        secret = studio.access.publishing_token(hub.read_token(token) if token else None)
        return await result(studio.jobs.start(job, secret=secret.get_secret_value().encode()))

    for endpoint in (adapters, datasets, use_samples, caption, train, run, generate, publish):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)
