"""OmAP at the size of AudioSet's evaluation set: seconds, memory, and the ratio to the naive definition.

    python tests/bench/omap.py [--rounds 7]

20,371 clips, 527 classes, 22 levels, one thread. The label sets are those of AudioSet's eval_segments.csv
where it is found ($SPA_LIB_SHARED, else ../shared beside the checkout), else invented in the same number;
the output says which. Scores are synthetic. Everything that is compared is measured in the same run.
"""
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy is imported

import argparse  # noqa: E402
import csv  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from spa_lib.metrics import mean_average_precision, omap, omap_naive, paired_bootstrap  # noqa: E402
from spa_lib.ontology import Ontology  # noqa: E402

CLIPS, LABELS_A_CLIP = 20371, 2.5


def label_sets(ontology):
    """Targets [20371, 527], and where they come from."""
    shared = Path(os.environ.get("SPA_LIB_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    path = shared / "data" / "audioset_meta" / "eval_segments.csv"
    if not path.exists():
        rng = np.random.default_rng(0)
        targets = np.zeros((CLIPS, len(ontology)), np.uint8)
        for clip, n in zip(targets, rng.poisson(LABELS_A_CLIP, CLIPS)):
            clip[rng.integers(0, len(ontology), max(n, 1))] = 1
        return targets, f"invented label sets (Poisson, {LABELS_A_CLIP} labels a clip): no {path.name} found"
    with open(path, newline="") as f:
        rows = [row for row in csv.reader(f, skipinitialspace=True) if not row[0].startswith("#")]
    targets = np.zeros((len(rows), len(ontology)), np.uint8)
    for clip, row in zip(targets, rows):
        clip[[ontology.index(mid) for mid in row[3].split(",")]] = 1
    return targets, f"AudioSet's real label sets, {path.name}"


def synthetic_scores(targets, seed):
    """Probabilities with an order that is better than chance."""
    rng = np.random.default_rng(seed)
    logits = 1.5*rng.standard_normal(targets.shape, dtype=np.float32) - 4
    logits += 3*targets
    return 1/(1 + np.exp(-logits))


def random_tree(classes):
    """Edges between the nodes of a tree, int8 [C, C]."""
    rng = np.random.default_rng(0)
    D = np.zeros((classes, classes), np.int8)
    for c in range(1, classes):
        parent = int(rng.integers((c - 1) // 4, c))
        D[c, :c] = D[:c, c] = D[parent, :c] + 1
    return D


def best(call, rounds):
    """Fewest seconds on the clock, and of the processor, over `rounds` calls."""
    clock, processor = [], []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return min(clock), min(processor)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="calls, of which the fastest counts")
    rounds = parser.parse_args().rounds
    ontology = Ontology.audioset()
    distances, levels = ontology.distances, ontology.levels
    targets, source = label_sets(ontology)
    scores = synthetic_scores(targets, seed=0)
    clips, classes = targets.shape
    print(
        f"{source}: {clips:,} clips x {classes} classes, {int(targets.sum()):,} labels; "
        f"{scores.dtype} scores; one thread, best of {rounds}"
    )

    found = omap(targets, scores, distances, levels=levels)
    tracemalloc.start()
    omap(targets, scores, distances, levels=levels)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    clock, processor = best(lambda: omap(targets, scores, distances, levels=levels), rounds)
    print(f"OmAP {found.value:.4f}: {clock:.3f} s, {processor:.3f} s of processor time (target: 0.5 s)")
    print(f"memory: {peak:.0f} MB allocated at the peak, beside targets and scores (target: 300 MB)")
    clock, _ = best(lambda: mean_average_precision(targets, scores), min(rounds, 3))
    print(f"mAP {mean_average_precision(targets, scores):.4f}: {clock:.3f} s")

    D, rng = random_tree(10_000), np.random.default_rng(1)
    many = np.zeros((1500, len(D)), np.uint8)
    many[np.arange(1500), rng.integers(0, len(D), (2, 1500))] = 1
    those = rng.random(many.shape, dtype=np.float32)
    _, processor = best(lambda: omap(many, those, D), 2)
    tracemalloc.start()
    omap(many, those, D)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    print(f"{len(D):,} classes, {len(many):,} clips: {processor:.2f} s of processor time, {peak:.0f} MB")

    part = slice(0, 150)
    fast = omap(targets[part], scores[part], distances, levels=levels)
    clock, _ = best(lambda: omap(targets[part], scores[part], distances, levels=levels), 3)
    begun = time.perf_counter()
    expected = omap_naive(targets[part], scores[part], distances, levels=levels)
    naive = time.perf_counter() - begun
    assert np.allclose(fast.per_class, expected, rtol=0, atol=1e-12, equal_nan=True)
    print(
        f"first 150 clips: {1000*clock:.0f} ms, naive definition {naive:.1f} s, ratio {naive/clock:.0f}; "
        "both agree to 1e-12"
    )

    frequent = sorted(np.argsort(-targets.sum(0), kind="stable")[:99])
    small = ontology.subset([ontology.mids[c] for c in frequent])
    own = targets[:, frequent]
    own = own[np.flatnonzero(own.any(1))[:589]]
    a, b = (synthetic_scores(own, seed) for seed in (1, 2))
    clock, _ = best(lambda: paired_bootstrap(own, a, b, "omap", small.distances, levels=levels, n=1000), 1)
    print(
        f"paired bootstrap, two models, {len(own)} clips x {len(small)} classes x {len(levels)} levels, "
        f"1,000 replicates: {clock:.1f} s"
    )


if __name__ == "__main__":
    main()
