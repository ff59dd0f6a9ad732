"""Metrics: the authors' values, naive definitions, scikit-learn, identities, intervals that hold."""
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from sklearn.metrics import average_precision_score, roc_auc_score

from spa_lib.metrics import (
    METRICS,
    PLAIN_COSTS,
    WEIGHTINGS,
    ap_naive,
    auc,
    average_precision,
    average_precision_with_costs,
    bootstrap,
    chance,
    class_ap,
    count_reached,
    d_prime,
    level_weights,
    mean_average_precision,
    measure,
    nearest_positive,
    omap,
    omap_naive,
    paired_bootstrap,
    paired_interval,
    per_class_gain,
    resampled,
)
from spa_lib.metrics import ap as ap_module
from spa_lib.metrics import intervals as intervals_module
from spa_lib.metrics import ontology_ap as ontology_ap_module
from spa_lib.utils import seed_stream

seeds = st.integers(0, 10**6)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def tree_distances(rng, C):
    """Edges between the nodes of a random tree."""
    D = np.zeros((C, C), int)
    for c in range(1, C):
        parent = rng.integers(c)
        D[c, :c] = D[:c, c] = D[parent, :c] + 1
    return D


def case(seed, N=12, C=6, ties=True):
    """A random table: every clip has a label, some class may have none; scores with or without ties."""
    rng = np.random.default_rng(seed)
    N, C = rng.integers(1, N + 1), rng.integers(2, C + 1)
    targets = (rng.random((N, C)) < 0.2).astype(int)
    targets[np.arange(N), rng.integers(0, C, N)] = 1
    scores = rng.integers(0, 5, (N, C)) / 5 if ties else rng.permutation(N*C).reshape(N, C) / (N*C)
    return targets, scores, tree_distances(rng, C)


# ---- the authors' values -------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["continuous", "ties"])
def test_golden_omap(shared, ontology, name):
    z = np.load(shared / "golden" / f"omap_{name}.npz")
    found = omap(z["target"], z["scores"], ontology.distances)
    assert found.levels == tuple(range(22)) == tuple(ontology.levels)
    close = dict(rtol=0, atol=1e-9) # nan must meet nan
    np.testing.assert_allclose(found.per_class, z["omap_per_level_class"], **close)
    np.testing.assert_allclose(found.per_level, z["omap_per_level"], **close)
    assert abs(found.value - z["omap"]) < 1e-9


def test_golden_needs_the_graph_without_an_artificial_root(shared, ontology):
    """An artificial root shortens ways between the branches; the golden test would see it."""
    z = np.load(shared / "golden" / "omap_continuous.npz")
    depth = np.array([ontology.depth(m) for m in ontology.mids]) + 1
    rooted = np.minimum(ontology.distances, depth[:, None] + depth)
    np.fill_diagonal(rooted, 0)
    assert abs(omap(z["target"], z["scores"], rooted, levels=range(22)).value - z["omap"]) > 1e-4


# ---- naive definitions -------------------------------------------------------------------------------------

@settings(max_examples=100, deadline=None)
@given(seed=seeds, ties=st.booleans(), weighting=st.sampled_from(WEIGHTINGS))
def test_omap_agrees_with_the_definition(seed, ties, weighting):
    targets, scores, D = case(seed, ties=ties)
    found = omap(targets, scores, D, weighting)
    naive = omap_naive(targets, scores, D, weighting)
    np.testing.assert_allclose(found.per_class, naive, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.per_level, np.nanmean(naive, 1), rtol=0, atol=1e-12)
    assert abs(found.value - np.nanmean(naive, 1).mean()) < 1e-12 and float(found) == found.value


@settings(max_examples=60, deadline=None)
@given(seed=seeds, ties=st.booleans())
def test_ap_and_auc_agree_with_scikit_learn(seed, ties):
    targets, scores, _ = case(seed, N=40, ties=ties)
    w = np.random.default_rng(seed).integers(0, 4, len(targets))
    ap, area = average_precision(targets, scores, w), auc(targets, scores, w)
    for c in range(targets.shape[1]):
        y = targets[:, c] == 1
        if not w[y].sum():
            assert np.isnan(ap[c]) and np.isnan(area[c])
            continue
        labels, score, own = y[w > 0], scores[w > 0, c], w[w > 0]
        assert abs(ap[c] - average_precision_score(labels, score, sample_weight=own)) < 1e-12
        if w[~y].sum():
            assert abs(area[c] - roc_auc_score(labels, score, sample_weight=own)) < 1e-12
        else:
            assert np.isnan(area[c])


