"""Losses: the authors' values, naive definitions, gradients, and what must not depend on the batch."""
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.losses import (
    _nearest_by_product,
    _nearest_by_rows,
    bce_loss,
    nearest_other_positive,
    obce_loss,
    obce_weights,
    spa_loss,
    tagging_loss,
    total_loss,
)
from spa_lib.ontology import Ontology


@pytest.fixture(scope="module")
def distances():
    return torch.from_numpy(np.array(Ontology.audioset().distances))


@pytest.fixture(scope="module")
def golden(shared):
    z = np.load(shared / "golden" / "obce.npz")
    return {k: torch.from_numpy(np.asarray(z[k])) for k in z}


def weights_by_loops(y, distances):
    """The definition, in float64 numpy."""
    y, D = np.asarray(y), np.asarray(distances)
    r = np.zeros(y.shape)
    for b in range(len(y)):
        for c in range(y.shape[1]):
            r[b, c] = min([D[p, c] for p in np.flatnonzero(y[b] > 0) if D[p, c] > 0], default=0)
        if r[b].max() > 0:
            r[b] /= r[b].max()
        r[b, y[b] > 0] = 1
    return r / r.mean() if r.any() else r


def random_case(seed, B, C, soft):
    rng = np.random.default_rng(seed)
    D = rng.integers(1, 6, (C, C))
    D = np.triu(D, 1) + np.triu(D, 1).T
    y = (rng.random((B, C)) < 0.3).astype(np.float32)
    if soft:
        y *= rng.random((B, C), dtype=np.float32)
    return torch.from_numpy(y), torch.from_numpy(D.astype(np.int8))


# ---- the authors' values -------------------------------------------------------------------------

def test_golden_weights_and_losses(golden, distances):
    y, logits = golden["target"].float(), golden["logits"]
    assert (obce_weights(y, distances) - golden["weight"]).abs().max() < 1e-6
    values = {"bce": bce_loss(logits, y), "obce": obce_loss(logits, y, distances),
              "half_sum": tagging_loss(logits, y, distances)}
    for name, value in values.items():
        assert abs(value.item() - golden[name].item()) < 1e-6, name


def test_golden_gradient(golden, distances):
    logits = golden["logits"].clone().requires_grad_()
    tagging_loss(logits, golden["target"].float(), distances).backward()
    difference = (logits.grad - golden["grad_logits"]).abs().max()
    assert difference < 1e-6
    assert difference < 1e-5 * golden["grad_logits"].abs().max() # 1e-6 alone says little of so small numbers


def test_golden_part_of_the_total(golden, distances):
    loss, parts = total_loss(golden["logits"], None, None, golden["target"].float(), distances, alpha=0)
    assert abs(loss.item() - golden["half_sum"].item()) < 1e-6
    assert abs(parts["obce"].item() - golden["obce"].item()) < 1e-6


