"""OmAP on the device against `omap` in numpy: ties, classes without positives or full of them, faults."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.metrics import WEIGHTINGS, mean_average_precision, omap, omap_on_device


def table(rng, N, C, values):
    """Targets with a label a clip, a class of nobody and one of everybody; scores of few values."""
    targets = (rng.random((N, C)) < rng.choice([0.02, 0.3])).astype(np.uint8)
    targets[range(N), rng.integers(0, C, N)] = 1
    if C > 2:
        targets[:, 0], targets[:, 1] = 0, 1
    return targets, rng.integers(0, values, targets.shape)/values


def path(C):
    """Edges between classes on a line."""
    return abs(np.arange(C)[:, None] - np.arange(C))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.sampled_from([1, 2, 30, 10**6]),
       weighting=st.sampled_from(WEIGHTINGS))
def test_agrees_with_omap(seed, values, weighting):
    rng = np.random.default_rng(seed)
    targets, scores = table(rng, rng.integers(1, 30), rng.integers(2, 9), values)
    D = path(targets.shape[1])
    ours = omap_on_device(targets, torch.tensor(scores), D, weighting)
    reference = omap(targets, scores, D, weighting)
    np.testing.assert_allclose(ours.per_class, reference.per_class, rtol=0, atol=1e-12) # nan must meet nan
    np.testing.assert_allclose(ours.per_level, reference.per_level, rtol=0, atol=1e-12)
    assert abs(ours.value - reference.value) < 1e-12
    assert ours.levels == reference.levels and ours.weighting == weighting


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_agrees_on_the_ontology_in_every_precision(ontology, dtype):
    """What is rounded to a tie is a tie for both."""
    rng = np.random.default_rng(0)
    targets, _ = table(rng, 200, len(ontology), 1)
    scores = torch.tensor(rng.normal(size=targets.shape)).to(dtype)
    ours = omap_on_device(torch.tensor(targets), scores, ontology.distances, levels=ontology.levels)
    reference = omap(targets, scores, ontology.distances, levels=ontology.levels)
    np.testing.assert_allclose(ours.per_class, reference.per_class, rtol=0, atol=1e-12)


def test_golden_omap(shared, ontology):
    for name in ("continuous", "ties"):
        z = np.load(shared / "golden" / f"omap_{name}.npz")
        found = omap_on_device(z["target"], torch.tensor(z["scores"]), ontology.distances)
        np.testing.assert_allclose(found.per_class, z["omap_per_level_class"], rtol=0, atol=1e-9)


def test_level_zero_of_the_binary_reading_is_map(ontology):
    rng = np.random.default_rng(1)
    targets, scores = table(rng, 100, 40, 7)
    few = ontology.subset(ontology.mids[:40])
    found = omap_on_device(targets, torch.tensor(scores), few.distances, "binary", [0, 21])
    assert abs(found.per_level[0] - mean_average_precision(targets, scores)) < 1e-12
    assert found.per_level[1] == 1


def test_faults_are_named():
    targets, scores = np.eye(3, dtype=int), torch.rand(3, 3)
    twice = targets + np.diag([0, 0, 1])
    for fault, t, s, D in (("clip 1 has no positive", targets*[[1], [0], [1]], scores, path(3)),
                           ("targets must be 0 or 1, but clip 2, class 2 has 2", twice, scores, path(3)),
                           ("finite, but clip 0, class 0", targets, torch.full((3, 3), torch.inf), path(3)),
                           ("must both be", targets, scores[:2], path(3)),
                           ("distances", targets, torch.rand(3, 3), path(4)),
                           ("whole numbers of edges", targets, torch.rand(3, 3), path(3) + 1)):
        with pytest.raises(ValueError, match=fault):
            omap_on_device(t, s, D)
    with pytest.raises(ValueError, match="weighting"):
        omap_on_device(targets, torch.rand(3, 3), path(3), "officiall")