def test_mean_average_precision_on_a_larger_table(ontology):
    rng = np.random.default_rng(0)
    targets = rng.random((6000, 20)) < 0.02
    scores = (rng.normal(size=targets.shape) + 2*targets).astype(np.float32)
    assert abs(mean_average_precision(targets, scores) - average_precision_score(targets, scores)) < 1e-12


@settings(max_examples=60, deadline=None)
@given(seed=seeds, weighting=st.sampled_from(WEIGHTINGS))
def test_clip_weights_are_repetitions(seed, weighting):
    targets, scores, D = case(seed)
    w = np.random.default_rng(seed).integers(0, 4, len(targets))
    assume(w.sum())
    again = np.repeat(np.arange(len(targets)), w)
    weighted = omap(targets, scores, D, weighting, clip_weights=w)
    repeated = omap(targets[again], scores[again], D, weighting)
    np.testing.assert_allclose(weighted.per_class, repeated.per_class, rtol=0, atol=1e-12)
    scaled = omap(targets, scores, D, weighting, clip_weights=w*0.37)
    np.testing.assert_allclose(scaled.per_class, repeated.per_class, rtol=0, atol=1e-12)


def test_ap_takes_any_costs():
    rng = np.random.default_rng(0)
    error_distance, scores = rng.integers(0, 4, (50, 3)), rng.integers(0, 9, (50, 3))
    costs = np.concatenate([np.zeros((5, 1)), rng.random((5, 3))], 1)
    found = average_precision_with_costs(error_distance, scores, costs)
    for level in range(5):
        for c in range(3):
            distance = error_distance[:, c]
            naive = ap_naive(distance == 0, scores[:, c], costs[level, distance])
            assert abs(found[level, c] - naive) < 1e-12
    for bad in (costs + 1, -costs, costs[:, :3], costs[0]):
        with pytest.raises(ValueError, match="costs"):
            average_precision_with_costs(error_distance, scores, bad)


# ---- bins ----------------------------------------------------------------------------------------

def hard_scores(kind, rng, n, dtype):
    top, least = np.finfo(dtype).max, float(np.finfo(dtype).smallest_subnormal)
    return {
        "uniform": lambda: rng.random(n),
        "logits": lambda: 3*rng.normal(size=n),
        "tiny probabilities": lambda: 1/(1 + np.exp(8 + 4*rng.normal(size=n))),
        "few values": lambda: rng.integers(-3, 3, n),
        "constant": lambda: np.full(n, 0.3),
        "signed zeros": lambda: rng.choice([-0.0, 0.0, 1.0], n),
        "outlier": lambda: np.where(rng.random(n) < 0.01, 1e6, rng.random(n)),
        "whole range": lambda: rng.uniform(-1, 1, n)*top,
        "denormal": lambda: rng.integers(-5, 5, n)*least,
        "neighbours": lambda: np.nextafter(dtype(1), dtype(2)*rng.integers(0, 2, n)),
    }[kind]().astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [
    "uniform", "logits", "tiny probabilities", "few values", "constant", "signed zeros", "outlier",
    "whole range", "denormal", "neighbours"])
def test_bins_are_a_binary_search(kind, dtype):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        score = hard_scores(kind, rng, 5000, dtype)
        for K in (1, 2, 30, 4000):
            thresholds = np.unique(rng.choice(score, K))
            expected = thresholds.searchsorted(score, side="right")
            np.testing.assert_array_equal(count_reached(thresholds, score), expected)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=40), seed=seeds)
def test_bins_on_any_floats(values, seed):
    rng = np.random.default_rng(seed)
    values = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        above, below = (np.nextafter(values, np.float32(end)) for end in (np.inf, -np.inf))
    score = np.concatenate([rng.choice(values, 4096), above, below])
    score = score[np.isfinite(score)]
    thresholds = np.unique(rng.choice(values, len(values)))
    expected = thresholds.searchsorted(score, side="right")
    np.testing.assert_array_equal(count_reached(thresholds, score), expected)


