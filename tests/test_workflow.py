"""The workflow: which jobs a plan asks for, what a kill leaves, and what a failed run does not stop."""
import ast
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import yaml

from spa_lib.papermill import notebook_parameters
from spa_lib.runs import Trainer, plan_runs
from spa_lib.semanticac import NOTEBOOKS, semantic_runs, train_semantic

snakemake_is_here = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None,
    reason="Snakemake is not installed: pip install -e '.[paper]'",
)


@pytest.fixture(scope="module")
def settings(root):
    return yaml.safe_load((root / "workflow" / "config.yaml").read_text())


def write_plan(checkout, settings=(), **plan):
    """Replace all plans by one, called tiny."""
    defaults = {
        "data": "synthetic clips of a test",
        "parameters": {"scale": "smoke"},
        "encoders": {"ast": {}},
        "groups": {"comparison": {"variants": ["without", "concat"]}},
    }
    plan = defaults | plan
    whole = {"scale": "tiny", "root": None, "checkpoints": None, "threads": 1, "plans": {"tiny": plan}}
    (checkout / "workflow" / "config.yaml").write_text(yaml.safe_dump(whole | dict(settings)))
    return plan_runs(plan)


def command(*arguments):
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def snakemake(checkout, *arguments):
    return subprocess.run(
        command(*arguments), cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def artefacts(root):
    """The table ARTEFACTS of the Snakefile, read without Snakemake."""
    text = (root / "workflow" / "Snakefile").read_text()
    table = re.search(r"^ARTEFACTS = (\{.*?^\})", text, re.S | re.M)[1]
    return ast.literal_eval(table)


def test_every_artefact_has_its_notebook_and_its_runs(root, settings):
    groups = set().union(*(plan.get("groups", {}) for plan in settings["plans"].values()))
    for name, (notebook, needs, special) in artefacts(root).items():
        known = notebook_parameters(root / notebook)
        assert known is not None and {"figure", *special} <= set(known), f"{name}: {notebook}"
        assert not needs or {"runs", "source", "data"} <= set(known), f"{name}: {notebook}"
        assert set(needs) <= groups, f"{name} needs groups of runs that no plan has"
    for name in NOTEBOOKS:
        known = notebook_parameters(root / "nbs" / "semanticac" / f"{name}.ipynb")
        assert {"figure", "scale", "runs", "data"} == set(known), name


@snakemake_is_here
def test_dry_run_lists_the_jobs_of_the_plan(checkout):
    runs = write_plan(
        checkout,
        encoders={"ast": {}, "mn": {"size": "tiny"}},
        groups={"comparison": {"variants": ["without", "concat"], "seeds": [0, 3]}},
        semanticac={"table2_urbansound8k": "smoke", "fig4_classes": "smoke"},
    )
    finished, *rest = runs
    (checkout / "runs" / finished).mkdir(parents=True)
    (checkout / "runs" / finished / "metrics.json").touch()
    done = snakemake(checkout, "--dry-run")
    assert done.returncode == 0, done.stdout
    second = set(semantic_runs({"table2_urbansound8k": "smoke"}))
    assert len(runs) == 8 and len(second) == 4
    assert set(re.findall(r"train (\S+)", done.stdout)) & {*runs, *second} == {*rest, *second}
    drawn = set(re.findall(r"draw (\S+)", done.stdout))
    assert {"table1_tiny", "fig3_tiny", "fig1_label_tsne"} <= drawn and "table2_tiny" not in drawn
    assert {"semanticac_table2_urbansound8k_tiny", "semanticac_fig4_classes_tiny"} <= drawn
    assert sorted(p.name for p in (checkout / "runs").iterdir()) == [finished], "a dry run leaves nothing"


@snakemake_is_here
def test_slurm_profile_takes_the_same_file(checkout):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    write_plan(checkout)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/slurm", "--dry-run"],
        cwd=checkout, capture_output=True, text=True,
    )
    assert done.returncode == 0 and re.search(r"^train +2$", done.stdout + done.stderr, re.M), done.stderr


