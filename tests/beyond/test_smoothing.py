"""Scores smoothed over the ontology: by hand, bounds, and a choice that is the best of those tried."""
import numpy as np
import pytest

from spa_lib.beyond import smooth_scores, tune_smoothing
from spa_lib.metrics import mean_average_precision, omap
from spa_lib.ontology import Ontology

LINE = Ontology.from_edges([("a", "b"), ("b", "c")])


def test_a_neighbour_lends_by_its_distance():
    w = np.exp([0.0, -1.0, -2.0])
    expected = np.array([[1 + w[0]/w.sum(), w[1]/(w[0] + 2*w[1]), w[2]/w.sum()]])
    np.testing.assert_allclose(smooth_scores([[1.0, 0, 0]], LINE, b=1, tau=1), expected)


def test_no_weight_changes_nothing_and_equal_scores_stay_equal():
    s = np.random.default_rng(0).random((5, 3))
    np.testing.assert_array_equal(smooth_scores(s, LINE, b=0, tau=1), s)
    np.testing.assert_allclose(smooth_scores(np.full((2, 3), 0.4), LINE, b=0.5, tau=3), 0.6)


def test_the_best_of_those_tried_is_chosen(ontology):
    part = ontology.subset(ontology.mids[:12])
    rng = np.random.default_rng(1)
    targets = np.eye(12, dtype=int)[rng.integers(0, 12, 60)]
    scores = rng.random((60, 12)) + 0.3*targets
    found = tune_smoothing(targets, scores, part, bs=(0, 0.3), taus=(1, 2))
    tried = {}
    for b, tau in ((0, 1), (0, 2), (0.3, 1), (0.3, 2)):
        s = smooth_scores(scores, part, b, tau)
        tried[b, tau] = mean_average_precision(targets, s) + omap(targets, s, part).value
    assert tried[found.b, found.tau] == max(tried.values()) == found.mAP + found.OmAP


@pytest.mark.parametrize("scores, b, tau, message", [
    ([[0.1, 0.2]], 1, 1, r"scores \(1, 2\) must be \[clips, 3\]"),
    ([[0.1, 0.2, 0.3]], -1, 1, "b must be at least 0"),
    ([[0.1, 0.2, 0.3]], 1, 0, "tau above 0"),
])
def test_faults_are_named(scores, b, tau, message):
    with pytest.raises(ValueError, match=message):
        smooth_scores(scores, LINE, b, tau)
