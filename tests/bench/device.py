"""What a GPU makes of spa_lib: clips a second in training and evaluation, memory, shares, and OmAP.

    python tests/bench/device.py [--device cuda] [--size base] [--encoders psla panns ast passt htsat]
                                 [--batch 0] [--seconds 10] [--rounds 5] [--compile] [--out FILE.csv]

One call, no network, nothing to install besides torch, torchaudio, transformers, numpy, pandas and scikit-
learn; spa_lib is that of the checkout. A training step is made of the parts of spa_lib.train: mixup,
SPAModel in bfloat16 autocast, Eq. 5, backward, norm of the gradient, fused AdamW, diagnostics; fresh
weights, channels last, augmentation off. `passt + patchout` has the patchout of its recipe. Waveforms lie
on the device; `copied` is the step that first brings its batch over from pinned memory. The batch is the
largest that fits, doubling from 8 to at most 2,048 (on a CPU: 4), or --batch. Evaluation is the logits of
waveforms in float32, as runs are scored.

`of bf16` is operations (counted as in encoders.py, the backward pass twice the forward) a second, over the
rate of a bfloat16 matrix product in the same call. `front` is the front end's share of the step. `SPA` is
the time of the text branch and Eq. 4 alone, forward and backward, over the step without them. Times are
medians of --rounds, after a warm-up.

`transformers` is its AST of the same shape in its stock path, float32 and AdamW, on features that are
computed before; `copied` then counts its feature extractor, which runs on the CPU. OmAP is that of 20,371
x 527 scores at 22 levels.

A row that fails says why, the others go on, and the exit code is 1. --compile compiles the network behind
the front end, which takes minutes for each encoder.
"""
import argparse
import gc
import math
import statistics
import sys
import time
import traceback
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parents[1]), str(BENCH)]

import encoders as of_encoders  # noqa: E402
import omap as of_omap  # noqa: E402

from spa_lib.encoders import create_encoder, encoder_names  # noqa: E402
from spa_lib.losses import spa_loss, total_loss  # noqa: E402
from spa_lib.metrics import AudioStatistics, omap, omap_on_device  # noqa: E402
from spa_lib.model import SPAModel  # noqa: E402
from spa_lib.ontology import Ontology  # noqa: E402
from spa_lib.runs import RECIPES, finite_step, make_optimizer, mixup  # noqa: E402
from spa_lib.text import label_features  # noqa: E402
from spa_lib.utils import write_atomic  # noqa: E402

# Columns of the printed table and their formats; train, copied and eval are clips a second.
COLUMNS = {
    "batch": "{:.0f}",
    "train": "{:.1f}",
    "copied": "{:.1f}",
    "eval": "{:.1f}",
    "train_of_bf16": "{:.1%}",
    "eval_of_bf16": "{:.1%}",
    "front_of_train": "{:.2%}",
    "front_of_eval": "{:.2%}",
    "spa": "{:.2%}",
    "peak_gb": "{:.1f}",
}
ALPHA = 0.1


def wait(device):
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call, args, rounds=None):
    """Median seconds of `call` over the rounds; on a GPU a round is three calls in a row."""
    calls = 3 if args.device.type == "cuda" else 1
    taken = []
    for _ in range(1 + (rounds or args.rounds)):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        wait(args.device)
        taken.append((time.perf_counter() - begun)/calls)
    return statistics.median(taken[1:])


