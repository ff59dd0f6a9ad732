"""The guide to the real corpus: its commands make the runs of the released tables, from which commit."""
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from spa_lib.data import FREESOUND_IDS, read_clips
from spa_lib.ontology import Ontology
from spa_lib.papermill import notebook_parameters
from spa_lib.runs import make_config, plan_runs, run_name
from spa_lib.semanticac import semantic_runs


@pytest.fixture(scope="module")
def steps(root):
    """Name in figures/ -> commands."""
    cells = json.loads((root / "nbs" / "guides" / "real_corpus.ipynb").read_text())["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names = dict(FREESOUND_IDS=FREESOUND_IDS, print=lambda *a, **k: None)
    exec(next(s for s in sources if "STEPS = {" in s), names)
    return names["STEPS"]


@pytest.fixture(scope="module")
def plans(root):
    return yaml.safe_load((root / "workflow" / "config.yaml").read_text())["plans"]


def run_guide(notebook, folder, given):
    """A guide by papermill, in a folder of its own."""
    words = [word for name, value in given.items() for word in ("-p", name, str(value))]
    done = subprocess.run(
        [Path(sys.executable).parent / "papermill", notebook, folder / "out.ipynb", *words], cwd=folder,
        capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]


def ledgers(root, pattern="*"):
    """Of the figures that are kept: `make paper SCALE=smoke` leaves its own beside them."""
    return [path for path in (root / "figures").glob(f"{pattern}_runs.csv") if "_smoke" not in path.name]


def runs_in(root, name):
    return pd.read_csv(root / "figures" / f"{name}_runs.csv")


def test_every_table_on_real_clips_has_its_commands(root, steps):
    tables = {path.name.removesuffix("_runs.csv") for path in ledgers(root)}
    audioset = {"few_labels", "audioset_features"} # AudioSet's own clips
    real = {t for t in tables - audioset if not t.endswith("_demo")}
    named = {t for t in real if any(re.fullmatch(s.replace("*", ".*"), t) for s in steps)}
    assert real == named


def test_commands_name_plans_notebooks_and_parameters_that_exist(root, steps, plans):
    for command in {c for commands in steps.values() for c in commands}:
        words = shlex.split(command)
        if words[0] == "make":
            scale = dict(w.split("=", 1) for w in words if "=" in w)["SCALE"]
            assert scale in plans, command
            continue
        assert words[0] == "papermill" and (root / words[1]).is_file(), command
        given = {words[i + 1] for i, w in enumerate(words) if w == "-p"}
        assert given <= set(notebook_parameters(root / words[1])), command


@pytest.mark.parametrize(
    "name", ["table1_real_clips", "fig3_real_clips", "table2_real_clips", "table3_simulated_real_clips"]
)
def test_plan_real_makes_the_runs_of_the_tables(root, plans, name):
    planned = set(plan_runs(plans["real"], "CORPUS", "CHECKPOINTS"))
    runs = runs_in(root, name)
    assert set(runs[runs.arm != "untouched"].run) <= planned


def test_guide_to_real_clips_makes_the_runs_of_alpha(root):
    given = dict(encoder="mn", size="base", checkpoint="FOLDER/mn04_as_mAP_432.pt", source="audioset",
                 recording_pattern=FREESOUND_IDS, holdout=0.25, bootstrap=0)
    runs = runs_in(root, "alpha_real_clips")
    made = [run_name(make_config("real", alpha=r.alpha, seed=r.seed, **given)) for r in runs.itertuples()]
    assert made == runs.run.tolist()


def test_plan_semanticac_makes_the_runs_of_its_tables(root, plans):
    folders = dict(esc50="CORPUS/ESC-50", urbansound8k="CORPUS/UrbanSound8K")
    planned = set(semantic_runs(plans["semanticac"]["semanticac"], folders, "CHECKPOINTS"))
    for path in ledgers(root, "semanticac_*"):
        if "_demo" not in path.name:
            assert set(pd.read_csv(path).run) <= planned, path.name

def commits_of_tables(root):
    """Name in figures/ -> commit, from the list in figures/README.md."""
    text = (root / "figures" / "README.md").read_text()
    rows = re.findall(r"^\| ([\w, ]+) \| ([0-9a-f]{7}) \|$", text, re.M)
    return {name: commit for names, commit in rows for name in names.split(", ")}


def test_tables_on_real_clips_are_those_of_the_commit_that_is_named(root):
    """A table that is drawn anew leaves the list; see figures/README.md."""
    commits = commits_of_tables(root)
    assert len(commits) >= 8
    for name, commit in commits.items():
        found = subprocess.run(["git", "cat-file", "-e", commit], cwd=root, capture_output=True)
        if found.returncode:
            pytest.skip(f"this checkout has no history back to {commit}")
        path = f"figures/{name}.csv"
        then = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=root, capture_output=True)
        assert then.stdout == (root / path).read_bytes(), f"{path} is not the one of {commit}"


