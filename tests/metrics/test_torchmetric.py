"""OmAP as a torchmetrics metric, as a functional and as a scorer: against `omap`, on whatever they run."""
import doctest
import io
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

import spa_lib.metrics as metrics
from spa_lib.metrics import (
    WEIGHTINGS,
    omap,
    omap_score,
    omap_scorer,
    ontology_average_precision,
)
from spa_lib.ontology import Ontology

torchmetrics = pytest.importorskip("torchmetrics")
OntologyAveragePrecision = metrics.OntologyAveragePrecision


def tables(seed=0, clips=120, classes=30):
    """Scores float32 and targets, tensors; a label a clip at least, a class of nobody."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((clips, classes)) < 0.1).astype(np.int64)
    targets[range(clips), rng.integers(1, classes, clips)] = 1
    targets[:, 0] = 0
    return torch.tensor(rng.integers(0, 40, targets.shape)/40, dtype=torch.float32), torch.tensor(targets)


@pytest.fixture(scope="module")
def few(ontology):
    return ontology.subset(ontology.mids[::18])


@pytest.mark.parametrize("module", ["torchmetric", "device", "scorer"])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(sys.modules[f"spa_lib.metrics.{module}"])
    assert result.attempted >= 4 and not result.failed


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), weighting=st.sampled_from(WEIGHTINGS), batch=st.integers(1, 130))
def test_equals_omap_whatever_the_batches(few, seed, weighting, batch):
    preds, target = tables(seed)
    metric = OntologyAveragePrecision(few, weighting=weighting)
    each = OntologyAveragePrecision(few, average=None, weighting=weighting)
    for p, t in zip(preds.split(batch), target.split(batch)):
        metric.update(p, t)
        each.update(p, t.bool())
    expected = omap(target, preds, few, weighting)
    assert metric.compute() == np.float32(expected.value) and metric.compute().dtype == torch.float32
    np.testing.assert_array_equal(each.compute(), expected.per_class.mean(0).astype(np.float32))
    assert each.compute()[0].isnan() and not each.compute()[1:].isnan().all()
    assert metric.result().per_level.tolist() == expected.per_level.tolist()
    assert ontology_average_precision(preds, target, few, weighting=weighting) == metric.compute()


def test_states_are_float32_and_bool_and_lists(few):
    preds, target = tables()
    metric = OntologyAveragePrecision(few.distances, levels=[0, 3])
    metric.update(preds.double().requires_grad_(), target.float())
    assert [t.dtype for t in (*metric.scores, *metric.targets)] == [torch.float32, torch.bool]
    assert not metric.scores[0].requires_grad and metric.levels == (0, 3)
    assert metric.compute() == np.float32(omap(target, preds, few.distances, levels=[0, 3]).value)
    metric.reset()
    assert metric.scores == [] and metric.targets == []


def test_forward_gives_the_batch_and_keeps_all(few):
    preds, target = tables()
    metric = OntologyAveragePrecision(few)
    first = metric(preds[:50], target[:50])
    assert first == np.float32(omap(target[:50], preds[:50], few).value)
    metric(preds[50:], target[50:])
    assert metric.compute() == np.float32(omap(target, preds, few).value)


def test_in_a_collection(few):
    preds, target = tables()
    collection = torchmetrics.MetricCollection({
        "map": torchmetrics.classification.MultilabelAveragePrecision(len(few), average="macro"),
        "official": OntologyAveragePrecision(few, chance_draws=2),
        "binary": OntologyAveragePrecision(few, weighting="binary", levels=[0]),
    }, prefix="val/").clone()
    for p, t in zip(preds.split(50), target.split(50)):
        collection.update(p, t)
    values = collection.compute()
    groups = [sorted(group) for group in collection.compute_groups.values()]
    assert sorted(groups) == [["binary", "official"], ["map"]]
    found = omap(target, preds, few, chance_draws=2)
    assert values["val/omap"] == np.float32(found.value)
    assert values["val/omap_chance"] == np.float32(found.chance.omap)
    assert values["val/omap_above_chance"] == np.float32(found.above_chance)
    of_classes = metrics.average_precision(target, preds)
    assert abs(values["val/binary"] - np.nanmean(of_classes)) < 1e-6
    assert abs(values["val/map"] - np.nan_to_num(of_classes).mean()) < 0.05 # it counts a class of nobody as 0


def test_pickles_with_what_it_has(few):
    preds, target = tables()
    metric = OntologyAveragePrecision(few, average=None)
    metric.update(preds, target)
    again = pickle.loads(pickle.dumps(metric))
    np.testing.assert_array_equal(again.compute(), metric.compute())
    saved = io.BytesIO()
    torch.save(metric, saved)
    saved.seek(0)
    assert torch.load(saved, weights_only=False).levels == tuple(few.levels)


def test_chance_stands_beside_it(few):
    preds, target = tables()
    values = ontology_average_precision(preds, target, few, chance_draws=3)
    expected = metrics.chance(target, few, draws=3)
    assert values["omap_chance"] == np.float32(expected.omap)
    assert abs(values["omap_above_chance"] - (values["omap"] - expected.omap)/(1 - expected.omap)) < 1e-6
    each = ontology_average_precision(preds, target, few, average=None, chance_draws=3)
    np.testing.assert_array_equal(each["omap_chance"], expected.per_class.mean(0).astype(np.float32))
    last = ontology_average_precision(preds, target, few, levels=[21], chance_draws=2)
    assert last["omap"] == 1 and last["omap_above_chance"].isnan()


def test_a_clip_without_a_label_is_refused_or_left_out(few):
    preds, target = tables()
    target[[3, 7]] = 0
    rest = target.any(1)
    expected = np.float32(omap(target[rest], preds[rest], few).value)
    with pytest.raises(ValueError, match="clip 3 has no positive label .and 1 more"):
        OntologyAveragePrecision(few).update(preds, target)
    skipping = OntologyAveragePrecision(few, empty="skip")
    skipping.update(preds[:4], target[:4]*0)  # a whole batch of them
    skipping.update(preds, target)
    assert skipping.compute() == expected
    assert ontology_average_precision(preds, target, few, empty="skip") == expected
    assert omap_score(target, preds, few, empty="skip") == omap(target[rest], preds[rest], few).value
    with pytest.raises(ValueError, match="none of the 120 clips has a positive label"):
        ontology_average_precision(preds, target*0, few, empty="skip")
    with pytest.raises(ValueError, match="skip"):
        OntologyAveragePrecision(few, empty="skipp")


def test_a_skipping_metric_that_shares_its_state_still_skips(few):
    """In a collection only one of two metrics with equal states is updated: neither may drop clips then."""
    preds, target = tables()
    collection = torchmetrics.MetricCollection({
        "a": OntologyAveragePrecision(few, empty="skip"),
        "b": OntologyAveragePrecision(few, empty="skip", weighting="binary"),
    })
    collection.update(preds, target)
    unlabelled = target.clone()
    unlabelled[5] = 0
    collection.update(preds, unlabelled)
    every = torch.cat([target, unlabelled]), torch.cat([preds, preds])
    for name, weighting in (("a", "official"), ("b", "binary")):
        expected = omap(*every, few, weighting, empty="skip").value
        assert collection.compute()[name] == np.float32(expected)


def test_faults_are_named_by_the_batch(few):
    preds, target = tables()
    metric = OntologyAveragePrecision(few)
    for fault, p, t in (("order is .preds, target.", target, preds),
                        ("targets must be 0 or 1, but clip 0", preds, target + 1),
                        ("finite, but clip 2, class 1", preds.index_put([torch.tensor(2), torch.tensor(1)],
                                                                        torch.tensor(torch.nan)), target),
                        ("must both be", preds[:5], target),
                        ("have 4 classes, but the distances are of 30", preds[:, :4], target[:, 1:5])):
        with pytest.raises(ValueError, match=fault):
            metric.update(p, t)
    assert metric.scores == []
    with pytest.raises(ValueError, match="average must be 'macro' or None"):
        OntologyAveragePrecision(few, average="micro")
    with pytest.raises(ValueError, match="weighting"):
        OntologyAveragePrecision(few, weighting="officiall")
    with pytest.raises(ValueError, match="at least 2"):
        OntologyAveragePrecision(few, chance_draws=1)


def test_plots(few):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    preds, target = tables()
    metric = OntologyAveragePrecision(few, chance_draws=2)
    values = [metric(preds, target)["omap"] for _ in range(3)]
    for val in (None, values):
        figure, ax = metric.plot(val)
        assert ax is not None and figure is not None
    _, ax = metric.plot_levels()
    curve, dashed = ax.lines
    assert curve.get_ydata().tolist() == metric.result().per_level.tolist() and len(dashed.get_xdata()) == 22
    plt.close("all")


WORKER = """
import sys
import torch, torch.distributed as dist
from spa_lib.metrics import OntologyAveragePrecision, omap
from torchmetrics import MetricCollection
rank, file = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
g = torch.Generator().manual_seed(0)
preds, target = torch.rand(31, 5, generator=g), (torch.rand(31, 5, generator=g) < 0.3).int()
target[:, 4] = 1
line = (torch.arange(5)[:, None] - torch.arange(5)).abs()
metric = OntologyAveragePrecision(line)
both = MetricCollection([OntologyAveragePrecision(line, weighting="binary", average=None)])
late = OntologyAveragePrecision(line) # the second process has no clip for it
mine = slice(0, 20) if rank == 0 else slice(20, 31) # unequal parts
for p, t in zip(preds[mine].split(6), target[mine].split(6)):
    metric.update(p, t)
    both.update(p, t)
    if rank == 0: late.update(p, t)
