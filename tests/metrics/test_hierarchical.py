"""Other measures of a hierarchy against their definitions, written down one clip at a time."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.metrics import (
    hierarchical_distance,
    hierarchical_f,
    lca_heights,
    mistake_severity,
)
from spa_lib.ontology import Ontology


def hierarchy(rng, nodes=12):
    """A random one, some nodes with two parents, and some of its nodes as classes."""
    edges = [(f"n{rng.integers(0, i)}", f"n{i}") for i in range(1, nodes)]
    edges += [(f"n{rng.integers(0, i)}", f"n{i}") for i in rng.integers(3, nodes, 2)]
    classes = rng.permutation([f"n{i}" for i in range(nodes)])[:rng.integers(2, nodes)]
    return Ontology.from_edges(edges, {f"n{i}": f"n{i}" for i in range(nodes)}, classes.tolist())


def above(ontology, mid):
    return {mid, *ontology.ancestors(mid)}


def height(ontology, mid):
    return max((height(ontology, child) + 1 for child in ontology.children(mid)), default=0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_heights_are_those_of_the_lowest_common_node(seed):
    ontology = hierarchy(np.random.default_rng(seed))
    found = lca_heights(ontology)
    for i, a in enumerate(ontology.mids):
        for j, b in enumerate(ontology.mids):
            common = above(ontology, a) & above(ontology, b)
            assert found[i, j] == (0 if i == j else min(height(ontology, m) for m in common))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_hierarchical_f_counts_sets_of_nodes(seed):
    rng = np.random.default_rng(seed)
    ontology = hierarchy(rng)
    targets, decisions = rng.integers(0, 2, (2, 9, len(ontology)))
    everywhere = set.intersection(*(above(ontology, mid) for mid in ontology.mids))

    def nodes(row):
        return set().union(*(above(ontology, ontology.mids[c]) for c in np.flatnonzero(row))) - everywhere

    pairs = [(nodes(t), nodes(d)) for t, d in zip(targets, decisions)]
    both, decided, true = (sum(map(len, sets)) for sets in zip(*((t & d, d, t) for t, d in pairs)))
    found = hierarchical_f(targets, decisions, ontology)
    expected = [both/decided if decided else np.nan, both/true if true else np.nan,
                2*both/(decided + true) if decided + true else np.nan]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_severity_and_distance_look_at_one_clip_at_a_time(seed):
    rng = np.random.default_rng(seed)
    ontology = hierarchy(rng)
    C, D = len(ontology), lca_heights(ontology)
    targets = rng.integers(0, 2, (15, C))
    targets[range(15), rng.integers(0, C, 15)] = 1
    scores = rng.permutation(15*C).reshape(15, C)/7
    k = int(rng.integers(1, C + 1))
    far = [[min(D[c, p] for p in np.flatnonzero(t)) for c in np.argsort(-s)] for t, s in zip(targets, scores)]
    mistakes = [row[0] for row in far if row[0]]
    severity = mistake_severity(targets, scores, D)
    assert np.isclose(severity, np.mean(mistakes)) if mistakes else np.isnan(severity)
    assert np.isclose(hierarchical_distance(targets, scores, D, k), np.mean([row[:k] for row in far]))


def test_heights_of_audioset(ontology):
    heights = lca_heights(ontology)
    assert (heights == heights.T).all() and heights.max() == heights[0, ontology.index("Dog")] == 6
    assert heights[ontology.index("Dog"), ontology.index("Bark")] == 1
    off_diagonal = ~np.eye(len(heights), dtype=bool)
    assert (heights[off_diagonal] >= 1).all() and (np.diag(heights) == 0).all()


def test_faults_are_named():
    own = Ontology.from_edges([("top", "a"), ("top", "b")], classes=["a", "b"])
    with pytest.raises(ValueError, match="must both be .clips, 2., the ontology's classes"):
        hierarchical_f(np.eye(3), np.eye(3), own)
    with pytest.raises(ValueError, match="k must be from 1 to the number of classes, 2, not 0"):
        hierarchical_distance(np.eye(2), np.eye(2), own, k=0)
    with pytest.raises(ValueError, match="clip 1 has no positive"):
        mistake_severity(np.diag([1, 0]), np.eye(2), own)
    assert np.isnan(hierarchical_f(np.eye(2), np.zeros((2, 2)), own).precision)


def test_committed_scores_are_those_of_the_tagger(root, shared, ontology):
    import pandas as pd

    table = pd.read_csv(root / "figures" / "neighbours_scores.csv")
    with np.load(shared / "golden" / "mn04_scores_esc.npz") as z:
        names, scores = [name.rsplit(".", 1)[0] for name in z["filename"]], z["scores"].astype(float)
    mids = table.columns[2:]
    assert table["clip"].tolist() == names and len(mids) == 50
    expected = scores[:, [ontology.index(mid) for mid in mids]]
    np.testing.assert_allclose(table[list(mids)], expected, rtol=1e-3, atol=1e-8)
