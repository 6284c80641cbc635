"""The request gate in front of a real Gradio app: requests from other sites are refused, the page and API clients are allowed."""

import asyncio
import contextlib
import http.client
import json
import socket
import time

import gradio as gr
import pytest
from gradio_client import Client
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from studio.ui.gate import COOKIE, Gate

BOUNDARY = "x" * 24
JOIN = "/gradio_api/queue/join"
FILE_HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'.encode()
SMALL_BODY, SMALL_UPLOAD = 100_000, 300_000


@pytest.fixture(scope="module")
def calls() -> list[str]:
    """Names passed to the handler; a refused request must not appear here."""
    return []


@pytest.fixture(scope="module")
def port(calls) -> int:
    def greet(name: str) -> str:
        calls.append(name)
        return f"hello {name}"

    with gr.Blocks(analytics_enabled=False) as app:
        name, answer = gr.Textbox(), gr.Textbox()
        gr.Button().click(greet, name, answer, api_name="greet")
    gate = Middleware(Gate, hosts=("box.example", "lan.example:1234"), max_body_bytes=SMALL_BODY, max_upload_bytes=SMALL_UPLOAD)
    app.launch(prevent_thread_lock=True, quiet=True, app_kwargs={"middleware": [gate]}, run_history=False)
    yield app.server_port
    app.close()


