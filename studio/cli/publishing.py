"""Publishing from the command line: to the Hub, or as a folder or zip of the same files."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.terminal import HomeOption, check_target, console, follow, open_home
from studio.core.errors import StudioError, validated
from studio.publishing.licensing import LICENCES
from studio.publishing.plan import Request, plan, save_folder, save_zip

LicenceOption = Annotated[str, typer.Option(help=f"Its licence by the Hub's id; base is that of its base: {', '.join(filter(None, LICENCES))}.")]
LicenceName = Annotated[str, typer.Option(help="What the licence is called, for --licence other.")]
LicenceLink = Annotated[str, typer.Option(help="Where it can be read, for --licence other.")]
BaseLicence = Annotated[str, typer.Option(help="Licence of the base, where the studio does not know it.")]


def publish(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    repo: Annotated[str, typer.Argument(help="name or owner/name on the Hub.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this; it stands on the card.")],
    public: Annotated[bool, typer.Option("--public", help="Make it public once every byte was verified; otherwise it stays private.")] = False,
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    title: Annotated[str, typer.Option(help="Title of the card.")] = "",
    update: Annotated[bool, typer.Option("--update", help="Add a new version to a repository this run was published to.")] = False,
    home: HomeOption = None,
) -> None:
    """Publish a LoRA with its card to the Hugging Face Hub.

    It stays private unless you say --public. Your login (`hf auth login`) or HF_TOKEN is used.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise StudioError("You are not logged in to the Hub: run `hf auth login` first, or use `save` to get a folder or zip instead.")
    place, _, jobs = open_home(home)
    named = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    asked = {"adapter": adapter, "repo": repo, "private": not public, "rights": rights, **named, "title": title, "update": update}
    request = validated(Request, asked)
    job = jobs.submit("local", "publish", request.model_dump(), key=request.job_key)
    result = follow(place, jobs, job, secret=token.encode()).result
    console.print(f"{result['url']}\n{'private' if result['private'] else 'public'}, commit {result['commit']}")
    for note in result["notes"]:
        console.print(f"  {note}")


def save(
    adapter: Annotated[str, typer.Argument(help="One of your own LoRAs: run:<run id> or run:<run id>@<step>.")],
    out: Annotated[Path, typer.Argument(help="A new folder, or a file ending in .zip.")],
    rights: Annotated[str, typer.Option(help="What gives you the right to publish this; it stands on the card.")] = "",
    licence: LicenceOption = "",
    licence_name: LicenceName = "",
    licence_link: LicenceLink = "",
    base_licence: BaseLicence = "",
    home: HomeOption = None,
) -> None:
    """Save a LoRA with its card and pictures as a folder or zip.

    They are the files that `publish` would send. Needs no network.
    """
    check_target(out)
    _, workspace, _ = open_home(home)
    named = {"licence": licence, "licence_name": licence_name, "licence_link": licence_link, "base_licence": base_licence}
    made = plan(workspace, validated(Request, {"adapter": adapter, "rights": rights, **named}))
    console.print(str(save_zip(made, out) if out.suffix == ".zip" else save_folder(made, out)))
