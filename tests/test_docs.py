"""The documents: generated parts, links, paths, quoted messages, environment variables. `python tests/test_docs.py` rewrites the generated parts."""

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studio import config, families  # noqa: E402
from studio.cli import commands  # noqa: E402
from studio.config import TrainConfig, fields, registry  # noqa: E402
from studio.config.optimizers import OPTIMIZERS  # noqa: E402
from studio.config.schedules import SCHEDULES  # noqa: E402
from studio.datasets.captioners import CAPTIONERS  # noqa: E402
from studio.ui.components.bases import denoiser_gigabytes, generation_gigabytes, gigabytes  # noqa: E402

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
DOCS, DECISIONS = ROOT / "docs", ROOT / "docs" / "decisions"
PAGES = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", ROOT / "studio" / "builtin" / "README.md", *sorted(DOCS.rglob("*.md"))]
MOST_README_BYTES = 12_000
LIBRARY_VARIABLE = re.compile(r"\b(?:LORA_STUDIO|HF|GRADIO)_[A-Z_]+")
"""Environment variables of ours and of libraries, however the code names them."""
MARKDOWN = MarkdownIt("commonmark").enable("table")

# Generated parts


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def settings() -> str:
    """Every training parameter, one table per section."""
    parts = []
    for section, leaves in itertools.groupby(fields.leaves(TrainConfig()), lambda leaf: leaf.path.partition(".")[0]):
        rows = [(f"`{leaf.path}`", default(leaf), allowed(leaf), f"**{leaf.title}.** {leaf.help}") for leaf in leaves]
        parts += [f"## {section}", table(("Setting", "Default", "Allowed", "Meaning"), *rows)]
    return "\n\n".join(parts)


def default(leaf: fields.Leaf) -> str:
    return "" if leaf.default in (None, [], "") else str(leaf.default).lower() if leaf.type is bool else f"{leaf.default}"


def allowed(leaf: fields.Leaf) -> str:
    if leaf.choices:
        return ", ".join(str(choice) for choice in leaf.choices)
    if leaf.type is bool:
        return "true, false"
    low = f"from {leaf.ge:,}" if leaf.ge is not None else f"above {leaf.gt:,}" if leaf.gt is not None else ""
    below = "" if leaf.le is None else f"to {leaf.le:,}"
    return " ".join(part for part in (low, below) if part)


def optimizers_table() -> str:
    rows = [(*named(entry), entry.package, f"{entry.state_bytes:g}", entry.source) for entry in OPTIMIZERS]
    return table(("Name", "Optimizer", "Meaning", "Package", "State, bytes per parameter", "Source"), *rows)


def schedules_table() -> str:
    return table(("Name", "Schedule", "Meaning", "Source"), *[(*named(entry), entry.source) for entry in SCHEDULES])


def named(entry: registry.Entry) -> tuple[str, str, str]:
    return f"`{entry.name}`", entry.title, entry.help[0].upper() + entry.help[1:]


def families_table() -> str:
    """Every family with the titles of its listed bases."""
    rows = [(family.title, ", ".join(offer.title for offer in family.offers)) for family in families.FAMILIES]
    return table(("Family", "Bases"), *rows)


def bases_table() -> str:
    """Every listed base, family by family."""
    rows = []
    for family in families.FAMILIES:
        for offer in family.offers:
            name = offer.title if offer.folder else f"[{offer.title}](https://huggingface.co/{offer.id})"
            commercial = ("below a revenue limit" if offer.licence.capped else "yes") if offer.licence.commercial else "**no**"
            needs = ("none", "", "") if offer.folder else (gigabytes(offer.gigabytes), gigabytes(generation_gigabytes(offer)), to_train(offer))
            login = ", login" if offer.gated else ""
            rows.append((family.title, name, f"[{offer.licence.title}]({offer.licence.link})", commercial, needs[0] + login, *needs[1:]))
    return table(("Family", "Base", "Licence", "Commercial use", "Download", "Memory to generate", "Memory to train (4-bit)"), *rows)


def to_train(offer) -> str:
    whole, quantised = denoiser_gigabytes(offer)
    return f"{gigabytes(whole)} ({gigabytes(quantised)})"


INHERITS = {"nothing": "nothing", "uses": "the list of forbidden uses", "all": "the whole licence"}


