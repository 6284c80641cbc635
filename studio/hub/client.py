"""Client for the Hugging Face Hub: accounts and downloads. No other module calls the Hub, except for publishing.

Every failure becomes a StudioError with what happened and what to do (errors.py). A token is a SecretStr as soon as it is read, so that no repr,
log line or traceback shows it.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, ModelInfo, errors, try_to_load_from_cache
from huggingface_hub.utils import filter_repo_objects, httpx, set_client_factory, validate_repo_id
from huggingface_hub.utils import tqdm as hub_tqdm
from huggingface_hub.utils._http import default_client_factory
from pydantic import SecretStr

from studio.core.access import Access
from studio.core.errors import StudioError
from studio.core.file_types import PICKLE_SUFFIXES
from studio.hub.errors import HUB_ERRORS, endpoint, is_transient, translated_errors

Progress = Callable[[int, int], None]
"""Called with (bytes done, total bytes)."""

SECONDS_TO_CONNECT = 10
SECONDS_OF_SILENCE = 60
SECONDS_TO_CHECK = 5
LARGEST_ADAPTER = 4 * 1024**3
KEPT_FREE = 2 * 10**9
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
COMMIT = re.compile(r"[0-9a-f]{40}")


def _client() -> httpx.Client:
    """HTTP client with timeouts; huggingface_hub 2.4 has none and would wait forever."""
    client = default_client_factory()
    client.timeout = httpx.Timeout(SECONDS_OF_SILENCE, connect=SECONDS_TO_CONNECT)
    return client


set_client_factory(_client)


@dataclass(frozen=True)
class Account:
    """Owner and rights of a token. `role` is the Hub's: read, write, fineGrained, or "" if unknown."""

    name: str
    organisations: tuple[str, ...]
    role: str
    writable: tuple[str, ...] | None
    """Namespaces a fine-grained token may write to; None if the Hub does not list them."""

    def refusal(self, namespace: str) -> str:
        """Why this token cannot write to a namespace; empty if no reason is known."""
        if namespace not in (self.name, *self.organisations):
            known = ", ".join((self.name, *self.organisations))
            return f"The token belongs to {self.name}, who cannot write to {namespace!r}; choose one of: {known}."
        if self.role == "read" or (self.writable is not None and namespace not in self.writable):
            where = f"{endpoint()}/settings/tokens"
            return f"This token can read but not write to {namespace!r}. Create one with write access at {where}."
        return ""


@dataclass(frozen=True)
class Snapshot:
    """A downloaded model: its folder and exact commit."""

    path: Path
    revision: str


@dataclass(frozen=True)
class Download:
    """A downloaded and verified adapter file, with facts from its model card."""

    path: Path
    repo_id: str
    revision: str
    filename: str
    sha256: str
    title: str
    base_model: str
    trigger_word: str
    licence: str


def commit_of(info: ModelInfo) -> str:
    """The commit of a repository's description; StudioError if the Hub reports none, since files of two commits must never be mixed."""
    if info.sha is None:
        raise StudioError(f"The Hub ({endpoint()}) did not report the commit of {info.id}. Try again later.")
    return info.sha


def api(token: SecretStr | None = None) -> HfApi:
    """An API client with this token or none; never with a token stored on the machine."""
    return HfApi(endpoint=endpoint(), token=token.get_secret_value() if token else False, library_name="lora-studio")


def read_token(text: str) -> SecretStr:
    """A token that the user entered. Invalid header values are rejected here, because the HTTP client would quote them in its error."""
    plain = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]{8,4096}", plain):
        raise StudioError(f"This is not a Hub token: tokens start with hf_ and contain no spaces. Copy it again from {endpoint()}/settings/tokens.")
    return SecretStr(plain)


def machine_login() -> SecretStr | None:
    """The Hub login of this computer, for gated bases; None on a Space, where it would not be the visitor's."""
    return Access.from_environment(os.environ).machine_token()


def check_repo_id(repo_id: str) -> str:
    """Validate an id `owner/name` before a request."""
    plain = repo_id.strip()
    try:
        validate_repo_id(plain)
    except errors.HFValidationError:
        plain = ""
    if plain.count("/") != 1:
        raise StudioError(f"{repo_id[:100]!r} is not the id of a Hub repository; ids look like owner/name, with letters, digits, '-', '_' and '.'.")
    return plain


def whoami(token: SecretStr) -> Account:
    """Owner and write access of a token."""
    with translated_errors("Asking the Hub who you are"):
        return account(api(token).whoami())


def account(facts: dict) -> Account:
    """Parse the Hub's whoami response."""
    access = facts.get("auth", {}).get("accessToken", {})
    organisations = tuple(org["name"] for org in facts.get("orgs", []) if org.get("roleInOrg") != "read")
    writable = None
    if access.get("role") == "fineGrained":
        scopes = access.get("fineGrained", {}).get("scoped", [])
        writable = tuple(scope["entity"]["name"] for scope in scopes if "repo.write" in scope.get("permissions", []))
    return Account(facts["name"], organisations, access.get("role", ""), writable)


def resolve(repo_id: str, revision: str | None = None, token: SecretStr | None = None) -> str:
    """The commit hash of a branch, tag or the default branch; offline, the cached one."""
    with translated_errors(f"Looking up {repo_id}", repo_id):
        return api(token).resolve_revision(check_repo_id(repo_id), revision=revision or None).resolved


