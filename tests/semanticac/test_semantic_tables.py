"""Accuracy over folds and seeds, differences between variants, and captions, by hand."""
from dataclasses import replace

import numpy as np
import pytest

from spa_lib.semanticac.tables import accuracy_table, clips_in_words, differences, semantic_caption


def fake(reference, fold, right, **values):
    """A run whose i-th clip is right where `right` says so."""
    n = len(right)
    y = np.eye(2)[np.arange(n) % 2]
    s = np.where(np.array(right)[:, None], y, 1 - y)
    names = np.array([f"{fold}-{i}" for i in range(n)])
    config = replace(reference.config, eval_fold=fold, **values)
    return replace(reference, config=config, targets=y, scores=s, clip_ids=names, recordings=names)


def test_accuracy_table_by_hand(reference):
    plain = [fake(reference, 1, [1, 1, 0, 0], similarity="plain"),
             fake(reference, 2, [1, 1, 1, 0], similarity="plain")]
    cscm = [fake(reference, 1, [1, 1, 1, 0], similarity="cscm"),
            fake(reference, 2, [1, 1, 1, 1], similarity="cscm")]
    t = accuracy_table([*plain, *cscm], lambda cfg: cfg.similarity, base="plain")
    assert t.accuracy.tolist() == [62.5, 87.5] and t.difference["cscm"] == 25
    assert t.folds.tolist() == [2, 2] and t.clips.tolist() == [8, 8]
    assert np.isclose(t.folds_reach["plain"], 12.706 * np.std([50, 75], ddof=1) / 2**0.5, rtol=1e-3)
    assert t.low["plain"] < 62.5 < t.high["plain"] and t.difference_low["cscm"] >= 0
    others = [fake(reference, 1, [1, 1, 1], similarity="cscm"), fake(reference, 3, [1], similarity="cscm")]
    with pytest.raises(ValueError, match="same clips"):
        accuracy_table([plain[0], *others], lambda cfg: cfg.similarity, base="plain")


def test_effect_of_text_is_separated_from_that_of_the_module(reference):
    """Right of four clips: baseline 1, with CSCM 3; with text 2 behind a plain projection, 4 behind CSCM.

    So text is worth 25 points either way."""
    right = {
        ("baseline", "plain"): [1, 0, 0, 0],
        ("baseline", "cscm"): [1, 1, 1, 0],
        ("semanticac", "plain"): [1, 1, 0, 0],
        ("semanticac", "cscm"): [1, 1, 1, 1],
    }
    runs = [fake(reference, 1, clips, system=system, similarity=similarity)
            for (system, similarity), clips in right.items()]
    found = differences(runs)
    (encoder,) = found.index.unique("encoder")
    assert found.difference.to_dict() == {
        (encoder, "baseline-cscm", "baseline"): 50,
        (encoder, "semanticac-plain", "baseline"): 25,
        (encoder, "semanticac-cscm", "baseline-cscm"): 25,
        (encoder, "semanticac-cscm", "baseline"): 75,
    }
    assert (found.low <= found.difference).all() and (found.difference <= found.high).all()


def test_caption_says_which_clips(reference):
    def run_on(source, n_train, n_eval):
        metrics = dict(n_train=n_train, n_eval=n_eval)
        return replace(reference, config=replace(reference.config, source=source), metrics=metrics)

    esc10, synthetic = run_on("esc10", 320, 80), run_on("synth", 40, 10)
    assert clips_in_words(esc10) == "ESC-10"
    assert clips_in_words(run_on("esc50", 500, 231)) == "part of ESC-50"
    assert clips_in_words(run_on("urbansound8k", 7860, 872)) == "UrbanSound8K"
    assert clips_in_words(run_on("synth_urban", 9, 1)) == "synthetic clips"
    assert semantic_caption([esc10]) == "ESC-10: 320 clips to train, 80 to evaluate, 1 fold, 1 seed"
    assert semantic_caption([esc10], "mine").startswith("mine:")
    assert semantic_caption([synthetic], "mine").startswith("synthetic clips (mine):")
