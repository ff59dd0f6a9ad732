"""Plans and candidates: which runs they mean, and the command that makes a run."""
import shlex
from dataclasses import replace

import pytest
import yaml
from papermill.cli import _resolve_type

from spa_lib.cli import TrainCommand
from spa_lib.papermill import notebook_parameters
from spa_lib.runs import (
    RunConfig,
    config_hash,
    count_clips,
    grid,
    make_config,
    plan_runs,
    read_plan,
    run_command,
    run_name,
    train_parameters,
)
from spa_lib.semanticac.studies import NOTEBOOKS, semantic_runs

CONFIGS = [
    make_config("demo", seed=2), make_config("demo", alpha=0.0, epochs=3),
    make_config("smoke", encoder="passt"),
    make_config("paper", encoder="htsat", root="x"),
    make_config("real", encoder="mn", size="base", checkpoint="a/b.pt", root="x", method="desc",
                recording_pattern=r"^\d+-(\d+)$"),
    make_config("real", source="esc50", root="x", holdout=0.25, alpha=0.3),
    make_config("published", encoder="panns", root="x", seed=4),
    make_config("paper", encoder="passt", size="tiny", root="x"),
    make_config("real", text_branch="centred", clip_seconds=2.5),
    make_config("real", encoder="mn", head="official", checkpoint="mn04_as", alpha=0.0),
    make_config("smoke", precision="bfloat16", recording_pattern="a'b c", mixup_labels=False),
]


@pytest.mark.parametrize("cfg", CONFIGS, ids=run_name)
def test_the_command_makes_the_run(cfg):
    words = shlex.split(run_command(cfg))
    if words[0] == "papermill":
        values = {words[i + 1]: _resolve_type(words[i + 2]) for i, word in enumerate(words) if word == "-p"}
        made = make_config(values.pop("scale", "demo"), **values)
    else:
        assert words[:3] == ["python", "-m", "spa_lib.train"]
        (made,) = TrainCommand(tuple(words[3:])).configs()
    assert config_hash(made) == config_hash(cfg) and made.root != "x"


def test_both_kinds_of_command_are_tried_above():
    assert {run_command(cfg).split()[0] for cfg in CONFIGS} == {"papermill", "python"}


def test_the_command_for_several_seeds_says_them():
    assert run_command(CONFIGS[0], [0, 4]).startswith("for s in 0 4; do papermill nbs/04_train.ipynb ")
    assert run_command(replace(CONFIGS[0], dim=64), [0, 4]).endswith("dim=64 encoder=ast seed=$s; done")


def test_commands_use_parameters_that_the_training_notebook_has(root):
    known = notebook_parameters(root / "nbs" / "04_train.ipynb")
    assert set(train_parameters()) <= set(known) and {"encoder", "alpha", "seed"} <= set(train_parameters())


def test_without_the_notebook_the_command_does_not_name_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(make_config("demo")) == "python -m spa_lib.train encoder=ast seed=0"


@pytest.mark.parametrize("group, message", [
    ({"arms": ["without"]}, "group 'some': the key `arms` is called `variants` now"),
    ({"variant": ["without"]}, "Did you mean 'variants'"),
    ({"seeds": 3}, "group 'some' has no `variants`"),
])
def test_a_group_with_a_wrong_key_is_refused_by_name(group, message):
    with pytest.raises(ValueError, match=message):
        read_plan(dict(encoders=dict(ast={}), groups=dict(some=group)))


def test_a_wrong_name_in_a_plan_is_refused():
    group = dict(variants=["without"])
    with pytest.raises(ValueError, match="Did you mean 'groups'"):
        plan_runs(dict(group={}))
    with pytest.raises(ValueError, match="Did you mean 'ast'"):
        plan_runs(dict(encoders=dict(ast={}), groups=dict(some=group | dict(encoders=["atst"]))))
    with pytest.raises(ValueError, match="Did you mean 'concat'"):
        plan_runs(dict(encoders=dict(ast={}), groups=dict(some=dict(variants=["conct"]))))
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        plan_runs(dict(parameters=dict(epoch=3), encoders=dict(ast={}), groups=dict(some=group)))


