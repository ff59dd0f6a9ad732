"""The benchmark for a GPU also runs on the CPU: its columns, its file, and what it does when a part fails."""
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def script(root):
    return root / "tests" / "bench" / "device.py"


@pytest.fixture(scope="module")
def bench(script):
    """The script as a module."""
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("device_bench", script)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ):  # OmAP's benchmark asks for one thread
        spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def test_runs_to_the_end_on_the_cpu(script, tmp_path):
    out = tmp_path / "device.csv"
    options = "--device cpu --size tiny --encoders ast --batch 2 --seconds 2 --rounds 1 --out".split()
    done = subprocess.run(
        [sys.executable, script, *options, out], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for word in ("train_of_bf16", "front_of_train", "spa", "peak_gb", "ast over transformers"):
        assert word in done.stdout
    assert "OmAP of 20,371 x 527, 22 levels" in done.stdout
    table = pd.read_csv(out).set_index("encoder")
    assert {"device", "torch", "date", "size", "seconds", "bf16_tflops"} <= set(table)
    assert list(table.index)[::2] == ["ast", "OmAP"]
    rates = ["train", "copied", "eval", "train_of_bf16", "eval_of_bf16"]
    others = ["front_of_train", "spa", "train_gflop"]
    assert (table.loc["ast", rates + others].astype(float) > 0).all()
    assert table.omap_difference["OmAP"] < 1e-9


def test_what_fails_is_a_row(bench):
    def fails():
        raise KeyError("gone")

    row = bench.attempt("ast", fails)
    assert row == {"encoder": "ast", "error": "KeyError: 'gone'"} and "failed: KeyError" in bench.line(row)


def test_the_largest_batch_is_found_by_doubling(bench, monkeypatch):
    args = SimpleNamespace(batch=0, device=SimpleNamespace(type="cuda"))
    tried = []
    full = torch.OutOfMemoryError("full")
    monkeypatch.setattr(bench, "wait", lambda device: None)

    def step(limit, error=full):
        def run(clips):
            tried.append(clips)
            if clips > limit:
                raise error
        return run

    assert bench.largest_batch(step(70), args) == (64, {}) and tried == [8, 16, 32, 64, 128]
    assert bench.largest_batch(step(10**6), args) == (2048, {})
    assert bench.largest_batch(step(9, RuntimeError("CUDNN_STATUS_ALLOC_FAILED")), args) == (8, {})
    fault = {"error": "batch 16: RuntimeError: too many numbers"}
    assert bench.largest_batch(step(9, RuntimeError("too many numbers")), args) == (8, fault)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        bench.largest_batch(step(4), args)
    assert bench.largest_batch(step(4), SimpleNamespace(batch=96, device=args.device)) == (96, {})


def test_the_planned_cost_reads_what_was_measured(root, tmp_path):
    papermill = pytest.importorskip("papermill")
    clips_a_second = {
        "psla": 2000, "panns": 1000, "ast": 300, "transformers 5.17": 90,
        "passt": 300, "passt + patchout": 500, "htsat": 1500, "OmAP": None,
    }
    table = pd.DataFrame({"encoder": clips_a_second.keys(), "copied": clips_a_second.values()})
    table = table.assign(device="NVIDIA H200", torch="2.11", date="2026-01-01", size="base", seconds=10.0)
    measured = tmp_path / "device.csv"
    table.to_csv(measured, index=False)
    cost = root / "nbs" / "guides" / "cost.ipynb"
    parameters = {"measured": str(measured)}
    notebook = papermill.execute_notebook(cost, None, parameters, progress_bar=False, cwd=root)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    text = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    assert "measured on NVIDIA H200" in text and "ASSUMED" not in text
    lines = text[text.index("GPU-hours"):].splitlines()
    hours = next(line for line in lines if line.startswith("passt"))
    assert hours.split()[2:5] == ["500", "13", "7"]  # clips/s with patchout; 13 million clips; 7.2 hours