def free():
    """Give back the memory that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_full(error):
    """Whether an error says that the memory of the device is full."""
    signs = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


def largest_batch(step, args):
    """The given batch, or the largest that fits, doubling; and the error that stopped it, if not for memory.

    `step` takes the number of clips.
    """
    if args.batch or args.device.type != "cuda":
        return args.batch or 4, {}
    fits, fault = 0, {}
    for batch in (8, 16, 32, 64, 128, 256, 512, 1024, 2048):
        try:
            step(batch)
            wait(args.device)
        except RuntimeError as error:
            if not fits:
                raise
            if not is_full(error):
                fault = {"error": f"batch {batch}: {named(error)}"}
            break
        fits = batch
    free()
    return fits, fault


def named(error):
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


class Ours:
    """One encoder under SPA, and the parts of its training step."""

    def __init__(self, label, args, ontology):
        self.args = args
        self.device = args.device
        name = label.split()[0]
        self.encoder = create_encoder(name, size=args.size, clip_seconds=args.seconds)
        if label.endswith("patchout"):
            self.encoder.augment = of_encoders.with_patchout(self.encoder).augment
        model = SPAModel(self.encoder, label_features(ontology, "concat"))
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.distances = torch.as_tensor(ontology.distances, device=self.device)
        self.statistics = AudioStatistics(self.model.p_a.out_features).to(self.device)
        group = {"params": list(self.model.parameters()), "lr": 1e-5, "fused": True}
        self.optimizer = make_optimizer([group], RECIPES["passt"])  # AdamW
        encoder = self.encoder
        counted = of_encoders.Tagger(label, encoder, encoder.front_end, self.logits, encoder.augment)
        self.gflop = counted.operations(self.batch_of(1)[0])

    def logits(self, wave):
        """The model's logits of waveforms."""
        return self.model(wave)[0]

    def batch_of(self, clips):
        """Waveforms of noise and targets, on the device."""
        y = torch.rand(clips, self.model.c_a.out_features, device=self.device) < 0.005
        y[:, 0] = True
        samples = int(self.args.seconds*self.encoder.sample_rate)
        return 0.1*torch.randn(clips, samples, device=self.device), y.float()

    def train(self, wave, y, alpha=ALPHA):
        """A training step, with the one look at the device that the trainer's step takes."""
        self.model.train()
        wave, y = mixup(wave, y, RECIPES["passt"].mixup_rate, RECIPES["passt"].mixup_beta)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, E_a = self.model(wave, self.encoder.sample_rate)
        E_t = self.model.label_embeddings() if alpha else None
        logits, E_a = logits.float(), E_a.float()
        loss, _ = total_loss(logits, E_a, E_t, y, self.distances, alpha, align=self.model.align)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        finite_step(self.model, [loss], "the benchmark")
        self.optimizer.step()
        if alpha:
            self.statistics.add(E_a.detach(), E_t.detach(), y)

    @torch.no_grad()
    def evaluate(self, wave):
        """Logits of waveforms, in float32 as `spa_lib.model.predict` has them."""
        self.model.eval()
        self.model(wave, self.encoder.sample_rate)

    @torch.no_grad()
    def front(self, wave):
        """The front end alone."""
        self.encoder.front_end(wave)

    def branch(self, E_a, y):
        """The SPA branch alone."""
        spa_loss(E_a, self.model.label_embeddings(), y).backward()

    def step_beside_a_batch(self, clips):
        """A training step while the next batch already waits on the device."""
        waiting = self.batch_of(clips)
        self.train(*self.batch_of(clips))
        del waiting

    def train_with_peak(self, wave, y):
        """Median seconds of a training step, and the most memory that it held, in GiB (nan on a CPU)."""
        if self.device.type != "cuda":
            return seconds(lambda: self.train(wave, y), self.args), float("nan")
        torch.cuda.reset_peak_memory_stats(self.device)
        train = seconds(lambda: self.train(wave, y), self.args)
        return train, torch.cuda.max_memory_allocated(self.device)/2**30

    def train_from_host(self, wave, y):
        """A training step on a batch that lies in the memory of the host."""
        self.train(wave.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True))

    def row(self, label, rate):
        """What was measured."""
        batch, fault = largest_batch(self.step_beside_a_batch, self.args)
        if self.args.compile:
            self.encoder.hidden = torch.compile(self.encoder.hidden)
        wave, y = self.batch_of(batch)
        host_wave, host_y = wave.cpu(), y.cpu()
        if self.device.type == "cuda":
            host_wave, host_y = host_wave.pin_memory(), host_y.pin_memory()
        E_a = torch.randn(batch, self.model.p_a.out_features, device=self.device, requires_grad=True)

        train, peak = self.train_with_peak(wave, y)
        without = seconds(lambda: self.train(wave, y, alpha=0.0), self.args)
        copied = seconds(lambda: self.train_from_host(host_wave, host_y), self.args)
        evaluate = seconds(lambda: self.evaluate(wave), self.args)
        front = seconds(lambda: self.front(wave), self.args)
        branch = seconds(lambda: self.branch(E_a, y), self.args)
        return {
            "encoder": label,
            "batch": batch,
            "train": batch/train,
            "copied": batch/copied,
            "eval": batch/evaluate,
            "train_of_bf16": self.gflop["train"]*batch/train/rate,
            "eval_of_bf16": self.gflop["forward"]*batch/evaluate/rate,
            "front_of_train": front/train,
            "front_of_eval": front/evaluate,
            "spa": branch/without,
            "peak_gb": peak,
            "train_gflop": self.gflop["train"],
            "eval_gflop": self.gflop["forward"],
            **fault,
        }


