"""Tables and figures from run folders: the paper's numbers, what may be compared, what is refused, and equal bytes."""
import json
import re
import shlex
from dataclasses import asdict, replace
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from spa_lib.metrics import mean_average_precision, omap, paired_bootstrap
from spa_lib.ontology import METHODS, Ontology
from spa_lib.papermill import notebook_parameters
from spa_lib.results import paper_table, write_artefact
from spa_lib.runs import (
    LOCAL, TRAIN_PARAMETERS, Resampled, RunConfig, variant_of, caption, comparable, compare, config_hash, evaluated, experiments,
    level_table, make_config, over_seeds, paired_runs, paired_table, parse_where, provenance, run_command, run_name,
    write_config, write_results,
)

CLASSES = Ontology.audioset().subset(["Speech", "Laughter", "Giggle", "Dog", "Bark", "Music", "Guitar", "Vehicle"])


def make_run(folder, seed=0, alpha=0.0, n=64, scale="demo", **values):
    """A finished run with made-up scores over eight of AudioSet's classes; two clips a recording."""
    cfg = make_config(scale, seed=seed, alpha=alpha, **values)
    rng = np.random.default_rng((seed, *variant_of(cfg).encode(), *cfg.encoder.encode(), round(1000 * alpha)))
    y = np.eye(8)[np.arange(n) % 8]
    scores = y + 0.7 * rng.normal(size=y.shape) - alpha * (y @ CLASSES.distances) / 5
    o = omap(y, scores, CLASSES.distances, levels=CLASSES.levels)
    metrics = dict(mAP=dict(value=float(mean_average_precision(y, scores))), OmAP=dict(value=o.value, per_level=o.per_level.tolist()),
                   n_train=640, n_eval=n, n_classes=8, clips_hash=f"clips-{n}-{cfg.holdout}", config_hash=config_hash(cfg))
    write_config(folder / run_name(cfg), cfg)
    write_results(folder / run_name(cfg), metrics, [f"clip{i}" for i in range(n)], CLASSES.mids, y, scores, np.arange(n) // 2)
    return folder / run_name(cfg)


@pytest.fixture
def folder(tmp_path):
    """Two encoders, three seeds, all descriptions but one."""
    for seed in range(3):
        for encoder in ("ast", "passt"):
            make_run(tmp_path / "runs", seed, encoder=encoder)
            for method in METHODS:
                if (encoder, method) != ("ast", "prompt"):
                    make_run(tmp_path / "runs", seed, 0.1, encoder=encoder, method=method)
    return tmp_path / "runs"


def test_paper_tables_are_the_printed_ones(shared):
    text = (shared / "papers" / "spa.txt").read_text().replace("$", " ")
    names = dict(psla="PSLA", panns="PANN", ast="AST", passt="PaSST", htsat="HTS-AT")

    def printed(table, encoder):
        part = text[text.index(f"Table {table}: "):]
        row = re.search(rf"^(?:<b>)?{names[encoder]}(?:</b>)?\s*\[.*$", part, re.M).group()
        row = re.sub(r"\[\d+\]|</?b>|HTS-AT", "", row).replace(" 769", " 76.9").replace("\t769\t", "\t76.9\t")
        return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", row)]

    for encoder in names:
        one = paper_table(1).loc[encoder]
        assert printed(1, encoder) == [one.mAP_without, one.mAP_with, one.mAP_printed, one.OmAP_without, one.OmAP_with, one.OmAP_printed]
        assert printed(2, encoder) == paper_table(2).loc[encoder].tolist()
        assert printed(3, encoder) == paper_table(3).loc[encoder, ["without", "with"]].tolist()
    assert float(re.search(r"^Audioset label\s+([\d.]+)", text, re.M).group(1)) == paper_table(3).loc["audioset_labels", "without"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_where_gives_back_the_value_of_every_field(data):
    texts = st.text("abc-_.^$\\'\" =|", max_size=8).filter(lambda s: s != "None")
    values = {str: texts, int: st.integers(0, 9999), float: st.floats(0, 1e6), bool: st.booleans()}
    types = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(RunConfig).items()}
    kinds = {name: next((k for k in values if k in found), str) for name, found in types.items()} # str: a Literal
    names = data.draw(st.lists(st.sampled_from(sorted(kinds)), unique=True, max_size=4))
    where = {n: data.draw(values[kinds[n]]) for n in names}
    assert parse_where(" ".join(shlex.quote(f"{k}={v}") for k, v in where.items())) == where


CONFIGS = [make_config("demo", seed=2), make_config("demo", alpha=0.0, epochs=3), make_config("smoke", encoder="passt"), make_config("paper", encoder="htsat", root="x"),
           make_config("real", encoder="mn", size="base", checkpoint="a/b.pt", root="x", method="desc", recording_pattern=r"^\d+-(\d+)$"),
           make_config("real", source="esc50", root="x", holdout=0.25, alpha=0.3), make_config("published", encoder="panns", root="x", seed=4), make_config("paper", encoder="passt", size="tiny", root="x"),
           make_config("real", text_branch="centred", clip_seconds=2.5), make_config("real", encoder="mn", head="official", alpha=0.0)]


@pytest.mark.parametrize("cfg", CONFIGS, ids=run_name)
def test_the_command_makes_the_run(cfg):
    from papermill.cli import _resolve_type

    words = shlex.split(run_command(cfg))
    if words[0] == "papermill":
        values = {words[i + 1]: _resolve_type(words[i + 2]) for i, w in enumerate(words) if w == "-p"}
        made = make_config(values.pop("scale", "demo"), **values)
    else:
        made, code = [], words[2].replace("from spa_lib.train import train; ", "")
        exec(code.replace("train(", "made.append("), {"made": made})
        made = made[0]
    assert config_hash(made) == config_hash(cfg) and "x" not in (made.root,)


def test_the_command_for_several_seeds_says_them():
    assert run_command(CONFIGS[0], [0, 4]).startswith("for s in 0 4; do papermill ") and "for s in [0, 4]" in run_command(replace(CONFIGS[0], dim=64), [0, 4])


def test_commands_use_parameters_that_the_training_notebook_has(root):
    assert set(TRAIN_PARAMETERS) <= set(notebook_parameters(root / "nbs" / "04_train.ipynb"))


def test_no_run_is_an_error_with_the_command(folder):
    with pytest.raises(FileNotFoundError, match="papermill nbs/04_train.ipynb -p epochs 99 -p encoder passt"):
        evaluated(folder, "synth", encoder="passt", epochs=99)
    with pytest.raises(FileNotFoundError, match="CLIPS"):
        evaluated(folder, "audioset")
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        evaluated(folder, "synth", epoch=3)
    with pytest.raises(ValueError, match="Did you mean 'holdout'"):
        evaluated(folder, "synth", side="hold-out")


def test_sides_do_not_mix(folder):
    held = make_run(folder, 0, 0.1, holdout=0.25)
    assert held.name not in [r.folder.name for r in evaluated(folder, "synth")]
    assert [r.folder.name for r in evaluated(folder, "synth", side="holdout")] == [held.name]


def test_what_spa_cannot_touch_is_not_asked(folder):
    make_run(folder, 0, head="official")
    arms = [variant_of(r.config) for r in evaluated(folder, "synth", method="desc", alpha=0.1, encoder="ast", epochs=16)]
    assert sorted(set(arms)) == ["desc", "untouched", "without"] and arms.count("without") == 3


def damage(folder, kind):
    """Damage one run; return its name."""
    path = sorted(folder.glob("passt*concat*"))[0]
    if kind == "configuration":
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"epochs": 3}))
        return path.name
    with np.load(path / "scores.npz") as z:
        arrays = dict(z)
    if kind == "class order":
        arrays["mids"] = arrays["mids"][::-1]
    elif kind == "classes":
        arrays["mids"] = np.array(Ontology.audioset().mids[100:108])
    elif kind == "targets":
        arrays["targets"] = arrays["targets"][::-1]
    elif kind == "clips":
        arrays["clip_ids"] = arrays["clip_ids"][::-1]
    elif kind == "no class":
        arrays["mids"] = np.array([*arrays["mids"][:-1], "/m/none"])
    np.savez(path / "scores.npz", **arrays)
    return path.name


