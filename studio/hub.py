"""The one place that talks to the Hugging Face Hub: where it is, who a token belongs to, downloads, and what its refusals mean.

Every failure leaves as a StudioError that says what happened and what to do. A token is a SecretStr from the moment it is
read, so that no repr, log line or traceback shows it.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, errors
from huggingface_hub.utils import httpx, set_client_factory, validate_repo_id
from huggingface_hub.utils import tqdm as hub_tqdm
from huggingface_hub.utils._http import default_client_factory
from pydantic import SecretStr

from studio.errors import StudioError

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

SECONDS_TO_CONNECT = 10
SECONDS_OF_SILENCE = 60
LARGEST_ADAPTER = 4 * 1024**3
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
COMMIT = re.compile(r"[0-9a-f]{40}")

HUB_ERRORS = (
    errors.HfHubHTTPError,
    errors.HFValidationError,
    errors.OfflineModeIsEnabled,
    errors.LocalEntryNotFoundError,
    errors.RevisionResolutionError,
    errors.FileMetadataError,
    httpx.TransportError,
)


def _client() -> httpx.Client:
    """huggingface_hub 2.4 waits for an answer for ever; a Hub that says nothing must become a sentence instead."""
    client = default_client_factory()
    client.timeout = httpx.Timeout(SECONDS_OF_SILENCE, connect=SECONDS_TO_CONNECT)
    return client


set_client_factory(_client)


@dataclass(frozen=True)
class Account:
    """Who a token belongs to. `role` is what the Hub calls it: read, write, fineGrained, or "" where it does not say."""

    name: str
    organisations: tuple[str, ...]
    role: str
    writable: tuple[str, ...] | None
    """Namespaces a fine-grained token may write to; None when the Hub does not list them."""

    def refusal(self, namespace: str) -> str:
        """Why this token cannot write to a namespace; empty when nothing is known against it."""
        if namespace not in (self.name, *self.organisations):
            known = ", ".join((self.name, *self.organisations))
            return f"The token belongs to {self.name}, who cannot write to {namespace!r}; choose one of: {known}."
        if self.role == "read" or (self.writable is not None and namespace not in self.writable):
            where = f"{endpoint()}/settings/tokens"
            return f"This token can read but not write to {namespace!r}. Make one with write access at {where} and use that."
        return ""


@dataclass(frozen=True)
class Snapshot:
    """A model's folder on this computer and the exact commit it is."""

    path: Path
    revision: str


@dataclass(frozen=True)
class Download:
    """One adapter file fetched from the Hub, its bytes checked, and what its card says about it."""

    path: Path
    repo_id: str
    revision: str
    filename: str
    sha256: str
    title: str
    base_model: str
    trigger_word: str
    licence: str


