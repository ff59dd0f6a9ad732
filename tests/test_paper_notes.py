"""The notes on the paper, against what the package and AudioSet's own lists say."""
import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spa_lib.metrics import average_precision, random_ap
from spa_lib.ontology import METHODS, Ontology
from spa_lib.results import paper_table

ROOT = Path(__file__).resolve().parents[1]
LISTENED_CLASSES = ("Air brake", "Child speech, kid speaking", "Fire", "Mechanisms", "Yodeling")


def cells(name, kind="code"):
    """Sources of the cells of one kind in a notebook of nbs/paper."""
    notebook = json.loads((ROOT / "nbs/paper" / f"{name}.ipynb").read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


def defined(name, *functions):
    """The functions of a notebook, from the cells that define them and nothing else."""
    scope = {"np": np, "average_precision": average_precision}
    for f in functions:
        source = next(c for c in cells(name) if f"def {f}(" in c)
        start = source.index(f"def {f}(")
        body = re.match(r"def .*(?:\n(?:[ \t].*)?)*", source[start:]).group()
        exec(body, scope)
    return [scope[f] for f in functions]


def test_every_note_is_numbered_once_and_listed():
    prose = "\n".join(cells("paper_notes", "markdown"))
    numbers = [int(n) for n in re.findall(r"^### (\d+)\. ", prose, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == sum(c.count('note("') for c in cells("paper_notes"))


def test_chance_of_average_precision_is_that_of_simulated_orders():
    rng = np.random.default_rng(0)
    for n, present in ((20, 14), (20, 3), (7, 7)):
        y = (np.arange(n) < present)[:, None]
        drawn = [average_precision(y, rng.random((n, 1)))[0] for _ in range(3000)]
        assert abs(np.mean(drawn) - random_ap(n, present)) < 4 * np.std(drawn) / np.sqrt(len(drawn)) + 1e-12


@pytest.mark.parametrize("present, labels, n", [(3, 2, 5), (4, 4, 6), (1, 3, 5), (5, 0, 6), (6, 3, 6)])
def test_lowest_ap_is_the_lowest_of_all_labellings(present, labels, n):
    from itertools import combinations

    lowest_ap, = defined("paper_notes", "lowest_ap")
    y = (np.arange(n) < present)[:, None]
    found = []
    for labelled in combinations(range(n), labels):
        scores = np.isin(np.arange(n), labelled).astype(float)
        found.append(average_precision(y, scores[:, None])[0])
    assert np.isclose(min(found), lowest_ap(present, labels, n))


def test_purity_is_that_of_a_plain_count():
    neighbours, purity = defined("fig1_label_tsne", "neighbours", "purity")
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(40, 2)), rng.integers(0, 9, 40)
    d = np.linalg.norm(x[:, None] - x, axis=2)
    found = purity(neighbours(d, k=5), group)
    for i in range(40):
        others = sorted((j for j in range(40) if j != i), key=lambda j: d[i, j])
        k = min(5, (group == group[i]).sum() - 1)
        if k == 0:
            assert np.isnan(found[i])
        else:
            assert np.isclose(found[i], np.mean([group[j] == group[i] for j in others[:k]]))


def test_weighted_rank_correlation_counts_a_pair_as_often_as_it_is_drawn():
    from scipy.stats import spearmanr

    _, spearman = defined("fig1_label_tsne", "weighted_rank", "spearman")
    rng = np.random.default_rng(0)
    a, b, w = rng.integers(0, 6, 50), rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    expected = spearmanr(np.repeat(a, w), np.repeat(b, w)).statistic
    assert np.isclose(spearman([a], b, w.astype(float))[0], expected)


def test_figure_1_shows_all_classes_in_order_with_the_colour_of_their_path():
    ont = Ontology.audioset()
    for name in ("fig1_label_tsne", "fig1_label_tsne_umap"):
        points = pd.read_csv(ROOT / "figures" / f"{name}.csv")
        assert points.mid.tolist() == list(ont.mids)
        assert points.branch.tolist() == [ont.name(ont.branch(m)) for m in ont.mids]
        assert points[[f"{m}_{axis}" for m in METHODS for axis in "xy"]].notna().all(axis=None)
        assert points.also_below.notna().sum() == 29


def test_listened_classes_are_rare_in_the_evaluation_set(shared):
    """Note 23: 37 labelled clips of 100 are not a plain draw."""
    with open(shared / "data/audioset_meta/class_labels_indices.csv", newline="") as f:
        mids = {r["mid"] for r in csv.DictReader(f) if r["display_name"] in LISTENED_CLASSES}
    lines = (shared / "data/audioset_meta/eval_segments.csv").read_text().splitlines()[3:]
    labels = [set(re.search(r'"(.*)"', line).group(1).split(",")) for line in lines]
    assert len(mids) == 5 and len(labels) == 20371
    assert max(sum(m in found for found in labels) for m in mids) / len(labels) < 0.011


def test_tables_agree_where_the_paper_shows_the_same_model_twice():
    assert (paper_table(1).OmAP_with != paper_table(2).concat).sum() == 1