DAMAGE = {"configuration": "is not the configuration", "class order": "not in AudioSet's order", "classes": "their mids differ", "targets": "their targets differ",
          "clips": "their clip_ids differ", "no class": "is not a class of AudioSet"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_runs_are_refused_by_name(folder, kind):
    name = damage(folder, kind)
    with pytest.raises(ValueError, match=DAMAGE[kind]) as error:
        evaluated(folder, "synth")
    assert name in str(error.value)


def test_pairs_are_those_of_the_rooms_below(folder):
    make_run(folder, 0, 0.1, epochs=4), make_run(folder, 9, 0.1), make_run(folder, 0, epochs=5), make_run(folder, 1, 0.2)
    runs = evaluated(folder, "synth")
    below = {frozenset((a.folder.name, b.folder.name) for a, b in pairs) for pairs in paired_runs(runs)}
    here = {frozenset((a.folder.name, b.folder.name) for a, b in e.pairs(arm)) for e in experiments(runs) for arm in e.variants if arm != "without"}
    assert here - {frozenset()} == below
    table = paired_table(runs).set_index(["encoder", "method", "alpha", "metric"])
    for e in experiments(runs):
        for arm in METHODS:
            if len(e.pairs(arm)) > 1:
                row, ours = table.loc[(f"{e.config.encoder} tiny", arm, e.config.alpha, "OmAP")], compare(e.pairs(arm))
                assert [ours[k] for k in ("seeds", "a", "b", "difference", "low", "high")] == pytest.approx([row.seeds, *(100 * row[["without", "with_spa", "difference", "low", "high"]])])


def test_experiments_are_told_apart_by_what_differs(folder):
    make_run(folder, 0, 0.1, epochs=4), make_run(folder, 0, 0.0, encoder="mn"), make_run(folder, 0, 0.2), make_run(folder, 0, 0.1, text_branch="centred")
    made = {e.name: e for e in experiments(evaluated(folder, "synth"))}
    assert list(made) == ["ast tiny, alpha=0.1, epochs=16", "ast tiny, alpha=0.1, epochs=4", "ast tiny, alpha=0.2, epochs=16", "passt tiny", "mn tiny"]
    first = made["ast tiny, alpha=0.1, epochs=16"]
    assert set(first.variants) == {"without", "direct", "desc", "concat", "concat-centred"} and set(made["ast tiny, alpha=0.2, epochs=16"].variants) == {"without", "concat"}
    assert first.missing() == {"prompt": run_command(make_config("demo", alpha=0.1, method="prompt"), [0, 1, 2])}
    assert first.missing(["concat-centred"]) == {"concat-centred": run_command(make_config("demo", alpha=0.1, text_branch="centred"), [1, 2])}
    assert set(made["mn tiny"].missing()) == set(METHODS) and set(made["ast tiny, alpha=0.1, epochs=4"].missing(["without", "concat"])) == {"without"}
    with pytest.raises(FileNotFoundError, match="papermill"):
        comparable([made["mn tiny"]])


def test_random_texts_and_the_untouched_checkpoint_stand_beside_every_text_model(folder):
    make_run(folder, 0, 0.1, text_model="random"), make_run(folder, 0, 0.1, text_model="bert-base-uncased"), make_run(folder, 0, head="official")
    made = {e.name: e for e in experiments(evaluated(folder, "synth", encoder="ast"))}
    assert list(made) == ["ast tiny, text_model=bert-base-uncased", "ast tiny, text_model=minilm"]
    assert all("random" in e.variants and "without" in e.variants and variant_of(e.untouched.config) == "untouched" for e in made.values())


def test_intervals_over_recordings_are_those_of_the_paired_bootstrap(folder):
    e = experiments(evaluated(folder, "synth"))[0]
    (a, b), resampled = e.pairs()[0], Resampled(100, seed=3)
    for metric in ("mAP", "OmAP"):
        direct = paired_bootstrap(a.targets, a.scores, b.scores, metric.lower(), CLASSES.distances, levels=CLASSES.levels, n=100, seed=3, groups=a.recordings).difference
        ours = resampled.difference([(a, b)], metric)
        assert (ours.value, ours.low, ours.high) == pytest.approx((direct.value, direct.low, direct.high), abs=1e-12)
    row = compare(e.pairs(), "OmAP", resampled)
    assert row["low_both"] <= min(row["low"], row["low_recordings"]) <= row["difference"] <= max(row["high"], row["high_recordings"]) <= row["high_both"]


def test_one_seed_has_no_interval_and_none_is_an_error():
    one = over_seeds([0.5], [0.75])
    assert one.value == 0.25 and np.isnan([one.low, one.high]).all()
    with pytest.raises(ValueError, match="no seed in common"):
        level_table([])


def test_levels_average_to_the_value(folder):
    e = experiments(evaluated(folder, "synth"))[0]
    levels, row = level_table(e.pairs()), compare(e.pairs())
    assert len(levels) == 22 and levels.difference.mean() == pytest.approx(row["difference"]) and levels.b.mean() == pytest.approx(row["b"])
    assert levels.chance.iloc[-1] == 100 and levels.chance.iloc[0] < 50


def test_synthetic_clips_are_called_so(folder):
    runs = evaluated(folder, "synth")
    assert caption(runs, "some clips").startswith("synthetic clips (some clips): 640 clips to train, 64 to evaluate, 8 classes, 3 seeds")
    assert caption(runs, "Synthetic sounds").startswith("Synthetic sounds: ")
    assert len(provenance(runs)) == len(runs) and set(provenance(runs).run) == {r.folder.name for r in runs}


def test_names_of_artefacts_cannot_leave_the_folder(tmp_path):
    for name, key in (("../x", ""), ("x", "/y"), ("", "")):
        with pytest.raises(ValueError, match="name"):
            write_artefact(name, tables={key: pd.DataFrame({"a": [1]})}, folder=tmp_path)


ARTEFACTS = {"table1_encoders": {}, "table2_descriptions": {}, "fig3_omap_by_level": {}, "alpha": dict(side="evaluation", alpha=0.1)}


def render(root, name, folder, **values):
    """Run a notebook's cells as papermill does, in this process."""
    import matplotlib.pyplot as plt

    scope = {}
    for cell in json.loads((root / "nbs" / "paper" / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        exec("".join(cell["source"]), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope.update(dict(runs=str(folder), source="synth", data="made-up scores", replicates=20, figure="x") | values)
    plt.close("all")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder outside the checkout, whose figures/ takes what is drawn."""
    import matplotlib

    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    matplotlib.use("Agg")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / "figures"


@pytest.mark.parametrize("name", ARTEFACTS)
def test_rendered_twice_is_equal_byte_for_byte_and_another_run_shows(root, folder, elsewhere, name, capsys):
    drawn = []
    for time in range(3):
        if time == 2:
            make_run(folder, 3, encoder="passt"), make_run(folder, 3, 0.1, encoder="passt")
        render(root, name, folder, **ARTEFACTS[name])
        drawn.append({p.name: p.read_bytes() for p in elsewhere.iterdir()})
        for p in elsewhere.iterdir():
            p.unlink()
    assert drawn[0] == drawn[1] and b"<path" in drawn[0]["x.svg"]
    assert {p for p in drawn[0] if drawn[0][p] != drawn[2][p]} >= {"x.svg", "x.csv", "x_runs.csv"}
    assert "synthetic clips (made-up scores)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["configuration", "class order"])
@pytest.mark.parametrize("name", ARTEFACTS)
def test_a_damaged_run_stops_the_table_and_nothing_is_written(root, folder, elsewhere, name, kind):
    damaged = damage(folder, kind)
    with pytest.raises(ValueError, match=DAMAGE[kind]) as error:
        render(root, name, folder, **ARTEFACTS[name])
    assert damaged in str(error.value) and not elsewhere.exists()


def test_the_local_fields_part_no_experiment(folder):
    for path in sorted(folder.glob("ast*without*")):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"root": "elsewhere", "device": "cuda"}))
    assert set(LOCAL) >= {"root", "device"} and all(e.pairs() for e in experiments(evaluated(folder, "synth")))
    assert asdict(evaluated(folder, "synth", encoder="ast")[-1].config)["root"] == "elsewhere"
