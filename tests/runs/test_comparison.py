"""Which runs may be compared, how sure a difference is, what is refused, and how settings are chosen."""
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from spa_lib.metrics import paired_bootstrap
from spa_lib.ontology import METHODS, Ontology
from spa_lib.runs import (
    SPA_FIELDS,
    Resampled,
    RunConfig,
    by_seed,
    candidate_table,
    caption,
    choose,
    comparable,
    compare,
    comparison_key,
    config_hash,
    evaluated,
    experiments,
    find_runs,
    grid,
    identity,
    level_table,
    local_fields,
    make_config,
    over_seeds,
    paired_runs,
    paired_table,
    provenance,
    read_run,
    run_command,
    run_name,
    runs_table,
    variant_of,
    write_config,
    write_results,
)

NAMES = ["Speech", "Laughter", "Giggle", "Dog", "Bark", "Music", "Guitar", "Vehicle"] # as in conftest
CLASSES = Ontology.audioset().subset(NAMES)


# ---- the key

@pytest.mark.parametrize("field", asdict(RunConfig()))
def test_runs_that_differ_in_a_field_are_compared_only_where_it_is_free(field):
    value = getattr(RunConfig(), field)
    other = {str: f"{value}x", int: 7, float: 0.123, bool: not value, type(None): "x"}[type(value)]
    changed = replace(RunConfig(), **{field: other})
    free = field in (*SPA_FIELDS, *local_fields(RunConfig), "seed")
    assert (comparison_key(changed) == comparison_key(RunConfig())) == free
    assert comparison_key(changed, free=[field]) == comparison_key(RunConfig(), free=[field])


def test_a_checkpoint_counts_by_its_file_name():
    a, b = (replace(RunConfig(), checkpoint=f"{folder}/mn04.pt") for folder in ("one", "two"))
    assert comparison_key(a) == comparison_key(b) != comparison_key(RunConfig())
    assert identity(a)["checkpoint"] == "mn04.pt" and not set(local_fields(RunConfig)) & set(identity(a))


# ---- which runs

def test_no_run_is_an_error_with_the_command(folder):
    with pytest.raises(FileNotFoundError, match="papermill nbs/04_train.ipynb -p epochs 99 -p encoder passt"):
        evaluated(folder, "synth", encoder="passt", epochs=99)
    with pytest.raises(FileNotFoundError, match="CLIPS"):
        evaluated(folder, "audioset")
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        evaluated(folder, "synth", epoch=3)
    with pytest.raises(ValueError, match="Did you mean 'holdout'"):
        evaluated(folder, "synth", side="hold-out")


def test_sides_do_not_mix(folder, make_run):
    held = make_run(folder, 0, 0.1, holdout=0.25)
    assert held.name not in [r.folder.name for r in evaluated(folder, "synth")]
    assert [r.folder.name for r in evaluated(folder, "synth", side="holdout")] == [held.name]


def test_what_spa_cannot_touch_is_not_asked(folder, make_run):
    make_run(folder, 0, head="official")
    asked = dict(method="desc", alpha=0.1, encoder="ast", epochs=16)
    variants = [variant_of(r.config) for r in evaluated(folder, "synth", **asked)]
    assert sorted(set(variants)) == ["desc", "untouched", "without"] and variants.count("without") == 3


def test_a_checkpoint_is_asked_for_by_path_or_by_name_and_a_folder_as_it_is(folder, make_run):
    made = make_run(folder, 0, checkpoint="there/a.pt")
    for asked in (dict(checkpoint="there/a.pt"), dict(checkpoint="a.pt")):
        assert [r.folder.name for r in evaluated(folder, "synth", **asked)] == [made.name]
    with pytest.raises(FileNotFoundError):
        evaluated(folder, "synth", root="elsewhere")


@pytest.mark.parametrize("kind", ["configuration", "class order", "classes", "targets", "clips", "no class"])
def test_damaged_runs_are_refused_by_name(folder, damage, kind):
    name, message = damage(kind)
    with pytest.raises(ValueError, match=message) as error:
        evaluated(folder, "synth")
    assert name in str(error.value)


