"""The model: its parts, a text branch from outside the package, scores of batches."""
import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from spa_lib.beyond import BRANCHES
from spa_lib.data import Batch
from spa_lib.losses import spa_loss, tagging_loss, total_loss
from spa_lib.model import SPALoss, SPAModel, TextBranch, predict

T_HAT = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    """An encoder whose embeddings are its input."""
    embed_dim = 16

    def embed(self, wave, sample_rate=None):
        return wave


class Outside(nn.Module):
    """A text branch that the package does not know: labels that are learned without any text."""
    def __init__(self, T_hat, dim):
        super().__init__()
        self.E_t = nn.Parameter(torch.randn(len(T_hat), dim))

    def forward(self):
        return self.E_t

    def align(self, E_a, E_t, y, c_a):
        return 2*spa_loss(E_a, E_t, y)


def make_model(text_branch=TextBranch):
    torch.manual_seed(0)
    return SPAModel(Given(), T_HAT, 8, text_branch)


def batch(seed=0, n=6):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 16, generator=draw), (torch.rand(n, 5, generator=draw) < 0.5).float()


def test_forward_is_both_steps_of_equation_2():
    model, (x, _) = make_model(), batch()
    logits, E_a = model(x)
    assert torch.equal(E_a, model.audio_embeddings(x)) and torch.equal(logits, model.classify(E_a))
    torch.testing.assert_close(E_a, x @ model.p_a.weight.T + model.p_a.bias)
    p_t = model.text.p_t
    torch.testing.assert_close(model.label_embeddings(), T_HAT @ p_t.weight.T + p_t.bias)


def test_the_papers_branch_aligns_with_equation_4():
    model, (x, y) = make_model(), batch()
    E_a, E_t = model.audio_embeddings(x), model.label_embeddings()
    assert model.align(E_a, E_t, y) == spa_loss(E_a, E_t, y)


def test_a_text_branch_from_outside_is_handed_in_as_a_class():
    model, (x, y) = make_model(Outside), batch()
    E_a, E_t = model.audio_embeddings(x), model.label_embeddings()
    assert E_t is model.text.E_t
    loss = model.align(E_a, E_t, y)
    loss.backward()
    assert loss == 2*spa_loss(E_a, E_t, y) and model.text.E_t.grad.abs().sum() > 0
    papers = make_model().state_dict() # with one seed the audio side starts alike, whatever the text branch
    own = model.state_dict()
    assert all(torch.equal(own[k], papers[k]) for k in papers if not k.startswith("text."))


def test_what_is_refused():
    with pytest.raises(ValueError, match="one row a class"):
        SPAModel(Given(), T_HAT[0], 8)
    with pytest.raises(TypeError, match=r"BRANCHES\['centred'\]"):
        SPAModel(Given(), T_HAT, 8, "centred")


def test_predict_gives_the_scores_of_all_batches_in_order():
    model, (x, y) = make_model(), batch(n=7)
    model.train()
    cut = [Batch(x[rows], 16000, y[rows], ()) for rows in (slice(0, 3), slice(3, 6), slice(6, 7))]
    scores = predict(model, iter(cut))
    assert scores.dtype == np.float32 and not model.training
    np.testing.assert_allclose(scores, torch.sigmoid(model(x)[0]).detach().numpy(), rtol=1e-6)


def test_dropout_and_a_hidden_layer_are_off_unless_asked_for():
    plain, dropped = make_model(), SPAModel(Given(), T_HAT, 8, dropout=0.5)
    assert isinstance(plain.p_a, nn.Linear) and plain.state_dict().keys() == dropped.state_dict().keys()
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    logits, E_a = plain.train()(x)
    assert torch.equal(torch.get_rng_state(), state) # nothing is drawn
    assert torch.equal(logits, plain.eval()(x)[0])
    once, again = dropped.train()(x)[1], dropped(x)[1]
    assert not torch.equal(once, again) and torch.equal(dropped.eval()(x)[1], dropped(x)[1])


def test_a_hidden_layer_of_p_a():
    model = SPAModel(Given(), T_HAT, 8, hidden=32, dropout=0.3)
    logits, E_a = model(torch.randn(6, 16))
    assert logits.shape == (6, 5) and E_a.shape == (6, 8)
    assert {name: tuple(p.shape) for name, p in model.p_a.named_parameters() if name.endswith("weight")} == {
        "0.weight": (32, 16), "3.weight": (8, 32)}