# ---- identities ----------------------------------------------------------------------------------

@settings(max_examples=80, deadline=None)
@given(seed=seeds, ties=st.booleans())
def test_identities(seed, ties):
    targets, scores, D = case(seed, ties=ties)
    binary, official = (omap(targets, scores, D, w) for w in ("binary", "official"))
    assert abs(binary.per_level[0] - mean_average_precision(targets, scores)) < 1e-12
    assert binary.per_level[-1] == official.per_level[-1] == 1
    assert (np.diff(binary.per_level) >= -1e-12).all()
    for found in (binary, official):
        has = targets.any(0)
        assert np.isnan(found.per_class[:, ~has]).all()
        assert (found.per_class[:, has] > 0).all() and (found.per_class[:, has] <= 1 + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(seed=seeds, weighting=st.sampled_from(WEIGHTINGS))
def test_only_the_order_of_the_scores_matters(seed, weighting):
    targets, scores, D = case(seed)
    expected = omap(targets, scores, D, weighting).per_class
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(targets))
    moved = omap(targets[order], scores[order], D, weighting).per_class
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12)
    for rising in (np.exp, lambda s: 7*s - 100, lambda s: s**3, lambda s: s + np.arange(s.shape[1])):
        np.testing.assert_array_equal(omap(targets, rising(scores), D, weighting).per_class, expected)
    classes = rng.permutation(targets.shape[1])
    moved = omap(targets[:, classes], scores[:, classes], D[classes][:, classes], weighting).per_class
    np.testing.assert_allclose(moved, expected[:, classes], rtol=0, atol=1e-12)


def test_perfect_scores_give_one_and_errors_that_cost_nothing_may_lead():
    D = tree_distances(np.random.default_rng(0), 5)
    targets = np.eye(5, dtype=int)
    assert omap(targets, targets, D).value == 1
    line = abs(np.arange(3)[:, None] - np.arange(3))
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    scores = np.array([[0.5, 0, 0], [0.9, 1, 0], [0.1, 0, 1]])
    found = omap(targets, scores, line, "binary") # 0/0 above the first positive at levels 1 and 2
    assert (found.per_class[:, 0] == [0.5, 1, 1]).all()


def test_level_weights(ontology):
    W = level_weights(ontology.distances)
    assert W.shape == (22, 22) and not W[:, 0].any() and not W[21].any()
    off = ~np.eye(527, dtype=bool)
    for level in range(21):
        assert abs(W[level][ontology.distances[off]].mean() - 1) < 1e-12
        assert not W[level, :level + 1].any() and (np.diff(W[level]) >= 0).all()
    binary = level_weights(ontology.distances, weighting="binary")
    assert (binary == (np.arange(22) > np.arange(22)[:, None])).all()


def test_levels_of_a_subset(ontology):
    part = ontology.subset(ontology.mids[:6])
    targets, scores = np.eye(6, dtype=int), np.random.default_rng(0).random((6, 6))
    full = omap(targets, scores, part.distances, levels=part.levels)
    own = omap(targets, scores, part.distances)
    assert len(full.levels) == 22 and len(own.levels) == part.distances.max() + 1 < 22
    np.testing.assert_array_equal(full.per_level[:len(own.levels)], own.per_level)
    assert (full.per_level[len(own.levels):] == 1).all()
    assert omap(targets, scores, part.distances, levels=[3]).per_level[0] == full.per_level[3]
    assert omap(targets, scores, part.distances, levels=iter((0, 3))).levels == (0, 3)