def endpoint() -> str:
    """Where the Hub is, read when asked: huggingface_hub's own constant is frozen at its import."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def api(token: SecretStr | None = None) -> HfApi:
    """A client that uses this token or none at all, never one that happens to lie on the machine."""
    return HfApi(endpoint=endpoint(), token=token.get_secret_value() if token else False, library_name="lora-studio")


def read_token(text: str) -> SecretStr:
    """What a person typed or pasted. Refused here if it could not be a header: the HTTP client would quote it in its error."""
    plain = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]{8,4096}", plain):
        raise StudioError(f"That is not a Hub token: one starts with hf_ and has no spaces. Copy it again from {endpoint()}/settings/tokens.")
    return SecretStr(plain)


def check_repo_id(repo_id: str) -> str:
    """`owner/name`, before anything is sent."""
    plain = repo_id.strip()
    try:
        validate_repo_id(plain)
    except errors.HFValidationError:
        plain = ""
    if plain.count("/") != 1:
        raise StudioError(f"{repo_id[:100]!r} is not the id of a Hub repository; ids look like owner/name, with letters, digits, '-', '_' and '.'.")
    return plain


@contextmanager
def sentences(doing: str, repo_id: str = "") -> Iterator[None]:
    """Turn whatever the Hub or the network says inside this block into one sentence, begun with what was being done."""
    try:
        yield
    except HUB_ERRORS as error:
        raise StudioError(f"{doing} did not work. {explain(error, repo_id)}") from error


def explain(error: Exception, repo_id: str = "") -> str:
    """What a failure means and what to do about it. Subclasses come before their bases: gated is also "not found"."""
    named = repo_id or "The repository"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.RevisionResolutionError)) and isinstance(error.__cause__, HUB_ERRORS):
        return explain(error.__cause__, repo_id)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "The studio is set to work offline (HF_HUB_OFFLINE=1); start it without that to use the Hub."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"The Hub ({endpoint()}) cannot be reached and {named} is not on this computer yet; try again with a network."
    if isinstance(error, httpx.TimeoutException):
        return f"The Hub ({endpoint()}) did not answer in time; nothing is lost, try again in a minute."
    if isinstance(error, (httpx.TransportError, errors.RevisionResolutionError)):
        return f"The Hub ({endpoint()}) cannot be reached; check the network and try again."
    if isinstance(error, errors.FileMetadataError):
        return f"The address {endpoint()} answers, but not as a Hub does; check HF_ENDPOINT or the proxy."
    if isinstance(error, errors.HFValidationError):
        return f"{repo_id[:100]!r} is not the id of a Hub repository; ids look like owner/name."
    if isinstance(error, errors.GatedRepoError):
        return f"{named} is open only to people who accepted its terms: open {endpoint()}/{repo_id}, accept them, and use your token here."
    if isinstance(error, errors.DisabledRepoError):
        return f"{named} has been disabled on the Hub; choose another one."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{named} has no such revision; leave the revision empty for the newest one."
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{named} has no such file; look at {endpoint()}/{repo_id}/tree/main for its files."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{named} is not on the Hub under that name, or it is private and your token cannot see it; check the spelling or add a token."
    if status == 401:
        return f"The Hub does not accept this token (expired or mistyped); make a new one at {endpoint()}/settings/tokens and use that."
    if status == 402:
        return "The Hub asks for a paid plan for this; choose a public repository or free some space there."
    if status == 403:
        return f"The token has no right to do this with {named}; it needs write access: {endpoint()}/settings/tokens."
    if status == 409:
        return f"{named} already exists; choose another name."
    if status == 412:
        return f"{named} was changed by somebody else at the same moment; nothing was overwritten. Look at it and publish again."
    if status == 413:
        return "The Hub says that this is too large."
    if status == 429:
        return f"The Hub asks to wait{_wait_hint(error)} (too many requests); try again then."
    if status >= 500:
        return f"The Hub has a problem of its own (error {status}); nothing is lost, try again in a few minutes."
    said = " ".join(str(getattr(error, "server_message", None) or "").split())[:200]
    return f"The Hub refused (error {status}){': ' + said if said else ''}."


def is_passing(error: Exception) -> bool:
    """True for failures that may be gone in a moment: the network, a timeout, 408, 429 and 5xx."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def seconds_to_wait(error: Exception) -> int | None:
    """How long a 429 asks to wait, from RateLimit or Retry-After; None when it does not say."""
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    headers = error.response.headers
    match = re.search(r";\s*t=(\d+)", headers.get("RateLimit", "")) or re.fullmatch(r"(\d+)", headers.get("Retry-After", ""))
    return int(match[1]) if match else None


def whoami(token: SecretStr) -> Account:
    """Who this token belongs to and where it may write."""
    with sentences("Asking the Hub who you are"):
        return account(api(token).whoami())


def account(facts: dict) -> Account:
    """The Hub's answer to whoami, read."""
    access = facts.get("auth", {}).get("accessToken", {})
    organisations = tuple(org["name"] for org in facts.get("orgs", []) if org.get("roleInOrg") != "read")
    writable = None
    if access.get("role") == "fineGrained":
        scopes = access.get("fineGrained", {}).get("scoped", [])
        writable = tuple(scope["entity"]["name"] for scope in scopes if "repo.write" in scope.get("permissions", []))
    return Account(facts["name"], organisations, access.get("role", ""), writable)


def resolve(repo_id: str, revision: str | None = None, token: SecretStr | None = None) -> str:
    """The 40-digit commit behind a branch, a tag or nothing. Without a network: the one that is on this computer."""
    with sentences(f"Looking up {repo_id}", repo_id):
        return api(token).resolve_revision(check_repo_id(repo_id), revision=revision or None).resolved


def download_model(
    repo_id: str, patterns: Iterable[str], revision: str | None = None, token: SecretStr | None = None, on_progress: Progress | None = None
) -> Snapshot:
    """The files of a repository that match, at one exact commit. Files already here are not fetched again."""
    sha = resolve(repo_id, revision, token)
    with sentences(f"Fetching {repo_id}", repo_id):
        folder = huggingface_hub.snapshot_download(
            check_repo_id(repo_id),
            revision=sha,
            allow_patterns=list(patterns),
            token=token.get_secret_value() if token else False,
            endpoint=endpoint(),
            tqdm_class=_counter(on_progress),
        )
    return Snapshot(Path(folder), sha)


