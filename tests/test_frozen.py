"""Frozen encoders: the heads alone are trained, on embeddings that are computed once."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from spa_lib.data import embed_clips
from spa_lib.runs import make_config
from spa_lib.train import load_data, make_encoder, train


def test_frozen_run_trains_the_heads_alone(tmp_path, monkeypatch):
    cfg = make_config("smoke", n_train=32, n_eval=16, epochs=4, mixup_rate=0.0, bootstrap=0, freeze=True)
    run = train(cfg, tmp_path, progress=False)
    assert run.log.loss.is_monotonic_decreasing and "-frozen-" in run.folder.name
    weights = torch.load(run.folder / "checkpoint" / "last.pt", weights_only=True)["model"]
    assert not any(k.startswith("encoder.") for k in weights)
    encoder = make_encoder(cfg)
    clips = load_data(cfg, encoder.sample_rate).evaluate
    X_hat = embed_clips(encoder, clips)
    with torch.no_grad():
        E_a = torch.nn.functional.linear(X_hat, weights["p_a.weight"], weights["p_a.bias"])
        logits = torch.nn.functional.linear(E_a, weights["c_a.weight"], weights["c_a.bias"])
    assert np.allclose(run.scores, torch.sigmoid(logits).numpy(), atol=1e-6)


def test_frozen_embeddings_are_computed_anew_for_other_weights():
    cfg = make_config("smoke", n_train=8, n_eval=8, mixup_rate=0.0, freeze=True)
    first, second = make_encoder(cfg), make_encoder(replace(cfg, seed=1))
    clips = load_data(cfg, first.sample_rate).train
    assert not np.allclose(embed_clips(first, clips), embed_clips(second, clips))


def test_frozen_with_mixup_is_refused():
    with pytest.raises(ValueError, match="mixup_rate=0"):
        make_config("smoke", freeze=True, mixup_rate=0.5)
