"""Images that jobs ask of a training process, as files in the folder `draw` of its run. No torch.

    <key>.request  what to draw; the training process deletes it when it begins
    <key>.progress  {"done", "total", "message"}
    <key>.result  {"result": of the job} or {"error": message}
    <key>.cancel  empty; asks to stop this image

The worker writes requests and cancellations and reads the rest. A key names one attempt of one job, and keys sort by age.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from studio.core.workspace import Workspace, write_atomically
from studio.runs.run import Run

ENDINGS = ("request", "progress", "result", "cancel")


@dataclass(frozen=True)
class ImageRequest:
    """Images for the owner of a workspace, which may be another than the run's."""

    key: str
    workspace: Workspace
    payload: dict


class ImageRequests:
    """The requests of one run."""

    def __init__(self, run: Run):
        self.folder = run.path / "draw"

    # The worker's side.

    def submit(self, key: str, workspace: Workspace, payload: dict) -> None:
        self.folder.mkdir(exist_ok=True)
        self._write(f"{key}.request", {"root": str(workspace.root), "owner": workspace.owner, "payload": payload})

    def cancel(self, key: str) -> None:
        (self.folder / f"{key}.cancel").touch()

    def progress(self, key: str) -> dict | None:
        """The newest progress; None before the training process begins."""
        return self._read(f"{key}.progress")

    def result(self, key: str) -> dict | None:
        """The outcome; None before the end."""
        return self._read(f"{key}.result")

    def forget(self, key: str) -> None:
        """Delete the files of an attempt that has ended."""
        for ending in ENDINGS:
            (self.folder / f"{key}.{ending}").unlink(missing_ok=True)

    def cancel_all(self) -> None:
        """Cancel what a worker that died had asked for."""
        for key in {path.stem for path in self._files()}:
            self.cancel(key)

    def clear(self) -> None:
        """Delete all files, once no process trains the run: they contain prompts."""
        for path in self._files():
            path.unlink(missing_ok=True)

    # The training process's side.

    @property
    def pending(self) -> list[str]:
        """Keys of the requests that have not begun, oldest first."""
        return sorted(path.stem for path in self._files() if path.suffix == ".request")

    def take(self) -> ImageRequest | None:
        """The oldest request, which is deleted; None without any. Cancelled ones are skipped."""
        for key in self.pending:
            asked = self._read(f"{key}.request")
            if asked is None or self.cancelled(key):
                self.forget(key)
                continue
            (self.folder / f"{key}.request").unlink(missing_ok=True)
            return ImageRequest(key, Workspace(Path(asked["root"]), asked["owner"]), asked["payload"])
        return None

    def cancelled(self, key: str) -> bool:
        return (self.folder / f"{key}.cancel").exists()

    def report(self, key: str, done: int, total: int, message: str) -> None:
        self._write(f"{key}.progress", {"done": done, "total": total, "message": message})

    def finish(self, key: str, outcome: dict) -> None:
        """Write the outcome, unless the image was cancelled."""
        if self.cancelled(key):
            self.forget(key)
        else:
            self._write(f"{key}.result", outcome)

    def _files(self) -> list[Path]:
        # Without those that are being written.
        return [path for path in self.folder.iterdir() if not path.name.startswith(".")] if self.folder.exists() else []

    def _read(self, name: str) -> dict | None:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _write(self, name: str, values: dict) -> None:
        write_atomically(self.folder / name, json.dumps(values).encode())
