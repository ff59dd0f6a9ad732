"""Cases after the suites of scikit-learn, torchmetrics and networkx: the same inputs, the same numbers."""

import networkx
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from spa_lib.metrics import auc, average_precision, mean_average_precision
from spa_lib.ontology import Ontology


def column(values):
    return np.array(values)[:, None]


# what it is | targets and scores of one class
ONE_CLASS = [
    ("perfect", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
    ("reversed", [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]),
    ("all scores equal", [0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]),
    ("a tie over the border", [0, 1, 1, 0], [0.2, 0.5, 0.5, 0.5]),
    ("ties within both", [1, 1, 0, 0, 0], [0.7, 0.7, 0.3, 0.3, 0.7]),
    ("scores of 0 and 1", [0, 1, 1, 0], [0, 1, 0, 1]),
    ("all positive", [1, 1, 1], [0.1, 0.2, 0.3]),
    ("one positive, last", [0, 0, 0, 1], [0.4, 0.3, 0.2, 0.1]),
    ("negative scores", [0, 1, 0, 1], [-3.0, -1.0, -2.0, -4.0]),
    ("large scores", [0, 1, 0, 1], [1e30, 1e30, -1e30, 1e31]),
    ("tiny differences", [0, 1, 0, 1], [1.0, 1 + 1e-15, 1 - 1e-15, 1.0]),
    ("denormal scores", [0, 1, 1], [0.0, 5e-324, 1e-323]),
]


@pytest.mark.parametrize("what, targets, scores", ONE_CLASS, ids=[row[0] for row in ONE_CLASS])
def test_one_class(what, targets, scores):
    ours = average_precision(column(targets), column(scores))[0]
    assert ours == pytest.approx(average_precision_score(targets, scores), abs=1e-12)
    if len(set(targets)) > 1:
        assert auc(column(targets), column(scores))[0] == pytest.approx(
            roc_auc_score(targets, scores), abs=1e-12
        )
    else:
        assert np.isnan(auc(column(targets), column(scores))[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 16])
def test_many_classes(seed, decimals):
    """Scores with many ties and with none, equal clips, weights."""
    rng = np.random.default_rng(seed)
    y, s = rng.integers(0, 2, (50, 6)), rng.random((50, 6)).round(decimals)
    weights = rng.integers(0, 4, 50)
    expected = average_precision_score(y, s, average=None, sample_weight=weights)
    assert average_precision(y, s, weights) == pytest.approx(expected, abs=1e-12)
    assert auc(y, s, weights) == pytest.approx(
        roc_auc_score(y, s, average=None, sample_weight=weights), abs=1e-12
    )
    assert mean_average_precision(y, s) == pytest.approx(average_precision_score(y, s), abs=1e-12)


@pytest.mark.filterwarnings("ignore:No positive class")
def test_a_class_without_a_positive_is_nan_here_and_0_there():
    y, s = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    assert np.isnan(average_precision(y, s)[1]) and average_precision_score(y, s, average=None)[1] == 0
    assert mean_average_precision(y, s) == 1 and average_precision_score(y, s) == 0.5


MULTILABEL = [  # after torchmetrics' docstring of MultilabelAveragePrecision, and with ties
    (
        [[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]],
        [[0.75, 0.05, 0.35], [0.45, 0.75, 0.05], [0.05, 0.55, 0.75], [0.05, 0.65, 0.05]],
    ),
    (
        [[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 1]],
        [[0.5, 0.5, 0.5], [0.5, 0.75, 0.5], [0.5, 0.5, 0.75], [0.5, 0.65, 0.5]],
    ),
]


@pytest.mark.parametrize("targets, scores", MULTILABEL, ids=["of its docstring", "ties"])
def test_multilabel(targets, scores):
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    y, s = torch.tensor(targets), torch.tensor(scores)
    expected = torchmetrics.multilabel_average_precision(s, y, 3, average=None)
    assert average_precision(y, s) == pytest.approx(expected.numpy(), abs=1e-6)
    expected = torchmetrics.multilabel_auroc(s, y, 3, average=None)
    assert auc(y, s) == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_distances_are_those_of_the_graph(seed):
    """Random hierarchies, several parents included: edges of the shortest way, whichever way they point."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 30))
    edges = [(str(int(rng.integers(0, k))), str(k)) for k in range(1, n)]  # parent, child
    edges += [
        (str(a), str(b))
        for a, b in rng.integers(0, n, (n // 3, 2))
        if a < b and (str(a), str(b)) not in edges
    ]
    ontology = Ontology.from_edges(dict.fromkeys(edges), {str(k): f"class {k}" for k in range(n)})
    graph = networkx.Graph(edges)
    ways = dict(networkx.all_pairs_shortest_path_length(graph))
    expected = [[ways[a][b] for b in ontology.mids] for a in ontology.mids]
    assert np.array_equal(ontology.distances, expected)
