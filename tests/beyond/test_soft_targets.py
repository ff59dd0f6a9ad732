"""Soft targets: what near classes lend each other."""
import numpy as np
import pytest
import torch

from spa_lib.beyond import (
    BRANCHES,
    SoftTargets,
    ancestor_kernel,
    borrowed_share,
    permuted_kernel,
    text_kernel,
)
from spa_lib.losses import bce_loss, obce_loss, obce_weights, total_loss
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.runs import make_config, variant_of, variant_values
from spa_lib.text import label_features
from spa_lib.train import SPATask, load_data, make_encoder, make_model, start_at_priors

ONTOLOGY = Ontology.audioset()
K = text_kernel(torch.from_numpy(label_features(ONTOLOGY)), 0.15)


def by_hand(y, K, share):
    """The definition, clip by clip and class by class."""
    found = y.clone()
    for b in range(len(y)):
        for c in range(y.shape[1]):
            lent = [share[c]*K[c, p]*y[b, p] for p in y[b].nonzero()[:, 0]]
            found[b, c] = max([y[b, c], *lent])
    return found


@pytest.mark.parametrize("labels", [0, 1, 3])
def test_soft_targets_are_what_their_formula_says(labels):
    rng = np.random.default_rng(labels)
    y = torch.zeros(4, 527)
    for row in y:
        row[rng.choice(527, labels, replace=False)] = torch.from_numpy(rng.uniform(0.2, 1, labels)).float()
    share = torch.from_numpy(borrowed_share(rng.integers(0, 50, 527), 2))
    assert torch.allclose(SoftTargets(K, share)(y), by_hand(y, K, share), atol=1e-6)


def test_a_kernel_is_one_on_its_diagonal_and_falls_with_the_width():
    wide = text_kernel(torch.from_numpy(label_features(ONTOLOGY)), 0.3)
    assert (K.diagonal() == 1).all() and (K <= 1).all() and torch.equal(K, K.T)
    assert (wide >= K - 1e-6).all()
    bark, howl, violin = (ONTOLOGY.names.index(name) for name in ("Bark", "Howl", "Violin, fiddle"))
    assert K[bark, howl] > 10*K[bark, violin]


def test_a_permuted_kernel_has_the_same_values_elsewhere():
    permuted = permuted_kernel(K, 0)
    assert torch.equal(permuted.flatten().sort().values, K.flatten().sort().values)
    assert (permuted - K).abs().max() > 0.5 and not torch.equal(permuted, permuted_kernel(K, 1))
    assert (permuted.diagonal() == 1).all()


def test_labels_hold_for_the_classes_above():
    up = SoftTargets(ancestor_kernel(ONTOLOGY), 1.0)
    y = torch.eye(527)
    for c, row in enumerate(up(y)):
        above = {ONTOLOGY.mids.index(a) for a in ONTOLOGY.ancestors(ONTOLOGY.mids[c]) if a in ONTOLOGY.mids}
        assert set(row.nonzero()[:, 0].tolist()) == {c, *above}
    assert torch.equal(up(up(y)), up(y))


def test_a_class_without_clips_borrows_all():
    assert borrowed_share(np.array([0, 2, 6]), 2).tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize("make, message", [
    (lambda: text_kernel(torch.eye(3), 0), "width"),
    (lambda: borrowed_share(np.ones(3), 0), "k must be above 0"),
    (lambda: SoftTargets(torch.eye(3), 1.5), "between 0 and 1"),
    (lambda: SoftTargets(torch.eye(3), torch.ones(4)), "one for each of the 3 classes"),
])
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the loss -----------------------------------------------------------------------------------------------
def test_the_dial_between_bce_and_obce_and_the_fitted_targets():
    torch.manual_seed(0)
    logits, y = torch.randn(6, 527), (torch.rand(6, 527) < 0.01).float()
    D = torch.as_tensor(ONTOLOGY.distances)
    y[:, 0] = 1
    for share, true in [(0.0, bce_loss(logits, y)), (1.0, obce_loss(logits, y, D)),
                        (0.25, 0.75*bce_loss(logits, y) + 0.25*obce_loss(logits, y, D))]:
        found, _ = total_loss(logits, None, None, y, D, 0, obce_share=share)
        assert torch.allclose(found, true, atol=1e-7)
    fitted = SoftTargets(K, 0.2)(y)
    _, parts = total_loss(logits, None, None, y, D, 0, fitted=fitted)
    elementwise = torch.nn.functional.binary_cross_entropy_with_logits(logits, fitted, reduction="none")
    assert torch.allclose(parts["bce"], elementwise.mean())
    assert torch.allclose(parts["obce"], (obce_weights(y, D)*elementwise).mean()) # r follows from the labels
    with pytest.raises(ValueError, match="obce_share must lie between 0 and 1"):
        total_loss(logits, None, None, y, D, 0, obce_share=1.5)


