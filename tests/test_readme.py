"""README: its snippet prints what it says, its commands exist, its links resolve, and it is short."""
import contextlib
import io
import json
import re
import shlex
from configparser import ConfigParser
from dataclasses import fields

import pytest

from spa_lib.cli import QueryCommand, TagCommand
from spa_lib.papermill import notebook_parameters

PAGES = ["README.md", "figures/README.md", "CONTRIBUTING.md", "CHANGELOG.md",
         "spa_lib/assets/real_corpus/README.md"]


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def index_text(root):
    cells = json.loads((root / "nbs" / "index.ipynb").read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.S)


def test_snippet_prints_what_is_shown(readme):
    snippet, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", readme, re.S).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "README.md", "exec"), {})
    assert printed.getvalue() == shown


def commands_of(text):
    """The lines of its shell blocks, and the commands in its tables."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    cells = re.findall(r"\| `((?:make|papermill|python) [^`]*)` \|$", text, re.M)
    return [line for block in blocks for line in block.strip().splitlines()] + cells


def refuse(root, words):
    """Fail on a command that does not exist."""
    if words[0] == "make":
        target = words[1].split("=")[0]
        assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.M), words
        scales = [w.removeprefix("SCALE=") for w in words if w.startswith("SCALE=")]
        config = (root / "workflow" / "config.yaml").read_text()
        assert all(re.search(rf"^  {scale}:$", config, re.M) for scale in scales), words
    elif words[0] == "papermill":
        known = notebook_parameters(root / words[1])
        given = {words[i + 1] for i, word in enumerate(words) if word == "-p"}
        assert known is not None and given <= set(known), words
    elif words[0] == "python":
        source = (root / words[1]).read_text()
        assert all(f'"{word}"' in source for word in words[2:] if word.startswith("--")), words
    elif words[0] == "git":
        settings = ConfigParser(delimiters=["="])
        settings.read(root / "settings.ini")
        assert words[2] == settings["DEFAULT"]["git_url"].replace(
            "%(user)s", settings["DEFAULT"]["user"]).replace("%(repo)s", settings["DEFAULT"]["repo"])
    elif words[0] == "spa":
        commands = {"tag": TagCommand, "query": QueryCommand}
        options = {w.removeprefix("--").replace("-", "_") for w in words if w.startswith("--")}
        assert options <= {f.name for f in fields(commands[words[1]])}, words
    else:
        assert words[0] in ("source", "spa_runs"), words


def test_every_command_exists(root, readme):
    commands = commands_of(readme)
    assert len(commands) >= 15
    for command in commands:
        refuse(root, shlex.split(command.split(" && ")[0]))


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(root, page):
    text = (root / page).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (root / page).parent / path
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}, link


def test_every_notebook_is_linked(root, readme):
    names = {str(p.relative_to(root / "nbs")) for p in (root / "nbs").rglob("*.ipynb")
             if ".ipynb_checkpoints" not in p.parts}
    linked = set(re.findall(r"\]\(nbs/([^)#]+\.ipynb)", readme))
    assert names == linked
    assert names - {"index.ipynb"} <= set(re.findall(r"\]\(([^)#]+\.ipynb)", index_text(root)))


def test_names_of_notebooks_are_links(root, readme):
    for name in re.findall(r"(?<!\[)`([\w/]+)`", without_code(readme)):
        assert not (root / "nbs" / f"{name}.ipynb").exists(), f"{name} is a notebook: link it"


def test_it_is_short(readme):
    prose = re.sub(r"<!--.*?-->", "", without_code(readme), flags=re.S)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    assert len(prose.split()) <= 650
