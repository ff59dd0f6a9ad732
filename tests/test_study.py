"""Choices are made on held-out training recordings, with equal numbers of tries, and pairs belong together."""
from dataclasses import replace

import numpy as np
import pytest

from spa_lib.data import embed_clips
from spa_lib.runs import (
    by_seed, candidate_table, choose, config_hash, grid, make_config, read_run, run_name, variant_of, write_config,
    write_results,
)
from spa_lib.train import load_data, make_encoder, train

BASE = make_config("real", encoder="mn", size="base", root="CLIPS", freeze=True, holdout=0.25, bootstrap=0)


def pretend(folder, cfg, mAP, OmAP, clips_hash="0"):
    where = folder / run_name(cfg)
    write_config(where, cfg)
    metrics = dict(config_hash=config_hash(cfg), mAP=dict(value=mAP), OmAP=dict(value=OmAP), clips_hash=clips_hash)
    write_results(where, metrics, ["a"], ["/m/0"], np.ones((1, 1)), np.ones((1, 1)), ["a"])
    return read_run(where)


def test_best_mean_of_both_wins_in_each_arm_and_fold(tmp_path):
    runs = []
    for cfg in grid(BASE, alpha=[0.0, 0.1, 0.3], eval_fold=[1, 2], seed=[0, 1]):
        best = {1: 0.1, 2: 0.3}[cfg.eval_fold]
        runs.append(pretend(tmp_path, cfg, 0.5 + 0.2 * (cfg.alpha == best), 0.9 - 0.1 * (cfg.alpha == best) + 0.01 * cfg.seed))
    chosen = choose(runs)
    assert {(k[2], k[3]): c.alpha for k, c in chosen.items()} == {(1, "without"): 0.0, (2, "without"): 0.0, (1, "concat"): 0.1, (2, "concat"): 0.3}
    assert all(c.holdout == 0 and c.seed == 0 for c in chosen.values())
    assert candidate_table(runs).groupby(["fold", "arm"]).score.is_monotonic_decreasing.all()


def test_of_equally_good_ones_the_smallest_wins_in_whatever_order(tmp_path):
    tries = [pretend(tmp_path, c, 1.0, 1.0) for c in grid(BASE, alpha=[0.3, 0.1, 1.0], epochs=[60, 20])]
    for some in (tries, tries[::-1], tries[3:] + tries[:3]):
        assert [(c.alpha, c.epochs) for c in choose(some).values()] == [(0.1, 20)]


def test_evaluation_side_and_unequal_seeds_are_refused(tmp_path):
    tries = [pretend(tmp_path, c, 0.5, 0.5) for c in grid(BASE, alpha=[0.1, 0.3], seed=[0, 1])]
    with pytest.raises(ValueError, match="equal numbers"):
        choose(tries[1:])
    seen = pretend(tmp_path, replace(BASE, holdout=0.0), 0.5, 0.5)
    with pytest.raises(ValueError, match=seen.folder.name):
        choose([*tries, seen])


def test_pairs_share_seed_fold_and_clips(tmp_path):
    final = replace(BASE, holdout=0.0)
    a = [pretend(tmp_path, c, 0.5, 0.5) for c in grid(replace(final, alpha=0.0, epochs=3), eval_fold=[1, 2], seed=[0, 1])]
    b = [pretend(tmp_path, c, 0.5, 0.5) for c in grid(final, eval_fold=[1, 2], seed=[1, 2])]
    assert [(x.config.eval_fold, x.config.seed, variant_of(y.config)) for x, y in by_seed(a, b)] == [(1, 1, "concat"), (2, 1, "concat")]
    other = pretend(tmp_path, replace(final, seed=1, eval_fold=1, alpha=0.2), 0.5, 0.5, clips_hash="1")
    with pytest.raises(ValueError, match="not scored on the same clips"):
        by_seed(a, [other])


def test_frozen_run_trains_the_heads_alone(tmp_path, monkeypatch):
    cfg = make_config("smoke", n_train=32, n_eval=16, epochs=4, mixup_rate=0.0, bootstrap=0, freeze=True)
    run = train(cfg, tmp_path, progress=False)
    assert run.log.loss.is_monotonic_decreasing and "-frozen-" in run.folder.name
    import torch
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