# --- a second head ------------------------------------------------------------------------------------------
def second(name="second", classes=40):
    torch.manual_seed(0)
    T_hat = torch.from_numpy(label_features(ONTOLOGY))[:classes]
    return T_hat, BRANCHES[name](T_hat, 8)


def test_a_second_head_learns_soft_targets_by_the_clips_of_each_class():
    T_hat, head = second()
    E_a, y = torch.randn(6, 8), (torch.rand(6, 40) < 0.1).float()
    clips = np.arange(40)
    for share in (np.full(40, 0.5), 2/(2 + clips)): # before the training side was looked at, and after
        soft = by_hand(y, text_kernel(T_hat, 0.15), torch.as_tensor(share, dtype=torch.float32))
        logits = head.c_s(E_a)
        right = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft)
        assert torch.allclose(head.align(E_a, head(), y, None), right, atol=1e-6)
        head.count_clips(clips)


def test_the_scores_stay_those_of_the_classifier_unless_they_are_ranked():
    class Given(torch.nn.Module):
        embed_dim = 8

        def embed(self, wave, sample_rate=None):
            return wave

    x = torch.randn(5, 8)
    made = {}
    for name in ("trained", "second", "ranked"):
        torch.manual_seed(0)
        made[name] = SPAModel(Given(), label_features(ONTOLOGY)[:40], 8, BRANCHES[name])
    with torch.no_grad():
        papers, own, ranked = (made[name].eval()(x)[0] for name in ("trained", "second", "ranked"))
        likeness = torch.sigmoid(made["ranked"].text.c_s(made["ranked"].audio_embeddings(x)))
        assert torch.equal(papers, own)
        assert torch.allclose(ranked, papers - 2*torch.log(1 - likeness), atol=1e-5)
        assert torch.equal(made["ranked"].train()(x)[0], papers) # nothing is raised in training


def test_a_run_counts_the_clips_and_both_classifiers_begin_at_the_priors():
    cfg = make_config("smoke", prior_bias=True, text_branch="second")
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    start_at_priors(model, data.train.targets)
    assert torch.equal(model.text.c_s.bias, model.c_a.bias) and model.c_a.bias.std() > 0
    task = SPATask(cfg, model, data)
    clips = data.train.targets.sum(0)
    kernel = text_kernel(model.text.T_hat, 0.15)
    assert torch.allclose(task.model.text.soft.lent, SoftTargets(kernel, borrowed_share(clips, 2)).lent)


# --- a run --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variant", [
    "soft-concat", "soft-desc", "soft-ontology", "soft-random", "soft-concat-permuted", "ancestors",
    "soft-concat-and-concat", "soft-concat-and-concat-centred", "ancestors-and-desc",
])
def test_a_variant_is_called_what_makes_it(variant):
    assert variant_of(make_config("demo", **variant_values(variant))) == variant


def test_an_unknown_variant_names_the_nearest():
    wrong = {"soft-conkat": "concat", "soft-concat-permutd": "permuted", "ancestor": "ancestors"}
    for word, near in wrong.items():
        with pytest.raises(ValueError, match=near):
            variant_values(word)


@pytest.mark.parametrize("branch", ["trained", "tied"])
def test_a_classifier_may_begin_at_the_priors(branch):
    cfg = make_config("smoke", prior_bias=True, text_branch=branch)
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    start_at_priors(model, data.train.targets)
    bias = model.text.bias if branch == "tied" else model.c_a.bias
    share = data.train.targets.mean(0)
    has = share > 0
    assert np.allclose(torch.sigmoid(bias).detach()[has], share[has], atol=1e-6)
