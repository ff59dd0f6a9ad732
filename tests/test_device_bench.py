"""The benchmark for a GPU goes through on the CPU: its columns, its file, and what it does with what fails."""
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
def bench(root):
    path, spec = list(sys.path), importlib.util.spec_from_file_location("device_bench", root / "tests" / "bench" / "device.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ):  # OmAP's benchmark asks for one thread
        spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def test_runs_to_the_end_on_the_cpu(root, tmp_path):
    out = tmp_path / "device.csv"
    words = "--device cpu --size tiny --encoders ast --batch 2 --seconds 2 --rounds 1 --out".split()
    done = subprocess.run([sys.executable, root / "tests" / "bench" / "device.py", *words, out], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("train_of_bf16", "front_of_train", "spa", "peak_gb", "ast over transformers", "OmAP of 20,371 x 527, 22 levels"))
    table = pd.read_csv(out).set_index("encoder")
    assert {"device", "torch", "date", "size", "seconds", "bf16_tflops"} <= set(table) and list(table.index)[::2] == ["ast", "OmAP"]
    assert (table.loc["ast", ["train", "copied", "eval", "train_of_bf16", "eval_of_bf16", "front_of_train", "spa", "train_gflop"]].astype(float) > 0).all()
    assert table.omap_difference["OmAP"] < 1e-9


def test_what_fails_is_a_row(bench):
    def fails(): raise KeyError("gone")
    row = bench.attempt("ast", fails)
    assert row == dict(encoder="ast", error="KeyError: 'gone'") and "failed: KeyError" in bench.line(row)


def test_the_largest_batch_is_found_by_doubling(bench, monkeypatch):
    tried, args = [], SimpleNamespace(batch=0, device=SimpleNamespace(type="cuda"))
    monkeypatch.setattr(bench, "wait", lambda device: None)

    def step(limit, error=torch.OutOfMemoryError("full")):
        def run(clips):
            tried.append(clips)
            if clips > limit: raise error
        return run

    assert bench.largest_batch(step(70), args) == (64, {}) and tried == [8, 16, 32, 64, 128]
    assert bench.largest_batch(step(10**6), args) == (2048, {})
    assert bench.largest_batch(step(9, RuntimeError("CUDNN_STATUS_ALLOC_FAILED")), args) == (8, {})
    assert bench.largest_batch(step(9, RuntimeError("too many numbers")), args) == (8, dict(error="batch 16: RuntimeError: too many numbers"))
    with pytest.raises(torch.OutOfMemoryError, match="full"): bench.largest_batch(step(4), args)
    assert bench.largest_batch(step(4), SimpleNamespace(batch=96, device=args.device)) == (96, {})


def test_the_planned_cost_reads_what_was_measured(root, tmp_path):
    papermill = pytest.importorskip("papermill")
    rows = [dict(encoder=e, copied=c, device="NVIDIA H200", torch="2.11", date="2026-01-01", size="base", seconds=10.0) for e, c in
            (("psla", 2000), ("panns", 1000), ("ast", 300), ("transformers 5.17", 90), ("passt", 300), ("passt + patchout", 500), ("htsat", 1500), ("OmAP", None))]
    pd.DataFrame(rows).to_csv(tmp_path / "device.csv", index=False)
    notebook = papermill.execute_notebook(root / "nbs" / "guides" / "cost.ipynb", None, parameters=dict(measured=str(tmp_path / "device.csv")), progress_bar=False, cwd=root)
    text = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    assert "measured on NVIDIA H200" in text and "ASSUMED" not in text
    hours = next(line for line in text.splitlines() if line.startswith("passt"))
    assert hours.split()[2:5] == ["500", "13", "7"] # clips/s with patchout; 13 million clips; 7.2 hours
