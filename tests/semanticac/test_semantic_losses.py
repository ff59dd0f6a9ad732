"""Eq. 2 and 3 by hand; the diagonal and the multi-positive form are one loss where a class has one text."""
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.semanticac.losses import (
    apart_loss,
    diagonal_loss,
    multi_positive_loss,
    semantic_loss,
    similarity_matrix,
)


def test_loss_of_two_pairs_by_hand():
    S = similarity_matrix(torch.tensor([[2., 0.], [0., 3.]]), torch.tensor([[1., 0.], [0., 1.]]))
    assert torch.equal(S, torch.eye(2))
    assert np.isclose(diagonal_loss(S).item(), np.log(1 + np.exp(-1)))
    assert np.isclose(diagonal_loss(torch.zeros(5, 5)).item(), np.log(5))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 2**31), st.floats(0.1, 30))
def test_diagonal_and_multi_positive_are_one_loss(labels, seed, scale):
    """Equal in value and gradient wherever clips of one class have one text."""
    g, labels = torch.Generator().manual_seed(seed), torch.tensor(labels)
    A = torch.randn(len(labels), 6, generator=g, dtype=torch.float64).float().requires_grad_()
    T = torch.randn(5, 6, generator=g).requires_grad_()
    S = scale * similarity_matrix(A, T[labels])
    one, other = diagonal_loss(S), multi_positive_loss(S, labels)
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(one, (A, T), retain_graph=True)
    for a, b in zip(gradients, torch.autograd.grad(other, (A, T))):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_two_texts_of_one_class_part_the_forms():
    A, T = torch.randn(2, 4), torch.randn(2, 4)
    labels = torch.zeros(2, dtype=torch.long)
    assert not torch.isclose(semantic_loss(A, T, labels), semantic_loss(A, T, labels, kind="multi"))
    assert semantic_loss(A, T, labels, kind="apart") == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=10), st.integers(0, 2**31))
def test_without_duplicates_negatives_the_loss_is_never_larger(labels, seed):
    S = torch.randn(len(labels), len(labels), generator=torch.Generator().manual_seed(seed))
    assert apart_loss(S, torch.tensor(labels)) <= diagonal_loss(S) + 1e-6