# ---- what belongs together

def test_pairs_need_the_same_key_and_the_same_seed(tmp_path, make_run):
    for seed in range(3):
        for values in (dict(), dict(alpha=0.1), dict(alpha=0.1, method="direct")):
            make_run(tmp_path, seed, **values)
    for values in (dict(seed=9, alpha=0.1), dict(alpha=0.1, epochs=3)):
        make_run(tmp_path, **values)
    table = paired_table(find_runs(tmp_path))
    seeds = table.groupby("method").seeds.first().to_dict()
    assert seeds == {"concat": 3, "direct": 3} and len(table) == 4
    runs = runs_table([r for r in find_runs(tmp_path) if r.config.epochs != 3])
    mAP = runs.set_index(["arm", "seed"]).mAP
    gaps = [mAP["direct", seed] - mAP["without", seed] for seed in range(3)]
    row = table[(table.method == "direct") & (table.metric == "mAP")].iloc[0]
    assert row.difference == pytest.approx(np.mean(gaps))
    assert row.high - row.difference == pytest.approx(4.302653 * np.std(gaps, ddof=1) / np.sqrt(3), rel=1e-5)
    assert table.to_csv() == paired_table(find_runs(tmp_path)).to_csv()


def test_a_pair_on_other_clips_is_refused(tmp_path, make_run):
    make_run(tmp_path, 0), make_run(tmp_path, 0, 0.1, n=56)
    with pytest.raises(ValueError, match="not scored on the same clips"):
        paired_runs(find_runs(tmp_path))


def names(pairs):
    return frozenset((a.folder.name, b.folder.name) for a, b in pairs)


def test_experiments_and_paired_runs_find_the_same_pairs(folder, make_run):
    make_run(folder, 0, 0.1, epochs=4), make_run(folder, 9, 0.1)
    make_run(folder, 0, epochs=5), make_run(folder, 1, 0.2)
    runs = evaluated(folder, "synth")
    found = experiments(runs)
    with_spa = [(e, variant) for e in found for variant in e.variants if variant != "without"]
    in_experiments = {names(e.pairs(variant)) for e, variant in with_spa}
    assert in_experiments - {frozenset()} == {names(pairs) for pairs in paired_runs(runs)}
    table, columns = paired_table(runs), ["without", "with_spa", "difference", "low", "high"]
    table = table[table.metric == "OmAP"].set_index(["encoder", "method", "alpha"])
    for e in found:
        for variant in METHODS:
            if len(e.pairs(variant)) > 1:
                row = table.loc[f"{e.config.encoder} tiny", variant, e.config.alpha]
                ours = compare(e.pairs(variant))
                assert ours["seeds"] == row.seeds
                ours = [ours[k] for k in ("a", "b", "difference", "low", "high")]
                assert ours == pytest.approx([100 * row[name] for name in columns])


def test_experiments_are_told_apart_by_what_differs(folder, make_run):
    make_run(folder, 0, 0.1, epochs=4), make_run(folder, 0, 0.0, encoder="mn")
    make_run(folder, 0, 0.2), make_run(folder, 0, 0.1, text_branch="centred")
    found = {e.name: e for e in experiments(evaluated(folder, "synth"))}
    of_ast = ["alpha=0.1, epochs=16", "alpha=0.1, epochs=4", "alpha=0.2, epochs=16"]
    assert list(found) == [*(f"ast tiny, {words}" for words in of_ast), "passt tiny", "mn tiny"]
    first, short, third = (found[f"ast tiny, {words}"] for words in of_ast)
    assert set(first.variants) == {"without", "direct", "desc", "concat", "concat-centred"}
    assert set(third.variants) == {"without", "concat"}
    prompt = make_config("demo", alpha=0.1, method="prompt")
    assert first.missing() == {"prompt": run_command(prompt, [0, 1, 2])}
    centred = make_config("demo", alpha=0.1, text_branch="centred")
    assert first.missing(["concat-centred"]) == {"concat-centred": run_command(centred, [1, 2])}
    assert set(found["mn tiny"].missing()) == set(METHODS)
    assert set(short.missing(["without", "concat"])) == {"without"}
    with pytest.raises(FileNotFoundError, match="papermill"):
        comparable([found["mn tiny"]])