class Stock:
    """transformers' AST as its users train it: float32, its own extractor, AdamW."""

    def __init__(self, args):
        self.args = args
        ours = create_encoder("ast", size=args.size, clip_seconds=args.seconds)
        theirs = of_encoders.their_ast(ours, args.seconds)
        self.label = theirs.label
        self.extract = theirs.front_end
        self.model = theirs.model.to(args.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    def features(self, clips):
        """Extracted from noise on the CPU, on the device."""
        return self.extract(0.1*torch.randn(clips, int(16000*self.args.seconds))).to(self.args.device)

    def train(self, x):
        """A training step."""
        logits = self.model.train()(x).logits
        loss = binary_cross_entropy_with_logits(logits, torch.zeros(len(x), 527, device=x.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def evaluate(self, x):
        """Logits of features."""
        self.model.eval()(x)

    def row(self):
        """What was measured."""
        one = self.features(1)

        def step(clips):
            self.train(one.expand(clips, -1, -1).contiguous())

        batch, fault = largest_batch(step, self.args)
        x = self.features(batch)
        train = seconds(lambda: self.train(x), self.args)
        evaluate = seconds(lambda: self.evaluate(x), self.args)
        extracted = seconds(lambda: self.train(self.features(batch)), self.args, rounds=1)
        rates = {"train": batch/train, "copied": batch/extracted, "eval": batch/evaluate}
        return {"encoder": self.label, "batch": batch, **rates, **fault}


def matmul_rate(args):
    """Billions of operations a second in a product of two bfloat16 matrices, the best of ten rounds."""
    n = 8192 if args.device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=args.device, dtype=torch.bfloat16) for _ in range(2))
    best = min(seconds(lambda: a @ b, args, rounds=1) for _ in range(10))
    return 2*n**3/best/1e9


def omap_row(args, ontology):
    """OmAP at the size of AudioSet's evaluation set, here and in numpy."""
    targets, source = of_omap.label_sets(ontology)
    scores = of_omap.synthetic_scores(targets, seed=0)
    begun = time.perf_counter()
    oracle = omap(targets, scores, ontology.distances, levels=ontology.levels)
    numpy_ms = 1000*(time.perf_counter() - begun)
    y, s = torch.as_tensor(targets, device=args.device), torch.as_tensor(scores, device=args.device)

    def measured():
        return omap_on_device(y, s, ontology.distances, levels=ontology.levels)

    found = measured()
    device_ms = 1000*seconds(measured, args)
    difference = float(abs(found.per_class - oracle.per_class)[:, targets.any(0)].max())
    clips, classes = targets.shape
    print(
        f"OmAP of {clips:,} x {classes}, {len(found.levels)} levels: {device_ms:.1f} ms, "
        f"numpy {numpy_ms:.0f} ms, largest difference {difference:.1e}; {source}",
        flush=True,
    )
    if not difference < 1e-9:
        raise ArithmeticError(f"OmAP differs from numpy's by {difference}")
    times = {"omap_ms": device_ms, "omap_numpy_ms": numpy_ms}
    return {"encoder": "OmAP", "batch": clips, **times, "omap_difference": difference}


def attempt(label, call):
    """What `call` returns, or a row that says why it failed."""
    free()
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        return {"encoder": label, "error": named(error)}


def line(row):
    """A row of the table in words."""
    failed = [f"failed: {row['error']}"] if "error" in row else []
    cells = []
    for column, form in COLUMNS.items():
        value = row.get(column, float("nan"))
        cell = "" if math.isnan(value) else form.format(value)  # nan: not measured here
        if cell or not failed:
            cells.append(f"{cell:>{max(len(column), 7)}}")
    return "  ".join([f"{row['encoder']:20}", *cells, *failed])


def compared(ours, theirs):
    """How many times faster our AST is than that of transformers, in words."""
    train, evaluate, from_host = (ours[key]/theirs[key] for key in ("train", "eval", "copied"))
    return (
        f"{'':20}  ast over {theirs['encoder']}: training {train:.2f}, evaluation {evaluate:.2f}, "
        f"training from waveforms on the host {from_host:.1f}"
    )


def table(args, ontology, rate):
    """Measure and print row after row."""
    for name in args.encoders:
        labels = (name, "passt + patchout") if name == "passt" else (name,)
        for label in labels:
            row = attempt(label, lambda label=label: Ours(label, args, ontology).row(label, rate))
            print(line(row), flush=True)
            yield row
        if name == "ast":
            stock = attempt("transformers", lambda: Stock(args).row())
            print(line(stock), flush=True)
            if row.keys() & stock.keys() >= {"train", "copied", "eval"}:
                print(compared(row, stock), flush=True)
            yield stock
    yield attempt("OmAP", lambda: omap_row(args, ontology))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument(
        "--encoders", nargs="+", default=["psla", "panns", "ast", "passt", "htsat"],
        choices=encoder_names("waveform")
    )
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=0, help="clips in a batch; 0: the most that fit")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    on_gpu = args.device.type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --size tiny tries the script")
    threads = f"{args.device.type}, {torch.get_num_threads()} thread(s)"
    rate = matmul_rate(args)
    common = {
        "device": torch.cuda.get_device_name(args.device) if on_gpu else threads,
        "torch": torch.__version__,
        "date": str(date.today()),
        "size": args.size,
        "seconds": args.seconds,
        "compiled": args.compile,
        "bf16_tflops": rate/1000,
    }
    print(
        f"{common['device']}, torch {torch.__version__}, {common['date']}; encoders of size {args.size}, "
        f"clips of {args.seconds:g} s; bf16 matmul {rate/1000:.1f} TFLOP/s"
    )
    print(
        "targets on a GPU: training at 40 % of bf16 for ast and passt, front under 5 %, SPA under 2 %, "
        "OmAP under 30 ms, ast over transformers 2"
    )
    print("  ".join([" "*20, *(f"{c:>7}" for c in COLUMNS)]), flush=True)
    rows = []
    for row in table(args, Ontology.audioset(), rate):
        rows.append(common | row)
        if args.out:
            write_atomic(args.out, pd.DataFrame(rows).to_csv(index=False).encode())
    failed = [row["encoder"] for row in rows if "error" in row]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
