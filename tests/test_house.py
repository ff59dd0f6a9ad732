"""The rules of the house: notebooks and package in step, names that are explained. Which module may import which: test_layout.py."""
import ast
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


def name_of(path):
    return str(path.relative_to(ROOT))


def code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_package_is_what_the_notebooks_export(tmp_path):
    for item in ("nbs", "settings.ini", "setup.py", "README.md"):
        copy = shutil.copytree if (ROOT / item).is_dir() else shutil.copy
        copy(ROOT / item, tmp_path / item)
    for init in (ROOT / "spa_lib").rglob("__init__.py"):
        target = tmp_path / init.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(init, target)
    script = "from nbdev.doclinks import nbdev_export; from nbdev.clean import nbdev_clean; nbdev_export(); nbdev_clean()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for folder in ("spa_lib", "nbs"):
        files = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".ipynb") and ".ipynb_checkpoints" not in str(p)}
        again = {p.relative_to(tmp_path) for p in (tmp_path / folder).rglob("*") if p.suffix in (".py", ".ipynb")}
        assert files == again
        changed = [str(f) for f in sorted(files) if (ROOT / f).read_bytes() != (tmp_path / f).read_bytes()]
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
            assert (item.__doc__ or "").strip() and not item.__doc__.startswith(f"{name}("), f"{dotted(path)}.{name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_bare_except(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except, line {node.lineno}"


def test_import_is_light():
    """Importing every module loads no optional package, opens no connection and asks for no device."""
    script = f"""
import socket, sys
def refuse(*a, **k): raise AssertionError("a connection at import")
socket.socket.connect = refuse
import torch
torch.cuda.init = refuse
for name in {[dotted(p) for p in MODULES]}: __import__(name)
heavy = {{"librosa", "umap", "soundfile", "webdataset", "snakemake", "ipywidgets", "matplotlib", "fastcore", "nbdev"}} & set(sys.modules)
assert not heavy, heavy
assert not torch.cuda.is_initialized()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_torchaudio_imports_whether_or_not_its_extension_loads():
    script = "import spa_lib, torchaudio, torch; assert torchaudio.functional.resample(torch.ones(1, 441), 441, 320).shape == (1, 320); import transformers; transformers.ASTModel"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_top_level_is_the_given_one():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {t for t in top if not t.startswith(".")} <= {"nbs", "spa_lib", "settings.ini", "setup.py", "README.md", "figures", "tests", "Makefile", "LICENSE", "workflow"}


def test_readme_and_index_give_the_same_commands():
    def commands(text):
        return [line for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.S) for line in block.strip().splitlines()]

    index = "\n".join("".join(c["source"]) for c in json.loads((ROOT / "nbs" / "index.ipynb").read_text())["cells"] if c["cell_type"] == "markdown")
    readme = (ROOT / "README.md").read_text()
    assert commands(readme) and set(commands(index)) <= set(commands(readme))
    assert commands(index)[:4] == commands(readme)[:4]
    assert readme.count("\n") < 150
