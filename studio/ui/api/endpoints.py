"""The same six nouns for programs: named API endpoints with type hints. Every other handler of the page is private."""

from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from studio.config.recipe import DEFAULT_RECIPE, Recipe, read_recipe
from studio.core.errors import StudioError, validated
from studio.core.workspace import Workspace
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.families import bases
from studio.jobs import worker
from studio.jobs.queue import Job
from studio.runs import library
from studio.ui import files
from studio.ui.api import runs
from studio.ui.studio import Studio, in_words


def add(studio: Studio) -> None:
    """Call inside the Blocks."""

    async def result(job: Job) -> dict:
        done = await studio.finished(job)
        if done.state != "done":
            raise StudioError(done.error or f"The {done.kind} job ended as {done.state}.")
        return done.result

    def adapters(request: gr.Request) -> list[dict]:
        """Every LoRA that can go into a stack: ref, title, source, trigger words, family, whom it was made for in words, base model, rank."""
        return [described(card) for card in library.list_adapters(studio.workspace(request))]

    async def add_lora(repo: str, request: gr.Request, revision: str = "", filename: str = "") -> dict:
        """Fetch a LoRA from the Hub, owner/name, at a branch, tag or commit; say which file where the repository has several. Returns what
        /adapters says of it. Outside of a Space the login of the studio's computer opens private repositories."""
        asked = {"repo_id": repo, "revision": revision.strip() or None, "filename": filename.strip() or None}
        token = studio.access.machine_token()
        job = studio.jobs.submit(studio.owner(request), "download", asked)
        done = await result(studio.jobs.start(job, secret=token.get_secret_value().encode() if token else None))
        return described(library.find(studio.workspace(request), done["adapters"][0]))

    def datasets(request: gr.Request) -> list[dict]:
        """Every dataset: id, title, subject, trigger word, number of pictures."""
        found = Dataset.all(studio.workspace(request))
        return [{"id": d.id, "title": d.title, "subject": d.subject, "trigger_word": d.trigger_word, "pictures": len(d.images)} for d in found]

    def use_samples(name: str, request: gr.Request) -> dict:
        """A new dataset with the sample pictures: style or character."""
        dataset = Dataset.from_samples(studio.workspace(request), name)
        return {"id": dataset.id, "title": dataset.title, "pictures": len(dataset.images)}

    def new_dataset(title: str, request: gr.Request, subject: str = SUBJECTS[0], trigger_word: str = "", consent: str = "") -> dict:
        """A new, empty dataset about a style, character or object. Where a real person is shown, `consent` says how they agreed; it goes onto
        the card. Add pictures with /add_pictures."""
        dataset = Dataset.create(studio.workspace(request), title, subject, bool(consent.strip()), consent, trigger_word)
        return {"id": dataset.id, "title": dataset.title, "pictures": 0}

    async def add_pictures(dataset: str, pictures: list[gr.FileData], request: gr.Request) -> dict:
        """Add pictures, .txt captions of the same name, masks (name-mask.png: only its light parts teach), or a .zip of these: files as
        gradio_client's handle_file sends them. Returns how many pictures, captions and masks were added, what was refused and why, and notes."""
        opened = Dataset.open(studio.workspace(request), dataset)
        asked = {"dataset": opened.id, "files": [uploaded(file) for file in pictures]}
        return await result(studio.jobs.start(studio.jobs.submit(studio.owner(request), "import", asked)))

    def pictures(dataset: str, request: gr.Request) -> list[dict]:
        """Every picture of a dataset: id, name, caption, who wrote it (hand, file, sample, a captioner or nobody), size, address, and the
        mask's address or nothing."""
        opened = Dataset.open(studio.workspace(request), dataset)
        return [
            {
                "id": picture.id,
                "name": picture.name,
                "caption": picture.caption,
                "caption_source": picture.caption_source,
                "width": picture.width,
                "height": picture.height,
                "address": "/" + files.url("picture", opened.id, picture.id),
                "mask": "/" + files.url("mask", opened.id, picture.mask.stem) if picture.mask else "",
            }
            for picture in opened.images
        ]

    def edit_caption(dataset: str, picture: str, caption: str, request: gr.Request) -> dict:
        """Write a picture's caption by hand: no captioner overwrites it afterwards. An empty one may be filled again."""
        opened = Dataset.open(studio.workspace(request), dataset)
        return {"changed": opened.set_caption(picture, caption)}

    async def caption(dataset: str, request: gr.Request, captioner: str = "builtin", only_empty: bool = True, class_noun: str = "") -> dict:
        """Write captions; hand-made ones are kept, and the trigger word takes the place of `class_noun`. Returns counts once it is done."""
        opened = Dataset.open(studio.workspace(request), dataset)
        asked = {"dataset": opened.id, "captioner": captioner, "only_empty": only_empty, "class_noun": class_noun}
        job = studio.jobs.submit(studio.owner(request), "caption", asked)
        worker.ensure(studio.home)
        return await result(job)

    async def generate(
        prompt: str,
        request: gr.Request,
        loras: list[dict] | None = None,
        seed: int = DEFAULT_RECIPE.seed,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str = DEFAULT_RECIPE.negative_prompt,
        base_model: str = DEFAULT_RECIPE.base_model,
        count: int = 1,
        revision: str = "",
        width: int | None = None,
        height: int | None = None,
    ) -> list[dict]:
        """Draw; loras is [{"ref": ..., "weight": 1.0}, ...], revision a version of a base on the Hub. Steps, guidance and size are the base's own
        unless they are given. Returns the address and the recipe of each picture."""
        workspace = studio.workspace(request)
        wanted = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "base_model": base_model,
            "revision": revision.strip() or None,
            "stack": [stack_entry(workspace, each) for each in loras or []],
            "seed": seed,
            "width": width,
            "height": height,
            **bases.get_base(base_model, revision.strip() or None).sampling_settings(num_inference_steps, guidance_scale),
        }
        job = studio.jobs.submit(studio.owner(request), "generate", {"recipe": validated(Recipe, wanted).to_json(), "count": count})
        worker.ensure(studio.home)
        images = (await result(job))["images"]
        recipes = {each: read_recipe(workspace.image_path(each).read_bytes()) for each in images}
        return [{"id": each, "address": "/" + files.url("image", each), "recipe": recipe.to_json()} for each, recipe in recipes.items()]

    async def publish(
        adapter: str,
        repo: str,
        rights: str,
        token: str,
        request: gr.Request,
        private: bool = True,
        licence: str = "",
        licence_name: str = "",
        licence_link: str = "",
        base_licence: str = "",
    ) -> dict:
        """Publish one of your runs with its card; returns the address, the commit and code that calls it. The token is kept nowhere. The licence
        "other" needs a name, and a link if there is one; base_licence is that of a base which the studio does not know."""
        from studio.hub import client
        from studio.publishing.plan import Request

        named = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
        asked = {"adapter": adapter, "repo": repo, "rights": rights, "private": private, **named}
        wish = validated(Request, asked)
        secret = studio.access.publishing_token(client.read_token(token) if token else None)
        job = studio.jobs.submit(studio.owner(request), "publish", wish.model_dump(), key=wish.job_key)
        return await result(studio.jobs.start(job, secret=secret.get_secret_value().encode()))

    about_datasets = (datasets, new_dataset, use_samples, pictures, add_pictures, edit_caption, caption)
    for endpoint in (*about_datasets, *runs.endpoints(studio), adapters, add_lora, generate, publish):
        gr.api(in_words(endpoint), api_name=endpoint.__name__, concurrency_limit=None)


