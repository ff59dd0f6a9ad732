"""The commands that the README gives, as a user types them."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the notebooks, so that runs/ of the real checkout is left alone."""
    shutil.copytree(root / "nbs", tmp_path / "nbs")
    for name in ("settings.ini", "setup.py"):
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


def papermill(*arguments, cwd, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([BIN / "papermill", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, **kw)


@pytest.mark.parametrize("where", ["root", "nbs"])
def test_training_notebook_runs_without_an_output_path(checkout, where):
    cwd, path = (checkout, "nbs/04_train.ipynb") if where == "root" else (checkout / "nbs", "04_train.ipynb")
    done = papermill(path, "-p", "encoder", "ast", "-p", "scale", "smoke", cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (checkout / "runs" / "04_train-encoder=ast-scale=smoke.ipynb").exists()
    finished = sorted(p.parent.name for p in (checkout / "runs").glob("*/metrics.json"))
    assert len(finished) == 2 and finished[0].startswith("ast-tiny-synth-concat") and finished[1].startswith("ast-tiny-synth-without")
    listed = subprocess.run([BIN / "spa_runs"], cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert all(name in listed for name in finished)


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


@pytest.mark.parametrize("name, value, hint", [("encodr", "ast", "'encoder'"), ("encoder", "astt", "'ast'"), ("method", "conct", "'concat'"),
                                               ("scale", "dem", "'demo'"), ("epochs", "many", "epochs must be int")])
def test_misspelt_is_refused_with_the_way_out(checkout, name, value, hint):
    done = papermill("nbs/04_train.ipynb", "-p", name, value, cwd=checkout)
    assert done.returncode != 0 and hint in done.stderr
    assert not list((checkout / "runs").glob("*/metrics.json"))


def test_other_notebooks_keep_stock_behaviour(tmp_path):
    (tmp_path / "other.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    assert "unknown parameter" not in papermill("other.ipynb", "-p", "x", "1", cwd=tmp_path).stderr
    assert not (tmp_path / "runs").exists()
