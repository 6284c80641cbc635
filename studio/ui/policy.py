"""Content-Security-Policy of the page, and the script element that loads our JavaScript. Plain ASGI, no Gradio.

Gradio 6.31 writes its configuration into inline scripts, so the policy lists the hash of each inline script of the page being sent. No other
inline script or event handler runs, even if a title or caption reached the page as HTML.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from html.parser import HTMLParser

from studio.ui.components.templates import render

Scope = MutableMapping
Message = MutableMapping
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HUB = "https://huggingface.co"
BASE = re.compile(rb"<base\b[^>]*>")
"""Gradio's base element is `./`, the page's own address; without it the policy can forbid base elements."""


class Policy:
    """`script` is the address of our JavaScript, loaded before Gradio's; `drafts` gives the name under which it keeps the caller's drafts.
    `space` allows the Hub to frame the page, and the page to ask the Hub for the author of the Space, as Gradio's header does there."""

    def __init__(self, app: ASGIApp, script: str, space: bool = False, drafts: Callable[[Scope], str] = lambda _: ""):
        self.app = app
        self.script = script
        self.drafts = drafts
        self.space = space

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page = _Page(send, self, scope) if scope["method"] == "GET" else None
        await self.app(scope, receive, page.send if page else self._with_policy(send))

    def element(self, scope: Scope) -> bytes:
        """The script element of a page for this caller."""
        return render("frame", "script", self.script, self.drafts(scope)).encode() if self.script else b""

    def _with_policy(self, send: Send) -> Send:
        async def add(message: Message) -> None:
            await send(self.add_header(message) if message["type"] == "http.response.start" else message)

        return add

    def add_header(self, start: Message, body: bytes = b"") -> Message:
        """The start of a response with the policy for its body added, unless the app has set one."""
        headers = list(start.get("headers", []))
        if not any(name.lower() == b"content-security-policy" for name, _ in headers):
            headers.append((b"content-security-policy", self.header(hashes(body)).encode()))
        return {**start, "headers": headers}

    def header(self, inline: list[str]) -> str:
        """Sources that the page may load and run; `inline` are the hashes of its inline scripts."""
        hub = f" {HUB}" if self.space else ""
        return "; ".join(
            (
                "default-src 'self'",
                " ".join(("script-src 'self'", *(f"'{each}'" for each in inline))),
                "style-src 'self' 'unsafe-inline'",
                f"img-src 'self' data: blob:{hub}",
                f"connect-src 'self'{hub}",
                "font-src 'self' data:",
                "object-src 'none'",
                "base-uri 'none'",
                "form-action 'self'",
                f"frame-ancestors 'self'{hub}",
            )
        )


class _Page:
    """One response: HTML is buffered until it is complete, since its header depends on its content; other types pass through."""

    def __init__(self, send: Send, policy: Policy, scope: Scope):
        self._send = send
        self._scope = scope
        self._policy = policy
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not _is_html(message):
                await self._send(self._policy.add_header(message))
                return
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_buffered(self._start)

    async def _send_buffered(self, start: Message) -> None:
        body = BASE.sub(self._policy.element(self._scope), bytes(self._body), count=1)
        start = self._policy.add_header(start, body)
        kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await self._send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})


def _is_html(start: Message) -> bool:
    return any(name.lower() == b"content-type" and value.lower().startswith(b"text/html") for name, value in start.get("headers", []))


def hashes(page: bytes) -> list[str]:
    """sha256-... of each inline script, in the form of a policy."""
    if not page:
        return []
    found = _InlineScripts()
    found.feed(page.decode().replace("\r\n", "\n"))
    return list(dict.fromkeys("sha256-" + base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found.texts))


class _InlineScripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.texts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and "src" not in dict(attrs)
        if self._inside:
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False
