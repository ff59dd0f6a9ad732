"""The numbers and names that a change of structure must leave as they are.

    OMP_NUM_THREADS=1 python tests/net/net.py write   # after a change that is meant to move numbers
    OMP_NUM_THREADS=1 python tests/net/net.py check   # after a change that is not

`net.json` holds, for a few small runs on synthetic clips (SPA with every part of the recipe, a frozen tagger, an untouched
head, the other text branches, SemanticAC, two processes), their names, their logs and scores, digit for digit, and the csv
that `make paper SCALE=smoke` draws where it was run. Other processors round otherwise: write the net on the machine that
checks it. `tests/test_net.py` compares a part of it loosely, on any machine.
"""
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from spa_lib.runs import make_config, run_name
from spa_lib.semanticac.config import semantic_config, semantic_name
from spa_lib.semanticac.train import train_semantic
from spa_lib.train import train, train_all

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parents[1] / "figures"
EVERYTHING = dict(epochs=2, mixup_rate=0.5, augment=True, balanced=True, epoch_clips=48, eval_every=1, workers=0)
SPA_RUNS = {
    "smoke": dict(),
    "recipe": dict(encoder="passt", **EVERYTHING),
    "frozen": dict(encoder="mn", freeze=True, mixup_rate=0.0, epochs=2),
    "untouched clips, other text": dict(encoder="psla", method="desc", alpha=0.3, text_branch="centred"),
    "contrastive": dict(encoder="panns", method="direct", text_branch="contrastive", holdout=0.25),
    "without": dict(encoder="htsat", alpha=0.0, pad="repeat"),
}
SEMANTIC_RUNS = {
    "semanticac": dict(epochs=2),
    "baseline": dict(system="baseline", similarity="plain"),
    "spa": dict(system="spa", freeze=True),
    "unseen": dict(unseen=4, eval_fold=0, loss="apart", augment=True),
}
NOT_A_RESULT = ("train_seconds", "versions", "device")


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def found(run) -> dict:
    """What a finished run says, without the time it took and what it ran on."""
    log = run.log.drop(columns=["seconds"], errors="ignore")
    metrics = {k: v for k, v in run.metrics.items() if k not in NOT_A_RESULT}
    return dict(name=run.folder.name, log=json.loads(log.to_json(orient="records", double_precision=15)), metrics=metrics,
                scores=digest(run.scores), targets=digest(run.targets), clip_ids=digest(run.clip_ids), recordings=digest(run.recordings))


def names() -> dict:
    """Names of many configurations that are not run."""
    scales = ("smoke", "demo", "real", "paper", "published")
    encoders = ("psla", "panns", "ast", "passt", "htsat", "mn")
    spa = {f"{s} {e} {m}": run_name(make_config(s, encoder=e, method=m)) for s in scales for e in encoders for m in ("direct", "concat")}
    scales = ("smoke", "demo", "scratch", "real", "finetune", "paper")
    return spa | {f"semanticac {s} {m}": semantic_name(semantic_config(s, similarity=m)) for s in scales for m in ("plain", "cscm")}


def figures() -> dict:
    """The csv of `make paper SCALE=smoke`."""
    return {p.name: p.read_text() for p in sorted(FIGURES.glob("*_smoke*.csv"))}


def net(folder: Path, quick: bool = False) -> dict:
    """Run everything in `folder`; `quick` leaves out two processes and all but the first runs."""
    runs = {name: found(train(make_config("smoke", **values), folder / "spa", progress=False)) for name, values in list(SPA_RUNS.items())[: 1 if quick else None]}
    runs |= {f"semanticac: {name}": found(train_semantic(semantic_config("smoke", **values), folder / "semantic", progress=False))
             for name, values in list(SEMANTIC_RUNS.items())[: 1 if quick else None]}
    if not quick:
        both = [make_config("smoke", mixup_rate=0.5, eval_every=1, epochs=2), make_config("smoke", encoder="mn", freeze=True, mixup_rate=0.0)]
        runs |= {f"two processes: {r.config.encoder}": found(r) for r in train_all(both, folder / "two", processes=2)}
    return dict(runs=runs, names=names())


def differences(old, new, where="") -> list:
    """Paths at which two nests of dicts and lists differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [d for k in sorted(old.keys() | new.keys(), key=str) for d in differences(old.get(k), new.get(k), f"{where}/{k}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new)) for d in differences(a, b, f"{where}/{i}")]
    return [] if old == new else [f"{where}: {str(old)[:60]} -> {str(new)[:60]}"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as kept:
        now = json.loads(json.dumps(net(Path(kept)) | dict(figures=figures())))
    if sys.argv[1:] == ["write"]:
        (HERE / "net.json").write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    else:
        told = json.loads((HERE / "net.json").read_text())
        if not now["figures"]:
            print("make paper SCALE=smoke was not run here: its csv are not compared")
            told.pop("figures"), now.pop("figures")
        changed = differences(told, now)
        print("\n".join(changed) or "equal, digit for digit")
        sys.exit(bool(changed))