for value, expected in ((metric.compute(), omap(target, preds, line).value),
                        (both.compute()["OntologyAveragePrecision"],
                         omap(target, preds, line, "binary").per_class.mean(0)),
                        (late.compute(), omap(target[:20], preds[:20], line).value)):
    assert torch.equal(value, torch.tensor(expected, dtype=torch.float32)), (rank, value, expected)
assert metric.result().value == omap(target, preds, line).value
assert sum(len(part) for part in metric.scores) == (20, 11)[rank] # and each has its own again
dist.destroy_process_group()
"""


def test_two_processes(tmp_path):
    """Unequal parts, one without any clip: each process has the value of all clips."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WORKER)]
    meeting = str(tmp_path / "meeting")
    running = [subprocess.Popen([*command, str(rank), meeting], stderr=subprocess.PIPE, text=True)
               for rank in range(2)]
    try:
        for process in running:
            _, errors = process.communicate(timeout=600) # a second on an idle machine, besides the imports
            assert process.returncode == 0, errors
    finally: # of one that fails the other would wait
        for process in running:
            process.kill()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(few):
    preds, target = tables()
    metric = OntologyAveragePrecision(few, average=None, chance_draws=2).to("cuda")
    metric.update(preds.cuda(), target.cuda())
    values = metric.compute()
    expected = ontology_average_precision(preds, target, few, average=None, chance_draws=2)
    for key, value in values.items():
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), expected[key], rtol=0, atol=1e-6, equal_nan=True)


