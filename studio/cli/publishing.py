"""Publishing commands: upload to the Hub, or save the same files as a folder or zip."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.terminal import HomeOption, check_target, console, follow, open_home
from studio.core.errors import StudioError, validated
from studio.publishing.licensing import LICENCES
from studio.publishing.plan import Request, plan
from studio.publishing.save import save_folder, save_zip

LicenceOption = Annotated[
    str, typer.Option(help=f"Licence, by its id on the Hub, or base for that of the base model: {', '.join(filter(None, LICENCES))}.")
]
LicenceName = Annotated[str, typer.Option(help="Name of the licence, for --licence other.")]
LicenceLink = Annotated[str, typer.Option(help="Link to the licence, for --licence other.")]
BaseLicence = Annotated[str, typer.Option(help="Licence of the base model, if the studio does not know it.")]


def publish(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: name or owner/name.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this LoRA; printed on the model card.")],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public after the upload is verified; default: private.")] = False,
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    title: Annotated[str, typer.Option(help="Title of the model card.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Add a new version to a repository to which this run was published.")] = False,
    home: HomeOption = None,
) -> None:
    """Publish a LoRA with its model card on the Hugging Face Hub.

    The repository is private unless you give --public. Your login (`hf auth login`) or HF_TOKEN is used.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise StudioError("You are not logged in to the Hub: run `hf auth login` first, or use `save` to get a folder or zip.")
    place, _, jobs = open_home(home)
    licences = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    values = {"adapter": adapter, "repo": repo, "private": not public, "rights": rights, **licences, "title": title, "update": update}
    request = validated(Request, values)
    job = jobs.submit("local", "publish", request.model_dump(), key=request.job_key)
    result = follow(place, jobs, job, secret=token.encode()).result
    console.print(f"{result['url']}\n{'private' if result['private'] else 'public'}, commit {result['commit']}")
    for note in result["notes"]:
        console.print(f"  {note}")


def save(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    out: Annotated[Path, typer.Argument(help="New folder, or a file name ending in .zip.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this LoRA; printed on the model card.")] = "",
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    home: HomeOption = None,
) -> None:
    """Save a LoRA with its model card as a folder or zip.

    The files are those that `publish` uploads. Needs no network.
    """
    check_target(out)
    _, workspace, _ = open_home(home)
    licences = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    release = plan(workspace, validated(Request, {"adapter": adapter, "rights": rights, **licences}))
    console.print(str(save_zip(release, out) if out.suffix == ".zip" else save_folder(release, out)))
