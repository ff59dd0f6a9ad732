"""Small runs whose names and numbers must stay as they are: a safety net for a change of structure.

    OMP_NUM_THREADS=1 python tests/net/net.py check   # runs all of it again and compares: about a minute
    OMP_NUM_THREADS=1 python tests/net/net.py write   # after a change that is meant to change numbers

The net is the file net.json. It holds

    runs      of each small run on synthetic clips: its name, its log, its metrics, and digests of its scores,
              targets and clip ids. The runs take every path through a training: SPA and SemanticAC, each
              encoder, a frozen encoder, mixup and augmentation, the other text branches, two processes.
    names     the folder names of many configurations that are not run; such a name holds the hash of the
              configuration
    figures   the csv files of `make paper SCALE=smoke`, where that was run before

`check` compares digit for digit. Another processor rounds differently, so write the net on the machine that
checks it. On any machine, tests/test_net.py compares two of the runs with net.json, with a tolerance.
"""
import argparse
import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

from spa_lib.runs import make_config, run_name
from spa_lib.semanticac.config import semantic_config, semantic_name
from spa_lib.semanticac.train import train_semantic
from spa_lib.train import train, train_all

FILE = Path(__file__).resolve().with_name("net.json")
FIGURES = Path(__file__).resolve().parents[2] / "figures"

# Name of a run -> what its configuration changes in the scale "smoke".
SPA_RUNS = {
    "smoke": {},
    "recipe": {
        "encoder": "passt", "epochs": 2, "mixup_rate": 0.5, "augment": True, "balanced": True,
        "epoch_clips": 48, "eval_every": 1, "workers": 0,
    },
    "frozen": {"encoder": "mn", "freeze": True, "mixup_rate": 0.0, "epochs": 2},
    "untouched clips, other text": {
        "encoder": "psla", "method": "desc", "alpha": 0.3, "text_branch": "centred",
    },
    "contrastive": {
        "encoder": "panns", "method": "direct", "text_branch": "contrastive", "holdout": 0.25,
    },
    "without": {"encoder": "htsat", "alpha": 0.0, "pad": "repeat"},
}
TWO_PROCESS_RUNS = {
    "ast": {"mixup_rate": 0.5, "eval_every": 1, "epochs": 2},
    "mn": {"encoder": "mn", "freeze": True, "mixup_rate": 0.0},
}
SEMANTIC_RUNS = {
    "semanticac": {"epochs": 2},
    "baseline": {"system": "baseline", "similarity": "plain"},
    "spa": {"system": "spa", "freeze": True},
    "unseen": {"unseen": 4, "eval_fold": 0, "loss": "apart", "augment": True},
}
NOT_COMPARED = ("train_seconds", "versions", "device")  # of the metrics: they differ from run to run


def digest(array: np.ndarray) -> str:
    """The first 16 digits of the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def content(run) -> dict:
    """What the net keeps of a finished run: everything except the times and the machine."""
    log = run.log.drop(columns=["seconds"], errors="ignore")
    return {
        "name": run.folder.name,
        "log": json.loads(log.to_json(orient="records", double_precision=15)),
        "metrics": {k: v for k, v in run.metrics.items() if k not in NOT_COMPARED},
        "scores": digest(run.scores),
        "targets": digest(run.targets),
        "clip_ids": digest(run.clip_ids),
        "recordings": digest(run.recordings),
    }


def spa_run(name: str, folder: Path) -> dict:
    """Train one of SPA_RUNS in `folder`; its content."""
    return content(train(make_config("smoke", **SPA_RUNS[name]), folder, progress=False))


def semantic_run(name: str, folder: Path) -> dict:
    """Train one of SEMANTIC_RUNS in `folder`; its content."""
    return content(train_semantic(semantic_config("smoke", **SEMANTIC_RUNS[name]), folder, progress=False))


def two_process_runs(folder: Path) -> dict:
    """Train TWO_PROCESS_RUNS in `folder`, each on two processes; encoder -> content."""
    configs = [make_config("smoke", **values) for values in TWO_PROCESS_RUNS.values()]
    runs = train_all(configs, folder, processes=2)
    return {run.config.encoder: content(run) for run in runs}


def all_runs(folder: Path) -> dict:
    """Train every run of the net; name -> content."""
    runs = {name: spa_run(name, folder / "spa") for name in SPA_RUNS}
    runs |= {f"semanticac: {name}": semantic_run(name, folder / "semanticac") for name in SEMANTIC_RUNS}
    return runs | {f"two processes: {name}": run for name, run in two_process_runs(folder / "two").items()}


def all_names() -> dict:
    """Configuration in words -> name of its run folder, for many configurations that are not run."""
    names = {}
    for scale in ("smoke", "demo", "real", "paper", "published"):
        for encoder in ("psla", "panns", "ast", "passt", "htsat", "mn"):
            for method in ("direct", "concat"):
                cfg = make_config(scale, encoder=encoder, method=method)
                names[f"{scale} {encoder} {method}"] = run_name(cfg)
    for scale in ("smoke", "demo", "scratch", "real", "finetune", "paper"):
        for similarity in ("plain", "cscm"):
            cfg = semantic_config(scale, similarity=similarity)
            names[f"semanticac {scale} {similarity}"] = semantic_name(cfg)
    return names


def smoke_figures() -> dict:
    """File name -> text, for the csv files of `make paper SCALE=smoke`; empty where that was not run."""
    return {path.name: path.read_text() for path in sorted(FIGURES.glob("*_smoke*.csv"))}


def differences(old, new, tolerance: float = 0.0, where: str = "") -> list[str]:
    """Where two nests of dicts and lists differ; `tolerance`, for floats, is relative and absolute."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys(), key=str)
        parts = [(old.get(k), new.get(k), f"{where}/{k}") for k in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts = [(a, b, f"{where}/{i}") for i, (a, b) in enumerate(zip(old, new))]
    elif isinstance(old, float) and isinstance(new, float) and tolerance:
        close = math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance)
        return [] if close else [f"{where}: {old} -> {new}"]
    else:
        return [] if old == new else [f"{where}: {str(old)[:60]} -> {str(new)[:60]}"]
    return [d for a, b, place in parts for d in differences(a, b, tolerance, place)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("check", "write"))
    command = parser.parse_args().command
    with tempfile.TemporaryDirectory() as folder:
        new = {"runs": all_runs(Path(folder)), "names": all_names(), "figures": smoke_figures()}
    new = json.loads(json.dumps(new))
    if command == "write":
        FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")
        return
    old = json.loads(FILE.read_text())
    if not new["figures"]:
        print("make paper SCALE=smoke was not run here: its csv files are not compared")
        del old["figures"], new["figures"]
    changed = differences(old, new)
    print("\n".join(changed) or "equal, digit for digit")
    sys.exit(bool(changed))


if __name__ == "__main__":
    main()
