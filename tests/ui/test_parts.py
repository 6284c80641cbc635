"""HTML is in templates, JavaScript in files, and Python contains neither."""

import ast
import re
from pathlib import Path

import gradio as gr
import pytest
from starlette.routing import Route

from studio.core.access import Access, Mode
from studio.ui import app as ui
from studio.ui.components.html import ATTACH
from studio.ui.components.templates import ENVIRONMENT, LINE_BREAK, TEMPLATES, render

UI = Path(ui.__file__).parent
HTML = re.compile(r"</?[a-z][a-z0-9]*(\s[^<>]*)?/?>|<[a-z]+ [a-z-]+=|&[a-z]+;|&#\d+;", re.IGNORECASE)
JAVASCRIPT = re.compile(r"=>|\bfunction\s*\(|\b(document|window|element|console)\.\w|\baddEventListener\b|\btrigger\(|\b(const|let) \w+ = ")
EXCEPTIONS = {
    ATTACH: "names what compiled.js does for a panel",
    LINE_BREAK.pattern: "matches the start and end of tags",
    "<Gallery />": "the Hub's own tag in the Markdown of a model card, removed where the images are shown",
}


def texts(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every string in a module that is no docstring; an f-string without its values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    whole, inner = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            inner |= set(map(id, parts))
            whole.append((node.lineno, "".join(each.value for each in node.values if isinstance(each, ast.Constant))))
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return whole + [(node.lineno, node.value) for node in plain if id(node) not in docs | inner]


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda path: str(path.relative_to(UI)))
def test_no_module_of_the_page_holds_html_or_javascript(path):
    found = [f"line {line}: {text!r}" for line, text in texts(path) if text not in EXCEPTIONS and (HTML.search(text) or JAVASCRIPT.search(text))]
    assert found == [], "HTML belongs into studio/ui/templates, JavaScript into studio/ui/static/js"


@pytest.mark.parametrize("text", ['f"<b>{title}</b>"', "'<img src=x>'", "'() => window.scrollTo(0, 0)'", "'a &times; b'", "f'<li class=\"{x}\">{y}'"])
def test_the_search_finds_html_and_javascript(text, tmp_path):
    (tmp_path / "module.py").write_text(f"x = {text}\n")
    assert any(HTML.search(each) or JAVASCRIPT.search(each) for _, each in texts(tmp_path / "module.py"))


@pytest.fixture
def space(home, monkeypatch):
    """The page as built on a Space, with Hub login."""
    for name, value in {"SYSTEM": "spaces", "SPACE_ID": "ana/studio"}.items():
        monkeypatch.setenv(name, value)
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"):
        monkeypatch.setattr(f"gradio.oauth.{name}", "https://hub.example")
    return ui.build_app(home, Access(mode=Mode.space, oauth=True))[0]


def test_the_only_javascript_in_components_is_the_hook(home, space):
    for app in (space, ui.build_app(home, Access())[0]):
        assert [event.js for event in app.fns.values() if event.js] == []
        assert {block.js_on_load for block in app.blocks.values() if isinstance(block, gr.HTML)} == {None, ATTACH}
        assert not (app.js or app.head)


def test_the_hook_is_the_string_that_the_script_recognises():
    assert f'"{ATTACH}"' in (UI / "static" / "js" / "compiled.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.stem)
def test_a_template_compiles_and_marks_nothing_as_safe(path):
    ENVIRONMENT.get_template(path.name)
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|autoescape|<script(?! type=\"module\" src)|\son\w+=|style=\"(?!--columns|width:)", source)


def test_values_are_escaped_and_html_of_templates_is_not():
    inner = render("parts", "notice", '<img src=x onerror="alert(1)">', "bad")
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in inner and "<img" not in inner
    assert inner in render("parts", "facts", [inner, "<b>"]) and "&lt;b&gt;" in render("parts", "facts", ["<b>"])


def test_a_missing_value_of_a_template_is_an_error():
    with pytest.raises(Exception, match="text"):
        render("parts", "small")


def test_a_space_has_a_login_without_javascript(home, space):
    (button,) = [block for block in space.blocks.values() if block.elem_id == "hub-login"]
    routes = [route.path for route in space.app.routes if isinstance(route, Route)]
    assert "/login/huggingface" in routes and "/logout" in routes and button.link.startswith("/login/huggingface")
    show = next(event.fn for event in space.fns.values() if event.fn and event.fn.__name__ == "show_login")

    class Profile:
        username = "ana"

    assert show(None) == gr.skip() and show(Profile())["link"].startswith("/logout") and "ana" in show(Profile())["value"]
    assert not ui.build_app(home, Access())[0].expects_oauth