@pytest.mark.slow
def test_guide_to_real_clips_goes_from_a_csv_to_a_page(root, tmp_path):
    """Two dozen synthetic clips, as their owner would list them; one epoch, the smallest network."""
    clips = read_clips("synth", n_train=20, n_eval=12, seconds=1)
    ontology = Ontology.audioset()
    names = [";".join(ontology.name(mid) for mid in mids) for mids in clips.mids]
    table = pd.DataFrame(dict(path=clips.path, labels=names, split=clips.split, recording=clips.clip_id))
    table.to_csv(tmp_path / "clips.csv", index=False)
    given = dict(source="csv", root=tmp_path / "clips.csv", size="tiny", epochs=1, alphas="0.1", seeds=2,
                 choice_seeds=1, jobs=1, runs=tmp_path / "runs", page=tmp_path / "page.html")
    run_guide(root / "nbs" / "guides" / "real_clips.ipynb", tmp_path, given)
    page = (tmp_path / "page.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[0] == "20 training clips, 12 evaluation clips" and len(headings) == 6
    assert "<svg" in page and page.count("<table") == 5 and "000000.wav" in headings[4]
    assert len(list((tmp_path / "runs").glob("*/model.safetensors"))) == 6


NAMES = ["{id}.wav", "Y{id}.wav", "{id}_30.000_40.000.wav"] # of a clip's file, as downloaders give them
LIST_HEAD = "# Segments csv\n# num_ytids=150\n# YTID, start_seconds, end_seconds, positive_labels\n"


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["flac", "as is"])
def test_guide_to_audioset_runs_on_150_clips(root, tmp_path, codec):
    """More clips to evaluate than the scale takes, few to train; it failed after the training."""
    clips = read_clips("synth", n_train=50, n_eval=100, seconds=2)
    ids = [f"{n:03d}-_{n:06x}" for n in range(len(clips))]
    folder = tmp_path / "as"
    (folder / "clips").mkdir(parents=True)
    for n, path in enumerate(clips.path):
        (folder / "clips" / NAMES[n % 3].format(id=ids[n])).symlink_to(path)
    for side, name in (("train", "balanced_train"), ("eval", "eval")):
        rows = [f'{ids[n]}, 30.000, 40.000, "{",".join(clips.mids[n])}"\n'
                for n in range(len(clips)) if clips.split[n] == side]
        (folder / f"{name}_segments.csv").write_text(LIST_HEAD + "".join(rows))
    given = dict(root=folder, codec=codec, runs=tmp_path / "runs", clips_per_shard=64, tag="mine")
    run_guide(root / "nbs" / "guides" / "audioset_full.ipynb", tmp_path, given)
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir() if (path / "metrics.json").is_file())
    assert len(runs) == 2 and all("-mine-" in run for run in runs)
    metrics = json.loads((tmp_path / "runs" / runs[0] / "metrics.json").read_text())
    assert metrics["n_eval"] == 64 and metrics["left_out"] == {}
