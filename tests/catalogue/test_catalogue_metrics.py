"""What the metric and the losses say of tables that are not as they should be."""

import numpy as np
import pandas as pd
import pytest
import torch

from spa_lib.encoders.blocks import drop_path
from spa_lib.losses import bce_loss, obce_loss, obce_weights, spa_loss, total_loss
from spa_lib.metrics import auc, average_precision, bootstrap, mean_average_precision, omap
from spa_lib.ontology import Ontology

OK = 0
NAMES = ["Speech", "Laughter", "Giggle", "Dog", "Bark"]
ONTOLOGY = Ontology.audioset().subset(NAMES)
NAMES = list(ONTOLOGY.names)  # in AudioSet's order
D = ONTOLOGY.distances
RNG = np.random.default_rng(0)
Y = np.eye(5)[np.arange(20) % 5]
S = Y + RNG.normal(size=Y.shape)
MAP = f"{mean_average_precision(Y, S):.6f}"
OMAP = f"{float(omap(Y, S, ONTOLOGY)):.6f}"


def with_one(table, value, at=(3, 2)):
    table = np.array(table, float)
    table[at] = value
    return table


def frame(table, columns=NAMES, index=None):
    return pd.DataFrame(table, columns=columns, index=index)


TURNED = [3, 0, 4, 1, 2]
CLIPS = [f"clip{n}" for n in range(20)]
BACK = CLIPS[::-1]

# what it is | targets, scores, distances | what comes of it | what must be said: "mAP OmAP" where it is right
TABLES = [
    ("as it should be", (Y, S, ONTOLOGY), OK, f"{MAP} {OMAP}"),
    ("bare distances", (Y, S, D), OK, MAP),
    ("tensors", (torch.tensor(Y), torch.tensor(S), ONTOLOGY), OK, f"{MAP} {OMAP}"),
    ("a tensor with a gradient", (torch.tensor(Y), torch.tensor(S, requires_grad=True), ONTOLOGY), OK, MAP),
    ("lists", (Y.tolist(), S.tolist(), ONTOLOGY), OK, f"{MAP} {OMAP}"),
    ("booleans", (Y.astype(bool), S, ONTOLOGY), OK, f"{MAP} {OMAP}"),
    ("data frames", (frame(Y), frame(S), ONTOLOGY), OK, f"{MAP} {OMAP}"),
    (
        "columns in another order",
        (frame(Y), frame(S)[[NAMES[c] for c in TURNED]], ONTOLOGY),
        OK,
        f"{MAP} {OMAP}",
    ),
    (
        "both in another order than the ontology",
        (frame(Y).iloc[:, TURNED], frame(S).iloc[:, TURNED], ONTOLOGY),
        OK,
        OMAP,
    ),
    (
        "columns called by ids",
        (frame(Y, ONTOLOGY.mids), frame(S, ONTOLOGY.mids).iloc[:, TURNED], ONTOLOGY),
        OK,
        OMAP,
    ),
    ("only the scores have names", (Y, frame(S), ONTOLOGY), OK, OMAP),
    (
        "rows in another order",
        (frame(Y, index=CLIPS), frame(S, index=CLIPS).loc[BACK], ONTOLOGY),
        OK,
        f"{MAP} {OMAP}",
    ),
    ("columns without names", (pd.DataFrame(Y), pd.DataFrame(S), ONTOLOGY), OK, f"{MAP} {OMAP}"),
    (
        "other columns",
        (frame(Y), frame(S, ["a", *NAMES[1:]]), ONTOLOGY),
        ValueError,
        "the columns of targets and scores differ",
    ),
    (
        "columns of no class",
        (frame(Y, list("abcde")), frame(S, list("abcde")), ONTOLOGY),
        ValueError,
        "the columns of the tables and the ontology's classes differ",
    ),
    (
        "other rows",
        (frame(Y, index=CLIPS), frame(S, index=["x", *CLIPS[1:]]), ONTOLOGY),
        ValueError,
        "the index of targets and",
    ),
    (
        "a column twice",
        (frame(Y, [*NAMES[:4], NAMES[0]]), frame(S), ONTOLOGY),
        ValueError,
        "stands twice in the columns",
    ),
    (
        "a target of 2",
        (with_one(Y, 2), S, ONTOLOGY),
        ValueError,
        "targets must be 0 or 1, but clip 3, class 2 has 2.0",
    ),
    ("a target of -1", (with_one(Y, -1), S, ONTOLOGY), ValueError, "targets must be 0 or 1"),
    ("a target of a half", (with_one(Y, 0.5), S, ONTOLOGY), ValueError, "targets must be 0 or 1"),
    ("a target of nan", (with_one(Y, np.nan), S, ONTOLOGY), ValueError, "targets must be 0 or 1"),
    (
        "a score of nan",
        (Y, with_one(S, np.nan), ONTOLOGY),
        ValueError,
        "scores must be finite, but clip 3, class 2",
    ),
    ("a score of infinity", (Y, with_one(S, np.inf), ONTOLOGY), ValueError, "scores must be finite"),
    ("targets and scores exchanged", (S, Y, ONTOLOGY), ValueError, "targets must be 0 or 1"),
    ("a class too few in the scores", (Y, S[:, :4], ONTOLOGY), ValueError, "must both be [clips, classes]"),
    ("a clip too few in the scores", (Y, S[:19], ONTOLOGY), ValueError, "must both be [clips, classes]"),
    (
        "turned by a quarter",
        (Y.T, S.T, ONTOLOGY),
        ValueError,
        "the ontology has 5 classes, but the tables have 20",
    ),
    ("one row", (Y[0], S[0], ONTOLOGY), ValueError, "must be [clips, classes]"),
    ("nothing", (Y[:0], S[:0], ONTOLOGY), ValueError, "and not empty"),
    ("a clip without a label", (with_one(Y, 0, 3), S, ONTOLOGY), ValueError, "clip 3 has no positive label"),
    ("indices of classes", (np.arange(20) % 5, S, ONTOLOGY), ValueError, "must be [clips, classes]"),
    (
        "the whole ontology",
        (Y, S, Ontology.audioset()),
        ValueError,
        "the ontology has 527 classes, but the tables have 5",
    ),
    ("distances of another size", (Y, S, D[:4, :4]), ValueError, "must be [classes, classes]"),
    ("negative distances", (Y, S, -D), ValueError, "distances must be whole numbers of edges"),
    ("distances of nan", (Y, S, with_one(D, np.nan)), ValueError, "distances must be whole numbers of edges"),
    ("distances of a half", (Y, S, D / 2), ValueError, "distances must be whole numbers of edges"),
    ("asymmetric distances", (Y, S, with_one(D, 9)), ValueError, "and the same both ways"),
    ("distances from a class to itself", (Y, S, D + 1), ValueError, "0 from a class to itself"),
    ("similarities", (Y, S, np.exp(-D)), ValueError, "distances must be whole numbers of edges"),
]


