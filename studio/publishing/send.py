"""Sending a release to the Hub: private repository -> one commit with its parent -> compare every byte -> public, if asked.

Each step can be repeated: whatever broke, publishing again goes on where it stopped, with neither a second commit nor a second
upload. A failure that may have worked (a lost answer) is looked up before anything is tried again.
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
from studio.jobs.progress import Report
from studio.jobs.queue import Job
from studio.publishing.plan import CARD, STUDIO_FILE, Plan, PlannedFile, Request, plan
from studio.publishing.snippets import call_code

GIT_ID = re.compile(r"[0-9a-f]{40}")
TRIES = 4
LONGEST_WAIT_SECONDS = 120


@dataclass(frozen=True)
class Published:
    """Where it is now. `code` is plain diffusers code pinned to this commit."""

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
    """The newest commit of a repository: path -> sha256 of a large file or git id of a regular one."""

    commit: str
    files: dict[str, str]
    private: bool

    def holds(self, file: PlannedFile) -> bool:
        known = self.files.get(file.path, "")
        return known == (file.git_id if GIT_ID.fullmatch(known) else file.sha256)


def publish_job(home: Home, job: Job, report: Report, secret: bytes | None) -> dict:
    """What a publish job runs; the token comes in through a pipe and stays in this process."""
    if not secret:
        raise StudioError("Publishing needs a Hub token with write access; add one, or save the folder or zip instead.")
    made = plan(home.workspace(job.owner), Request.model_validate(job.payload))
    return publish(made, client.read_token(secret.decode()), report).to_result()


def publish(made: Plan, token: SecretStr, on_progress: OnProgress) -> Published:
    """Send it. Raises StudioError with a plain sentence; what was already sent then stays private on the Hub."""
    made.check()
    progress = Progress(on_progress)
    progress.step(0, "Asking the Hub who you are")
    api = client.api(token)
    account = client.account(_patiently(api.whoami, progress, "Asking the Hub who you are", ""))
    repo_id = client.check_repo_id(made.repo_id if "/" in made.repo_id else f"{account.name}/{made.repo_id}")
    if refusal := account.refusal(repo_id.split("/")[0]):
        raise StudioError(refusal)
    sending = _Sending(made.at(repo_id), api, progress)
    progress.step(5, "Making the repository")
    sending.make_repository()
    progress.step(BEFORE_UPLOAD, "Sending the files")
    commit = sending.commit()
    progress.step(AFTER_UPLOAD, "Comparing every byte")
    sending.verify(commit)
    progress.step(95, "Done, it stays private" if made.request.private else "Making it public")
    private = sending.set_visibility()
    progress.step(100, "Published")
    notes = [*made.notes, *sending.notes]
    return Published(page(repo_id), commit, repo_id, private, notes, call_code(sending.plan.about, here=True, revision=commit))


def page(repo_id: str) -> str:
    """The address of a repository's page, where "Try it" leads."""
    return f"{client.endpoint()}/{repo_id}"


def _patiently(action: Callable, progress: Progress, doing: str, repo_id: str):
    """Do something that may be repeated safely; passing failures get a few more tries, with the wait the Hub asks for."""
    attempt = 0
    while True:
        try:
            return action()
        except HUB_ERRORS as error:
            _wait_or_raise(error, attempt, progress, doing, repo_id)
        attempt += 1


def _wait_or_raise(error: Exception, attempt: int, progress: Progress, doing: str, repo_id: str) -> None:
    asked = seconds_to_wait(error)
    seconds = 2**attempt if asked is None else asked + 1
    if attempt == TRIES - 1 or not is_transient(error) or seconds > LONGEST_WAIT_SECONDS:
        raise StudioError(f"{doing} did not work. {explain(error, repo_id)}") from error
    for left in range(seconds, 0, -1):
        progress.say(f"The Hub is busy; trying again in {left} s")
        time.sleep(1)


