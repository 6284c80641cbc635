"""Request gate in front of Gradio: checks Host, Origin, Sec-Fetch-Site and body size. Plain ASGI, no Gradio.

Gradio 6.31 accepts any Host (so another site can reach it by DNS rebinding), accepts cross-origin uploads and has no limit on the
size of a body. A request refused here never reaches a handler. Only Gradio's CORS layer is outside: it may answer a preflight
positively, but the request that follows is refused. See OWASP's CSRF cheat sheet for the header rules.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from studio.core import storage
from studio.core.access import VISITOR_HEADER
from studio.core.errors import traceback_without_messages
from studio.ui.policy import ASGIApp, Message, Policy, Receive, Scope, Send

log = logging.getLogger(__name__)

OWN_ROUTES, PUBLIC_ROUTES = "/studio/", "/studio/script/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
UPLOADS = re.compile(r"/gradio_api/upload/?$")
DEFAULT_PORTS = {"http": 80, "https": 443}
COOKIE = "studio_visitor"
COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
DISK_FULL = "The disk of the studio is full. Free some space there, then try again; what was saved before is kept."
SECONDS_A_YEAR = 31_536_000


class Gate:
    """`Middleware(Gate, hosts=access.hosts, space=access.mode is Mode.space)`.

    `hosts` are allowed besides this computer's loopback names with the port of the listening socket. On a Space the gate also gives
    each visitor a cookie, and identifies the visitor to the studio in a header that a client cannot set. `script` is the address of the
    page's own script, and `drafts` gives the name for the caller's drafts; see policy.py.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        space: bool = False,
        script: str = "",
        drafts: Callable[[Scope], str] = lambda _: "",
        max_upload_bytes: int = 2 * 1024**3,
        max_body_bytes: int = 8 * 1024**2,
    ):
        self.app = Policy(app, script, space, drafts)
        self.hosts = {host.lower() for host in hosts}
        self.space = space
        self.max_upload_bytes = max_upload_bytes
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self.refusal(scope, headers)
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if refusal:
            await _answer(send, 403, refusal)
            return
        own = scope["path"].startswith(OWN_ROUTES) and not scope["path"].startswith(PUBLIC_ROUTES)
        if own and not _logged_in(scope, headers):
            await _answer(send, 401, "Log in on the studio's page first.")
            return
        limit = self.max_upload_bytes if UPLOADS.search(scope["path"]) else self.max_body_bytes
        if too_large := _declares_more(headers, limit):
            await _answer(send, 413, too_large)
            return
        cookie = self._identify(scope, headers) if self.space else None
        body = _Body(receive, send, limit, self._headers_to_add(cookie))
        try:
            await self.app(scope, body.receive, body.send)
        except Exception as error:  # noqa: BLE001 - the server would print it, and its message may quote values of the request
            await body.fail(error, scope["type"])
        finally:
            await body.close()

    def refusal(self, scope: Scope, headers: dict[str, list[str]]) -> str:
        """Reason why this request is refused; empty if it is allowed."""
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self._allowed(scope):
            return "This host name is not allowed. Open the address that the studio printed when it started, or set LORA_STUDIO_HOST."
        origins = headers.get("origin", [])
        if any(not _same_origin(origin, host[0]) for origin in origins):
            return "Requests from other web sites are not allowed."
        site = headers.get("sec-fetch-site", [])
        if any(value not in ("same-origin", "none") for value in site):
            # A link to the page from elsewhere, or the frame around a Space, is a navigation; any other cross-site request is refused.
            navigating = headers.get("sec-fetch-mode") == ["navigate"] and scope.get("method") in ("GET", "HEAD")
            if not navigating:
                return "Requests from other web sites are not allowed."
        return ""

    def _allowed(self, scope: Scope) -> set[str]:
        """Exact names with the real port; a configured name may also be used without one (a proxy on the default port)."""
        port = scope["server"][1] if scope.get("server") else None
        local = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        with_port = {f"{host}:{port}" for host in self.hosts if not re.search(r":\d+$", host)}
        return local | self.hosts | with_port | ({"127.0.0.1", "localhost", "[::1]"} if port == 80 else set())

    def _identify(self, scope: Scope, headers: dict[str, list[str]]) -> bytes | None:
        """Set the visitor header of the scope; returns a Set-Cookie header for a new visitor."""
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() != VISITOR_HEADER.encode()]
        fresh: bytes | None = None
        known: str | None = _cookies(headers).get(COOKIE, "")
        if known is not None and not COOKIE_VALUE.fullmatch(known):
            known = None
        if known is None and scope["type"] == "http" and scope["method"] == "GET" and headers.get("sec-fetch-mode", ["navigate"]) == ["navigate"]:
            known = secrets.token_urlsafe(32)
            # SameSite=None and Partitioned: on huggingface.co the page is in a frame of another site. The checks above protect against CSRF.
            fresh = f"{COOKIE}={known}; Path=/; Max-Age={SECONDS_A_YEAR}; HttpOnly; Secure; SameSite=None; Partitioned".encode()
        if known is not None:
            name = "visitor-" + hashlib.sha256(known.encode()).hexdigest()[:32]
            scope["headers"].append((VISITOR_HEADER.encode(), name.encode()))
        return fresh

    def _headers_to_add(self, cookie: bytes | None) -> list[tuple[bytes, bytes]]:
        added = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
        ]
        return added + ([(b"set-cookie", cookie)] if cookie else [])


