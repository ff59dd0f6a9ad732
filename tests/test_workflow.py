"""The workflow: which jobs a plan asks for, what a kill leaves, and what a failed run does not stop."""
import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import yaml

from spa_lib.papermill import notebook_parameters
from spa_lib.runs import plan_runs
from spa_lib.semanticac import train as semanticac
from spa_lib.semanticac.studies import NOTEBOOKS, semantic_runs

snakemake_is_here = pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed: pip install -e '.[paper]'")


@pytest.fixture(scope="module")
def settings(root):
    return yaml.safe_load((root / "workflow" / "config.yaml").read_text())


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the notebooks and the workflow, so that runs/ and figures/ of the real checkout are left alone."""
    for name in ("nbs", "workflow"):
        shutil.copytree(root / name, tmp_path / name)
    for name in ("settings.ini", "setup.py"):
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


def write_plan(checkout, settings=(), **plan):
    """Replace all plans by one, called tiny."""
    plan = dict(data="synthetic clips of a test", parameters=dict(scale="smoke"), encoders=dict(ast={}), groups=dict(comparison=dict(arms=["without", "concat"]))) | plan
    (checkout / "workflow" / "config.yaml").write_text(yaml.safe_dump(dict(scale="tiny", root=None, checkpoints=None, threads=1, plans=dict(tiny=plan)) | dict(settings)))
    return plan_runs(plan)


def command(*arguments):
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def snakemake(checkout, *arguments):
    return subprocess.run(command(*arguments), cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def artefacts(root):
    """The table ARTEFACTS of the Snakefile, read without Snakemake."""
    text = re.search(r"^ARTEFACTS = (\{.*?^\})", (root / "workflow" / "Snakefile").read_text(), re.S | re.M)[1]
    return ast.literal_eval(text)


def test_every_artefact_has_its_notebook_and_its_runs(root, settings):
    groups = set().union(*(plan.get("groups", {}) for plan in settings["plans"].values()))
    for name, (notebook, needs, special) in artefacts(root).items():
        known = notebook_parameters(root / notebook)
        assert known is not None and {"figure", *special} <= set(known), f"{name}: {notebook}"
        assert not needs or {"runs", "source", "data"} <= set(known), f"{name}: {notebook}"
        assert set(needs) <= groups, f"{name} needs groups of runs that no plan has"
    for name in NOTEBOOKS:
        assert {"figure", "scale", "runs", "data"} == set(notebook_parameters(root / "nbs" / "semanticac" / f"{name}.ipynb")), name


def test_plans_hold_what_the_tables_need(root, settings):
    sizes = {}
    for scale, plan in settings["plans"].items():
        runs = plan_runs(plan)
        sizes[scale] = len(runs)
        known = notebook_parameters(root / "nbs" / "04_train.ipynb")
        unknown = set().union(*(r.parameters for r in runs.values())) - set(known)
        assert not unknown, f"{scale}: {unknown} are no parameters of nbs/04_train.ipynb"
        second = semantic_runs(plan.get("semanticac", {}))
        assert set().union(*(r.parameters for r in second.values())) <= set(notebook_parameters(root / "nbs" / "semanticac" / "train.ipynb"))
        assert runs or second, f"the plan {scale} is empty"
        if scale in ("demo", "paper"):
            assert {name for r in second.values() for name in r.groups} == set(NOTEBOOKS)
            arms = {(r.config.encoder, r.config.method if r.config.alpha else "without") for r in runs.values()}
            assert arms >= {(e, a) for e in ("psla", "panns", "ast", "passt", "htsat") for a in ("without", "direct", "prompt", "desc", "concat")}
        if runs and plan["parameters"].get("source", "synth") == "synth" and scale != "paper":
            assert "synthetic" in plan["data"]
    assert sizes["smoke"] <= 8 < sizes["demo"]


@snakemake_is_here
def test_dry_run_lists_the_jobs_of_the_plan(checkout):
    runs = write_plan(checkout, encoders=dict(ast={}, mn=dict(size="tiny")), groups=dict(comparison=dict(arms=["without", "concat"], seeds=[0, 3])), semanticac=dict(table2_urbansound8k="smoke", fig4_classes="smoke"))
    finished, *rest = runs
    (checkout / "runs" / finished).mkdir(parents=True)
    (checkout / "runs" / finished / "metrics.json").touch()
    done = snakemake(checkout, "--dry-run")
    assert done.returncode == 0, done.stdout
    second = set(semantic_runs(dict(table2_urbansound8k="smoke")))
    assert set(re.findall(r"train (\S+)", done.stdout)) & {*runs, *second} == {*rest, *second} and len(runs) == 8 and len(second) == 4
    drawn = set(re.findall(r"draw (\S+)", done.stdout))
    assert {"table1_tiny", "fig3_tiny", "fig1_label_tsne", "semanticac_table2_urbansound8k_tiny", "semanticac_fig4_classes_tiny"} <= drawn and "table2_tiny" not in drawn
    assert sorted(p.name for p in (checkout / "runs").iterdir()) == [finished], "a dry run leaves nothing"


@snakemake_is_here
@pytest.mark.parametrize("profile, plugin", [("slurm", "slurm"), ("kubernetes", "cluster-generic")])
def test_cluster_profiles_take_the_same_file(checkout, profile, plugin):
    if importlib.util.find_spec(f"snakemake_executor_plugin_{plugin.replace('-', '_')}") is None:
        pytest.skip(f"pip install snakemake-executor-plugin-{plugin}")
    write_plan(checkout)
    done = subprocess.run([sys.executable, "-m", "snakemake", "--profile", f"workflow/profiles/{profile}", "--dry-run"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"^train +2$", done.stdout + done.stderr, re.M), done.stderr


def test_kubernetes_job_is_filled_in(root, tmp_path):
    fake = tmp_path / "kubectl"
    fake.write_text("#!/bin/sh\ncat > job\n")
    fake.chmod(0o755)
    script = root / "workflow" / "profiles" / "kubernetes" / "submit.sh"
    subprocess.run(["sh", script, "9", "48000", "1", "1440", "/there/job.sh"], cwd=tmp_path, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    spec = yaml.safe_load((tmp_path / "job").read_text())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "/there/job.sh"] and container["workingDir"] == str(tmp_path) and spec["activeDeadlineSeconds"] == 86400
    assert container["resources"] == dict(requests=dict(cpu=9, memory="48000M"), limits={"memory": "48000M", "nvidia.com/gpu": 1})


@snakemake_is_here
def test_second_paper_goes_on_and_draws_what_it_has(checkout, monkeypatch):
    """A run that was killed in its second step is taken up there; a set that is not there stops its own table only."""
    (run, planned), = semantic_runs(dict(fig3_similarity_matrix="smoke")).items()
    folder, steps, real = checkout / "runs" / "semanticac", [], semanticac.learning_step

    def killed(*given):
        steps.append(1)
        if len(steps) > 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(semanticac.Learning, "save_seconds", -1.0)
    monkeypatch.setattr(semanticac, "learning_step", killed)
    with pytest.raises(KeyboardInterrupt):
        semanticac.train_semantic(planned.config, folder, progress=False)
    saved = folder / run / "checkpoint" / "last.pt"
    state = torch.load(saved, weights_only=True)
    torch.save(state | dict(seconds=5000.0), saved)
    write_plan(checkout, dict(esc50=str(checkout / "nowhere")), encoders={}, groups={}, parameters={}, semanticac=dict(fig3_similarity_matrix="smoke", table3_similarity="real"))

    done = snakemake(checkout)
    assert done.returncode != 0 and "no meta/esc50.csv" in done.stdout, done.stdout
    assert pd.read_csv(folder / run / "log.csv").seconds.tolist()[0] > 5000, "it began anew"
    assert sorted(p.name for p in folder.iterdir()) == [run]
    made = {p: p.stat().st_mtime_ns for p in [folder / run / "metrics.json", *(checkout / "figures").iterdir()]}
    assert {p.name for p in made} == {"metrics.json", *(f"semanticac_fig3_similarity_matrix_tiny{end}" for end in (".svg", ".csv", "_runs.csv"))}
    again = snakemake(checkout, "semanticac_fig3_similarity_matrix")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout and made == {p: p.stat().st_mtime_ns for p in made}


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


@pytest.mark.slow
@snakemake_is_here
def test_killed_anywhere_it_goes_on_and_repeats_nothing(checkout):
    runs = write_plan(checkout, parameters=dict(scale="smoke", epochs=100))
    folders = [checkout / "runs" / name for name in runs]
    target = command("--", *(f"runs/{name}/metrics.json" for name in runs))
    start = lambda log: subprocess.Popen(target, cwd=checkout, stdout=open(checkout / log, "w"), stderr=subprocess.STDOUT, start_new_session=True)

    first = start("first.log")
    wait_until(lambda: all(len(epochs(f)) >= 2 for f in folders))
    first.kill()  # Snakemake alone: its two trainings live on, and the second call has to wait for them
    second = start("second.log")
    wait_until(lambda: (checkout / "second.log").read_text().count("waiting for the process that holds") == 2)
    orphans = subprocess.run(["pgrep", "-g", str(first.pid)], capture_output=True, text=True).stdout.split()
    assert orphans
    for call in (first, second):
        os.killpg(call.pid, signal.SIGKILL)  # everything, but for the kernels, which end when they find their parent gone
    time.sleep(3)
    before = [epochs(f) for f in folders]
    assert all(2 <= len(b) < 100 for b in before) and not any((f / "metrics.json").exists() for f in folders)
    time.sleep(1)
    assert all(a.equals(epochs(f)) for a, f in zip(before, folders)), "a kernel outlived its papermill"

    third = start("third.log")
    assert third.wait() == 0, (checkout / "third.log").read_text()
    for f, b in zip(folders, before):
        assert len(epochs(f)) == 100 and epochs(f).head(len(b)).equals(b), "epochs that were done are not done again; `seconds` would tell"
    times = [(f / "metrics.json").stat().st_mtime_ns for f in folders]
    fourth = start("fourth.log")
    assert fourth.wait() == 0 and "Nothing to be done" in (checkout / "fourth.log").read_text()
    assert times == [(f / "metrics.json").stat().st_mtime_ns for f in folders]


@pytest.mark.slow
@snakemake_is_here
def test_failed_run_leaves_its_traceback_and_does_not_stop_the_others(checkout):
    runs = write_plan(checkout, encoders=dict(ast={}, astt={}))
    good, bad = ([n for n in runs if n.startswith(start)] for start in ("ast-", "astt-"))
    done = snakemake(checkout, "--", "table1", *(f"runs/{n}/metrics.json" for n in runs))
    assert done.returncode != 0 and "hold the tracebacks" in done.stdout
    finished = {n: checkout / "runs" / n / "metrics.json" for n in runs}
    assert all(finished[n].exists() for n in good) and not any(finished[n].exists() for n in bad)
    for name in bad:
        path = checkout / "runs" / "paper" / "tiny" / "train" / f"{name}.ipynb"
        errors = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"]
        assert "Did you mean 'ast'" in errors[0]["evalue"] and str(path.relative_to(checkout)) in done.stdout
    assert not (checkout / "figures" / "table1_tiny.csv").exists(), "no table with a hole in it"

    times = {n: finished[n].stat().st_mtime_ns for n in good}
    write_plan(checkout)  # without the encoder that is not there
    again = snakemake(checkout, "table1")
    assert again.returncode == 0, again.stdout
    assert "train" not in again.stdout and times == {n: finished[n].stat().st_mtime_ns for n in good}
    links = checkout / "runs" / "paper" / "tiny" / "table1.runs"
    assert sorted(p.name for p in links.iterdir()) == sorted(good) and (checkout / "figures" / "table1_tiny.csv").exists()
    (checkout / "figures" / "table1_tiny.csv").unlink()
    assert snakemake(checkout, "table1").returncode == 0 and (checkout / "figures" / "table1_tiny.csv").exists()
    assert "Nothing to be done" in snakemake(checkout, "table1").stdout