def licences_table() -> str:
    """Every licence of a listed base, and what a LoRA inherits from it."""
    found = dict.fromkeys(offer.licence for family in families.FAMILIES for offer in family.offers)
    rows = [(f"[{licence.title}]({licence.link})", licence.summary, INHERITS[licence.inherits]) for licence in found]
    return table(("Licence", "Terms in short", "A LoRA inherits"), *rows)


def captioners_table() -> str:
    """Every captioner, with its name on the command line."""
    rows = []
    for facts in CAPTIONERS.values():
        title = f"[{facts.title}](https://huggingface.co/{facts.repo_id})" if facts.repo_id else facts.title
        rows.append((f"`{facts.name}`", title, facts.about, facts.licence, "none" if facts.folder else facts.size or "not stated"))
    return table(("Name", "Captioner", "About", "Licence", "Download"), *rows)


def presets_table() -> str:
    """Every preset file; the quick pace is in the same file as the best one."""
    rows = [(f"[{each.path.stem}](../presets/{each.path.name})", each.title, each.measured) for each in config.presets() if each.pace == "best"]
    return table(("File", "Title", "Numbers"), *rows)


def overlays_table() -> str:
    rows = [(f"[{each.path.stem}](../presets/{each.path.name})", each.description, each.measured) for each in config.overlays()]
    return table(("File", "What fits", "Numbers"), *rows)


def decisions_table() -> str:
    rows = []
    for path in decisions():
        text = path.read_text(encoding="utf-8")
        rows.append((f"[{path.stem[:3]}]({path.name})", text.partition("\n")[0].removeprefix("# "), re.search(r"^Date: (\S+)$", text, re.M)[1]))
    return table(("No.", "Decision", "Date"), *rows)


def decisions() -> list[Path]:
    return sorted(DECISIONS.glob("[0-9]*.md"))


GENERATED = {
    README: {"FAMILIES": families_table},
    DOCS / "settings.md": {"SETTINGS": settings, "OPTIMIZERS": optimizers_table, "SCHEDULES": schedules_table},
    DOCS / "models.md": {
        "BASES": bases_table,
        "LICENCES": licences_table,
        "CAPTIONERS": captioners_table,
        "PRESETS": presets_table,
        "MEMORY": overlays_table,
    },
    DECISIONS / "README.md": {"DECISIONS": decisions_table},
}


def written(page: Path) -> str:
    """The page with its generated parts made from the code as it is now."""
    text = page.read_text(encoding="utf-8")
    for name, make in GENERATED[page].items():
        pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda _, make=make: make() + "\n", text, flags=re.S)
        assert count == 1, f"{page.name} has no place for {name}"
    return text


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", GENERATED, ids=names)
def test_generated_parts_follow_the_code(page):
    assert page.read_text(encoding="utf-8") == written(page), "run `python tests/test_docs.py` to rewrite the generated parts"


def test_every_base_is_listed_with_its_licence_and_whether_commercial_use_is_allowed():
    listed = (DOCS / "models.md").read_text(encoding="utf-8")
    for family in families.FAMILIES:
        for offer in family.offers:
            row = next(line for line in listed.splitlines() if f"{offer.title}]" in line or f"{offer.title} |" in line)
            assert f"| {family.title} |" in row and offer.licence.link in row and ("**no**" in row) != offer.licence.commercial


def test_every_module_has_a_docstring():
    silent = [path.name for path in (ROOT / "studio").rglob("*.py") if path.read_text(encoding="utf-8").strip() and not first_sentence(path)]
    assert silent == []


# README


def test_the_readme_is_short_and_shows_one_image():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= MOST_README_BYTES and len(re.findall(r"!\[", text)) == 1


def test_the_first_screen_of_the_readme_holds_the_two_commands():
    text = README.read_text(encoding="utf-8").split("\n---\n", 1)[1]
    blocks = re.findall(r"```\n(.*?)\n```", text, flags=re.S)
    assert blocks[:2] == ["pip install -r requirements.txt && python app.py", "pip install -r tests/requirements.txt && pytest"]


# Links, paths, commands


def inline(page: Path):
    """Every piece of text, code, link or image of a page, with the block it is in."""
    for block in MARKDOWN.parse(page.read_text(encoding="utf-8").removeprefix("---\n")):
        yield from ((block, child) for child in block.children or [block])


