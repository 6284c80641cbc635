"""Messages for errors of the Hub and the network, each with what to do."""

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
    """The Hub's address, read at each call: huggingface_hub's own constant is fixed at import."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextmanager
def translated_errors(doing: str, repo_id: str = "") -> Iterator[None]:
    """Convert errors of the Hub and the network inside this block to a StudioError that starts with `doing`."""
    try:
        yield
    except HUB_ERRORS as error:
        raise StudioError(f"{doing} failed. {explain(error, repo_id)}") from error


def explain(error: Exception, repo_id: str = "") -> str:
    """The cause of an error and what to do. Subclasses are checked before their bases: gated is also "not found"."""
    named = repo_id or "The repository"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.RevisionResolutionError)) and isinstance(error.__cause__, HUB_ERRORS):
        return explain(error.__cause__, repo_id)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "The studio is set to work offline (HF_HUB_OFFLINE=1); start it without that to use the Hub."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"The Hub ({endpoint()}) cannot be reached and {named} is not on this computer; try again when you are online."
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
        return f"The Hub does not accept this token (expired or mistyped); create a new one at {endpoint()}/settings/tokens."
    if status == 402:
        return "The Hub requires a paid plan for this; choose a public repository or free some space there."
    if status == 403:
        return f"The token has no right to do this with {named}; it needs write access: {endpoint()}/settings/tokens."
    if status == 409:
        return f"{named} already exists; choose another name."
    if status == 412:
        return f"{named} was changed at the same time by another upload; nothing was overwritten. Look at it and publish again."
    if status == 413:
        return "The Hub rejected the upload as too large."
    if status == 429 and isinstance(error, errors.HfHubHTTPError):
        return f"The Hub requires a wait of{_wait_hint(error)} (too many requests); try again then."
    if status >= 500:
        return f"The Hub has an internal problem (error {status}); nothing is lost, try again in a few minutes."
    message = " ".join(str(getattr(error, "server_message", None) or "").split())[:200]
    return f"The Hub rejected the request (error {status}){': ' + message if message else ''}."


def is_transient(error: Exception) -> bool:
    """Whether a retry may help: network errors, timeouts, 408, 429 and 5xx."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def seconds_to_wait(error: Exception) -> int | None:
    """Seconds to wait after a 429, from RateLimit or Retry-After; None if not given."""
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    headers = error.response.headers
    match = re.search(r";\s*t=(\d+)", headers.get("RateLimit", "")) or re.fullmatch(r"(\d+)", headers.get("Retry-After", ""))
    return int(match[1]) if match else None


def _wait_hint(error: errors.HfHubHTTPError) -> str:
    seconds = seconds_to_wait(error)
    return f" {seconds} seconds" if seconds else " a moment"
