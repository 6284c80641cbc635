"""Upload to the Hub: private repository -> one commit with its parent -> verify hashes -> public, if requested.

Each step is idempotent: after any failure, publishing again resumes where it stopped, without a second commit or a second
upload. After a failure that may have succeeded (a lost response), the repository is read before the step is retried.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from huggingface_hub import CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx
from pydantic import SecretStr

from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.hub import client
from studio.hub.errors import HUB_ERRORS, explain, is_transient, seconds_to_wait
from studio.hub.upload import AFTER_UPLOAD, BEFORE_UPLOAD, CountedAdd, OnProgress, Progress
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Job
from studio.publishing.plan import CARD, STUDIO_FILE, Plan, PlannedFile, Request, plan
from studio.publishing.snippets import diffusers_code

GIT_ID = re.compile(r"[0-9a-f]{40}")
TRIES = 4
LONGEST_WAIT_SECONDS = 120


@dataclass(frozen=True)
class Published:
    """Result of a publication. `code` is plain diffusers code pinned to this commit."""

    url: str
    commit: str
    repo_id: str
    private: bool
    notes: list[str]
    code: str

    def to_result(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Head:
    """Newest commit of a repository; `files` maps a path to the sha256 of a large file or the git id of a regular one."""

    commit: str
    files: dict[str, str]
    private: bool

    def holds(self, file: PlannedFile) -> bool:
        known = self.files.get(file.path, "")
        return known == (file.git_id if GIT_ID.fullmatch(known) else file.sha256)


def publish_job(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """Run a publish job; the token is read from a pipe and stays in this process."""
    if not secret:
        raise StudioError("Publishing needs a Hub token with write access; add one, or save the folder or zip instead.")
    release = plan(home.workspace(job.owner), Request.model_validate(job.payload))
    return publish(release, client.read_token(secret.decode()), report).to_result()


def publish(release: Plan, token: SecretStr, on_progress: OnProgress) -> Published:
    """Upload the files. On StudioError, files that were already uploaded stay private on the Hub."""
    release.check()
    progress = Progress(on_progress)
    progress.step(0, "Checking the token")
    api = client.api(token)
    account = client.account(_with_retries(api.whoami, progress, "Checking the token", ""))
    repo_id = client.check_repo_id(release.repo_id if "/" in release.repo_id else f"{account.name}/{release.repo_id}")
    if refusal := account.refusal(repo_id.split("/")[0]):
        raise StudioError(refusal)
    upload = _Upload(release.at(repo_id), api, progress)
    progress.step(5, "Creating the repository")
    upload.make_repository()
    progress.step(BEFORE_UPLOAD, "Sending the files")
    commit = upload.commit()
    progress.step(AFTER_UPLOAD, "Verifying the files")
    upload.verify(commit)
    progress.step(95, "Done, the repository stays private" if release.request.private else "Making the repository public")
    private = upload.set_visibility()
    progress.step(100, "Published")
    notes = [*release.notes, *upload.notes]
    return Published(page(repo_id), commit, repo_id, private, notes, diffusers_code(upload.plan.facts, local=True, revision=commit))


def page(repo_id: str) -> str:
    """URL of a repository's page, the target of "Try it"."""
    return f"{client.endpoint()}/{repo_id}"


def _with_retries(action: Callable, progress: Progress, doing: str, repo_id: str):
    """Call an idempotent action; transient failures are retried after the delay requested by the Hub."""
    attempt = 0
    while True:
        try:
            return action()
        except HUB_ERRORS as error:
            _wait_or_raise(error, attempt, progress, doing, repo_id)
        attempt += 1


def _wait_or_raise(error: Exception, attempt: int, progress: Progress, doing: str, repo_id: str) -> None:
    requested = seconds_to_wait(error)
    seconds = 2**attempt if requested is None else requested + 1
    if attempt == TRIES - 1 or not is_transient(error) or seconds > LONGEST_WAIT_SECONDS:
        raise StudioError(f"{doing} failed. {explain(error, repo_id)}") from error
    for left in range(seconds, 0, -1):
        progress.say(f"The Hub is busy; retrying in {left} s")
        time.sleep(1)


