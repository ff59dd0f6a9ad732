"""The text branches: what each must hold, against values by hand and properties."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spa_lib.beyond import BRANCHES, info_nce, principal_coordinates
from spa_lib.losses import spa_loss
from spa_lib.metrics import effective_rank, mean_cosine
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.text import label_features


class Given(nn.Module):
    """An encoder whose embeddings are its input."""
    embed_dim = 16

    def embed(self, wave, sample_rate=None):
        return wave


ONT = Ontology.audioset().subset(Ontology.audioset().mids[:40])
T_HAT = label_features(ONT)


def make_model(branch, dim=64, seed=0):
    torch.manual_seed(seed)
    return SPAModel(Given(), T_HAT, dim, BRANCHES[branch])


def batch(seed=0, n=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 16, generator=rng), (torch.rand(n, 40, generator=rng) < 0.1).float()


@pytest.mark.parametrize("name", BRANCHES)
def test_equal_seeds_give_equal_audio_sides(name):
    a, b = make_model("trained").state_dict(), make_model(name).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a if not k.startswith("text."))


@pytest.mark.parametrize("name", BRANCHES)
def test_audio_side_learns_text_model_does_not(name):
    model, (x, y) = make_model(name), batch()
    _, E_a = model(x)
    loss = model.align(E_a, model.label_embeddings(), y)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0 and model.p_a.weight.grad.abs().sum() > 0
    assert model.c_a.weight.grad is None and not model.text.T_hat.requires_grad


@pytest.mark.parametrize("name", ["centred", "whitened"])
def test_fixed_branches_are_unit_and_have_no_common_direction(name):
    E_t = make_model(name, dim=512).label_embeddings()
    assert torch.allclose(E_t.norm(dim=1), torch.ones(40), atol=1e-5)
    assert abs(mean_cosine(E_t)) < 0.05 and not list(make_model(name).text.parameters())


def test_centred_keeps_all_cosines_where_there_is_room():
    T = torch.tensor(T_HAT).double()
    T = F.normalize(T - T.mean(0))
    E = make_model("centred", dim=512).label_embeddings().double()
    assert torch.allclose(E @ E.T, T @ T.T, atol=1e-5)


def test_whitening_evens_the_spectrum():
    whitened, centred = (make_model(name, dim=512).label_embeddings() for name in ("whitened", "centred"))
    assert effective_rank(whitened) > effective_rank(centred) + 1


def test_few_dimensions_keep_the_largest_axes():
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(20, 3, generator=draw) @ torch.diag(torch.tensor([5., 1, 0.1]))
    X = X - X.mean(0)
    one = principal_coordinates(X, 1)
    assert np.isclose(float(one.square().sum()), float(torch.linalg.svdvals(X)[0] ** 2), rtol=1e-4)


def test_detached_does_not_let_the_clips_move_the_labels():
    model, (x, y) = make_model("detached"), batch()
    E_t = model.label_embeddings()
    E_t.retain_grad()
    model.align(model(x)[1], E_t, y).backward()
    with_clips = E_t.grad.clone()
    model.zero_grad()
    E_t = model.label_embeddings()
    E_t.retain_grad()
    model.align(model(x)[1], E_t, torch.zeros_like(y)).backward()
    assert torch.allclose(with_clips, E_t.grad, atol=1e-7)


def test_info_nce_with_one_positive_is_cross_entropy():
    s, k = torch.randn(9, 7, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 7
    assert torch.allclose(info_nce(s, F.one_hot(k, 7).float()), F.cross_entropy(s, k))


def test_info_nce_of_the_batch_knows_only_the_labels_of_the_batch():
    model, (x, y) = make_model("contrastive-batch"), batch()
    absent = y.sum(0) == 0
    assert absent.any()
    E_t = model.label_embeddings().detach().requires_grad_()
    model.align(model(x)[1], E_t, y).backward()
    assert (E_t.grad[absent] == 0).all() and (E_t.grad[~absent] != 0).any()


def test_sigmoid_by_hand():
    model, (x, y) = make_model("sigmoid"), batch()
    E_a, E_t = model(x)[1], model.label_embeddings()
    s = 10 * F.cosine_similarity(E_a[:, None], E_t[None], dim=2) - 10
    by_hand = -(y * F.logsigmoid(s) + (1 - y) * F.logsigmoid(-s)).sum() / len(y)
    assert torch.allclose(model.align(E_a, E_t, y), by_hand, rtol=1e-5)


def test_decorrelated_makes_a_collapse_costly():
    model, (x, y) = make_model("decorrelated"), batch()
    E_a = model(x)[1]
    together, apart = torch.ones(40, 64), torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    extra = [(model.align(E_a, E, y) - spa_loss(E_a, E, y)).item() for E in (together, apart)]
    assert extra[0] > 0.9 and extra[1] < extra[0]


def test_the_papers_loss_alone_collapses_and_a_fixed_text_side_cannot():
    """Both sides free, only L_SPA: the labels come together. This is what the statistics are for."""
    y = batch()[1]
    ends = {}
    for name in ("trained", "centred"):
        model = make_model(name)
        x = torch.randn(12, 16, generator=torch.Generator().manual_seed(2))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            model.align(model(x)[1], model.label_embeddings(), y).backward()
            optimizer.step()
        ends[name] = mean_cosine(model.label_embeddings().detach())
    assert ends["trained"] > 0.8 > 0.1 > ends["centred"]


def test_tied_labels_are_the_classifier():
    model, (x, y) = make_model("tied"), batch()
    logits, E_a = model(x)
    E_t = model.label_embeddings()
    cosines = F.normalize(E_a) @ F.normalize(E_t).T
    torch.testing.assert_close(logits, 10*cosines - 5)
    F.binary_cross_entropy_with_logits(logits, y).backward()
    assert model.text.p_t.weight.grad.abs().sum() > 0 and model.c_a.weight.grad is None


@pytest.mark.parametrize("name", sorted(name for name in BRANCHES if hasattr(BRANCHES[name], "project")))
def test_a_text_that_a_class_has_stands_where_the_class_stands(name):
    model = make_model(name, dim=512)
    E_t = model.text.project(torch.tensor(T_HAT))
    assert torch.allclose(F.normalize(E_t), F.normalize(model.label_embeddings()), atol=1e-4)


@pytest.mark.parametrize("name", ["centred", "whitened"])
def test_a_state_from_before_mean_and_axes_were_kept_still_loads(name):
    model, again = make_model(name), make_model(name)
    state = {k: v for k, v in model.state_dict().items() if k not in ("text.mean", "text.axes")}
    again.load_state_dict(state)
    assert torch.equal(again.text.axes, model.text.axes) and torch.equal(again.text.E_t, model.text.E_t)
