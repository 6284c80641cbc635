"""The same six nouns for programs: named API endpoints with type hints. Every other handler of the page is private."""

import gradio as gr

from studio import config as configs
from studio import library, worker
from studio.dataset import Dataset
from studio.errors import StudioError, validated
from studio.jobs import Job
from studio.recipe import Recipe, read_recipe
from studio.runs import Run
from studio.ui import files
from studio.ui.studio import Studio, in_words
from studio.workspace import Workspace


def add(studio: Studio) -> None:
    """Call inside the Blocks."""

    async def result(job: Job) -> dict:
        done = await studio.finished(job)
        if done.state != "done":
            raise StudioError(done.error or f"The {done.kind} job ended as {done.state}.")
        return done.result

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
        dataset = Dataset.from_samples(studio.workspace(request), name)
        return {"id": dataset.id, "title": dataset.title, "pictures": len(dataset.pictures)}

    async def caption(dataset: str, request: gr.Request, captioner: str = "builtin", only_empty: bool = True, class_noun: str = "") -> dict:
        """Write captions; hand-made ones are kept, and the trigger word takes the place of `class_noun`. Returns counts once it is done."""
        asked = {"dataset": dataset, "captioner": captioner, "only_empty": only_empty, "class_noun": class_noun}
        job = studio.jobs.submit(studio.owner(request), "caption", asked)
        worker.ensure(studio.home)
        return await result(job)

    def train(dataset: str, request: gr.Request, preset: str = "", settings: list[str] | None = None, title: str = "") -> dict:
        """Start a training, with settings such as "lora.rank=8" on top of the preset, or of the one that fits the pictures where none is named;
        returns the run and its job at once. Ask /run how it goes."""
        workspace = studio.workspace(request)
        pictures = Dataset.open(workspace, dataset)
        run = Run.create(workspace, configs.for_dataset(pictures, preset, *(settings or [])), pictures, title)
        job = studio.jobs.submit(studio.owner(request), "train", {"run": run.id}, key=run.job_key)
        worker.ensure(studio.home)
        return {"run": run.id, "job": job.id}

    def run(run: str, request: gr.Request) -> dict:
        """How a run is doing: state, step, loss, saved LoRAs by step."""
        opened = Run.open(studio.workspace(request), run)
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
        wanted = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "base_model": base_model,
            "stack": [stack_entry(workspace, each) for each in loras or []],
            "seed": seed,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
        }
        job = studio.jobs.submit(studio.owner(request), "generate", {"recipe": validated(Recipe, wanted).to_json(), "count": count})
        worker.ensure(studio.home)
        images = (await result(job))["images"]
        drawn = {each: read_recipe(workspace.image_path(each).read_bytes()) for each in images}
        return [{"id": each, "address": "/" + files.url("image", each), "recipe": recipe.to_json()} for each, recipe in drawn.items()]

    async def publish(adapter: str, repo: str, rights: str, token: str, request: gr.Request, private: bool = True, licence: str = "") -> dict:
        """Publish one of your runs with its card; returns the address, the commit and code that calls it. The token is kept nowhere."""
        from studio import hub
        from studio.release import Request

        asked = {"adapter": adapter, "repo": repo, "rights": rights, "private": private, "licence": licence}
        wish = validated(Request, asked)
        secret = studio.access.publishing_token(hub.read_token(token) if token else None)
        job = studio.jobs.submit(studio.owner(request), "publish", wish.model_dump(), key=wish.job_key)
        return await result(studio.jobs.start(job, secret=secret.get_secret_value().encode()))

    for endpoint in (adapters, datasets, use_samples, caption, train, run, generate, publish):
        gr.api(in_words(endpoint), api_name=endpoint.__name__, concurrency_limit=None)


def stack_entry(workspace: Workspace, asked: dict) -> dict:
    """One of the LoRAs that a program asks for, with the hash of its file as it is now."""
    if not isinstance(asked, dict) or "ref" not in asked or set(asked) - {"ref", "weight"}:
        raise StudioError(f'{repr(asked)[:60]} is not a LoRA of a stack; write {{"ref": "starter:style", "weight": 1.0}}. /adapters lists the refs.')
    card = library.find(workspace, str(asked["ref"]))
    return {"adapter": card.ref, "weight": asked.get("weight", 1.0), "title": card.title, "sha256": card.sha256}