class _Upload:
    """One attempt to upload a plan to a repository; `outdated` are files to delete there, `notes` are shown to the user."""

    def __init__(self, release: Plan, api: HfApi, progress: Progress):
        self.plan = release
        self.api = api
        self.progress = progress
        self.repo_id = release.repo_id
        self.files = release.files
        self.outdated: list[str] = []
        self.notes: list[str] = []

    def make_repository(self) -> None:
        """Create a private repository, or accept an existing one with an earlier version of this LoRA; never one with other content."""

        def create() -> bool:
            try:
                self.api.create_repo(self.repo_id, private=True)
            except HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
                return False
            return True

        if self._with_retries(create, "Creating the repository"):
            return
        head = self.read_head()
        present = [path for path in head.files if path != ".gitattributes"]
        if present:
            self._accept_existing(head)
        elif self.plan.request.private and not head.private:
            raise StudioError(f"{self.repo_id} already exists, empty and public; make it private in its settings on the Hub, or choose another name.")

    def _accept_existing(self, head: Head) -> None:
        before = self._studio_file(head)
        if before.get("work") != self.plan.work:
            raise StudioError(f"{self.repo_id} already exists with other content; nothing was changed there. Choose another name.")
        if all(head.holds(file) for file in self.files):
            return
        if self.plan.request.private and not head.private:
            raise StudioError(
                f"{self.repo_id} is public, and you chose private; nothing was uploaded. "
                "Make it private in its settings on the Hub first, choose public, or choose another name."
            )
        if not self.plan.request.update:
            raise StudioError(f"This LoRA is already published as {self.repo_id}. Choose 'update' to add this version to it, or another name.")
        sent = before.get("files", {})
        planned = {file.path for file in self.files}
        self.outdated = [path for path in sent if path in head.files and path not in planned]
        card = next(file for file in self.files if file.path == CARD)
        if CARD in head.files and not head.holds(card) and hashlib.sha256(self._read(head, CARD)).hexdigest() != sent.get(CARD):
            self.files = [file for file in self.files if file.path != CARD]
            self.notes.append("The model card was edited on the Hub; the edited card was kept, and the new one was not uploaded.")

    def _studio_file(self, head: Head) -> dict:
        if STUDIO_FILE not in head.files:
            return {}
        try:
            facts = json.loads(self._read(head, STUDIO_FILE))
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}

    def _read(self, head: Head, path: str) -> bytes:
        def fetch() -> bytes:
            with open(self.api.hf_hub_download(self.repo_id, path, revision=head.commit), "rb") as file:
                return file.read()

        return self._with_retries(fetch, f"Reading {path}")

    def read_head(self, revision: str | None = None) -> Head:
        """Current state of the repository, as reported by the Hub."""

        def ask() -> Head:
            info = self.api.model_info(self.repo_id, revision=revision, files_metadata=True)
            files = {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in info.siblings or []}
            return Head(client.commit_of(info), files, bool(info.private))

        return self._with_retries(ask, "Reading the repository")

    def commit(self) -> str:
        """Upload all files in one commit. The head is read before each attempt, so that a lost response never leads to a second commit."""
        parent = self.read_head()
        attempt = 0
        while True:
            if all(parent.holds(file) for file in self.files) and not any(path in parent.files for path in self.outdated):
                return parent.commit
            try:
                return self._send(parent.commit)
            except HUB_ERRORS as error:
                self._after_failure(error, attempt)
            except (RuntimeError, json.JSONDecodeError) as error:
                # LFS uploads wrap the real error; a 5xx page that is not JSON breaks the client's validation of the card.
                cause = error.__cause__ if isinstance(error, RuntimeError) else httpx.NetworkError(str(error))
                if not isinstance(cause, HUB_ERRORS):
                    raise cause or error from None
                self._after_failure(cause, attempt)
            parent = self._rebased(parent)
            attempt += 1

    def _send(self, parent: str) -> str:
        # huggingface_hub changes these objects, so every attempt needs new ones.
        self.progress.sending(sum(file.size for file in self.files))
        adds = [CountedAdd(file.path, file.content).counted_by(self.progress) for file in self.files]
        deletes = [CommitOperationDelete(path) for path in self.outdated]
        title = "Add the LoRA" if not self.outdated and not self.plan.request.update else "Update the LoRA"
        try:
            return self.api.create_commit(self.repo_id, [*adds, *deletes], commit_message=title, parent_commit=parent).oid
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            if isinstance(error, HUB_ERRORS):
                raise
            raise StudioError(f"The Hub rejected the files: {error}") from error

    def _after_failure(self, error: Exception, attempt: int) -> None:
        """After 412 (the head has moved) continue at once; wait after transient failures; raise all others."""
        moved = isinstance(error, HfHubHTTPError) and error.response.status_code == 412
        if not moved or attempt == TRIES - 1:
            _wait_or_raise(error, attempt, self.progress, "Sending the files", self.repo_id)

    def _rebased(self, before: Head) -> Head:
        """The current head. Commits by others are accepted if they did not change a file that we are about to write."""
        head = self.read_head()
        if head.commit == before.commit or all(head.holds(file) for file in self.files):
            return head
        ours = {file.path for file in self.files} | set(self.outdated)
        if any(head.files.get(path) != before.files.get(path) for path in ours):
            raise StudioError(f"{self.repo_id} was changed by someone else during the upload; nothing was overwritten. Check it, then publish again.")
        return head

    def verify(self, commit: str) -> None:
        """Compare the hashes reported by the Hub with those of the local files."""
        head = self.read_head(commit)
        wrong = [file.path for file in self.files if not head.holds(file)]
        if wrong:
            state = "It stays private." if head.private else "It is public: check it now."
            raise StudioError(f"{self.repo_id} on the Hub differs from the uploaded files: {', '.join(wrong)}. {state} Publish again.")

    def set_visibility(self) -> bool:
        """Make the repository public if requested. Returns whether it is private."""
        head = self.read_head()
        if self.plan.request.private:
            if not head.private:
                self.notes.append(f"{self.repo_id} is public and stays public; you can change that in its settings on the Hub.")
            return head.private
        if head.private:
            self._with_retries(lambda: self.api.update_repo_settings(self.repo_id, private=False), "Making the repository public")
            if self.read_head().private:
                raise StudioError(f"All files are in {self.repo_id}, but the Hub kept it private; make it public in its settings on the Hub.")
        return False

    def _with_retries(self, action: Callable, doing: str):
        return _with_retries(action, self.progress, doing, self.repo_id)