def test_the_ontology_knows_its_levels(ontology):
    part = ontology.subset(["Speech", "Male speech, man speaking", "Laughter", "Cough", "Sneeze"])
    rng = np.random.default_rng(0)
    targets, a, b = np.eye(5, dtype=int)[rng.integers(0, 5, 40)], rng.random((40, 5)), rng.random((40, 5))
    of_22, of_few = omap(targets, a, part), omap(targets, a, part.distances)
    assert of_22.levels == tuple(range(22)) and of_22.value == omap(targets, a, part, levels=range(22)).value
    assert "22 levels: 0 to 21" in repr(of_22)
    assert of_few.value < of_22.value and f"{len(of_few.levels)} levels: 0 to 5" in repr(of_few)
    assert "2 levels: 0, 3" in repr(omap(targets, a, part, levels=(0, 3)))
    assert omap_naive(targets, a, part).shape == (22, 5)
    assert level_weights(part).shape == (22, part.distances.max() + 1)
    assert chance(targets, part, draws=2).per_level.shape == (22,)
    assert bootstrap(targets, a, "omap_levels", part, n=3).value.shape == (22,)
    assert paired_bootstrap(targets, a, b, "omap", part, n=3).a.value == of_22.value
    of_classes = per_class_gain(targets, a, b, part)
    np.testing.assert_allclose(of_classes.mean(), omap(targets, b, part).value - of_22.value)
    with pytest.raises(ValueError, match="527 classes, but the tables have 5: take ontology.subset"):
        omap(targets, a, ontology)


def test_nearest_positive_is_the_least_over_the_labels(ontology):
    rng = np.random.default_rng(0)
    targets = rng.random((30, 527)) < 0.02
    targets[:, 5] = True
    expected = np.stack([ontology.distances[t].min(0) for t in targets])
    np.testing.assert_array_equal(nearest_positive(targets, ontology.distances), expected)


# ---- kinds of input ------------------------------------------------------------------------------

def test_tensors_arrays_and_number_types(ontology):
    targets, scores, D = case(3, N=20)
    expected = omap(targets, scores, D).value
    with_gradient = torch.tensor(scores, requires_grad=True)
    assert omap(torch.tensor(targets), with_gradient, torch.tensor(D)).value == expected
    assert omap(targets.tolist(), scores.tolist(), D.tolist()).value == expected
    for kind in (bool, np.uint8, np.float32):
        assert omap(targets.astype(kind), scores, D.astype(float)).value == expected
    fifths = (scores*5).astype(np.float16)
    tensor = torch.tensor(fifths)
    for same in (fifths, fifths.astype(np.int64), tensor, tensor.bfloat16(), fifths.astype(np.float32)[::1],
                 np.asfortranarray(fifths)):
        assert omap(targets, same, D).value == expected
    before = scores.copy()
    omap(targets, scores, D)
    assert (before == scores).all()


