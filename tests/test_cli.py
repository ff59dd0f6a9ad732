"""The commands, as a user types them."""
import importlib
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from spa_lib.cli import TrainCommand, spa_plan, spa_runs, spa_train
from spa_lib.runs import RunConfig, make_config, run_name, write_config


def refused(command, *words):
    """What a command prints when it refuses its words."""
    with pytest.raises(SystemExit) as stopped:
        command(list(words))
    assert stopped.value.code not in (0, None)
    return str(stopped.value)


def python(*words, cwd):
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)


def test_entry_points_are_functions_of_the_module(root):
    points = re.findall(r'"(\w+)=([\w.]+):(\w+)"', (root / "setup.py").read_text())
    assert {name for name, _, _ in points} >= {"spa_runs", "spa_plan"}
    for _, module, function in points:
        assert callable(getattr(importlib.import_module(module), function))


# ---- spa_runs

def test_no_run_is_an_error_with_the_command(tmp_path):
    assert "papermill nbs/04_train.ipynb -p encoder ast" in refused(spa_runs, str(tmp_path))


def test_a_damaged_run_is_named(tmp_path):
    folder = tmp_path / "one"
    write_config(folder, make_config("smoke"))
    (folder / "metrics.json").write_text('{"config_hash": "other"}')
    assert refused(spa_runs, str(tmp_path)).startswith("spa_runs: one: config.json")


# ---- spa_plan

def test_plan_of_another_file_with_another_scale(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path) # no run is finished there
    groups = "{comparison: {variants: [without, concat]}}"
    line = f"{{parameters: {{scale: smoke}}, encoders: {{ast: {{}}, mn: {{}}}}, groups: {groups}}}"
    (tmp_path / "plans.yaml").write_text(f"scale: none\nplans:\n  none: {{groups: {{}}}}\n  one: {line}\n")
    spa_plan([str(tmp_path / "plans.yaml"), "--scale=one", "--jobs", "2"])
    assert "0 of 4 runs are finished, 4 to run" in capsys.readouterr().out


def test_unknown_plan_and_missing_file(tmp_path):
    assert "spa_plan: unknown scale 'smok'. Did you mean 'smoke'" in refused(spa_plan, "--scale", "smok")
    assert "no.yaml" in refused(spa_plan, str(tmp_path / "no.yaml"))


def test_misspelt_option_is_refused_with_the_nearest(capsys):
    refused(spa_plan, "--jbos", "3")
    said = capsys.readouterr()
    assert "Perhaps you meant" in said.out + said.err and "--jobs" in said.out + said.err


# ---- python -m spa_lib.train

def test_words_and_files_make_configurations(tmp_path):
    cfg = make_config("smoke", encoder="mn", seed=3)
    path = str(write_config(tmp_path, cfg))
    words = ("scale=smoke", "encoder=mn", "alpha=0", "mixup_labels=False", "text_branch=centred", "root=7")
    first, second = TrainCommand((path, *words)).configs()
    given = dict(encoder="mn", alpha=0.0, mixup_labels=False, text_branch="centred", root="7")
    assert first == cfg and second == make_config("smoke", **given)
    assert TrainCommand(("scale=paper", "checkpoint=")).configs()[0].checkpoint is None


@pytest.mark.parametrize("words, message", [
    ([], "nothing to train"), (["no/config.json"], "no/config.json"),
    (["nonsense"], "'nonsense' is not name=value"), (["scale=smok"], "Did you mean 'smoke'"),
    (["epoch=3"], "Did you mean 'epochs'"), (["epochs=x"], "epochs must be int"),
    (["alpha=-1"], "alpha must be at least 0"),
])
def test_what_cannot_be_trained_is_refused(words, message):
    said = refused(spa_train, *words)
    assert said.startswith("python -m spa_lib.train: ") and message in said


def test_help_lists_every_parameter_with_default_and_comment(capsys):
    with pytest.raises(SystemExit):
        spa_train(["--help"])
    said = capsys.readouterr().out
    for f in fields(RunConfig):
        assert f"\n  {f.name}={f.default} " in said or f"\n  {f.name}={f.default}\n" in said
    assert 'label description (section 3.1): "direct", "prompt", "desc", "concat"' in said


def test_the_module_is_the_command(tmp_path):
    wrong = python("-m", "spa_lib.train", "nonsense", cwd=tmp_path)
    assert wrong.returncode != 0 and "name=value" in wrong.stderr and "Traceback" not in wrong.stderr
    words = ("scale=smoke", "alpha=0", "--folder", str(tmp_path / "runs"))
    right = python("-m", "spa_lib.train", *words, cwd=tmp_path)
    assert right.returncode == 0, right.stderr[-2000:]
    name = run_name(make_config("smoke", alpha=0.0))
    assert [p.parent.name for p in (tmp_path / "runs").glob("*/metrics.json")] == [name]
    script = "from spa_lib.cli import spa_runs; spa_runs()" # reads the word that follows
    listed = python("-c", script, str(tmp_path / "runs"), cwd=tmp_path)
    assert listed.returncode == 0 and name in listed.stdout