def described(card: library.AdapterInfo) -> dict:
    return {
        "ref": card.ref,
        "title": card.title,
        "source": card.source,
        "trigger_words": card.trigger_words,
        "family": card.family,
        "made_for": card.made_for,
        "base_model": card.base_model,
        "rank": card.rank,
    }


def uploaded(file: gr.FileData | dict) -> dict:
    """A file that came with this request, as an import job takes it.

    The type is for the API's page alone: Gradio 6.31 hands over what was sent, and moves and checks it only where it says
    `meta: gradio.FileData` of itself. Without that word any path of this computer would reach us.
    """
    path = Path(str(file.get("path", ""))).resolve() if isinstance(file, dict) else Path()
    if not (path.is_file() and path.is_relative_to(Path(get_upload_folder()).resolve())):
        raise StudioError(f"{repr(file)[:60]} is not a file that was sent along; wrap each in gradio_client's handle_file.")
    return {"path": str(path), "name": path.name}


def stack_entry(workspace: Workspace, asked: dict) -> dict:
    """One of the LoRAs that a program asks for."""
    if not isinstance(asked, dict) or "ref" not in asked or set(asked) - {"ref", "weight"}:
        raise StudioError(f'{repr(asked)[:60]} is not a LoRA of a stack; write {{"ref": "starter:style", "weight": 1.0}}. /adapters lists the refs.')
    return library.stack_entry(workspace, str(asked["ref"]), asked.get("weight", 1.0)).model_dump()
