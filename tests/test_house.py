"""The rules of the house: notebooks and package in step, names that are explained, files at the top level.

Which module may import which: test_layout.py. Lint, import order and line width: ruff.toml. Types: mypy.ini.
"""
import ast
import functools
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = sorted(p for p in (ROOT / "spa_lib").rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))
TOP_LEVEL = {
    "nbs", "spa_lib", "tests", "figures", "workflow",
    "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE",
    "settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "ruff.toml", "mypy.ini", "Makefile",
}
HEAVY = {
    "librosa", "umap", "soundfile", "av", "soxr", "webdataset", "snakemake", "ipywidgets", "matplotlib",
    "fastcore", "nbdev", "torchmetrics", "obonet",
}
NEEDS_AN_EXTRA = {"spa_lib.metrics.torchmetric"} # its folder loads it when its class is asked for


def name_of(path):
    return str(path.relative_to(ROOT))


def code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def python(script):
    subprocess.run([sys.executable, "-c", script], check=True)


def test_package_is_what_the_notebooks_export(tmp_path):
    for item in ("nbs", "settings.ini", "setup.py", "README.md"):
        copy = shutil.copytree if (ROOT / item).is_dir() else shutil.copy
        copy(ROOT / item, tmp_path / item)
    for init in (ROOT / "spa_lib").rglob("__init__.py"):
        target = tmp_path / init.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(init, target)
    script = """
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export
nbdev_export()
nbdev_clean()
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)

    def files_of(root):
        found = (p for folder in ("spa_lib", "nbs") for p in (root / folder).rglob("*"))
        kept = (p for p in found if p.suffix in (".py", ".ipynb") and ".ipynb_checkpoints" not in p.parts)
        return sorted(p.relative_to(root) for p in kept)

    assert files_of(ROOT) == files_of(tmp_path)
    changed = [str(f) for f in files_of(ROOT) if (ROOT / f).read_bytes() != (tmp_path / f).read_bytes()]
    assert not changed, f"run `make export` and commit: {changed}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_is_fit_to_read(path):
    notebook = json.loads(path.read_text())
    first = "".join(notebook["cells"][0]["source"])
    assert re.match(r"# .+\n\n> .+", first), "begins with a title and a one-line summary"
    assert {"name", "display_name", "language"} <= set(notebook["metadata"]["kernelspec"])
    for cell in code_cells(path):
        assert not [o for o in cell["outputs"] if o["output_type"] == "error"], "".join(cell["source"])
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("path", NOTEBOOKS + MODULES, ids=name_of)
def test_no_path_of_one_machine(path):
    found = re.findall(r"(?:/home/|/root/|/work/|/Users/|/tmp/)\S*", path.read_text())
    assert not found, found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_are_explained(path):
    module = importlib.import_module(dotted(path))
    for name in module.__all__:
        item = getattr(module, name)
        if inspect.isfunction(item) or inspect.isclass(item):
            doc = (item.__doc__ or "").strip()
            assert doc and not doc.startswith(f"{name}("), f"{dotted(path)}.{name} has no docstring"


def own_functions(module):
    """Name -> function, for the public functions of a module and the public methods of its public classes."""
    found = {}
    for name in module.__all__:
        item = inspect.unwrap(getattr(module, name))
        if inspect.isclass(item):
            for key, member in vars(item).items():
                if isinstance(member, property):
                    member = member.fget
                elif isinstance(member, functools.cached_property):
                    member = member.func
                elif isinstance(member, (classmethod, staticmethod)):
                    member = member.__func__
                if not key.startswith("_") and inspect.isfunction(member):
                    found[f"{name}.{key}"] = member
        elif inspect.isfunction(item):
            found[name] = item
    return {name: f for name, f in found.items() if f.__module__ == module.__name__}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_functions_say_what_they_return(path):
    functions = own_functions(importlib.import_module(dotted(path)))
    silent = [name for name, f in functions.items() if "return" not in inspect.get_annotations(f)]
    assert not silent


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_bare_except(path):
    for node in ast.walk(ast.parse(path.read_text())):
        bare = isinstance(node, ast.ExceptHandler) and node.type is None
        assert not bare, f"bare except, line {node.lineno}"


def test_import_is_light():
    """Importing the package's modules loads no optional package, opens no connection and asks for no device.

    Those of an extra are left out: the folders that hand them on must not load them either.
    """
    modules = [dotted(p) for p in MODULES if dotted(p) not in NEEDS_AN_EXTRA]
    python(f"""
import socket, sys
def refuse(*a, **k): raise AssertionError("a connection at import")
socket.socket.connect = refuse
import torch
torch.cuda.init = refuse
for name in {modules}: __import__(name)
heavy = {HEAVY} & set(sys.modules)
assert not heavy, heavy
assert not torch.cuda.is_initialized()
""")


def test_torchaudio_imports_whether_or_not_its_extension_loads():
    python("""
import spa_lib, torchaudio, torch
assert torchaudio.functional.resample(torch.ones(1, 441), 441, 320).shape == (1, 320)
import transformers
transformers.ASTModel
""")


def tracked_files():
    """What git holds; the test is skipped where this is no git checkout."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def test_top_level_is_the_given_one():
    top = {line.split("/")[0] for line in tracked_files()}
    assert {t for t in top if not t.startswith(".")} <= TOP_LEVEL


def test_every_picture_is_listed():
    pictures = {Path(f).name for f in tracked_files() if re.fullmatch(r"figures/[^/]+\.(svg|png)", f)}
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "figures" / "README.md").read_text())
    assert {link for link in links if link.endswith((".svg", ".png"))} == pictures
    assert all((ROOT / "figures" / link).exists() for link in links)


@pytest.mark.parametrize("name", ["Snakefile", "semanticac.smk"])
def test_workflow_keeps_the_line_width(name):
    """Ruff does not read Snakemake's language."""
    lines = (ROOT / "workflow" / name).read_text().splitlines()
    wide = [number for number, line in enumerate(lines, 1) if len(line) > 110]
    assert not wide, f"lines over 110 columns: {wide}"


def test_readme_and_index_give_the_same_commands():
    def commands(text):
        blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.S)
        return [line for block in blocks for line in block.strip().splitlines()]

    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text())["cells"]
    index = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    readme = (ROOT / "README.md").read_text()
    assert commands(readme) and set(commands(index)) <= set(commands(readme))
    assert commands(index)[:4] == commands(readme)[:4]
    assert readme.count("\n") < 150