def test_random_texts_and_the_untouched_checkpoint_stand_beside_every_text_model(folder, make_run):
    for values in (dict(text_model="random"), dict(text_model="bert-base-uncased")):
        make_run(folder, 0, 0.1, **values)
    make_run(folder, 0, head="official")
    found = {e.name: e for e in experiments(evaluated(folder, "synth", encoder="ast"))}
    assert list(found) == ["ast tiny, text_model=bert-base-uncased", "ast tiny, text_model=minilm"]
    for e in found.values():
        assert {"random", "without"} <= set(e.variants) and variant_of(e.untouched.config) == "untouched"


def test_random_texts_alone_are_an_experiment(tmp_path, make_run):
    make_run(tmp_path, 0), make_run(tmp_path, 0, 0.1, text_model="random")
    (found,) = experiments(find_runs(tmp_path))
    assert set(found.variants) == {"random", "without"} and len(found.pairs("random")) == 1


def test_the_local_fields_part_no_experiment(folder):
    for path in sorted(folder.glob("ast*without*")):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"root": "elsewhere", "device": "cuda"}))
    runs = evaluated(folder, "synth")
    assert set(local_fields(RunConfig)) >= {"root", "device"} and all(e.pairs() for e in experiments(runs))
    assert {r.config.root for r in runs if r.config.encoder == "ast"} == {None, "elsewhere"}


# ---- how sure

def test_intervals_over_recordings_are_those_of_the_paired_bootstrap(folder):
    e = experiments(evaluated(folder, "synth"))[0]
    (a, b), resampled = e.pairs()[0], Resampled(100, seed=3)
    options = dict(levels=CLASSES.levels, n=100, seed=3, groups=a.recordings)
    for metric in ("mAP", "OmAP"):
        key = metric.lower()
        direct = paired_bootstrap(a.targets, a.scores, b.scores, key, CLASSES.distances, **options).difference
        ours = resampled.difference([(a, b)], metric)
        expected = pytest.approx((direct.value, direct.low, direct.high), abs=1e-12)
        assert (ours.value, ours.low, ours.high) == expected
    row = compare(e.pairs(), "OmAP", resampled)
    assert row["low_both"] <= min(row["low"], row["low_recordings"]) <= row["difference"]
    assert row["difference"] <= max(row["high"], row["high_recordings"]) <= row["high_both"]


def test_one_seed_has_no_interval_and_none_is_an_error():
    one = over_seeds([0.5], [0.75])
    assert one.value == 0.25 and np.isnan([one.low, one.high]).all()
    with pytest.raises(ValueError, match="no seed in common"):
        level_table([])


def test_levels_average_to_the_value(folder):
    e = experiments(evaluated(folder, "synth"))[0]
    levels, row = level_table(e.pairs()), compare(e.pairs())
    assert len(levels) == 22 and levels.difference.mean() == pytest.approx(row["difference"])
    assert levels.b.mean() == pytest.approx(row["b"])
    assert levels.chance.iloc[-1] == 100 and levels.chance.iloc[0] < 50


def test_a_caption_says_how_many_seeds_each_cell_has(folder):
    """It said "3 seeds" of a table with one seed in most cells."""
    runs = [r for r in evaluated(folder, "synth") if variant_of(r.config) == "without" or r.config.seed == 0]
    assert caption(runs).endswith("1 to 3 seeds")
    assert caption([r for r in runs if r.config.seed == 0]).endswith("1 seed")


