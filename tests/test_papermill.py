"""The commands that the README gives, as a user types them."""
import ast
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from spa_lib.papermill import default_output
from spa_lib.runs import BY_ENCODER, SCALES, RunConfig
from spa_lib.semanticac.config import SemanticConfig
from spa_lib.utils import assignments, field_comments

BIN = Path(sys.executable).parent


def papermill(*arguments, cwd, **kw):
    kw = {"stdin": subprocess.DEVNULL} | kw
    command = [BIN / "papermill", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **kw)


@pytest.mark.parametrize("where", ["root", "nbs"])
def test_training_notebook_runs_without_an_output_path(checkout, where):
    cwd, path = (checkout, "nbs/04_train.ipynb") if where == "root" else (checkout / "nbs", "04_train.ipynb")
    done = papermill(path, "-p", "encoder", "ast", "-p", "scale", "smoke", cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (checkout / "runs" / "04_train-encoder=ast-scale=smoke.ipynb").exists()
    finished = sorted(p.parent.name for p in (checkout / "runs").glob("*/metrics.json"))
    assert len(finished) == 2
    assert finished[0].startswith("ast-tiny-synth-concat")
    assert finished[1].startswith("ast-tiny-synth-without")
    listed = subprocess.run([BIN / "spa_runs"], cwd=checkout, capture_output=True, text=True, check=True)
    assert all(name in listed.stdout for name in finished)


def test_no_warning_reaches_the_user_of_a_run(tmp_path, root):
    """Two did: papermill's of comments with "=", and the kernel's of TCP without encryption."""
    notebook = json.loads((root / "nbs" / "04_train.ipynb").read_text())
    tagged = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    notebook["cells"] = [tagged, {**cell, "source": "print('spa_lib', encoder)"}]
    (tmp_path / "short.ipynb").write_text(json.dumps(notebook))
    done = papermill("short.ipynb", "out.ipynb", "-p", "encoder", "mn", cwd=tmp_path)
    assert done.returncode == 0 and "spa_lib mn" in (tmp_path / "out.ipynb").read_text(), done.stderr[-3000:]
    assert "Unable to parse" not in done.stderr and "without encryption" not in done.stderr, done.stderr
    assert "warning" not in done.stderr.lower()


@pytest.mark.slow
def test_training_notebook_on_two_processes(checkout):
    done = papermill("nbs/04_train.ipynb", "-p", "scale", "smoke", "-p", "processes", "2", cwd=checkout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((checkout / "runs").glob("*/metrics.json"))) == 2


def test_piped_input_does_not_overwrite_the_notebook(checkout):
    before = (checkout / "nbs" / "04_train.ipynb").read_bytes()
    done = papermill("nbs/04_train.ipynb", "-p", "scale", "smokey", cwd=checkout, stdin=None, input="")
    assert done.returncode != 0 and "smoke" in done.stderr
    assert (checkout / "nbs" / "04_train.ipynb").read_bytes() == before


@pytest.mark.parametrize("name, value, hint", [
    ("encodr", "ast", "'encoder'"),
    ("encoder", "astt", "'ast'"),
    ("method", "conct", "'concat'"),
    ("scale", "dem", "'demo'"),
    ("epochs", "many", "epochs must be int"),
])
def test_misspelt_is_refused_with_the_way_out(checkout, name, value, hint):
    done = papermill("nbs/04_train.ipynb", "-p", name, value, cwd=checkout)
    assert done.returncode != 0 and hint in done.stderr
    assert not list((checkout / "runs").glob("*/metrics.json"))


def test_other_notebooks_keep_stock_behaviour(tmp_path):
    empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "other.ipynb").write_text(json.dumps(empty))
    assert "unknown parameter" not in papermill("other.ipynb", "-p", "x", "1", cwd=tmp_path).stderr
    assert not (tmp_path / "runs").exists()


def tagged_cell(path):
    """The source of a notebook's cell of parameters."""
    cells = json.loads(path.read_text())["cells"]
    return next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))


def test_parameters_of_the_training_notebook_are_those_that_are_declared(root):
    """Every name, default and comment. None stands where the scale decides, and says so."""
    cell, comments = assignments(tagged_cell(root / "nbs" / "04_train.ipynb")), field_comments(RunConfig)
    scaled = {name for values in SCALES.values() for name in values}
    scaled |= {name for of_encoder in BY_ENCODER.values() for name in of_encoder("ast", "base")}
    for name in set(cell) & set(comments):
        default = None if name in scaled else getattr(RunConfig(), name)
        comment = f"{comments[name]} (None: the scale's)" if name in scaled else comments[name]
        assert (ast.literal_eval(cell[name].value), cell[name].comment) == (default, comment), name


@pytest.mark.parametrize("name, kind, others", [
    ("04_train", RunConfig, {"scale", "compare", "processes"}),
    ("semanticac/train", SemanticConfig, {"artefact", "run", "scale", "folds", "seeds", "folder"}),
])
def test_a_parameter_is_a_field_or_the_notebooks_own(root, name, kind, others):
    names = set(assignments(tagged_cell(root / "nbs" / f"{name}.ipynb")))
    assert names - {f.name for f in fields(kind)} == others


def test_a_long_output_name_is_cut_by_bytes_and_stays_its_own(tmp_path):
    """Two seeds shared one notebook, for it was cut at 150 characters; 115 of Japanese were no file name."""
    long = {f"parameter_{k}": "value" for k in range(12)}
    names = {default_output("nbs/04_train.ipynb", long | {"seed": str(seed)}).name for seed in range(2)}
    assert len(names) == 2
    for value in ("x"*300, "\u96e8"*115, "\u96e8"*300, "a" + "\u96e8"*300):
        output = tmp_path / default_output("nbs/04_train.ipynb", {"root": value}).name
        assert len(output.name.encode()) <= 156
        output.write_text("")  # the file system takes it
    assert default_output("nbs/04_train.ipynb", {"encoder": "ast"}).name == "04_train-encoder=ast.ipynb"