class _Body:
    """Streams of one request: counts received bytes, adds headers to the response.

    When a body exceeds the limit, the app sees a disconnect; the caller gets 413 unless a response had started.
    """

    def __init__(self, receive: Receive, send: Send, limit: int, headers: list[tuple[bytes, bytes]]):
        self._receive = receive
        self._send = send
        self._limit = limit
        self._headers = headers
        self._received = 0
        self._answered = False

    @property
    def _too_large(self) -> bool:
        return self._received > self._limit

    async def receive(self) -> Message:
        if self._too_large:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self._too_large else message

    async def send(self, message: Message) -> None:
        if self._too_large and not self._answered:
            return
        if message["type"] == "http.response.start":
            self._answered = True
            present = {name.lower() for name, _ in message.get("headers", [])}
            added = [(name, value) for name, value in self._headers if name == b"set-cookie" or name not in present]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)

    async def fail(self, error: Exception, protocol: str) -> None:
        """Log where the app failed, without values, and answer unless a response has started. A failure after a body over the limit is expected."""
        if self._too_large:
            return
        log.error("a request failed\n%s", traceback_without_messages(error))
        if protocol == "http" and not self._answered:
            self._answered = True
            if storage.is_full(error):
                await _answer(self._send, 507, DISK_FULL)
            else:
                await _answer(self._send, 500, f"The request failed ({type(error).__name__}); the studio's log shows where.")

    async def close(self) -> None:
        if self._too_large and not self._answered:
            self._answered = True
            await _answer(self._send, 413, _too_large_message(self._limit))


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    return found


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is this host and port; a missing port on either side is the scheme's default."""
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        own = urlsplit(f"//{host}")
        own_port = own.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    return parts.scheme in DEFAULT_PORTS and parts.hostname == own.hostname and port == own_port and not parts.path


def _declares_more(headers: dict[str, list[str]], limit: int) -> str:
    lengths = headers.get("content-length", [])
    if any(not length.isascii() or not length.isdigit() for length in lengths) or len(set(lengths)) > 1:
        return "The Content-Length of the request is invalid."
    return _too_large_message(limit) if lengths and int(lengths[0]) > limit else ""


def _too_large_message(limit: int) -> str:
    return f"The request is too large: the limit is {limit / 1e6:,.0f} MB. Send fewer or smaller files."


def _cookies(headers: dict[str, list[str]]) -> dict[str, str]:
    """Parsed here because http.cookies stops at the first cookie that it finds invalid, and other software sets such cookies."""
    pairs = [chunk.strip().partition("=") for line in headers.get("cookie", []) for chunk in line.split(";")]
    return {name: value.strip('"') for name, _, value in pairs}


def _logged_in(scope: Scope, headers: dict[str, list[str]]) -> bool:
    """Gradio's login protects only Gradio's own routes; for ours it is checked here, as its get_current_user does (routes.py, 6.31)."""
    page = scope["app"]
    if page.auth is None:
        return True
    cookies = _cookies(headers)
    return any(cookies.get(f"access-token-{kind}{page.cookie_id}") in page.tokens for kind in ("", "unsecure-"))


async def _answer(send: Send, status: int, message: str) -> None:
    body = message.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