def test_synthetic_clips_are_called_so(folder):
    runs = evaluated(folder, "synth")
    counts = "640 clips to train, 64 to evaluate, 8 classes, 3 seeds"
    assert caption(runs, "some clips") == f"synthetic clips (some clips): {counts}"
    assert caption(runs, "Synthetic sounds") == f"Synthetic sounds: {counts}"
    assert caption(runs) == f"synthetic clips: {counts}"
    assert len(provenance(runs)) == len(runs) and set(provenance(runs).run) == {r.folder.name for r in runs}


# ---- a choice

BASE = make_config("real", encoder="mn", size="base", root="CLIPS", freeze=True, holdout=0.25, bootstrap=0)


def pretend(folder, cfg, mAP, OmAP, clips_hash="0"):
    path = folder / run_name(cfg)
    write_config(path, cfg)
    metrics = dict(mAP=dict(value=mAP), OmAP=dict(value=OmAP))
    metrics |= dict(config_hash=config_hash(cfg), clips_hash=clips_hash)
    write_results(path, metrics, ["a"], ["/m/0"], np.ones((1, 1)), np.ones((1, 1)), ["a"])
    return read_run(path)


def test_best_mean_of_both_wins_in_each_variant_and_fold(tmp_path):
    runs = []
    for cfg in grid(BASE, alpha=[0.0, 0.1, 0.3], eval_fold=[1, 2], seed=[0, 1]):
        best = cfg.alpha == {1: 0.1, 2: 0.3}[cfg.eval_fold]
        runs.append(pretend(tmp_path, cfg, 0.7 if best else 0.5, (0.8 if best else 0.9) + 0.01 * cfg.seed))
    chosen = choose(runs)
    alphas = {(fold, variant): cfg.alpha for (_, _, fold, variant), cfg in chosen.items()}
    assert alphas == {(1, "without"): 0.0, (2, "without"): 0.0, (1, "concat"): 0.1, (2, "concat"): 0.3}
    assert all(cfg.holdout == 0 and cfg.seed == 0 for cfg in chosen.values())
    assert candidate_table(runs).groupby(["fold", "arm"]).score.is_monotonic_decreasing.all()


def test_of_equally_good_ones_the_smallest_wins_in_whatever_order(tmp_path):
    tries = [pretend(tmp_path, c, 1.0, 1.0) for c in grid(BASE, alpha=[0.3, 0.1, 1.0], epochs=[60, 20])]
    for some in (tries, tries[::-1], tries[3:] + tries[:3]):
        assert [(c.alpha, c.epochs) for c in choose(some).values()] == [(0.1, 20)]


def test_evaluation_side_and_unequal_seeds_are_refused(tmp_path):
    tries = [pretend(tmp_path, c, 0.5, 0.5) for c in grid(BASE, alpha=[0.1, 0.3], seed=[0, 1])]
    with pytest.raises(ValueError, match="equal numbers"):
        choose(tries[1:])
    seen = pretend(tmp_path, replace(BASE, holdout=0.0), 0.5, 0.5)
    with pytest.raises(ValueError, match=seen.folder.name):
        choose([*tries, seen])


def test_pairs_share_seed_fold_and_clips(tmp_path):
    final = replace(BASE, holdout=0.0)
    without = grid(replace(final, alpha=0.0, epochs=3), eval_fold=[1, 2], seed=[0, 1])
    a = [pretend(tmp_path, c, 0.5, 0.5) for c in without]
    b = [pretend(tmp_path, c, 0.5, 0.5) for c in grid(final, eval_fold=[1, 2], seed=[1, 2])]
    pairs = [(x.config.eval_fold, x.config.seed, variant_of(y.config)) for x, y in by_seed(a, b)]
    assert pairs == [(1, 1, "concat"), (2, 1, "concat")]
    other = pretend(tmp_path, replace(final, seed=1, eval_fold=1, alpha=0.2), 0.5, 0.5, clips_hash="1")
    with pytest.raises(ValueError, match="not scored on the same clips"):
        by_seed(a, [other])