@snakemake_is_here
def test_second_paper_goes_on_and_draws_what_it_has(checkout, monkeypatch):
    """A run killed in its second step continues there; a missing data set stops its own table only."""
    (run, planned), = semantic_runs({"fig3_similarity_matrix": "smoke"}).items()
    folder = checkout / "runs" / "semanticac"
    steps, real = [], Trainer.training_step

    def killed(*given):
        steps.append(1)
        if len(steps) > 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    monkeypatch.setattr(Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_semantic(planned.config, folder, progress=False)
    saved = folder / run / "checkpoint" / "last.pt"
    state = torch.load(saved, weights_only=True)
    torch.save(state | dict(seconds=5000.0), saved)
    drawn = {"fig3_similarity_matrix": "smoke", "table3_similarity": "real"}
    (checkout / "nowhere").mkdir()
    nowhere = {"esc50": str(checkout / "nowhere")}
    write_plan(checkout, nowhere, encoders={}, groups={}, parameters={}, semanticac=drawn)

    done = snakemake(checkout)
    assert done.returncode != 0 and "no meta/esc50.csv" in done.stdout, done.stdout
    assert pd.read_csv(folder / run / "log.csv").seconds.tolist()[0] > 5000, "it began anew"
    assert sorted(p.name for p in folder.iterdir()) == [run]
    paths = [folder / run / "metrics.json", *(checkout / "figures").iterdir()]
    written = {p: p.stat().st_mtime_ns for p in paths}
    figure = "semanticac_fig3_similarity_matrix_tiny"
    files = {f"{figure}.svg", f"{figure}.csv", f"{figure}_runs.csv"}
    assert {p.name for p in written} == {"metrics.json", *files}
    again = snakemake(checkout, "semanticac_fig3_similarity_matrix")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    assert written == {p: p.stat().st_mtime_ns for p in written}


@snakemake_is_here
@pytest.mark.parametrize("target", ["paper", "paper-plan"])
def test_make_looks_for_folders_before_it_installs(root, tmp_path, target):
    """It took minutes to say so: first an environment was made."""
    given = ["ROOT=/no/folder", f"CHECKPOINTS={tmp_path}", f"VENV={tmp_path / 'venv'}", "PYTHON=false"]
    done = subprocess.run(["make", target, *given], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("make: there is no folder /no/folder\n")
    assert not (tmp_path / "venv").exists()
    address = subprocess.run(["make", "folders", "ROOT=https://a.b/c"], cwd=root, capture_output=True)
    assert address.returncode == 0


@snakemake_is_here
def test_misspelt_scale_is_refused(checkout):
    done = snakemake(checkout, "--dry-run", "--config", "scale=demmo")
    assert done.returncode != 0 and "Did you mean 'demo'" in done.stdout


def epochs(folder):
    """What the log of a run says so far."""
    return pd.read_csv(folder / "log.csv") if (folder / "log.csv").exists() else pd.DataFrame()


def wait_until(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.1)


def kernels(call):
    """How many kernels of notebooks a call has started."""
    found = subprocess.run(["pgrep", "-g", str(call.pid), "-f", "ipykernel"], capture_output=True, text=True)
    return len(found.stdout.split())


@pytest.mark.slow
@snakemake_is_here
def test_killed_anywhere_it_goes_on_and_repeats_nothing(checkout):
    runs = write_plan(checkout, parameters={"scale": "smoke", "epochs": 100})
    folders = [checkout / "runs" / name for name in runs]
    target = command("--", *(f"runs/{name}/metrics.json" for name in runs))

    def start(log):
        with open(checkout / log, "w") as out:
            return subprocess.Popen(
                target, cwd=checkout, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    first = start("first.log")
    wait_until(lambda: all(len(epochs(f)) >= 2 for f in folders))
    first.kill()  # Snakemake alone: its two trainings live on, and the second call has to wait for them
    second = start("second.log")
    held = [json.loads((f / "writer.json").read_text())["pid"] for f in folders]
    wait_until(lambda: kernels(second) == 2)
    time.sleep(20)  # they come to their trainings, and wait there
    assert kernels(second) == 2
    assert held == [json.loads((f / "writer.json").read_text())["pid"] for f in folders]
    orphans = subprocess.run(["pgrep", "-g", str(first.pid)], capture_output=True, text=True).stdout.split()
    assert orphans
    for call in (first, second):
        # everything, except for the kernels, which end when they find that their parent is gone
        os.killpg(call.pid, signal.SIGKILL)
    time.sleep(3)
    before = [epochs(f) for f in folders]
    assert all(2 <= len(b) < 100 for b in before)
    assert not any((f / "metrics.json").exists() for f in folders)
    time.sleep(1)
    assert all(a.equals(epochs(f)) for a, f in zip(before, folders)), "a kernel outlived its papermill"

    third = start("third.log")
    assert third.wait() == 0, (checkout / "third.log").read_text()
    for f, b in zip(folders, before):
        assert len(epochs(f)) == 100
        assert epochs(f).head(len(b)).equals(b), "an epoch was done a second time: its `seconds` differ"
    times = [(f / "metrics.json").stat().st_mtime_ns for f in folders]
    fourth = start("fourth.log")
    assert fourth.wait() == 0 and "Nothing to be done" in (checkout / "fourth.log").read_text()
    assert times == [(f / "metrics.json").stat().st_mtime_ns for f in folders]


@pytest.mark.slow
@snakemake_is_here
def test_failed_run_leaves_its_traceback_and_does_not_stop_the_others(checkout):
    runs = write_plan(checkout, encoders={"ast": {}, "astt": {}})
    good, bad = ([n for n in runs if n.startswith(start)] for start in ("ast-", "astt-"))
    done = snakemake(checkout, "--", "table1", *(f"runs/{n}/metrics.json" for n in runs))
    assert done.returncode != 0 and "hold the tracebacks" in done.stdout
    finished = {n: checkout / "runs" / n / "metrics.json" for n in runs}
    assert all(finished[n].exists() for n in good) and not any(finished[n].exists() for n in bad)
    for name in bad:
        path = checkout / "runs" / "paper" / "tiny" / "train" / f"{name}.ipynb"
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
        errors = [o for o in outputs if o["output_type"] == "error"]
        assert "Did you mean 'ast'" in errors[0]["evalue"] and str(path.relative_to(checkout)) in done.stdout
    assert not (checkout / "figures" / "table1_tiny.csv").exists(), "no table with a hole in it"

    times = {n: finished[n].stat().st_mtime_ns for n in good}
    write_plan(checkout)  # without the encoder that is not there
    again = snakemake(checkout, "table1")
    assert again.returncode == 0, again.stdout
    assert "train" not in again.stdout and times == {n: finished[n].stat().st_mtime_ns for n in good}
    links = checkout / "runs" / "paper" / "tiny" / "table1.runs"
    table = checkout / "figures" / "table1_tiny.csv"
    assert sorted(p.name for p in links.iterdir()) == sorted(good) and table.exists()
    table.unlink()
    assert snakemake(checkout, "table1").returncode == 0 and table.exists()
    assert "Nothing to be done" in snakemake(checkout, "table1").stdout