def test_errors_name_what_is_wrong():
    rng = np.random.default_rng(0)
    targets, scores, D = np.eye(4, dtype=int), rng.random((4, 4)), tree_distances(rng, 4)

    def broken(table, n, c, value):
        table = table.astype(float)
        table[n, c] = value
        return table

    cases = {
        "clip 2, class 1 has nan": lambda: omap(targets, broken(scores, 2, 1, np.nan), D),
        "clip 0, class 3 has -?inf": lambda: mean_average_precision(targets, broken(scores, 0, 3, -np.inf)),
        "clip 1, class 2 has 0.5": lambda: omap(broken(targets, 1, 2, 0.5), scores, D),
        "clip 3, class 0 has nan": lambda: auc(broken(targets, 3, 0, np.nan), scores),
        "clip 2 has no positive": lambda: omap(broken(targets, 2, 2, 0), scores, D),
        r"targets \(4, 4\) and scores \(4, 3\)": lambda: omap(targets, scores[:, :3], D),
        "and not empty": lambda: omap(targets[:0], scores[:0], D),
        r"distances \(3, 3\)": lambda: omap(targets, scores, D[:3, :3]),
        "whole numbers of edges": lambda: omap(targets, scores, D + 0.5),
        "at least 1 between": lambda: omap(targets, scores, D*0),
        "Did you mean 'official'": lambda: omap(targets, scores, D, "oficial"),
        "levels must be": lambda: omap(targets, scores, D, levels=[-1]),
        "levels must be whole": lambda: omap(targets, scores, D, levels=[]),
        "clip_weights": lambda: omap(targets, scores, D, clip_weights=[1, 2]),
        "clip_weights .*>= 0": lambda: omap(targets, scores, D, clip_weights=[1, 1, 1, -1]),
        "no class can be scored": lambda: mean_average_precision(targets*0, scores),
        "unknown metric": lambda: bootstrap(targets, scores, "recall", D),
        "needs the ontology": lambda: bootstrap(targets, scores, "omap"),
        "confidence": lambda: bootstrap(targets, scores, "map", n=10, confidence=95),
        "at least 2 replicates": lambda: bootstrap(targets, scores, "map", n=1),
        "groups": lambda: bootstrap(targets, scores, "map", n=10, groups=[0, 1]),
        "Did you mean 'centred'": lambda: bootstrap(targets, scores, "map", n=10, kind="centered"),
        "draws": lambda: chance(targets, D, draws=1),
        "two pairs": lambda: paired_interval([1.0], [2.0]),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_float_distances_with_nan_are_refused():
    D = tree_distances(np.random.default_rng(0), 3).astype(float)
    D[0, 1] = np.nan
    with pytest.raises(ValueError, match="whole numbers"):
        omap(np.eye(3), np.eye(3), D)


CHECKS = ("checked_targets", "checked_scores", "checked_distances", "checked_levels", "checked_weights")


@pytest.mark.parametrize("name, tables", [
    ("mean_average_precision", 1), ("auc", 1), ("omap", 1), ("chance", 0), ("bootstrap", 1),
    ("paired_bootstrap", 2), ("per_class_gain", 2), ("measure", 1)])
def test_input_is_checked_once(ontology, monkeypatch, name, tables):
    """A public function checks what it was given, each thing once, however many parts use it."""
    calls = []
    for module in (ap_module, ontology_ap_module, intervals_module):
        for check in CHECKS:
            if original := getattr(module, check, None):
                monkeypatch.setattr(module, check, lambda *a, c=check, f=original: calls.append(c) or f(*a))
    part = ontology.subset(ontology.mids[:6])
    y, s, D = np.eye(6, dtype=int), np.random.default_rng(0).random((6, 6)), part.distances
    {
        "mean_average_precision": lambda: mean_average_precision(y, s),
        "auc": lambda: auc(y, s),
        "omap": lambda: omap(y, s, D, empty="skip", chance_draws=2),
        "chance": lambda: chance(y, D, draws=3),
        "bootstrap": lambda: bootstrap(y, s, "omap", D, n=5),
        "paired_bootstrap": lambda: paired_bootstrap(y, s, s, "omap", D, n=5),
        "per_class_gain": lambda: per_class_gain(y, s, s, D),
        "measure": lambda: measure(y, s, part, replicates=5),
    }[name]()
    assert calls.count("checked_targets") == 1 and calls.count("checked_scores") == tables
    with_distances = name not in ("mean_average_precision", "auc")
    assert calls.count("checked_distances") == calls.count("checked_levels") == with_distances
    assert calls.count("checked_weights") <= 1


# ---- AUC, d', chance, gain -----------------------------------------------------------------------

def test_d_prime():
    assert d_prime(0.5) == 0 and d_prime(1.0) == np.inf and d_prime(0.0) == -np.inf
    rng = np.random.default_rng(0) # two unit normals 1.5 apart have d' = 1.5
    scores = np.concatenate([rng.normal(1.5, 1, 20000), rng.normal(0, 1, 20000)])[:, None]
    assert abs(d_prime(auc(np.arange(40000)[:, None] < 20000, scores))[0] - 1.5) < 0.03


def test_chance_is_what_random_scores_get(ontology):
    rng = np.random.default_rng(0)
    targets = rng.random((300, 527)) < 2.5/527
    targets[np.arange(300), rng.integers(0, 527, 300)] = True
    found = chance(targets, ontology.distances, draws=4, seed=1)
    again = chance(targets, ontology.distances, draws=4, seed=1)
    assert (found.map, found.omap) == (again.map, again.omap) and found.draws == 4
    other = rng.random(targets.shape)
    assert abs(omap(targets, other, ontology.distances).value - found.omap) < 6*found.omap_sd
    assert abs(mean_average_precision(targets, other) - found.map) < 6*found.map_sd
    assert found.per_level.shape == found.per_level_sd.shape == (22,)
    assert abs(found.per_level.mean() - found.omap) < 1e-12


def test_chance_beside_omap_is_that_of_the_same_targets(ontology):
    targets, scores, _ = case(3, N=60, C=40)
    part = ontology.subset(ontology.mids[:targets.shape[1]])
    weights = np.arange(len(targets)) % 3 + 1
    found = omap(targets, scores, part, "binary", clip_weights=weights, chance_draws=5)
    alone = chance(targets, part, "binary", draws=5, clip_weights=weights)
    assert found.chance.omap == alone.omap and found.value == omap(targets, scores, part, "binary",
                                                                   clip_weights=weights).value
    assert found.above_chance == (found.value - alone.omap)/(1 - alone.omap) == alone.above(found.value)
    assert f"chance {alone.omap:.6f}" in repr(found)
    np.testing.assert_allclose(np.nanmean(alone.per_class, 1), alone.per_level, rtol=0, atol=1e-12)
    assert np.array_equal(np.isnan(alone.per_class[0]), ~targets.any(0))
    with pytest.raises(ValueError, match="chance_draws=10"):
        _ = omap(targets, scores, part).above_chance


def test_clips_without_a_label_can_be_left_out():
    targets, scores, D = case(5, N=40)
    targets[[1, 4]] = 0
    kept = targets.any(1)
    with pytest.raises(ValueError, match="clip 1 has no positive label"):
        omap(targets, scores, D)
    weights = np.linspace(1, 2, len(targets))
    skipped = omap(targets, scores, D, empty="skip", clip_weights=weights)
    assert skipped.value == omap(targets[kept], scores[kept], D, clip_weights=weights[kept]).value
    assert chance(targets, D, empty="skip", draws=2).omap == chance(targets[kept], D, draws=2).omap
    with pytest.raises(ValueError, match="none of the"):
        omap(targets*0, scores, D, empty="skip")


def test_many_classes_take_little_memory():
    """3,000 classes: the tables are 2 MB, the distances 9 MB; float64 copies of these were 72 MB each."""
    C, N = 3000, 50
    D = np.full((C, C), 2, np.int8)
    D[::2, 1::2] = D[1::2, ::2] = 3
    np.fill_diagonal(D, 0)
    targets = np.zeros((N, C), bool)
    targets[range(N), range(0, 60*N, 60)] = True
    scores = np.random.default_rng(0).random((N, C), dtype=np.float32)
    tracemalloc.start()
    omap(targets, scores, D)
    peak = tracemalloc.get_traced_memory()[1]/2**20
    tracemalloc.stop()
    assert peak < 40


def test_no_scores_are_below_the_floor(ontology):
    rng = np.random.default_rng(0)
    targets = np.eye(527, dtype=int)[rng.integers(0, 527, 400)]
    floor = rng.random(targets.shape) - 2*targets # every error first
    for w in WEIGHTINGS:
        least = omap(targets, floor, ontology.distances, w).per_level
        for scores in (rng.random(targets.shape), -targets, rng.random(targets.shape) - 0.5*targets):
            assert (omap(targets, scores, ontology.distances, w).per_level >= least - 1e-12).all()


def test_per_class_gain():
    targets, a, D = case(7, N=30)
    b = a + 0.1*targets
    expected = average_precision(targets, b) - average_precision(targets, a)
    np.testing.assert_allclose(per_class_gain(targets, a, b), expected)
    expected = omap(targets, b, D).per_class.mean(0) - omap(targets, a, D).per_class.mean(0)
    np.testing.assert_allclose(per_class_gain(targets, a, b, D, levels=iter(range(D.max() + 1))), expected)
    assert (np.nan_to_num(per_class_gain(targets, a, b, D)) >= -1e-12).all()


# ---- intervals -----------------------------------------------------------------------------------

def bigger_case(seed=0, N=60, C=8):
    rng = np.random.default_rng(seed)
    targets = (rng.random((N, C)) < 0.1).astype(int)
    targets[np.arange(N), rng.integers(0, C, N)] = 1
    a = rng.normal(size=targets.shape) + targets
    return targets, a, a + 0.5*targets + 0.3*rng.normal(size=targets.shape), tree_distances(rng, C)


def score(metric, targets, scores, D):
    return {
        "map": lambda: mean_average_precision(targets, scores),
        "omap": lambda: omap(targets, scores, D).value,
        "omap_levels": lambda: omap(targets, scores, D).per_level,
        "auc": lambda: np.nanmean(auc(targets, scores)),
        "d_prime": lambda: d_prime(np.nanmean(auc(targets, scores))),
    }[metric]()


@pytest.mark.parametrize("metric", METRICS)
def test_every_replicate_is_the_score_of_the_resampled_table(metric):
    targets, a, b, D = bigger_case()
    found = paired_bootstrap(targets, a, b, metric, D, n=25, seed=3)
    np.testing.assert_allclose(found.a.value, score(metric, targets, a, D), atol=1e-12)
    rng = np.random.default_rng(seed_stream("bootstrap", 3))
    for r in range(25):
        clips = rng.integers(0, len(targets), len(targets))
        for interval, scores in ((found.a, a), (found.b, b)):
            expected = score(metric, targets[clips], scores[clips], D)
            np.testing.assert_allclose(interval.samples[r], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.difference.samples, found.b.samples - found.a.samples)
    np.testing.assert_allclose(bootstrap(targets, a, metric, D, n=25, seed=3).samples, found.a.samples)


def test_interval_is_of_percentiles_and_seeded():
    targets, a, b, D = bigger_case()
    one, two, other = (bootstrap(targets, a, "omap", D, n=200, seed=s) for s in (0, 0, 1))
    assert (one.low, one.high) == (two.low, two.high) != (other.low, other.high)
    low, high = np.quantile(one.samples, [0.025, 0.975])
    shift = one.value - one.samples.mean()
    np.testing.assert_allclose((one.low, one.high), (low + shift, high + shift))
    plain = bootstrap(targets, a, "omap", D, n=200, seed=0, kind="percentile")
    assert (plain.low, plain.high) == (low, high) and one.low < one.value < one.high
    assert bootstrap(targets, a, "OmAP", D, n=200, seed=0).low == one.low
    wide = bootstrap(targets, a, "omap", D, n=200, seed=0, confidence=0.99)
    assert wide.low <= one.low and one.high <= wide.high
    assert str(one) == f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
    assert len(str(bootstrap(targets, a, "omap_levels", D, n=5)).splitlines()) == D.max() + 1


def test_equal_models_differ_by_nothing_and_pairing_narrows():
    targets, a, b, D = bigger_case(N=200)
    same = paired_bootstrap(targets, a, a, "omap", D, n=50).difference
    assert same.value == same.low == same.high == 0
    found = paired_bootstrap(targets, a, b, "map", n=300)
    width = lambda i: i.high - i.low
    assert width(found.difference) < (width(found.a)**2 + width(found.b)**2)**0.5


def test_classes_without_positives_in_a_replicate_are_left_out():
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
    scores = np.array([[0.9, 0.8], [0.8, 0.1], [0.1, 0.2], [0.5, 0.3]])
    found = bootstrap(targets, scores, "map", n=200)
    assert np.isfinite(found.samples).all()


def test_groups_are_drawn_whole():
    targets, a, b, D = bigger_case()
    copies = np.repeat(np.arange(len(targets)), 5)
    single = bootstrap(targets, a, "map", n=100, seed=2)
    recordings = [f"recording {i:03}" for i in copies]
    grouped = bootstrap(targets[copies], a[copies], "map", n=100, seed=2, groups=recordings)
    np.testing.assert_allclose(grouped.samples, single.samples, atol=1e-12)
    alone = bootstrap(targets[copies], a[copies], "map", n=100, seed=2)
    assert alone.high - alone.low < grouped.high - grouped.low


def test_replicates_in_blocks_are_the_same():
    """Many versions of the data are scored in blocks that fit the cache; the block must not show."""
    rng = np.random.default_rng(0)
    score, distance = rng.integers(0, 300, 900).astype(float), rng.integers(0, 12, 900)
    weights, W = rng.integers(0, 3, (150, 900)), level_weights(tree_distances(rng, 30))[:, :12]
    together = class_ap(score, distance, W, weights)
    apart = np.concatenate([class_ap(score, distance, W, w[None]) for w in weights])
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-12)
    assert class_ap(score, distance, PLAIN_COSTS[:, [0] + [1]*11], weights).shape == (150, 1)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["map", "omap", "auc"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(metric):
    """200 experiments from a known source; the truth is the mean over many such experiments."""
    C, N, n = 20, 400, 150
    D = tree_distances(np.random.default_rng(0), C)
    held = {(kind, what): 0 for kind in ("centred", "percentile") for what in ("a", "difference")}

    def experiment(seed):
        rng, share = np.random.default_rng(seed), np.arange(1, C + 1)**-0.7
        targets = np.eye(C, dtype=int)[rng.choice(C, N, p=share/share.sum())]
        hard = rng.normal(size=(N, C))
        return targets, 1.3*targets + hard, 1.8*targets + hard + 0.3*rng.normal(size=(N, C))

    many = [experiment(seed) for seed in range(10_000, 11_000)]
    a, b = (np.mean([score(metric, t, s[i], D) for t, *s in many]) for i in (0, 1))
    for seed in range(n):
        found = paired_bootstrap(*experiment(seed), metric, D, n=200)
        for what, interval, truth in (("a", found.a, a), ("difference", found.difference, b - a)):
            held["centred", what] += interval.low <= truth <= interval.high
            low, high = np.quantile(interval.samples, [0.025, 0.975])
            held["percentile", what] += low <= truth <= high
    print(metric, {k: int(v) for k, v in held.items()}, "of", n)
    assert 0.90 <= held["centred", "a"]/n <= 0.99 and 0.90 <= held["centred", "difference"]/n <= 0.99
    if metric != "auc": # in AP a positive is compared with itself: there the plain percentile interval fails
        assert held["percentile", "a"] < held["centred", "a"] - 10


def test_paired_interval_agrees_with_the_t_test():
    rng = np.random.default_rng(0)
    a = rng.random(6)
    b = a + 0.1 + 0.05*rng.random(6)
    for confidence in (0.9, 0.95):
        found = paired_interval(a, b, confidence)
        reference = ttest_rel(b, a).confidence_interval(confidence)
        np.testing.assert_allclose((found.low, found.high), (reference.low, reference.high))
    with pytest.raises(ValueError, match="finite"):
        paired_interval([0.1, np.nan], [0.1, 0.2])


# ---- the metrics of a run ------------------------------------------------------------------------

@pytest.mark.parametrize("recordings", [None, np.arange(60) // 3])
def test_measure_is_what_the_public_functions_give(ontology, recordings):
    part, rng = ontology.subset(ontology.mids[:8]), np.random.default_rng(0)
    targets = np.eye(8)[rng.integers(0, 8, 60)]
    scores = (targets + rng.normal(size=targets.shape)).astype(np.float32)
    found = measure(targets, scores, part, recordings, replicates=40, seed=4)
    assert found["mAP"]["value"] == mean_average_precision(targets, scores)
    for name, weighting in (("OmAP", "official"), ("OmAP_binary", "binary")):
        expected = omap(targets, scores, part.distances, weighting, part.levels)
        assert found[name]["value"] == expected.value
        assert found[name]["per_level"] == expected.per_level.tolist()
    for name in ("mAP", "OmAP"):
        expected = bootstrap(targets, scores, name, part.distances, levels=part.levels, n=40, seed=4,
                             groups=recordings)
        assert (found[name]["low"], found[name]["high"]) == (expected.low, expected.high)
    without = measure(targets, scores, part, replicates=0)
    assert "low" not in found["OmAP_binary"] and "low" not in without["mAP"]


def test_resampled_means_are_those_of_the_drawn_clips():
    values, recordings = np.random.default_rng(0).random((7, 2)), np.array([0, 0, 1, 2, 2, 2, 3])
    found = resampled(values, recordings, n=20, seed=5)
    rng = np.random.default_rng(seed_stream("bootstrap", 5))
    for replicate, drawn in zip(found, rng.integers(4, size=(20, 4))):
        rows = np.concatenate([np.flatnonzero(recordings == r) for r in drawn])
        np.testing.assert_allclose(replicate, values[rows].mean(0))
    np.testing.assert_allclose(resampled(values[:, 0], recordings, n=20, seed=5), found[:, 0])
