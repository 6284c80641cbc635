"""README's tree and its tables of settings and bases are made from the code; `python tests/test_docs.py` writes them anew."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studio import config, families  # noqa: E402
from studio.config import TrainConfig, fields  # noqa: E402
from studio.ui.components.bases import gigabytes, in_memory, to_draw  # noqa: E402

README = ROOT / "README.md"


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def tree() -> str:
    """One line a file: its name and the first sentence of its docstring."""
    lines = ["```"]
    packages = sorted(path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "studio").rglob("__init__.py"))
    for folder in packages:
        if folder == "studio":
            lines.append(f"{'app.py':28} {first_sentence(ROOT / 'app.py')}")
        lines.append(f"{folder}/")
        for path in sorted((ROOT / folder).glob("*.py")):
            if sentence := first_sentence(path):
                lines.append(f"  {path.name:26} {sentence}")
    lines.append("presets/")
    lines += [f"  {preset.path.name:26} {preset.title}; {preset.measured}" for preset in config.presets() if preset.pace == "best"]
    lines += [f"  {overlay.path.name:26} Overlay for a graphics card with {overlay.title}; {overlay.measured}" for overlay in config.overlays()]
    lines.append(f"{'tests/':28} Mirror studio/; browser/ walks the page in a real Chromium, fake_hub.py is a Hub that speaks the real protocol.")
    lines.append(f"  {'homes/':26} Homes of earlier versions, which every later one opens; `python -m tests.homes.make` makes this version's.")
    return "\n".join([*lines, "```"])


def settings() -> str:
    """Every training parameter as the form shows it."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for leaf in fields.leaves(TrainConfig()):
        default = "" if leaf.default in (None, [], "") else leaf.default
        rows.append(f"| `{leaf.path}` | {default} | **{leaf.title}.** {leaf.help} |")
    return "\n".join(rows)


def families_table() -> str:
    """Every base that is proposed, family by family."""
    rows = ["| family | base | licence | commercial use | to fetch | memory to draw | to learn (packed) |", "|---|---|---|---|---|---|---|"]
    for family in families.FAMILIES:
        for offer in family.offers:
            name = offer.title if offer.folder else f"[{offer.title}](https://huggingface.co/{offer.id})"
            commercial = ("up to a revenue" if offer.licence.capped else "yes") if offer.licence.commercial else "**no**"
            takes = ["nothing", "", ""] if offer.folder else [gigabytes(offer.gigabytes), gigabytes(to_draw(offer)), " ".join(to_learn(offer))]
            login = ", login" if offer.gated else ""
            facts = [family.title, name, f"[{offer.licence.title}]({offer.licence.link})", commercial, takes[0] + login, *takes[1:]]
            rows.append(f"| {' | '.join(facts)} |")
    return "\n".join(rows)


def to_learn(offer) -> tuple[str, str]:
    whole, packed = in_memory(offer)
    return gigabytes(whole), f"({gigabytes(packed)})"


MADE = {"TREE": tree, "SETTINGS": settings, "FAMILIES": families_table}


def written(readme: str) -> str:
    for name, make in MADE.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n?<!-- /{name} -->)"
        readme = re.sub(pattern, lambda match, make=make: match[1] + make() + "\n" + match[2].lstrip(), readme, flags=re.S)
    return readme


def test_the_readme_says_what_the_code_says():
    readme = README.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in readme for name in MADE)
    assert readme == written(readme), "run `python tests/test_docs.py` to write README's tree and tables anew"


def test_every_family_has_its_rows_with_its_licence_and_whether_it_may_be_sold():
    table = README.read_text(encoding="utf-8").split("<!-- FAMILIES -->")[1].split("<!-- /FAMILIES -->")[0]
    for family in families.FAMILIES:
        for offer in family.offers:
            row = next(line for line in table.splitlines() if f"{offer.title}]" in line or f"{offer.title} |" in line)
            assert f"| {family.title} |" in row and offer.licence.link in row and ("**no**" in row) != offer.licence.commercial


def test_every_module_says_in_a_sentence_what_it_is():
    silent = [path.name for path in (ROOT / "studio").rglob("*.py") if path.read_text().strip() and not first_sentence(path)]
    assert silent == []


def test_every_picture_and_page_that_the_readme_shows_is_there():
    readme = README.read_text(encoding="utf-8")
    linked = re.findall(r"\]\(((?!https?:)[^)#]+)\)", readme)
    assert [name for name in linked if not (ROOT / name).exists()] == []


def test_the_first_screen_holds_the_two_commands():
    readme = README.read_text(encoding="utf-8").split("\n---\n", 1)[1]
    blocks = re.findall(r"```\n(.*?)\n```", readme, flags=re.S)
    assert blocks[:2] == ["pip install -r requirements.txt && python app.py", "pip install -r tests/requirements.txt && pytest"]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