def check_model(repo_id: str, token: SecretStr | None = None) -> None:
    """StudioError if the Hub has no diffusers model of this id that this token can read. Without an answer nothing is known, which is no error."""
    try:
        with translated_errors(f"Looking up {repo_id}", repo_id):
            info = api(token).model_info(check_repo_id(repo_id), timeout=SECONDS_TO_CHECK)
            if not any(file.rfilename == "model_index.json" for file in info.siblings or []):
                advice = "choose a repository that has one, or download a single .safetensors file and enter its path."
                raise StudioError(f"{repo_id} is not a diffusers model: it has no model_index.json; {advice}")
            api(token).auth_check(check_repo_id(repo_id))
    except StudioError as error:
        if not isinstance(error.__cause__, HUB_ERRORS) or not _has_no_answer(error.__cause__):
            raise


def _has_no_answer(error: Exception) -> bool:
    return is_transient(error) or isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError))


def download_model(
    repo_id: str, patterns: Iterable[str], revision: str | None = None, token: SecretStr | None = None, on_progress: Progress | None = None
) -> Snapshot:
    """Download the matching files of a repository at one exact commit. Cached files are not downloaded again."""
    sha, patterns = resolve(repo_id, revision, token), list(patterns)
    _check_disk_space(check_repo_id(repo_id), sha, patterns, token)
    with translated_errors(f"Fetching {repo_id}", repo_id):
        folder = huggingface_hub.snapshot_download(
            check_repo_id(repo_id),
            revision=sha,
            allow_patterns=patterns,
            token=token.get_secret_value() if token else False,
            endpoint=endpoint(),
            tqdm_class=_counter(on_progress),
        )
    return Snapshot(Path(folder), sha)


def _check_disk_space(repo_id: str, sha: str, patterns: list[str], token: SecretStr | None) -> None:
    """StudioError if the missing files would fill the disk. Queries the Hub only if files are missing."""
    try:
        huggingface_hub.snapshot_download(repo_id, revision=sha, allow_patterns=patterns, local_files_only=True)
        return
    except errors.LocalEntryNotFoundError:
        pass
    try:
        files = api(token).model_info(repo_id, revision=sha, files_metadata=True).siblings or []
    except HUB_ERRORS:
        # The download that follows fails the same way and reports it.
        return
    names = set(filter_repo_objects([file.rfilename for file in files], allow_patterns=patterns))
    missing = [f for f in files if f.rfilename in names and not isinstance(try_to_load_from_cache(repo_id, f.rfilename, revision=sha), str)]
    needed = sum(file.size or 0 for file in missing)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if needed > free - KEPT_FREE:
        raise StudioError(
            f"{repo_id} takes {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free, of which {KEPT_FREE / 1e9:.0f} GB are reserved "
            "for the studio. Free some space, or choose a smaller model."
        )


def download_adapter(
    repo_id: str,
    revision: str | None = None,
    filename: str | None = None,
    token: SecretStr | None = None,
    on_progress: Progress | None = None,
) -> Download:
    """Download one .safetensors file of a repository at one exact commit and verify its checksum."""
    repo_id = check_repo_id(repo_id)
    with translated_errors(f"Looking up {repo_id}", repo_id):
        info = api(token).model_info(repo_id, revision=revision or None, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or []}
    chosen = _choose(repo_id, list(files), filename)
    size = files[chosen].size or 0
    if size > LARGEST_ADAPTER:
        raise StudioError(f"{chosen} in {repo_id} is {size / 1e9:.1f} GB; a LoRA has at most {LARGEST_ADAPTER / 1e9:.0f} GB, so it is a full model.")

    def fetch(again: bool) -> Path:
        with translated_errors(f"Fetching {repo_id}", repo_id):
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
    if not _matches(path, files[chosen]):
        path = fetch(again=True)
        if not _matches(path, files[chosen]):
            raise StudioError(f"{chosen} from {repo_id} was damaged twice in transfer (wrong checksum) and was not added. Try again later.")
    card = info.card_data.to_dict() if info.card_data else {}
    base = card.get("base_model") or ""
    return Download(
        path=path,
        repo_id=repo_id,
        revision=commit_of(info),
        filename=chosen,
        sha256=_sha256(path),
        title=repo_id.split("/")[1],
        base_model=(base[0] if base else "") if isinstance(base, list) else str(base),
        trigger_word=str(card.get("instance_prompt") or ""),
        licence=str(card.get("license") or ""),
    )


def git_blob_id(data: bytes) -> str:
    """The git blob id of a file with these bytes, which the Hub uses for regular files."""
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
        raise StudioError(f"{repo_id} has {len(loras)} files; choose one: {', '.join(loras[:8])}{' ...' if len(loras) > 8 else ''}.")
    if any(name.endswith(PICKLE_SUFFIXES) for name in names):
        raise StudioError(f"{repo_id} has only pickle files, which can run code when opened; the studio opens only .safetensors files.")
    raise StudioError(f"{repo_id} has no .safetensors file, so it contains no LoRA to add.")


def _matches(path: Path, listed: huggingface_hub.hf_api.RepoSibling) -> bool:
    if listed.lfs is not None:
        return _sha256(path) == listed.lfs.sha256
    return git_blob_id(path.read_bytes()) == listed.blob_id


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counter(on_progress: Progress | None) -> type[hub_tqdm]:
    """A tqdm class that displays nothing and reports bytes. snapshot_download creates several; only those in bytes count."""

    class Counter(hub_tqdm):
        def __init__(self, *args, unit: str = "it", name: str | None = None, disable: bool | None = None, **kwargs):
            super().__init__(*args, unit=unit, disable=True, **kwargs)
            # A disabled bar keeps neither. "transfer" counts network bytes and would count every byte twice.
            self.counts = unit == "B" and not (name or "").endswith(".transfer")
            self.total, self.n = kwargs.get("total") or 0, kwargs.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counts and on_progress:
                on_progress(int(self.n), int(max(self.total or 0, self.n)))

    return Counter