def download_adapter(
    repo_id: str,
    revision: str | None = None,
    filename: str | None = None,
    token: SecretStr | None = None,
    on_progress: Progress | None = None,
) -> Download:
    """One .safetensors of a repository, at one exact commit, its bytes compared with what the Hub says they are."""
    repo_id = check_repo_id(repo_id)
    with sentences(f"Looking up {repo_id}", repo_id):
        info = api(token).model_info(repo_id, revision=revision or None, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or []}
    chosen = _choose(repo_id, list(files), filename)
    size = files[chosen].size or 0
    if size > LARGEST_ADAPTER:
        raise StudioError(f"{chosen} in {repo_id} is {size / 1e9:.1f} GB; a LoRA is at most {LARGEST_ADAPTER / 1e9:.0f} GB, so it is a whole model.")

    def fetch(again: bool) -> Path:
        with sentences(f"Fetching {repo_id}", repo_id):
            return Path(
                huggingface_hub.hf_hub_download(
                    repo_id,
                    chosen,
                    revision=info.sha,
                    token=token.get_secret_value() if token else False,
                    endpoint=endpoint(),
                    force_download=again,
                    tqdm_class=_counter(on_progress),
                )
            )

    path = fetch(again=False)
    if not _is_that(path, files[chosen]):
        path = fetch(again=True)
        if not _is_that(path, files[chosen]):
            raise StudioError(f"{chosen} from {repo_id} arrived damaged twice (its checksum differs); it was not added. Try again later.")
    card = info.card_data.to_dict() if info.card_data else {}
    base = card.get("base_model") or ""
    return Download(
        path=path,
        repo_id=repo_id,
        revision=info.sha,
        filename=chosen,
        sha256=_sha256(path),
        title=repo_id.split("/")[1],
        base_model=(base[0] if base else "") if isinstance(base, list) else str(base),
        trigger_word=str(card.get("instance_prompt") or ""),
        licence=str(card.get("license") or ""),
    )


def git_blob_id(data: bytes) -> str:
    """What git, and so the Hub, calls a regular file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _choose(repo_id: str, names: list[str], filename: str | None) -> str:
    loras = sorted(name for name in names if name.endswith(".safetensors"))
    if filename:
        if filename not in loras:
            raise StudioError(f"{repo_id} has no LoRA file {filename!r}; it has: {', '.join(loras[:8]) or 'none'}.")
        return filename
    if WEIGHTS_NAME in loras:
        return WEIGHTS_NAME
    if len(loras) == 1:
        return loras[0]
    if loras:
        raise StudioError(f"{repo_id} has {len(loras)} files; say which one: {', '.join(loras[:8])}{' ...' if len(loras) > 8 else ''}.")
    if any(name.endswith(PICKLES) for name in names):
        raise StudioError(f"{repo_id} has only pickle files, which can run programs when opened; the studio opens .safetensors only.")
    raise StudioError(f"{repo_id} has no .safetensors file, so there is no LoRA in it to add.")


def _is_that(path: Path, listed: huggingface_hub.hf_api.RepoSibling) -> bool:
    if listed.lfs is not None:
        return _sha256(path) == listed.lfs.sha256
    return git_blob_id(path.read_bytes()) == listed.blob_id


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wait_hint(error: errors.HfHubHTTPError) -> str:
    seconds = seconds_to_wait(error)
    return f" {seconds} seconds" if seconds else " a little"


def _counter(on_progress: Progress | None) -> type[hub_tqdm]:
    """A progress bar that draws nothing and reports bytes. snapshot_download makes several; only bars in bytes count."""

    class Counter(hub_tqdm):
        def __init__(self, *args, unit: str = "it", name: str | None = None, disable: bool | None = None, **kwargs):
            super().__init__(*args, unit=unit, disable=True, **kwargs)
            # A disabled bar keeps neither; "transfer" counts network bytes, which would count every byte twice.
            self.counts = unit == "B" and not (name or "").endswith(".transfer")
            self.total, self.n = kwargs.get("total") or 0, kwargs.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counts and on_progress:
                on_progress(int(self.n), int(max(self.total or 0, self.n)))

    return Counter