# ---- weights -------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), B=st.integers(1, 6), C=st.integers(1, 9), soft=st.booleans())
def test_weights_agree_with_the_loops(seed, B, C, soft):
    y, D = random_case(seed, B, C, soft)
    r = obce_weights(y, D)
    assert r.dtype == torch.float32 and not r.requires_grad
    np.testing.assert_allclose(r.numpy(), weights_by_loops(y, D), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("C, share", [(3, 1.0), (7, 1.0), (64, 0.02), (127, 1.0), (127, 0.01), (200, 0.005)])
def test_the_nearest_positive_is_exact_at_any_distance(C, share):
    """Classes on a line, up to 199 edges apart; with all of them positive the sums are largest."""
    line = (torch.arange(C)[:, None] - torch.arange(C)).abs()
    positive = torch.rand(20, C, generator=torch.Generator().manual_seed(C)) < share
    far = torch.where(positive[:, :, None] & (line > 0), line.double(), torch.inf).amin(1)
    for D, nearest in product((line, line.float(), line.to(torch.uint8)),
                              (nearest_other_positive, _nearest_by_rows, _nearest_by_product)):
        found = nearest(positive, D).double()
        assert torch.equal(found, far.masked_fill(far.isinf(), 0))
    with pytest.raises(ValueError, match="edges"):
        _nearest_by_product(positive, line*2000)
    assert nearest_other_positive(positive, line*2000).max() == 2000*far[far < torch.inf].max()


def test_weights_take_any_number_type(distances):
    y = torch.zeros(3, 527)
    y[[0, 1, 2], [0, 72, 300]] = 1
    r = obce_weights(y, distances)
    for other in (distances.float(), distances.long(), distances.numpy()):
        assert torch.equal(obce_weights(y, other), r)
    for other in (y.bool(), y.half(), y.bfloat16(), y.to(torch.uint8)):
        assert torch.equal(obce_weights(other, distances), r)


def test_weights_do_not_see_the_order_of_the_clips(distances):
    draw = torch.Generator().manual_seed(0)
    y = (torch.rand(16, 527, generator=draw) < 0.01).float()
    order = torch.randperm(16, generator=draw)
    torch.testing.assert_close(obce_weights(y[order], distances), obce_weights(y, distances)[order])


def test_soft_labels_do_not_scale_distances(distances):
    y = torch.zeros(1, 527)
    y[0, 0], y[0, 72] = 0.9, 0.1
    assert torch.equal(obce_weights(y, distances), obce_weights((y > 0).float(), distances))


def test_clips_without_a_positive(distances):
    y = torch.zeros(4, 527)
    assert not obce_weights(y, distances).any()
    y[0, 0] = 1
    r = obce_weights(y, distances)
    assert r[0].all() and not r[1:].any() and abs(r.mean() - 1) < 1e-5
    logits = torch.zeros(4, 527, requires_grad=True)
    tagging_loss(logits, y, distances).backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad[1:] != 0).all() # BCE is still there for them
    assert obce_weights(torch.zeros(0, 527), distances).shape == (0, 527)


def test_zero_distance_between_different_classes_is_skipped():
    D = torch.tensor([[0, 0, 2], [0, 0, 2], [2, 2, 0]])
    r = obce_weights(torch.tensor([[1., 0., 0.]]), D)
    assert r[0, 1] == 0 and r[0, 0] == r[0, 2] > 0


# ---- BCE and OBCE --------------------------------------------------------------------------------

def test_saturated_logits_keep_their_gradient(distances):
    logits = torch.full((2, 527), 80., requires_grad=True)
    y = torch.zeros(2, 527)
    y[:, 0] = 1
    loss = tagging_loss(logits, y, distances)
    loss.backward()
    assert torch.isfinite(loss) and (logits.grad[:, 1:] > 0).all()