def ask(port: int, method: str, path: str, host: str | None = None, body: bytes | None = None, **headers: str):
    """(status, text, headers) of one raw request; `host` is the Host header, any other header is given with underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": host or f"127.0.0.1:{port}", **headers}.items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    if body is not None and "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read(20_000).decode("utf-8", "replace")
    connection.close()
    return answer.status, text, answer.headers


def call(port: int, name: str, **headers: str) -> int:
    """Call the handler as a page does."""
    body = json.dumps({"data": [name]}).encode()
    return ask(port, "POST", "/gradio_api/call/greet", body=body, **{"Content_Type": "application/json", **headers})[0]


def upload(port: int, size: int, **headers: str) -> int:
    body = FILE_HEAD + b"a" * size + f"\r\n--{BOUNDARY}--\r\n".encode()
    return ask(port, "POST", "/gradio_api/upload", body=body, **{"Content_Type": f"multipart/form-data; boundary={BOUNDARY}", **headers})[0]


# Allowed requests


def test_the_page_works_under_every_allowed_host(port, calls):
    own = ("127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}", "box.example", "box.example:{port}", "lan.example:1234")
    for host in (name.format(port=port) for name in own):
        assert ask(port, "GET", "/", host)[0] == 200, host
        origin = f"http://{host}".lower()
        assert call(port, host, host=host, Origin=origin, Sec_Fetch_Site="same-origin") == 200, host
    time.sleep(0.3)
    assert len(calls) == 7


def test_the_python_client_gets_through(port, calls):
    assert Client(f"http://127.0.0.1:{port}", verbose=False).predict("client", api_name="/greet") == "hello client"
    assert "client" in calls


def test_an_upload_from_the_page_gets_through(port):
    assert upload(port, 1000, Origin=f"http://127.0.0.1:{port}", Sec_Fetch_Site="same-origin") == 200


def test_a_link_from_another_site_may_open_only_the_page(port):
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(port, "GET", "/", **linked)[0] == 200
    assert ask(port, "POST", "/gradio_api/call/greet", body=b"{}", **linked)[0] == 403
    embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    assert ask(port, "GET", "/config", **embedded)[0] == 403


# Refused requests

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "rebind.evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "192.168.1.5:{port}",
    "0.0.0.0:{port}",
    "studio.hf.space",
    "127.0.0.1:1",
    "127.0.0.1",
    "[::ffff:127.0.0.1]:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "localhost.:{port}",
    "box.example.evil.example",
    "evil.example#box.example",
    "lan.example:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "127.0.0.1:{port},evil.example",
    "",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_host_is_refused_on_every_route(port, calls, host):
    before, host = len(calls), host.format(port=port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for method, path in (("GET", "/"), ("GET", "/config"), ("GET", "/gradio_api/info"), ("OPTIONS", JOIN), ("POST", JOIN)):
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.putheader("Content-Length", "2" if method == "POST" else "0")
        connection.endheaders(b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status in (400, 403) and "gradio" not in text.lower(), (host, path, answer.status)
        assert "access-control-allow-origin" not in answer.headers
        connection.close()
    assert call(port, "rebound", host=host or "evil.example") == 403 and len(calls) == before


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:{port}",
        "null",
        "file://",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost:{port}",
        "https://127.0.0.1:{port}.evil.example",
        "http://127.0.0.1:{port}/path",
        "http://127.0.0.1:{port}@evil.example",
        "chrome-extension://abc",
        "http://127.0.0.1:notaport",
        "",
    ],
)
def test_another_origin_is_refused(port, calls, origin):
    before, origin = len(calls), origin.format(port=port)
    assert call(port, "csrf", Origin=origin) == 403
    assert upload(port, 10, Origin=origin) == 403
    assert ask(port, "GET", "/config", Origin=origin)[0] == 403
    assert len(calls) == before


def test_the_request_after_a_preflight_that_gradio_allows_is_refused(port, calls):
    """Gradio 6.31 answers preflights in front of any middleware, and allows any origin under a host that is not local."""
    foreign = {"host": "box.example", "Origin": "https://evil.example"}
    assert ask(port, "OPTIONS", JOIN, Access_Control_Request_Method="POST", **foreign)[0] == 200
    before = len(calls)
    status, text, _ = ask(port, "GET", "/config", **foreign)
    assert status == 403 and "components" not in text
    assert call(port, "after preflight", **foreign) == 403 and len(calls) == before


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
def test_a_request_marked_cross_site_by_the_browser_is_refused(port, calls, site):
    before = len(calls)
    assert call(port, "no origin", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors") == 403
    assert ask(port, "GET", "/gradio_api/info", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
    assert len(calls) == before


def test_a_request_with_two_host_headers_is_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        assert b" 200 " not in raw.recv(200)


def test_an_upload_larger_than_allowed_is_refused_before_it_is_read(port):
    assert upload(port, SMALL_UPLOAD - 1000) == 200
    status, text, _ = ask(port, "POST", "/gradio_api/upload", Content_Length="999999999999")
    assert status == 413 and "too large" in text


def test_a_chunked_body_over_the_limit_is_refused(port, calls):
    before = len(calls)

    def chunked(path: str, size: int, kind: str, start: bytes) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Type: {kind}", "Transfer-Encoding: chunked", "Connection: close"]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall("\r\n".join([*lines, "", ""]).encode() + f"{len(start):x}\r\n".encode() + start + b"\r\n")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(size // 10_000):
                    raw.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
                raw.sendall(b"0\r\n\r\n")
            return raw.recv(2000)

    assert b" 413 " in chunked("/gradio_api/call/greet", 2 * SMALL_BODY, "application/json", b"{")
    assert b" 413 " in chunked("/gradio_api/upload", 2 * SMALL_UPLOAD, f"multipart/form-data; boundary={BOUNDARY}", FILE_HEAD)
    assert len(calls) == before and call(port, "still alive") == 200


@pytest.mark.parametrize("length", ["-1", "1e3", "+5", "٣"])
def test_an_invalid_content_length_is_refused(port, length):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert raw.recv(200).split()[1] in (b"400", b"413")


def test_every_response_has_the_security_headers(port):
    for path in ("/", "/config", "/gradio_api/info"):
        headers = ask(port, "GET", path)[2]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"] and "huggingface" not in headers["content-security-policy"]


# With a password


def test_gradios_login_also_protects_the_studios_own_routes():
    """Gradio 6.31 checks the login on its own routes only; images are served by ours."""
    with gr.Blocks(analytics_enabled=False) as app:
        gr.Textbox()
    route = Route("/studio/file/{path:path}", lambda request: PlainTextResponse("private"))
    launch = {"app_kwargs": {"middleware": [Middleware(Gate)], "routes": [route]}, "run_history": False}
    app.launch(prevent_thread_lock=True, quiet=True, auth=lambda name, password: password == "correct horse", **launch)
    port, path = app.server_port, "/studio/file/image/1"
    try:
        assert ask(port, "GET", path)[:2] == (401, "Log in on the studio's page first.")
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        assert ask(port, "POST", "/login", body=b"username=me&password=wrong", **form)[0] == 400
        cookies = ask(port, "POST", "/login", body=b"username=me&password=correct+horse", **form)[2].get_all("set-cookie")
        for cookie in cookies:
            pair = cookie.split(";")[0]
            assert ask(port, "GET", path, Cookie=f"other=1; {pair}")[:2] == (200, "private")
            assert ask(port, "GET", path, Cookie=pair[:-3] + "xyz")[0] == 401
        assert len(cookies) == 2
    finally:
        app.close()


def test_without_a_password_the_studios_own_routes_are_open_to_the_page(port):
    assert ask(port, "GET", "/studio/file/none")[0] == 404


# On a Space


def through(gate: Gate, scope_changes: dict, *headers: tuple[str, str]) -> tuple[dict | None, list[dict]]:
    """One request through a gate: the scope that the app received (None if refused), and the response messages."""
    seen, sent = [], []

    async def app(scope, receive, send):
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    gate.app.app = app
    raw = [(name.encode(), value.encode()) for name, value in (("host", "ana-studio.hf.space"), *headers)]
    scope = {"type": "http", "method": "GET", "path": "/", "server": ("10.0.0.1", 7860), "headers": raw, **scope_changes}
    asyncio.run(gate(scope, receive, send))
    return (seen[0] if seen else None), sent


@pytest.fixture
def space() -> Gate:
    return Gate(None, hosts=("ana-studio.hf.space",), space=True)


def visitor_of(scope: dict) -> str:
    return dict(scope["headers"]).get(b"x-studio-visitor", b"").decode()


def cookie_of(sent: list[dict]) -> str:
    return dict(sent[0]["headers"]).get(b"set-cookie", b"").decode()


def test_a_new_visitor_gets_an_http_only_cookie_and_is_recognised_by_it(space):
    scope, sent = through(space, {})
    cookie = cookie_of(sent)
    assert cookie.startswith(f"{COOKIE}=") and all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=None", "Partitioned"))
    again, answer = through(space, {"method": "POST"}, ("cookie", cookie.split(";")[0]), ("origin", "https://ana-studio.hf.space"))
    assert visitor_of(again) == visitor_of(scope) != "" and not cookie_of(answer)
    assert cookie.split(";")[0].split("=")[1] not in visitor_of(scope)


def test_two_visitors_have_different_names(space):
    assert visitor_of(through(space, {})[0]) != visitor_of(through(space, {})[0])


@pytest.mark.parametrize("cookie", [f"{COOKIE}=guess", f"{COOKIE}=", f"{COOKIE}=../../x", "other=1", "=;;", f"{COOKIE}=" + "a" * 500])
def test_a_cookie_with_an_invalid_value_identifies_no_visitor(space, cookie):
    scope, _ = through(space, {"method": "POST"}, ("cookie", cookie))
    assert visitor_of(scope) == ""


def test_a_client_cannot_set_the_visitor_header(space):
    scope, _ = through(space, {"method": "POST"}, ("x-studio-visitor", "visitor-other"), ("X-Studio-Visitor", "again"))
    assert visitor_of(scope) == ""


def test_only_the_hub_may_frame_a_space(space):
    _, sent = through(space, {}, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"))
    assert dict(sent[0]["headers"])[b"content-security-policy"].endswith(b"frame-ancestors 'self' https://huggingface.co")


def test_another_site_cannot_act_as_the_visitor_of_a_space(space):
    for origin in ("https://evil.example", "https://huggingface.co", "https://ben-studio.hf.space", "null"):
        scope, sent = through(space, {"method": "POST"}, ("origin", origin), ("cookie", f"{COOKIE}={'a' * 43}"))
        assert scope is None and sent[0]["status"] == 403


def test_a_web_socket_passes_the_same_checks(space):
    _, sent = through(space, {"type": "websocket"}, ("origin", "https://evil.example"))
    assert sent == [{"type": "websocket.close", "code": 1008}]