def test_a_group_takes_from_the_plan_what_it_leaves_out():
    plan = dict(parameters=dict(scale="smoke", alpha=0.3), encoders=dict(ast={}, mn=dict(alpha=0.2)))
    other = dict(variants=["desc"], alphas=[0.1], seeds=[4])
    plan["groups"] = dict(a=dict(variants=["without", "desc"]), b=other)
    found = {(r.config.encoder, r.config.alpha, r.config.seed): r.groups for r in plan_runs(plan).values()}
    a = {("ast", 0.0, 0): ("a",), ("ast", 0.3, 0): ("a",), ("mn", 0.0, 0): ("a",), ("mn", 0.2, 0): ("a",)}
    assert found == a | {("ast", 0.1, 4): ("b",), ("mn", 0.1, 4): ("b",)}


def test_a_group_with_a_grid_has_every_combination():
    plan = dict(parameters=dict(scale="real", epochs=3), encoders=dict(mn={}))
    candidates = dict(variants=["desc"], alphas=[0.1, 0.3], seeds=2)
    candidates["grid"] = dict(epochs=[2, 4], eval_fold=[1, 2])
    plan["groups"] = dict(candidates=candidates)
    configs = [r.config for r in plan_runs(plan).values()]
    found = [(c.seed, c.alpha, c.epochs, c.eval_fold) for c in configs]
    assert found == [(s, a, e, f) for s in (0, 1) for a in (0.1, 0.3) for e in (2, 4) for f in (1, 2)]
    plan["groups"] = dict(candidates=candidates | dict(grid=dict(epoch=[2])))
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        plan_runs(plan)


def test_a_grid_has_every_combination():
    configs = grid(RunConfig(), alpha=[0.1, 0.3], seed=range(3))
    assert [(c.alpha, c.seed) for c in configs] == [(a, s) for a in (0.1, 0.3) for s in range(3)]
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        grid(RunConfig(), alfa=[0.1])
    with pytest.raises(TypeError, match="needs a list"):
        grid(RunConfig(), alpha=0.1)


def test_plans_hold_what_the_tables_need(root):
    sizes = {}
    settings = yaml.safe_load((root / "workflow" / "config.yaml").read_text())
    of_training = set(notebook_parameters(root / "nbs" / "04_train.ipynb"))
    of_semanticac = set(notebook_parameters(root / "nbs" / "semanticac" / "train.ipynb"))
    paper_encoders = ("psla", "panns", "ast", "passt", "htsat")
    for scale, plan in settings["plans"].items():
        runs = plan_runs(plan)
        sizes[scale] = len(runs)
        unknown = set().union(*(r.parameters for r in runs.values())) - of_training
        assert not unknown, f"{scale}: {unknown} are no parameters of nbs/04_train.ipynb"
        second = semantic_runs(plan.get("semanticac", {}))
        assert set().union(*(r.parameters for r in second.values())) <= of_semanticac
        assert runs or second, f"the plan {scale} is empty"
        if scale in ("demo", "paper"):
            assert {name for r in second.values() for name in r.groups} == set(NOTEBOOKS)
            configs = [r.config for r in runs.values()]
            planned = {(c.encoder, c.method if c.alpha else "without") for c in configs}
            variants = ("without", "direct", "prompt", "desc", "concat")
            assert planned >= {(e, v) for e in paper_encoders for v in variants}
        if any(r.config.source == "synth" for r in runs.values()):
            assert "synthetic" in plan["data"]
    assert sizes["smoke"] <= 8 < sizes["demo"]


def test_clips_are_counted_as_a_run_draws_them(tmp_path, monkeypatch):
    sides = {"balanced": (22_125, 20_371), "unbalanced": (2_041_789, 20_371)}
    monkeypatch.setattr("spa_lib.runs.plan._clips_of_sides", lambda source, root, train_set: sides[train_set])
    for values, expected in ((dict(), (22_125, 20_371)),
                             (dict(train_set="unbalanced"), (2_041_789, 20_371)),
                             (dict(n_train=250), (250, 20_371)),
                             (dict(n_train=250, holdout=0.1), (250, 2_212)),
                             (dict(holdout=0.1), (19_913, 2_212)),
                             (dict(n_train=30_000), (22_125, 20_371))):
        assert count_clips(make_config("features", root=str(tmp_path), **values)) == expected
