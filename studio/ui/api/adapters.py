"""API endpoints for LoRAs: list, download and publish."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import validated
from studio.runs import library
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    def adapters(request: gr.Request) -> list[dict]:
        """All LoRAs that can go into a stack: ref, title, source, trigger words, family, title of the base they were made for, base model, rank."""
        return [described(adapter) for adapter in library.list_adapters(studio.workspace(request))]

    async def add_lora(repo: str, request: gr.Request, revision: str = "", filename: str = "") -> dict:
        """Download a LoRA from the Hub, owner/name, at a branch, tag or commit; `filename` selects a file if the repository has several. Returns
        the entry of /adapters. Except on a Space, the Hub login of the studio's computer gives access to private repositories."""
        payload = {"repo_id": repo, "revision": revision.strip() or None, "filename": filename.strip() or None}
        token = studio.access.machine_token()
        job = studio.jobs.submit(studio.owner(request), "download", payload)
        result = await studio.result(studio.jobs.start(job, secret=token.get_secret_value().encode() if token else None))
        return described(library.find(studio.workspace(request), result["adapters"][0]))

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
        """Publish one of your runs with its model card. Returns the address, the commit and code that uses the LoRA. The token is not stored. The
        licence "other" needs a name, and a link if there is one; base_licence is that of a base which the studio does not know."""
        from studio.hub import client
        from studio.publishing.plan import Request

        licences = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
        planned = validated(Request, {"adapter": adapter, "repo": repo, "rights": rights, "private": private, **licences})
        secret = studio.access.publishing_token(client.read_token(token) if token else None)
        job = studio.jobs.submit(studio.owner(request), "publish", planned.model_dump(), key=planned.job_key)
        return await studio.result(studio.jobs.start(job, secret=secret.get_secret_value().encode()))

    return adapters, add_lora, publish


def described(adapter: library.AdapterInfo) -> dict:
    return {
        "ref": adapter.ref,
        "title": adapter.title,
        "source": adapter.source,
        "trigger_words": adapter.trigger_words,
        "family": adapter.family,
        "made_for": adapter.made_for,
        "base_model": adapter.base_model,
        "rank": adapter.rank,
    }
