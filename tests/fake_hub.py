"""A Hub for tests: a real HTTP server on 127.0.0.1 that speaks the protocol huggingface_hub 2.4 uses, kept in memory.

It knows users, tokens and organisations, private and gated repositories, commits with parents, LFS uploads, revisions
and ranges; a fault script breaks the n-th matching request. Xet is not spoken: clients need HF_HUB_DISABLE_XET=1,
which `environment()` sets, because huggingface_hub reads HF_ENDPOINT and this switch once, when it is imported.

    with FakeHub() as hub:
        hub.seed_repo("maker/lora", folder)
        subprocess.run([sys.executable, ...], env=hub.environment(hub.token))
        hub.fault(503, path="/commit/", times=1)
"""

import asyncio
import base64
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"
WHEN = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def oid(self) -> str:
        """Git's blob id: of the pointer for a large file, of the bytes for a regular one."""
        data = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def entry(self, path: str) -> dict:
        facts = {"type": "file", "path": path, "oid": self.oid, "size": len(self.data)}
        if self.lfs:
            facts["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return facts

    def sibling(self, path: str) -> dict:
        facts = {"rfilename": path, "size": len(self.data), "blobId": self.oid}
        if self.lfs:
            facts["lfs"] = {"sha256": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return facts


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    author: str
    files: dict[str, Blob]


@dataclass
class Repo:
    id: str
    private: bool = True
    gated: bool = False
    commits: list[Commit] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commit("main")

    def commit(self, revision: str) -> Commit | None:
        wanted = self.refs.get(revision, revision)
        matches = [commit for commit in self.commits if commit.id.startswith(wanted)]
        return matches[0] if len(wanted) >= 7 and len(matches) == 1 else None

    def add(self, files: dict[str, Blob], title: str, author: str, branch: str = "main") -> Commit:
        parent = self.refs.get(branch)
        tree = json.dumps([parent, title, sorted((path, blob.oid) for path, blob in files.items()), len(self.commits)])
        commit = Commit(hashlib.sha1(tree.encode()).hexdigest(), parent, title, author, files)
        self.commits.append(commit)
        self.refs[branch] = commit.id
        return commit

    def card(self) -> dict:
        readme = self.head.files.get("README.md", Blob(b"", False)).data.decode(errors="replace")
        return _front_matter(readme) or {}

    def tags(self) -> list[str]:
        card = self.card()
        tags = [tag for tag in card.get("tags", []) if isinstance(tag, str)]
        tags += [card[key] for key in ("library_name", "pipeline_tag") if key in card]
        tags += [f"license:{card['license']}"] if "license" in card else []
        bases = card.get("base_model", [])
        for base in [bases] if isinstance(bases, str) else bases:
            tags.append(f"base_model:{base}")
            if "base_model_relation" in card:
                tags.append(f"base_model:{card['base_model_relation']}:{base}")
        return tags

    def facts(self, commit: Commit, blobs: bool) -> dict:
        card = self.card()
        siblings = [blob.sibling(path) if blobs else {"rfilename": path} for path, blob in sorted(commit.files.items())]
        facts = {"_id": hashlib.md5(self.id.encode()).hexdigest()[:24], "id": self.id, "modelId": self.id}
        facts |= {"author": self.namespace, "sha": commit.id, "private": self.private, "disabled": False}
        facts |= {"gated": "auto" if self.gated else False, "downloads": 0, "likes": 0, "tags": self.tags()}
        facts |= {"createdAt": WHEN, "lastModified": WHEN, "siblings": siblings, "cardData": card, "spaces": []}
        return facts | {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}


@dataclass(frozen=True)
class User:
    name: str
    role: str
    organisations: tuple[str, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.name, *self.organisations)


@dataclass
class Fault:
    """What happens to requests number `at` .. `at + times - 1` of those that match: a status, "reset" (the connection
    drops before anything is done), "reset after" (it drops when all is done), "timeout" (no answer for `seconds`),
    "late 503" (done, but the answer says 503), "truncate" (half of the answer's bytes), "corrupt" (one byte changed)."""

    kind: int | str
    at: int
    times: int
    method: str | None
    path: str
    seconds: float
    headers: dict[str, str]
    seen: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if (self.method and self.method != method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    user: str | None
    status: int | str


class Refusal(Exception):
    def __init__(self, status: int, error: str, code: str | None = None):
        super().__init__(error)
        headers = {"X-Error-Message": error} | ({"X-Error-Code": code} if code else {})
        self.response = JSONResponse({"error": error}, status, headers=headers)


class FakeHub:
    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.users: dict[str, User] = {}
        self.store: dict[str, bytes] = {}
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.token = self.add_user("maker")
        self.read_token = self.add_token("maker", role="read")
        self.connections: dict[tuple, asyncio.Transport] = {}

    # What tests say

    def __enter__(self) -> "FakeHub":
        # asyncio switches Nagle's delay (40 ms an answer) off only for sockets that name their protocol; create_server's do not.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self, http=self._protocol(), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._app, self._server = Starlette(routes=self._routes()), uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *exc: object) -> None:
        # Not waited for: it looks only ten times a second, and its thread ends with the process at the latest.
        self._server.should_exit = True

    def environment(self, token: str | None = None, cache: Path | None = None) -> dict[str, str]:
        """os.environ for a client process; without a token it is nobody, whatever this machine is logged in as."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        environ |= {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        environ |= {"HF_TOKEN": token} if token else {"HF_TOKEN_PATH": os.devnull}
        return environ | ({"HF_HOME": str(cache)} if cache else {})

    def add_user(self, name: str, organisations: tuple[str, ...] = (), role: str = "write") -> str:
        token = "hf_" + secrets.token_hex(17)
        self.users[token] = User(name, role, organisations)
        return token

    def add_token(self, name: str, role: str) -> str:
        known = next(user for user in self.users.values() if user.name == name)
        return self.add_user(name, known.organisations, role)

    def revoke(self, token: str) -> None:
        del self.users[token]

    def seed_repo(self, repo_id: str, folder: Path, private: bool = False, gated: bool = False) -> str:
        """Put a folder's files into a repository (made if missing) as one commit; returns the commit's id."""
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
        return self.seed_files(repo_id, found, private, gated)

    def seed_files(self, repo_id: str, files: dict[str, bytes], private: bool = False, gated: bool = False) -> str:
        repo = self.repos.setdefault(repo_id, Repo(repo_id))
        repo.private, repo.gated = private, gated
        before = repo.head.files if repo.refs else {".gitattributes": Blob(GITATTRIBUTES, False)}
        blobs = {path: Blob(data, _is_large(path, data[:512], len(data))) for path, data in files.items()}
        return repo.add(before | blobs, "seed", repo.namespace).id

    def fault(
        self,
        kind: int | str,
        path: str = "",
        method: str | None = None,
        at: int = 1,
        times: int = 1,
        seconds: float = 30,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`path` is a regular expression searched in the request's path."""
        self.faults.append(Fault(kind, at, times, method, path, seconds, headers or {}))

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        return self.repos[repo_id].commit(revision).files[path].data

    # The server

    def _protocol(self) -> type[H11Protocol]:
        connections = self.connections

        class Recorded(H11Protocol):
            """Keeps the transport, so that a fault can drop the connection as a broken network does."""

            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                connections[self.client] = transport

        return Recorded

    async def __call__(self, scope, receive, send) -> None:
        request = Request(scope)
        user = self.users.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        fault = next((fault for fault in self.faults if fault.strikes(request.method, scope["path"])), None)
        kind = fault.kind if fault else None
        late: list[dict] = []

        def note(status: int | str) -> None:
            """Before the answer goes out, so that a client that has its answer finds its request in the list."""
            self.seen.append(Seen(request.method, scope["path"], user.name if user else None, status))

        async def answer(message: dict) -> None:
            if kind is None and message["type"] == "http.response.start":
                note(message["status"])
            if kind in ("reset after", "late 503", "truncate", "corrupt"):
                late.append(message)
            else:
                await send(message)

        if kind is not None:
            note(kind)
        if kind == "timeout":
            await asyncio.sleep(fault.seconds)
        if kind in ("reset", "timeout"):
            self.connections[tuple(scope["client"])].abort()
        elif isinstance(kind, int):
            await JSONResponse({"error": f"scripted fault {kind}"}, kind, headers=fault.headers)(scope, receive, send)
        else:
            await self._app(scope, receive, answer)
        if kind == "reset after":
            self.connections[tuple(scope["client"])].abort()
        elif kind == "late 503":
            await JSONResponse({"error": "scripted fault 503"}, 503)(scope, receive, send)
        elif kind in ("truncate", "corrupt"):
            body = b"".join(message.get("body", b"") for message in late)
            await send(late[0])
            if kind == "truncate":
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
                self.connections[tuple(scope["client"])].abort()
            else:
                await send({"type": "http.response.body", "body": body[:-1] + bytes([body[-1] ^ 1])})

    def _routes(self) -> list[Route]:
        model = "/api/models/{owner}/{name}"

        def route(path: str, answer, *methods: str) -> Route:
            async def endpoint(request: Request) -> Response:
                try:
                    user = self._user(request)
                    return await answer(request, user)
                except Refusal as refusal:
                    return refusal.response

            return Route(path, endpoint, methods=list(methods) or ["GET"])

        return [
            route("/api/whoami-v2", self._whoami),
            route("/api/repos/create", self._create, "POST"),
            route("/api/repos/delete", self._delete, "DELETE"),
            route("/api/validate-yaml", self._validate, "POST"),
            route("/api/models", self._list),
            route(model + "/settings", self._settings, "PUT"),
            route(model + "/preupload/{revision}", self._preupload, "POST"),
            route(model + "/commit/{revision}", self._commit, "POST"),
            route(model + "/commits/{revision}", self._commits),
            route(model + "/revision/{revision}", self._info),
            route(model + "/tree/{revision}", self._tree),
            route(model + "/tree/{revision}/{path:path}", self._tree),
            route(model + "/paths-info/{revision}", self._paths, "POST"),
            route(model + "/refs", self._refs),
            route(model + "/auth-check", self._auth_check),
            route(model + "/auth-check/write", self._auth_check),
            route(model, self._info),
            route("/{owner}/{name}.git/info/lfs/objects/batch", self._batch, "POST"),
            route("/{owner}/{name}.git/info/lfs/objects/verify", self._verify, "POST"),
            route("/lfs-storage/{oid}", self._put, "PUT"),
            route("/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve, "GET", "HEAD"),
            route("/{owner}/{name}", self._page),
        ]

    # Who may do what

    def _user(self, request: Request) -> User | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        if header.removeprefix("Bearer ") not in self.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.users[header.removeprefix("Bearer ")]

    def _repo(self, request: Request, user: User | None, write: bool = False, content: bool = False) -> Repo:
        repo = self.repos.get(f"{request.path_params['owner']}/{request.path_params['name']}")
        member = user is not None and repo is not None and repo.namespace in user.namespaces
        if repo is None or (repo.private and not member):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Refusal(401, "Invalid username or password.")
        if write and not (member and user.role == "write"):
            raise Refusal(403, f"Forbidden: you must use a write token to upload to a repository, not {user.role}")
        if content and repo.gated and not member:
            raise Refusal(403 if user else 401, f"Access to model {repo.id} is restricted.", "GatedRepo")
        return repo

    def _found(self, request: Request, repo: Repo) -> Commit:
        commit = repo.commit(request.path_params.get("revision", "main"))
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {request.path_params['revision']}", "RevisionNotFound")
        return commit

    # Answers

    async def _whoami(self, request: Request, user: User | None) -> Response:
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        organisations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user.organisations]
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role, "createdAt": WHEN}}
        facts = {"type": "user", "id": user.name, "name": user.name, "fullname": user.name.title(), "isPro": False}
        return JSONResponse(facts | {"avatarUrl": "/avatar.svg", "orgs": organisations, "auth": access})

    async def _create(self, request: Request, user: User | None) -> Response:
        asked = await request.json()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        namespace = asked.get("organization") or user.name
        if namespace not in user.namespaces or user.role != "write":
            raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        repo_id = f"{namespace}/{asked['name']}"
        if repo_id in self.repos:
            return JSONResponse({"error": "You already created this model repo", "url": f"{self.endpoint}/{repo_id}"}, 409)
        repo = self.repos[repo_id] = Repo(repo_id, private=asked.get("visibility") == "private")
        repo.add({".gitattributes": Blob(GITATTRIBUTES, False)}, "initial commit", user.name)
        return JSONResponse({"url": f"{self.endpoint}/{repo_id}", "name": repo_id, "id": repo_id})

    async def _delete(self, request: Request, user: User | None) -> Response:
        asked = await request.json()
        request.scope["path_params"] = {"owner": asked.get("organization") or user.name, "name": asked["name"]}
        del self.repos[self._repo(request, user, write=True).id]
        return JSONResponse({})

    async def _settings(self, request: Request, user: User | None) -> Response:
        repo, asked = self._repo(request, user, write=True), await request.json()
        if "visibility" in asked or "private" in asked:
            repo.private = asked.get("private", asked.get("visibility") == "private")
        if "gated" in asked:
            repo.gated = bool(asked["gated"])
        return JSONResponse({"private": repo.private, "gated": repo.gated})

    async def _validate(self, request: Request, user: User | None) -> Response:
        front = _front_matter((await request.json())["content"])
        errors = [] if front is not None else [{"message": "the metadata is not a YAML mapping"}]
        if front and front.get("license") == "other" and "license_name" not in front:
            errors.append({"message": '"license_name" is required when "license" is "other"'})
        for key in ("license", "base_model", "pipeline_tag", "library_name"):
            if front and key in front and not re.fullmatch(r"[A-Za-z0-9._/+-]+", str(front[key])):
                errors.append({"message": f'"{key}" is not valid'})
        warnings = [] if front else [{"message": "empty or missing yaml metadata in repo card"}]
        return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    async def _preupload(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user, write=True)
        files = self._found(request, repo).files
        answers = []
        for asked in (await request.json())["files"]:
            large = _is_large(asked["path"], base64.b64decode(asked["sample"]), asked["size"])
            known = files.get(asked["path"])
            oid = None if known is None else known.sha256 if known.lfs else known.oid
            answers.append({"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": answers})

    async def _batch(self, request: Request, user: User | None) -> Response:
        repo, objects = self._repo(request, user, write=True), []
        for asked in (await request.json())["objects"]:
            facts = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.store:
                verify = f"{self.endpoint}/{repo.id}.git/info/lfs/objects/verify"
                upload = f"{self.endpoint}/lfs-storage/{asked['oid']}"
                facts["actions"] = {"upload": {"href": upload, "header": {}}, "verify": {"href": verify, "header": {}}}
            objects.append(facts)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _put(self, request: Request, user: User | None) -> Response:
        data, oid = await request.body(), request.path_params["oid"]
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, "the bytes do not have the announced sha256")
        self.store[oid] = data
        return Response()

    async def _verify(self, request: Request, user: User | None) -> Response:
        self._repo(request, user, write=True)
        asked = await request.json()
        if len(self.store.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "object not found")
        return JSONResponse({})

    async def _commit(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user, write=True)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        head = self._found(request, repo)
        if "parentCommit" in header and not head.id.startswith(header["parentCommit"]):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.store:
                    raise Refusal(400, "LFS pointer pointed to a file that does not exist")
                files[value["path"]] = Blob(self.store[value["oid"]], True)
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            elif line["key"] == "deletedFolder":
                files = {path: blob for path, blob in files.items() if not path.startswith(value["path"].rstrip("/") + "/")}
        commit = repo.add(files, header["summary"], user.name, request.path_params["revision"])
        url = f"{self.endpoint}/{repo.id}/commit/{commit.id}"
        return JSONResponse({"success": True, "commitOid": commit.id, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None})

    async def _info(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user)
        return JSONResponse(repo.facts(self._found(request, repo), "blobs" in request.query_params))

    async def _list(self, request: Request, user: User | None) -> Response:
        asked = request.query_params
        found = [repo for repo in self.repos.values() if not repo.private or (user and repo.namespace in user.namespaces)]
        found = [repo for repo in found if asked.get("search", "").lower() in repo.id.lower()]
        found = [repo for repo in found if asked.get("author", repo.namespace) == repo.namespace]
        found = [repo for repo in found if set(asked.getlist("filter")) <= set(repo.tags())]
        return JSONResponse([repo.facts(repo.head, False) for repo in found[: int(asked.get("limit", 1000))]])

    async def _tree(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user)
        folder = request.path_params.get("path", "").strip("/")
        prefix = folder + "/" if folder else ""
        inside = {path: blob for path, blob in self._found(request, repo).files.items() if path.startswith(prefix)}
        if not inside:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        entries = {}
        for path, blob in inside.items():
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts)):
                name = prefix + "/".join(parts[:depth])
                entries[name] = {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
            entries[path] = blob.entry(path)
        if request.query_params.get("recursive", "").lower() not in ("1", "true"):
            entries = {path: entry for path, entry in entries.items() if "/" not in path.removeprefix(prefix)}
        return JSONResponse([entries[path] for path in sorted(entries)])

    async def _paths(self, request: Request, user: User | None) -> Response:
        files = self._found(request, self._repo(request, user)).files
        asked = (await request.form()).getlist("paths")
        return JSONResponse([files[path].entry(path) for path in asked if path in files])

    async def _refs(self, request: Request, user: User | None) -> Response:
        refs = self._repo(request, user).refs
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in refs.items()]
        return JSONResponse({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    async def _commits(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user)
        history, commit = [], self._found(request, repo)
        while commit:
            history.append({"id": commit.id, "title": commit.title, "message": "", "date": WHEN, "authors": [{"user": commit.author}]})
            commit = repo.commit(commit.parent) if commit.parent else None
        return JSONResponse(history)

    async def _auth_check(self, request: Request, user: User | None) -> Response:
        self._repo(request, user, write=request.url.path.endswith("/write"), content=True)
        return JSONResponse({})

    async def _resolve(self, request: Request, user: User | None) -> Response:
        repo = self._repo(request, user, content=True)
        commit = self._found(request, repo)
        blob = commit.files.get(request.path_params["path"])
        if blob is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        etag = blob.sha256 if blob.lfs else blob.oid
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(blob.data))} if blob.lfs else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not asked:
            return Response(blob.data, headers=headers, media_type="application/octet-stream")
        start, end = int(asked[1]), min(int(asked[2] or len(blob.data) - 1), len(blob.data) - 1)
        if start >= len(blob.data):
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(blob.data)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(blob.data)}"
        return Response(blob.data[start : end + 1], 206, headers=headers)

    async def _page(self, request: Request, user: User | None) -> Response:
        """The page a person opens; the README as it is, since drawing Markdown is not this Hub's job."""
        readme = self._repo(request, user).head.files.get("README.md")
        return PlainTextResponse(readme.data) if readme else HTMLResponse("<p>No model card</p>")


def _is_large(path: str, sample: bytes, size: int) -> bool:
    """As the Hub decides: by .gitattributes, by size, or because it is not text. An empty file is never large."""
    return size > 0 and (path.endswith((".safetensors", ".png", ".bin")) or size > 10_000_000 or b"\0" in sample)


def _front_matter(text: str) -> dict | None:
    """The card's YAML; {} when there is none, None when it cannot be read."""
    match = re.match(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", text, re.DOTALL)
    if not match:
        return {}
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return None
    return front if isinstance(front, dict) else None