def anchors(page: Path) -> set[str]:
    """GitHub's anchor of every heading."""
    tokens, found = MARKDOWN.parse(page.read_text(encoding="utf-8")), []
    for opening, heading in zip(tokens, tokens[1:]):
        if opening.type == "heading_open":
            text = "".join(child.content for child in heading.children if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(slug + (f"-{found.count(slug)}" if slug in found else ""))
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_and_image_resolves(page):
    broken = []
    for _, child in inline(page):
        target = str(child.attrs.get("href") or child.attrs.get("src") or "")
        if not target or re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


PATH = re.compile(r"(?<![\w/.-])(?:studio|tests|presets|docs|\.ci)/[\w./-]*[\w/](?![\w<*-])")


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "presets").glob("*.toml"))], ids=names)
def test_every_path_that_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_that_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    modules = [ROOT / module.replace(".", "/") for module in re.findall(r"python -m ((?:studio|tests)\b[\w.]*)", text)]
    assert [module for module in modules if not (module.is_dir() or module.with_suffix(".py").exists())] == []
    known = {command.name or command.callback.__name__ for command in commands.app.registered_commands}
    known |= {group.name for group in commands.app.registered_groups}
    assert set(re.findall(r"python -m studio ([a-z]+)", text)) <= known


# Environment variables


def variables() -> set[str]:
    """Every environment variable that app.py, studio/ and the Dockerfile read or set by name."""
    found = set(re.findall(r"^\s+(?:ENV )?([A-Z_]+)=", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M))
    for path in (ROOT / "app.py", *(ROOT / "studio").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found |= set(LIBRARY_VARIABLE.findall(text)) - module_names(text)
        for node in ast.walk(ast.parse(text)):
            key = None
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
                key = node.slice
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("environ.get", "environ.setdefault", "getenv")):
                key = node.args[0]
            if isinstance(key, ast.Constant):
                found.add(key.value)
    return found


def module_names(text: str) -> set[str]:
    """Constants of Python modules that look like a variable, such as huggingface_hub.constants.HF_HUB_CACHE or our own HF_ERRORS."""
    return set(re.findall(r"\.((?:HF|GRADIO)_[A-Z_]+)", text)) | set(re.findall(r"^((?:HF|GRADIO)_[A-Z_]+) =", text, re.M))


def test_every_environment_variable_is_documented():
    documented = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", (DOCS / "deploy.md").read_text(encoding="utf-8")))
    assert {"LORA_STUDIO_HOME", "WORLD_SIZE", "SPACE_ID", "OMP_WAIT_POLICY"} <= variables()
    assert variables() - documented == set()


def test_the_variables_that_only_tests_read_are_documented_for_contributors():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    read = set(re.findall(r"environ\.get\(\"([A-Z_]+)\"", text))
    assert read and {name for name in read if f"`{name}" not in CONTRIBUTING.read_text(encoding="utf-8")} == set()


# Decisions


@pytest.mark.parametrize("path", decisions(), ids=lambda path: path.stem)
def test_a_decision_has_a_title_a_date_and_a_reason(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# .+\n\nDate: \d{4}-\d\d-\d\d\n\n\*\*Decision\.\*\* .+\n\n\*\*Reason\.\*\* .+\n(\n\*\*Failed attempts\.\*\* .+\n)?\Z", text)
    assert re.fullmatch(r"\d{3}(-[a-z0-9]+)+", path.stem)


def test_decisions_are_numbered_without_gaps():
    assert [int(path.stem[:3]) for path in decisions()] == list(range(1, len(decisions()) + 1))


# Troubleshooting and contributing


def messages() -> str:
    """Every text in the code of the studio, so that a quoted message can be looked up; a placeholder ends a text."""
    found = []
    for path in (ROOT / "app.py", *(ROOT / "studio").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(found)


def test_every_quoted_message_exists_in_the_code():
    quoted = re.findall(r"“([^”]+)”", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    text = messages()
    assert len(quoted) > 20 and [each for each in quoted if each not in text] == []


def test_every_registry_that_a_checklist_names_is_in_the_file_beside_it():
    lists = CONTRIBUTING.read_text(encoding="utf-8").partition("## Checklists")[2]
    named = 0
    for line in lists.splitlines():
        files = [ROOT / path for path in PATH.findall(line) if path.endswith(".py")]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`([A-Z][A-Z_]{3,}|\w+\(\)|[A-Z][a-z]\w+)`", line):
            what = re.escape(name.removesuffix("()"))
            assert re.search(rf"^\s*(?:{what}\b[^=\n]*=|(?:def|class) {what}\b)|^\s*{what},?$|import .*\b{what}\b", text, re.M), (name, line)
            named += 1
    assert named > 10


if __name__ == "__main__":
    for each in GENERATED:
        each.write_text(written(each), encoding="utf-8")
