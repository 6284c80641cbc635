"""Content-Security-Policy: its directives, and the hashes of exactly the inline scripts of the page being sent."""

import asyncio
import base64
import hashlib
import re

import httpx
import pytest

from studio.ui import files
from studio.ui.policy import HUB, Policy, hashes


def directives(header: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in header.split("; "))}


def test_the_policy_allows_our_scripts_and_gradios_inline_scripts_by_hash(page):
    answer = httpx.get(page[1])
    found = directives(answer.headers["content-security-policy"])
    inline = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", answer.text, re.DOTALL)
    hashed = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline}
    assert len(inline) > 2 and set(found["script-src"]) == {"'self'", *hashed}
    assert found["default-src"] == ["'self'"] and found["object-src"] == found["base-uri"] == ["'none'"]
    assert found["frame-ancestors"] == found["connect-src"] == ["'self'"] and found["img-src"] == ["'self'", "data:", "blob:"]
    assert "<base" not in answer.text, "the policy would refuse it"
    assert int(answer.headers["content-length"]) == len(answer.content) or answer.headers.get("content-encoding")


def test_our_script_precedes_gradios_and_is_public(page):
    answer = httpx.get(page[1])
    ours, gradios = (answer.text.index(each) for each in (files.script_url(), 'type="module" crossorigin'))
    assert ours < gradios
    script = httpx.get(page[1] + files.script_url())
    assert script.headers["content-type"].startswith("text/javascript") and "immutable" in script.headers["cache-control"]
    for name in re.findall(r'import "\./(.*?)"', script.text):
        assert httpx.get(page[1] + files.script_url().replace("page.js", name)).status_code == 200
    for name in ("../gate.py", "colours.css", "none.js", "%2e%2e%2fcss%2fcolours.css"):
        assert httpx.get(page[1] + files.script_url().replace("page.js", name)).status_code == 404


def test_every_other_response_has_the_policy_without_hashes(page):
    for path in ("config", "gradio_api/info"):
        assert directives(httpx.get(page[1] + path).headers["content-security-policy"])["script-src"] == ["'self'"]
    assert httpx.get(page[1] + files.url("image", "none")).headers["content-security-policy"] == "default-src 'none'"


def sent(policy_options: dict, *chunks: bytes, method: str = "GET", kind: str = "text/html; charset=utf-8", **headers: str) -> tuple[dict, bytes]:
    """(headers, body) of a response in these chunks."""
    messages = []

    async def app(scope, receive, send):
        given = [(b"content-type", kind.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
        await send({"type": "http.response.start", "status": 200, "headers": given})
        for index, chunk in enumerate(chunks):
            await send({"type": "http.response.body", "body": chunk, "more_body": index < len(chunks) - 1})

    async def collect(message):
        messages.append(message)

    asyncio.run(Policy(app, **{"script": "x.js"} | policy_options)({"type": "http", "method": method}, None, collect))
    return dict(messages[0]["headers"]), b"".join(each.get("body", b"") for each in messages[1:])


def test_html_in_chunks_is_hashed_as_one_page():
    headers, body = sent({}, b"<head><ba", b'se href="./"><scr', b"ipt>go()</script>")
    assert body == b'<head><script type="module" src="x.js"></script><script>go()</script>'
    assert headers[b"content-length"] == str(len(body)).encode()
    assert hashes(b"<script>go()</script>")[0].encode() in headers[b"content-security-policy"]


def test_the_page_names_the_drafts_of_its_caller():
    _, body = sent({"drafts": lambda scope: scope["method"].lower()}, b'<base href="./">')
    assert body == b'<script type="module" src="x.js" data-drafts="get"></script>'


def test_a_response_that_is_not_html_is_streamed_unchanged():
    headers, body = sent({}, b"data: 1\n\n", b"data: 2\n\n", kind="text/event-stream")
    assert body == b"data: 1\n\ndata: 2\n\n" and b"content-length" not in headers


def test_only_a_space_allows_the_hub():
    assert HUB not in sent({}, b"")[0][b"content-security-policy"].decode()
    found = directives(sent({"space": True}, b"")[0][b"content-security-policy"].decode())
    assert [name for name, values in found.items() if HUB in values] == ["img-src", "connect-src", "frame-ancestors"]


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        (b'<script src="a.js"></script>', []),
        (b"<script>a && b</script>", ["a && b"]),
        (b"<SCRIPT data-x>\r\n1</SCRIPT>", ["\n1"]),
        (b"<script>'<b>&amp;</b>'</script><p>no</p>", ["'<b>&amp;</b>'"]),
        (b"<script>1</script><script>1</script>", ["1"]),
        (b"<script></script>", [""]),
    ],
)
def test_a_hash_covers_the_text_as_a_browser_reads_it(page, texts):
    assert hashes(page) == [f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}" for text in texts]