def test_losses_are_float32_under_half_precision(distances):
    draw = torch.Generator().manual_seed(1)
    y = (torch.rand(4, 527, generator=draw) < 0.01).float()
    y[:, 3] = 1
    logits, E_a, E_t = (torch.randn(*s, generator=draw) for s in ((4, 527), (4, 32), (527, 32)))
    expected, _ = total_loss(logits, E_a, E_t, y, distances, alpha=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = total_loss(logits, E_a, E_t, y, distances, alpha=0.5)
    assert inside.dtype == torch.float32 and torch.equal(inside, expected)
    rounded, _ = total_loss(logits.bfloat16(), E_a.bfloat16(), E_t.bfloat16(), y, distances, alpha=0.5)
    assert rounded.dtype == torch.float32 and abs(rounded - expected) < 0.01


def test_obce_weighs_far_errors_more(distances):
    ont = Ontology.audioset()
    y = torch.zeros(1, 527)
    y[0, ont.index("Dog")] = 1

    def loss(wrong):
        logits = torch.full((1, 527), -4.)
        logits[0, [ont.index("Dog"), ont.index(wrong)]] = 4.
        return obce_loss(logits, y, distances).item()

    assert loss("Bark") < loss("Cat") < loss("Trumpet")


@pytest.mark.parametrize("call", [
    lambda: bce_loss(torch.zeros(2, 3), torch.zeros(3, 2)),
    lambda: bce_loss(torch.zeros(3), torch.zeros(3)),
    lambda: obce_weights(torch.zeros(2, 3), torch.zeros(4, 4)),
    lambda: obce_weights(torch.zeros(3), torch.zeros(3, 3)),
    lambda: obce_loss(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(3, 3)),
    lambda: spa_loss(torch.zeros(2, 3), torch.zeros(4, 5), torch.zeros(2, 4)),
    lambda: spa_loss(torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(4, 2)),
])
def test_wrong_shapes_are_refused(call):
    with pytest.raises(ValueError, match=r"\(\d"):
        call()


# ---- SPA -----------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), B=st.integers(1, 6), C=st.integers(1, 7), D=st.integers(1, 9))
def test_spa_agrees_with_cosine_similarity(seed, B, C, D):
    draw = torch.Generator().manual_seed(seed)
    E_a, E_t = torch.randn(B, D, generator=draw), torch.randn(C, D, generator=draw)
    y = 0.99*torch.rand(B, C, generator=draw) + 0.01
    S = F.cosine_similarity(E_a[:, None], E_t[None], dim=-1)
    expected = np.mean([1 - np.average(S[b].double(), weights=y[b].double()) for b in range(B)])
    assert abs(spa_loss(E_a, E_t, y).item() - expected) < 2e-6


def test_spa_gradient_against_finite_differences():
    draw = torch.Generator().manual_seed(0)
    E_a, E_t = (torch.randn(n, 4, generator=draw).requires_grad_() for n in (3, 5))
    y = (torch.rand(3, 5, generator=draw) < 0.5).float()
    y[:, 0] = 1
    a, t = torch.autograd.grad(spa_loss(E_a, E_t, y), (E_a, E_t))
    for E, gradient in ((E_a, a), (E_t, t)):
        for i in np.ndindex(*E.shape):
            step = torch.zeros_like(E)
            step[i] = 1e-2
            up, down = (spa_loss(*(x + s * step if x is E else x for x in (E_a, E_t)), y) for s in (1, -1))
            assert abs((up - down).item() / 2e-2 - gradient[i].item()) < 1e-3


def test_spa_is_blind_to_length_and_bounded():
    draw = torch.Generator().manual_seed(0)
    E_a, E_t, y = torch.randn(6, 8, generator=draw), torch.randn(4, 8, generator=draw), torch.ones(6, 4)
    torch.testing.assert_close(spa_loss(100*E_a, E_t/50, y), spa_loss(E_a, E_t, y))
    same, opposite = torch.ones(1, 8), -torch.ones(1, 8)
    assert spa_loss(same, same, torch.ones(1, 1)).abs() < 1e-6
    assert (spa_loss(same, opposite, torch.ones(1, 1)) - 2).abs() < 1e-6


def test_spa_without_any_positive_is_zero_and_differentiable():
    E_a, E_t = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = spa_loss(E_a, E_t, torch.zeros(3, 5))
    loss.backward()
    assert loss == 0 and not E_a.grad.any() and not E_t.grad.any()


def test_soft_labels_weigh_the_mean():
    E_t = torch.eye(2)
    E_a = torch.tensor([[1., 0.]])
    for share in (0.0, 0.3, 0.5, 1.0):
        for scale in (1, 0.5):
            y = scale*torch.tensor([[share, 1 - share]])
            assert abs(spa_loss(E_a, E_t, y).item() - (1 - share)) < 1e-6


# ---- the sum -------------------------------------------------------------------------------------

def test_parts_have_no_gradient_and_alpha_zero_leaves_the_text_branch_out(distances):
    logits = torch.zeros(2, 527, requires_grad=True)
    E_a, E_t = torch.randn(2, 4, requires_grad=True), torch.randn(527, 4, requires_grad=True)
    y = torch.zeros(2, 527)
    y[:, 7] = 1
    loss, parts = total_loss(logits, E_a, E_t, y, distances, alpha=0)
    loss.backward()
    assert E_a.grad is None and E_t.grad is None and parts["spa"].isnan()
    loss, parts = total_loss(logits, E_a, E_t, y, distances, alpha=2.)
    assert list(parts) == ["bce", "obce", "spa"] and not any(p.requires_grad for p in parts.values())
    torch.testing.assert_close(loss.detach(), (parts["bce"] + parts["obce"])/2 + 2*parts["spa"])
    with pytest.raises(ValueError, match="alpha"):
        total_loss(logits, E_a, E_t, y, distances, alpha=float("nan"))
