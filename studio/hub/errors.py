"""What the Hub's refusals and the network's failures mean: one sentence each, with what to do. The only table of its kind."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors
from huggingface_hub.utils import httpx

from studio.core.errors import StudioError

LOG_IN = "log in (`hf auth login` on your own computer, the sign-in button on a Space)"
HUB_ERRORS = (
    errors.HfHubHTTPError,
    errors.HFValidationError,
    errors.OfflineModeIsEnabled,
    errors.LocalEntryNotFoundError,
    errors.RevisionResolutionError,
    errors.FileMetadataError,
    httpx.TransportError,
)


def endpoint() -> str:
    """Where the Hub is, read when asked: huggingface_hub's own constant is frozen at its import."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


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
        return f"{named} is open only to people who accepted its terms: open {endpoint()}/{repo_id}, accept them, then {LOG_IN}."
    if isinstance(error, errors.DisabledRepoError):
        return f"{named} has been disabled on the Hub; choose another one."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{named} has no such revision; leave the revision empty for the newest one."
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{named} has no such file; look at {endpoint()}/{repo_id}/tree/main for its files."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{named} is not on the Hub under that name, or it is private and your token cannot see it; check the spelling, or {LOG_IN}."
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


def _wait_hint(error: errors.HfHubHTTPError) -> str:
    seconds = seconds_to_wait(error)
    return f" {seconds} seconds" if seconds else " a little"
