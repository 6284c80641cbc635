"""Access control: modes, the Workspace of a request, login checks, and tokens for publishing.

local: one user at this computer. password: one user, from other computers. space: many visitors of a Hugging Face Space.
"""

import enum
import hmac
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import huggingface_hub
from pydantic import SecretStr

from studio.core.errors import StudioError

VISITOR_HEADER = "x-studio-visitor"
"""Set by the gate from the visitor's cookie; removed from incoming requests before."""

SHORTEST_PASSWORD = 8
WRONG_PASSWORDS_A_MINUTE = 10
LOOPBACK = ("", "127.0.0.1", "localhost", "::1")


class Mode(enum.StrEnum):
    local = "local"
    password = "password"
    space = "space"


class HasHeaders(Protocol):
    """Common interface of Gradio's and Starlette's requests."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class FailedLogins:
    """Rate limit on wrong passwords. Beyond the limit all logins fail until older failures expire after a minute; sessions are not affected."""

    def __init__(self, limit: int = WRONG_PASSWORDS_A_MINUTE, clock: Callable[[], float] = time.monotonic):
        self._limit, self._clock = limit, clock
        self._wrong: deque[float] = deque(maxlen=limit)

    def limit_reached(self) -> bool:
        return len(self._wrong) == self._limit and self._clock() - self._wrong[0] < 60

    def record(self) -> None:
        self._wrong.append(self._clock())


@dataclass(frozen=True)
class Access:
    """Access mode and addresses. `hosts` are the allowed host names besides this computer's own."""

    mode: Mode = Mode.local
    hosts: tuple[str, ...] = ()
    server_name: str = "127.0.0.1"
    port: int | None = None
    password: SecretStr | None = None
    space_id: str = ""
    oauth: bool = False
    failed_logins: FailedLogins = field(default_factory=FailedLogins, compare=False, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Access":
        """Read the mode from the environment; StudioError if it would open the studio to others without a password."""
        port = _port(environ)
        if environ.get("SYSTEM") == "spaces" and environ.get("SPACE_ID"):
            hosts = tuple(host for host in environ.get("SPACE_HOST", "").split(",") if host)
            oauth = bool(environ.get("OAUTH_CLIENT_ID"))
            return cls(Mode.space, hosts, "0.0.0.0", port or 7860, space_id=environ["SPACE_ID"], oauth=oauth)
        password, host = environ.get("LORA_STUDIO_PASSWORD", ""), environ.get("LORA_STUDIO_HOST", "").strip()
        if password:
            if not host:
                raise StudioError(
                    "LORA_STUDIO_PASSWORD opens the studio to other computers, so LORA_STUDIO_HOST must be set to its host name: "
                    "for example LORA_STUDIO_HOST=my-box.example or 192.168.1.5:7860."
                )
            if len(password) < SHORTEST_PASSWORD:
                raise StudioError(f"LORA_STUDIO_PASSWORD has {len(password)} characters; it needs at least {SHORTEST_PASSWORD}.")
            hosts = tuple(_host(name) for name in host.split(","))
            return cls(Mode.password, hosts, "0.0.0.0", port, SecretStr(password))
        for name in ("LORA_STUDIO_HOST", "GRADIO_SERVER_NAME"):
            if not _is_this_computer(environ.get(name, "")):
                raise StudioError(
                    f"{name}={environ[name]} would let other computers in without a password. "
                    f"Set LORA_STUDIO_PASSWORD and LORA_STUDIO_HOST, or unset {name}."
                )
        return cls(Mode.local, (), "127.0.0.1", port)

    def owner(self, request: HasHeaders) -> str:
        """Owner of the Workspace of a request. It comes from the gate only, never from data of the caller."""
        if self.mode is not Mode.space:
            return "local"
        visitor = request.headers.get(VISITOR_HEADER, "")
        if not visitor:
            raise StudioError(
                f"This browser keeps no cookie from this page, so your data cannot be assigned to you. Open {self.own_tab} in its own tab."
            )
        return visitor

    @property
    def own_tab(self) -> str:
        """The page's address outside the frame on huggingface.co, where browsers accept its cookie."""
        return f"https://{self.hosts[0]}" if self.hosts else "the Space"

    def check_login(self, username: str, password: str) -> bool:
        """Check a login for Gradio's login page. There is one owner, so the name is ignored."""
        if self.password is None or self.failed_logins.limit_reached():
            return False
        correct = hmac.compare_digest(password.encode(), self.password.get_secret_value().encode())
        if not correct:
            self.failed_logins.record()
        return correct

    def machine_token(self) -> SecretStr | None:
        """The Hub token of this computer (`hf auth login`); None on a Space, where it is the owner's and not the visitor's."""
        if self.mode is Mode.space:
            return None
        token = huggingface_hub.get_token()
        return SecretStr(token) if token else None

    def publishing_token(self, given: SecretStr | None) -> SecretStr:
        """The token to publish with: the entered one or the visitor's login, else this computer's."""
        token = given or self.machine_token()
        if token is None and self.mode is Mode.space:
            raise StudioError("Log in with Hugging Face first; the LoRA is published under your name. Without a login, save it as a folder or zip.")
        if token is None:
            raise StudioError(
                "Publishing needs a Hugging Face login: paste a token with write access, or run `hf auth login` on this computer once. "
                "Without one, save the LoRA as a folder or zip."
            )
        return token


def _port(environ: Mapping[str, str]) -> int | None:
    """LORA_STUDIO_PORT or Gradio's variable; None means the first free port from 7860."""
    text = environ.get("LORA_STUDIO_PORT") or environ.get("GRADIO_SERVER_PORT") or ""
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise StudioError(f"{text!r} is not a port; choose a number from 1 to 65535, for example 7860.")
    return int(text)


def _is_this_computer(name: str) -> bool:
    plain = name.strip().lower()
    return plain in LOOPBACK or re.sub(r":\d+$", "", plain) in ("127.0.0.1", "localhost", "[::1]")


def _host(name: str) -> str:
    """Validate `my-box.example` or `my-box.example:7860`, the form of a Host header."""
    plain = name.strip().lower()
    if not plain or any(char in plain for char in "/@?# *"):
        raise StudioError(f"{name!r} is not a host name; LORA_STUDIO_HOST looks like my-box.example or 192.168.1.5:7860, without http://.")
    return plain