@pytest.mark.parametrize("what, tables, outcome, sentence", TABLES, ids=[row[0] for row in TABLES])
def test_table(what, tables, outcome, sentence, meets):
    def call():
        found = omap(*tables)
        return f"{mean_average_precision(*tables[:2]):.6f} {float(found):.6f}"

    meets(call, outcome, sentence)


def test_the_other_functions_align_by_names(ontology):
    turned = frame(S)[[NAMES[c] for c in TURNED]]
    assert np.array_equal(average_precision(frame(Y), turned), average_precision(Y, S))
    assert np.array_equal(auc(frame(Y), turned), auc(Y, S))
    assert (
        bootstrap(frame(Y), turned, "omap", ONTOLOGY, n=9).low == bootstrap(Y, S, "omap", ONTOLOGY, n=9).low
    )


LOGITS, E_A, E_T = (
    torch.tensor(S),
    torch.tensor(RNG.normal(size=(20, 8))),
    torch.tensor(RNG.normal(size=(5, 8))),
)
T, EDGES = torch.tensor(Y), torch.tensor(D)

# what it is | a function of nothing | what comes of it | what must be said
LOSSES = [
    ("as it should be", lambda: total_loss(LOGITS, E_A, E_T, T, EDGES, 0.1)[0].isfinite(), OK, "True"),
    ("mixed-up targets", lambda: bce_loss(LOGITS, 0.7 * T + 0.3 * T.flip(0)).isfinite(), OK, "True"),
    ("targets of 2", lambda: bce_loss(LOGITS, 2 * T), ValueError, "they go from 0 to 2"),
    ("targets of -1", lambda: bce_loss(LOGITS, 2 * T - 1), ValueError, "they go from -1 to 1"),
    ("targets of nan", lambda: bce_loss(LOGITS, T * torch.nan), ValueError, "they go from nan to nan"),
    (
        "targets of 255, as bytes",
        lambda: bce_loss(LOGITS, (255 * T).byte()),
        ValueError,
        "they go from 0 to 255",
    ),
    ("targets of 2, aligned", lambda: spa_loss(E_A, E_T, 2 * T), ValueError, "targets must be 0 or 1"),
    ("targets of 2, OBCE", lambda: obce_loss(LOGITS, 2 * T, EDGES), ValueError, "targets must be 0 or 1"),
    ("negative distances", lambda: obce_weights(T, -EDGES), ValueError, "but some are negative"),
    (
        "distances of nan",
        lambda: obce_weights(T, torch.tensor(with_one(D, np.nan))),
        ValueError,
        "some are not finite",
    ),
    (
        "infinite distances",
        lambda: obce_weights(T, torch.tensor(with_one(D, np.inf))),
        ValueError,
        "some are not finite",
    ),
    ("distances of a half", lambda: obce_weights(T, EDGES / 4), ValueError, "some are no whole numbers"),
    (
        "asymmetric distances",
        lambda: obce_weights(T, torch.tensor(with_one(D, 9))),
        ValueError,
        "not the same both ways",
    ),
    (
        "distances from a class to itself",
        lambda: obce_weights(T, EDGES + 1),
        ValueError,
        "not 0 from a class to itself",
    ),
    ("distances as an array", lambda: obce_weights(T, D).shape, OK, "[20, 5]"),
    (
        "an array of distances of nan",
        lambda: obce_weights(T, with_one(D, np.nan)),
        ValueError,
        "some are not finite",
    ),
    ("distances of another size", lambda: obce_weights(T, EDGES[:4, :4]), ValueError, "[classes, classes]"),
    ("a class too few", lambda: bce_loss(LOGITS[:, :4], T), ValueError, "must both be [clips, classes]"),
    ("targets of one clip", lambda: bce_loss(LOGITS[0], T[0]), ValueError, "must both be [clips, classes]"),
    ("embeddings of two widths", lambda: spa_loss(E_A[:, :4], E_T, T), ValueError, "must be [clips, D]"),
    ("embeddings exchanged", lambda: spa_loss(E_T, E_A, T), ValueError, "E_a (5, 8) must be [clips, D]"),
    (
        "a negative alpha",
        lambda: total_loss(LOGITS, E_A, E_T, T, EDGES, -1),
        ValueError,
        "alpha must be a finite number",
    ),
    (
        "an alpha of nan",
        lambda: total_loss(LOGITS, E_A, E_T, T, EDGES, np.nan),
        ValueError,
        "0 or more, not nan",
    ),
    ("an infinite alpha", lambda: total_loss(LOGITS, E_A, E_T, T, EDGES, np.inf), ValueError, "not inf"),
    (
        "alpha without embeddings",
        lambda: total_loss(LOGITS, None, None, T, EDGES, 0.1),
        ValueError,
        "needs the embeddings",
    ),
    ("branches always left out", lambda: drop_path(torch.ones(4, 2), 1.0, True).tolist(), OK, "[[0.0, 0.0]"),
    (
        "branches left out by 2",
        lambda: drop_path(torch.ones(4, 2), 2.0, True),
        ValueError,
        "between 0 and 1, not 2.0",
    ),
    (
        "branches left out by -1",
        lambda: drop_path(torch.ones(4, 2), -1.0, True),
        ValueError,
        "between 0 and 1, not -1.0",
    ),
]


@pytest.mark.parametrize("what, call, outcome, sentence", LOSSES, ids=[row[0] for row in LOSSES])
def test_loss(what, call, outcome, sentence, meets):
    meets(call, outcome, sentence)


def test_distances_are_looked_at_once(monkeypatch):
    """And again where they were changed in place."""
    edges = EDGES.clone()
    obce_weights(T, edges)
    looked, check = [], torch.Tensor.floor
    monkeypatch.setattr(torch.Tensor, "floor", lambda d: looked.append(d.shape) or check(d))
    obce_weights(T, edges)
    assert (5, 5) not in looked
    edges[0, 1] = -1
    with pytest.raises(ValueError, match="some are negative"):
        obce_weights(T, edges)
