"""The ledger of a study: rows of runs, grown in parts, and changes with their intervals."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spa_lib.results import write_table
from spa_lib.runs import (
    Resampled,
    by_seed,
    compare,
    grow_ledger,
    ledger_change,
    ledger_row,
    make_config,
    read_ledger,
    read_run,
    with_settings,
)
from spa_lib.train import train

SMALL = make_config("smoke", bootstrap=0, n_eval=48)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    configs = [replace(SMALL, alpha=alpha, seed=seed) for alpha in (0.0, 0.1) for seed in range(3)]
    return [train(cfg, folder, progress=False) for cfg in configs]


def test_a_ledger_grows_in_parts_and_reads_nothing_twice(runs, tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    write_table(path, grow_ledger(read_ledger(path), runs[:2], 10))
    read = []

    def noted(run, n):
        read.append(run)
        return ledger_row(run, n)

    monkeypatch.setattr("spa_lib.runs.ledger.ledger_row", noted)
    grown = grow_ledger(read_ledger(path), runs, 10)
    assert read == runs[2:]
    whole = grow_ledger(pd.DataFrame(), runs, 10)
    assert grown.run.tolist() == whole.run.tolist() == sorted(r.folder.name for r in runs)
    assert np.allclose(grown.filter(like="AP_"), whole.filter(like="AP_"), atol=1e-5)


def test_a_row_says_what_the_run_is(runs):
    rows = with_settings(grow_ledger(pd.DataFrame(), runs, 3))
    row = rows[rows.run == runs[3].folder.name].iloc[0]
    assert row.variant == "concat" and row.alpha == 0.1 and row.seed == 0 and row.epochs == SMALL.epochs
    assert row.OmAP == pytest.approx(100*runs[3].metrics["OmAP"]["value"])
    assert row.clips_hash == runs[3].metrics["clips_hash"]
    assert {"mAP_0", "mAP_2", "OmAP_2", "level_0"} <= set(row.index)


def test_a_change_is_that_of_the_runs_themselves(runs):
    rows = grow_ledger(pd.DataFrame(), runs, 40)
    without, aligned = rows[rows.variant == "without"], rows[rows.variant == "concat"]
    for metric in ("mAP", "OmAP"):
        found = ledger_change(without, aligned, metric)
        true = compare(by_seed(runs[:3], runs[3:]), metric, Resampled(400))
        assert found["seeds"] == 3 and found["change"] == pytest.approx(true["difference"])
        assert found["high"] - found["low"] == pytest.approx(true["high_both"] - true["low_both"], rel=0.25)


def test_runs_of_other_clips_are_refused(runs):
    rows = grow_ledger(pd.DataFrame(), runs[:1], 3).assign(clips_hash="other")
    with pytest.raises(ValueError, match="made of other clips than the run of this name in the ledger"):
        grow_ledger(rows, runs[:1], 3)
    with pytest.raises(ValueError, match="scored on different clips"):
        ledger_change(rows, grow_ledger(pd.DataFrame(), runs[3:4], 3), "mAP")


def test_one_seed_has_no_interval_and_no_common_seed_no_change(runs):
    rows = grow_ledger(pd.DataFrame(), [read_run(r.folder) for r in runs[:2]], 3)
    assert np.isnan(ledger_change(rows[:1], rows[:1], "mAP")["low"])
    assert np.isnan(ledger_change(rows[:1], rows[1:], "mAP")["change"])
