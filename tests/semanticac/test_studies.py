"""Which runs make which table, and each artefact from clips to picture."""
import subprocess
import sys

import pytest

from spa_lib.semanticac.config import SEMANTIC_SCALES, semantic_name
from spa_lib.semanticac.studies import ARTEFACTS, NOTEBOOKS, runs_of, semantic_runs, study
from spa_lib.semanticac.train import train_semantic


def test_paper_scale_is_the_papers_setting():
    for cfg in study("table1_esc50", "paper"):
        assert (cfg.source, cfg.encoder, cfg.size, cfg.download) == ("esc50", "htsat", "base", True)
        assert (cfg.optimizer, cfg.weight_decay, cfg.batch_size) == ("sgd", 5e-4, 16)
        assert (cfg.learning_rate, cfg.gamma, cfg.schedule) == (8e-5, 0.96, "exponential")
        assert (cfg.dim, cfg.max_tokens, cfg.augment) == (1024, 76, True)
        assert (cfg.tower, cfg.text_checkpoint) == ("RN50", "openai")
        assert (cfg.train_rate, cfg.eval_rate) == (44100, 32000)
        assert (cfg.logit_scale, cfg.learn_scale, cfg.loss) == (1.0, False, "diagonal")
    urban = study("table2_urbansound8k", "paper")
    assert {cfg.eval_fold for cfg in urban} == set(range(1, 11))
    assert {(cfg.train_rate, cfg.eval_rate) for cfg in urban} == {(44100, 44100)}
    assert {cfg.eval_fold for cfg in study("fig4_classes", "paper")} == {8}
    assert {cfg.eval_fold for cfg in study("table3_similarity", "paper")} == {4}


@pytest.mark.parametrize("scale", SEMANTIC_SCALES)
@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_every_study_is_spelled_out_without_repetition(artefact, scale):
    configs = study(artefact, scale)
    assert configs and len({semantic_name(cfg) for cfg in configs}) == len(configs)


def test_every_study_is_drawn_by_one_notebook(root):
    assert sorted(name for drawn in NOTEBOOKS.values() for name in drawn) == sorted(ARTEFACTS)
    assert all((root / "nbs" / "semanticac" / f"{name}.ipynb").exists() for name in NOTEBOOKS)


def test_runs_of_a_plan():
    demo = semantic_runs("demo")
    assert len(demo) <= 20, "make paper has minutes for them"
    assert all(name == semantic_name(run.config) == run.parameters["run"] for name, run in demo.items())
    assert not any(run.config.tower == "minilm" for run in demo.values()), "it needs an optional package"
    assert not any(run.config.method == "semanticac" for run in demo.values()), "it needs an optional package"
    paper = semantic_runs("paper", dict(esc50="E", urbansound8k="U"), "W")
    assert {run.parameters["checkpoint"] for run in paper.values()} == {"W/HTSAT_AudioSet_Saved_1.ckpt"}
    roots = {(run.config.source, run.parameters["root"]) for run in paper.values()}
    assert roots == {("esc50", "E"), ("urbansound8k", "U")}
    names = {semantic_name(cfg) for artefact in ARTEFACTS for cfg in study(artefact, "paper")}
    assert set(paper) == names, "where a file lies is no part of a name"
    both = semantic_runs(dict(table1_esc50="real scratch", bridge="real"))
    groups = {run.groups for run in both.values()}
    assert groups == {("table1_esc50",), ("table1_esc50", "bridge"), ("bridge",)}
    with pytest.raises(ValueError, match="'bridge'"):
        semantic_runs(dict(bridges="real"))


def test_clip_weights_are_for_clips_tower():
    towers = {(cfg.tower, cfg.text_checkpoint) for cfg in study("bridge_unseen", "paper")}
    assert towers == {("RN50", "openai"), ("minilm", None)}


def test_missing_runs_are_named_with_their_command(tmp_path):
    command = "papermill nbs/semanticac/train.ipynb -p artefact table3_similarity -p scale demo"
    with pytest.raises(FileNotFoundError, match=f"6 of 6 runs.*{command}"):
        runs_of("table3_similarity", "demo", tmp_path)


RUN_NOTEBOOK = """
import sys
from papermill import execute_notebook
notebook, out, runs, cwd = sys.argv[1:]
execute_notebook(notebook, out, dict(runs=runs, scale="smoke", figure="x"), cwd=cwd, progress_bar=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_artefact_from_clips_to_figure(notebook, root, tmp_path):
    """Train at the scale smoke, then the notebook that shows it, synthetic clips and all."""
    for artefact in NOTEBOOKS[notebook]:
        for cfg in study(artefact, "smoke"):
            train_semantic(cfg, tmp_path / "runs", progress=False)
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text("")
    path = root / "nbs" / "semanticac" / f"{notebook}.ipynb"
    words = [sys.executable, "-c", RUN_NOTEBOOK, path, tmp_path / "out.ipynb", tmp_path / "runs", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = {"x.svg", "x.csv", "x_runs.csv"}
    if notebook in ("table1_esc50", "table2_urbansound8k"):
        expected.add("x_differences.csv")
    assert {p.name for p in (tmp_path / "figures").iterdir()} == expected
    picture, run = (tmp_path / "figures" / "x.svg").read_text(), (tmp_path / "out.ipynb").read_text()
    assert "synthetic" in picture or "synthetic" in run