def test_without_torchmetrics_the_message_says_what_to_install(tmp_path):
    script = """
import sys
sys.modules["torchmetrics"] = None
import spa_lib.metrics
try: spa_lib.metrics.OntologyAveragePrecision
except ImportError as e: print(e)
try: spa_lib.metrics.OntologyAverage
except AttributeError as e: print(e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "pip install 'spa_lib[metrics]'" in first and "no attribute 'OntologyAverage'" in second


# scikit-learn

def test_scorer_in_cross_validation():
    farm = Ontology.from_edges([("birds", "hen"), ("birds", "duck"), ("cattle", "cow")], root="farm",
                               classes=["cow", "duck", "hen"])
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 90)
    X = np.array([[0, 4], [1, 0], [0, 0]])[label] + rng.normal(size=(90, 2))
    y = MultiLabelBinarizer(classes=farm.names).fit_transform([[farm.names[i]] for i in label])
    for estimator in (OneVsRestClassifier(LogisticRegression()), RandomForestClassifier(5, random_state=0)):
        scores = cross_val_score(estimator, X, y, scoring=omap_scorer(farm), cv=3)
        assert scores.shape == (3,) and (scores > 0.7).all()
    sparse = MultiLabelBinarizer(classes=farm.names, sparse_output=True)
    y_sparse = sparse.fit_transform([[farm.names[i]] for i in label])
    y_score = rng.random(y.shape)
    weights = rng.integers(0, 3, 90)
    assert omap_score(y_sparse, y_score, farm) == omap(y, y_score, farm).value
    repeated = np.repeat(np.arange(90), weights)
    assert np.isclose(omap_score(y, y_score, farm, sample_weight=weights),
                      omap_score(y[repeated], y_score[repeated], farm))
    assert pickle.loads(pickle.dumps(omap_scorer(farm.distances)))(estimator.fit(X, y), X, y) > 0.9