class _Sending:
    """One attempt to bring a plan to a repository: what was found there, and what had to be said about it."""

    def __init__(self, made: Plan, api: HfApi, progress: Progress):
        self.plan = made
        self.api = api
        self.progress = progress
        self.repo_id = made.repo_id
        self.files = made.files
        self.outdated: list[str] = []
        self.notes: list[str] = []

    def make_repository(self) -> None:
        """A new private repository, or an existing one that this very work may go into; never anybody's other work."""

        def create() -> bool:
            try:
                self.api.create_repo(self.repo_id, private=True)
            except HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
                return False
            return True

        if self._patiently(create, "Making the repository"):
            return
        head = self.look()
        present = [path for path in head.files if path != ".gitattributes"]
        if present:
            self._accept_existing(head)
        elif self.plan.request.private and not head.private:
            raise StudioError(f"{self.repo_id} already exists, empty and public; make it private on its page, or choose another name.")

    def _accept_existing(self, head: Head) -> None:
        before = self._studio_file(head)
        if before.get("work") != self.plan.work:
            raise StudioError(f"{self.repo_id} already exists and holds something else; nothing was changed there. Choose another name.")
        if all(head.holds(file) for file in self.files):
            return
        if self.plan.request.private and not head.private:
            raise StudioError(
                f"{self.repo_id} is public, and you chose private; nothing was sent. "
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
            self.notes.append("The card was edited on the Hub; that edit was kept, and the new card was not sent.")

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

        return self._patiently(fetch, f"Reading {path}")

    def look(self, revision: str | None = None) -> Head:
        """What the repository holds now, as the Hub reports it."""

        def ask() -> Head:
            info = self.api.model_info(self.repo_id, revision=revision, files_metadata=True)
            files = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or []}
            return Head(info.sha, files, bool(info.private))

        return self._patiently(ask, "Looking at the repository")

    def commit(self) -> str:
        """One commit of every file. Before each try the head is looked at, so that a lost answer never leads to a second commit."""
        parent = self.look()
        attempt = 0
        while True:
            if all(parent.holds(file) for file in self.files) and not any(path in parent.files for path in self.outdated):
                return parent.commit
            try:
                return self._send(parent.commit)
            except HUB_ERRORS as error:
                self._after_failure(error, attempt)
            except (RuntimeError, json.JSONDecodeError) as error:
                # LFS uploads wrap the real error; a 5xx page that is not JSON breaks the client's check of the card.
                cause = error.__cause__ if isinstance(error, RuntimeError) else httpx.NetworkError(str(error))
                if not isinstance(cause, HUB_ERRORS):
                    raise cause or error from None
                self._after_failure(cause, attempt)
            parent = self._rebased(parent)
            attempt += 1

    def _send(self, parent: str) -> str:
        # huggingface_hub changes these objects as it goes, so every try needs new ones.
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
            raise StudioError(f"The Hub does not accept the files: {error}") from error

    def _after_failure(self, error: Exception, attempt: int) -> None:
        """412 says that somebody else was faster: look again. Passing failures wait. Everything else ends here."""
        moved = isinstance(error, HfHubHTTPError) and error.response.status_code == 412
        if not moved or attempt == TRIES - 1:
            _wait_or_raise(error, attempt, self.progress, "Sending the files", self.repo_id)

    def _rebased(self, before: Head) -> Head:
        """The head now. Somebody else's commit is fine as long as it left alone what we are about to write."""
        now = self.look()
        if now.commit == before.commit or all(now.holds(file) for file in self.files):
            return now
        mine = {file.path for file in self.files} | set(self.outdated)
        if any(now.files.get(path) != before.files.get(path) for path in mine):
            raise StudioError(f"{self.repo_id} was changed by somebody else meanwhile; nothing was overwritten. Look at it, then publish again.")
        return now

    def verify(self, commit: str) -> None:
        """Compare what the Hub says it has with what was meant, file by file."""
        head = self.look(commit)
        wrong = [file.path for file in self.files if not head.holds(file)]
        if wrong:
            state = "It stays private." if head.private else "Look at it at once."
            raise StudioError(f"The Hub has other bytes than were sent for {', '.join(wrong)} in {self.repo_id}. {state} Publish again.")

    def set_visibility(self) -> bool:
        """Public only if asked, and only now. Returns whether it is private."""
        head = self.look()
        if self.plan.request.private:
            if not head.private:
                self.notes.append(f"{self.repo_id} is public and stays so; change that in its settings on the Hub.")
            return head.private
        if head.private:
            self._patiently(lambda: self.api.update_repo_settings(self.repo_id, private=False), "Making it public")
            if self.look().private:
                raise StudioError(f"Everything is in {self.repo_id}, but the Hub kept it private; make it public in its settings there.")
        return False

    def _patiently(self, action: Callable, doing: str):
        return _patiently(action, self.progress, doing, self.repo_id)