DISTANCES = torch.tensor(
    [[0, 1, 2, 3, 3], [1, 0, 1, 2, 2], [2, 1, 0, 1, 3], [3, 2, 1, 0, 4], [3, 2, 3, 4, 0]])


def spa_and_its_input(branch="trained", alpha=0.3):
    torch.manual_seed(1)
    model = SPAModel(Given(), T_HAT, 8, BRANCHES[branch])
    spa = SPALoss(T_HAT, DISTANCES, 8, alpha, BRANCHES[branch])
    spa.text.load_state_dict(model.text.state_dict())
    x, y = batch()
    logits, E_a = model(x)
    return model, spa, logits.detach().requires_grad_(), E_a.detach().requires_grad_(), y


@pytest.mark.parametrize("branch", BRANCHES)
def test_spa_loss_alone_is_the_loss_of_the_model(branch):
    model, spa, logits, E_a, y = spa_and_its_input(branch)
    expected, parts = total_loss(logits, E_a, model.label_embeddings(), y, DISTANCES, 0.3, align=model.align)
    assert spa(logits, E_a, y, model.c_a) == expected
    assert spa.parts(logits, E_a, y, model.c_a)[1] == parts


def test_spa_loss_moves_p_t_and_the_tagger():
    _, spa, logits, E_a, y = spa_and_its_input()
    spa(logits, E_a, y).backward()
    assert {name for name, p in spa.named_parameters()} == {"text.p_t.weight", "text.p_t.bias"}
    assert all(p.grad.abs().sum() > 0 for p in [logits, E_a, *spa.parameters()])


def test_spa_loss_without_alignment_needs_no_embeddings():
    _, spa, logits, _, y = spa_and_its_input(alpha=0.0)
    assert spa(logits, None, y) == tagging_loss(logits, y, DISTANCES)


def test_spa_loss_pickles_copies_and_loads():
    _, spa, logits, E_a, y = spa_and_its_input()
    expected = spa(logits, E_a, y)
    for again in (pickle.loads(pickle.dumps(spa)), copy.deepcopy(spa)):
        assert again(logits, E_a, y) == expected and again.alpha == spa.alpha
    fresh = SPALoss(torch.zeros_like(T_HAT), torch.zeros_like(DISTANCES), 8, 0.3)
    assert fresh.load_state_dict(spa.state_dict()) and fresh(logits, E_a, y) == expected
    assert set(spa.state_dict()) == {"distances", "text.T_hat", "text.p_t.weight", "text.p_t.bias"}
    with pytest.raises(RuntimeError, match="size mismatch"):
        SPALoss(T_HAT[:3], DISTANCES[:3, :3], 8).load_state_dict(spa.state_dict())


def test_spa_loss_moves_to_another_device_whole():
    spa = spa_and_its_input()[1].to("meta")
    assert {t.device.type for t in spa.state_dict().values()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_spa_loss_on_a_gpu_is_the_same():
    _, spa, logits, E_a, y = spa_and_its_input()
    expected = spa(logits, E_a, y)
    found = spa.to("cuda")(logits.cuda(), E_a.cuda(), y.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)


def test_spa_loss_is_float32_under_autocast():
    _, spa, logits, E_a, y = spa_and_its_input()
    with torch.autocast("cpu", torch.bfloat16):
        loss = spa(logits, E_a, y)
    assert loss.dtype == torch.float32 and loss == spa(logits, E_a, y)


def test_spa_loss_keeps_arrays_of_its_own():
    T_hat, distances = T_HAT.numpy().copy(), DISTANCES.numpy().astype(np.int8)
    spa = SPALoss(T_hat, distances, 8)
    T_hat[:], distances[:] = 0, 0
    assert spa.text.T_hat.abs().sum() > 0 and torch.equal(spa.distances, DISTANCES.to(torch.int8))


@pytest.mark.parametrize("fault, sentence", [
    (dict(text_features=T_HAT[0]), "one row a class"),
    (dict(distances=DISTANCES[:4]), r"for the 5 rows of text_features; got shape \(4, 5\)"),
    (dict(distances=torch.eye(5)), "similarities are no distances"),
    (dict(distances=-DISTANCES), "not negative"),
    (dict(distances=DISTANCES.float().fill_(torch.nan)), "not negative"),
    (dict(alpha=-1.0), "alpha must be 0 or more"),
])
def test_spa_loss_refuses_when_it_is_made(fault, sentence):
    with pytest.raises(ValueError, match=sentence):
        SPALoss(**dict(text_features=T_HAT, distances=DISTANCES, dim=8) | fault)
