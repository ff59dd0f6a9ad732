"""What shards cost and give: packing, reading byte ranges, the loader against the encoders, and growth with
the data.

    python tests/bench/shards.py [--clips 48] [--rounds 3] [--workers 2] [--sizes 1000 10000 100000]
                                 [--encoders mn:tiny psla:tiny mn:base] [--only rates loader growth]

Rates are clips of 10 s at 32 kHz. What is compared is timed in turn, round by round; the first round is
not counted, and the median counts. Loose files and shards hold the same clips in the same run. Each rate
is given twice: by the clock, and by processor time of this process and its workers. On a machine with
nothing else to do the two agree (times the number of processes); where other processes run, the second is
what a free core does.

Growth: synthetic shards of clips of 50 ms. For each size a fresh process opens the table, then fetches 300
batches of 16 clips from anywhere, as training does. Times of work on the whole table (once a run, once an
epoch) are given too.
"""
import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from spa_lib.data import Clips, batches, clip_table, load_waveform, pack, read_clips, read_index, synth_clip
from spa_lib.encoders import create_encoder
from spa_lib.ontology import Ontology
from spa_lib.runs import epoch_order

RATE = 32000  # Hz
SECONDS = 10.0


def print_two_rates(width):
    """The heads of two columns, the first of them `width` wide."""
    print(f"{'clips a second':>{width}s}{'a processor second':>22s}")


def processor():
    """Seconds of processor time, ended workers included."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rates_of(run):
    """Clips a second by the clock, and by processor time, of a function that returns a number of clips."""
    clock, cpu = time.perf_counter(), processor()
    n = run()
    return n / (time.perf_counter() - clock), n / (processor() - cpu)


def timed(calls, rounds):
    """Name -> median clips a second, by the clock and by processor time, of calls that take turns."""
    taken = {name: [] for name in calls}
    for counted in (False, *[True] * rounds):
        for name, run in calls.items():
            found = rates_of(run)
            if counted:
                taken[name].append(found)
    return {name: tuple(np.median(t, axis=0)) for name, t in taken.items()}


def corpus(folder, n, ontology):
    """`n` loose clips of 10 s: eight synthesised ones, each shifted in a circle by another amount."""
    synthesised = [synth_clip("train", i, SECONDS, RATE)[0] for i in range(8)]
    paths = [folder / f"{i}.wav" for i in range(n)]
    for i, path in enumerate(paths):
        soundfile.write(path, np.roll(synthesised[i % 8], 1000 * i), RATE)
    labels = [(ontology.mids[i % 9],) for i in range(n)]
    return clip_table([str(i) for i in range(n)], [str(path) for path in paths], labels)


def as_flac(table, folder):
    """The same clips as loose FLAC files."""
    folder.mkdir()
    paths = []
    for path in table.path:
        wave, rate = soundfile.read(path, dtype="int16")
        paths.append(str(folder / f"{Path(path).stem}.flac"))
        soundfile.write(paths[-1], wave, rate)
    return table.assign(path=paths)


def at_rate(table, folder, rate):
    """The same clips as loose WAV files of another rate."""
    folder.mkdir(exist_ok=True)
    paths = [str(folder / Path(path).name) for path in table.path]
    for path, to in zip(table.path, paths):
        soundfile.write(to, load_waveform(path, rate), rate)
    return table.assign(path=paths)


class Parts(SimpleHTTPRequestHandler):
    """A folder over http, byte ranges too."""

    def do_GET(self):
        if not self.headers["Range"]:
            return super().do_GET()
        first, last = (int(v) for v in self.headers["Range"][6:].split("-"))
        with open(self.translate_path(self.path), "rb") as f:
            f.seek(first)
            data = f.read(last + 1 - first)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def rates(folder, table, args, ontology):
    """Packing, then reading from loose files, from shards on disk, and from shards behind http."""
    n = len(table)
    flac = as_flac(table, folder / "loose")
    where = {"flac": folder / "flac", "wav as is": folder / "wav", "flac as is": folder / "flac as is"}
    loose_mb = sum(os.path.getsize(p) for p in table.path) / 1e6
    print(f"\npacking {n} clips of {SECONDS:g} s (loose: {loose_mb:.0f} MB of 16-bit WAV)")
    print_two_rates(42)

    def packing(label, clips, to, **options):
        rate, cpu = rates_of(lambda: pack(clips, to, clips_per_shard=12, progress=False, **options) and n)
        packed_mb = read_index(to)["bytes"] / 1e6
        print(f"  {label:26s}{rate:14.1f}{cpu:22.1f}{packed_mb:10.1f} MB")

    packing("flac", table, where["flac"])
    packing("loose WAV as is", table, where["wav as is"], codec="as is")
    packing("loose FLAC as is", flac, where["flac as is"], codec="as is")
    packing(f"flac, {args.workers} processes, from start", table, folder / "two", workers=args.workers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Parts, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    order = np.random.default_rng(0).permutation(n)

    def read(clips):
        paths = clips.path.tolist()
        return lambda: len([load_waveform(paths[i], RATE) for i in order])

    calls = {"loose wav": read(table), "loose flac": read(flac)}
    for name, to in where.items():
        calls[f"shards {name}"] = read(read_clips("shards", to, ontology))
    address = f"http://127.0.0.1:{server.server_port}/flac"  # the server's own time counts too
    calls["shards flac, over http"] = read(read_clips("shards", address, ontology))
    print(f"\nreading, one process, {n} clips a round, {args.rounds} rounds")
    print_two_rates(50)
    for name, (rate, cpu) in timed(calls, args.rounds).items():
        print(f"  {name:34s}{rate:14.1f}{cpu:22.1f}")
    server.shutdown()
    server.server_close()


def one_thread(encoder, wave, rounds):
    """Clips a second of processor time in the forward pass and in a training step."""
    def forward():
        with torch.no_grad():
            encoder.eval()(wave, encoder.sample_rate)
        return len(wave)

    def training():
        encoder.train()(wave, encoder.sample_rate).sum().backward()
        return len(wave)

    found = timed({"forward": forward, "training": training}, rounds)
    return found["forward"][1], found["training"][1]


def loader(folder, table, args, ontology):
    """The loader from shards against the encoders that it feeds."""
    n = args.workers
    print("\nthe loader, from shards at the encoder's rate, against encoders on one thread;")
    print("clips a second of processor time")
    print(
        f"  {'':12s}forward  training   loader: flac     wav   {n} free cores of loader over one of forward: "
        "flac    wav   over training: flac    wav"
    )
    torch.set_num_threads(1)
    for label in args.encoders:
        name, size = label.split(":")
        encoder = create_encoder(name, size=size, clip_seconds=SECONDS).to(memory_format=torch.channels_last)
        clips = {}
        loose = at_rate(table, folder / f"loose{encoder.sample_rate}", encoder.sample_rate)
        for kind, codec in (("flac", "flac"), ("wav", "as is")):
            to = folder / f"{kind}{encoder.sample_rate}"
            pack(loose, to, codec=codec, clips_per_shard=12, progress=False)
            twelve_times = pd.concat([read_clips("shards", to, ontology)] * 12, ignore_index=True)
            clips[kind] = Clips(twelve_times, ontology, encoder.sample_rate, SECONDS, cache=False)
        wave = torch.stack([clips["wav"][i][0] for i in range(4)])

        def load(dataset):
            return sum(len(b.clip_ids) for b in batches(dataset, 8, workers=n))

        f, t = one_thread(encoder, wave, 3 * args.rounds)
        fed = timed({codec: partial(load, c) for codec, c in clips.items()}, max(1, args.rounds - 1))
        flac, wav = fed["flac"][1], fed["wav"][1]
        print(
            f"  {label:12s}{f:7.1f}{t:10.1f}{flac:15.1f}{wav:8.1f}{n * flac / f:50.1f}{n * wav / f:7.1f}"
            f"{n * flac / t:22.1f}{n * wav / t:7.1f}",
            flush=True,
        )


class Ticks:
    """The sound of any number of clips: 50 ms of noise, one of a hundred."""

    def __init__(self):
        noise = np.random.default_rng(0).standard_normal((100, 800))
        self.waves = noise.astype(np.float32) * 0.1

    def __getitem__(self, n):
        return self.waves[n % 100], 16000


def ticks(folder, n, ontology):
    """Shards of `n` clips of 50 ms, each with one or two labels."""
    labels = np.random.default_rng(0).integers(0, len(ontology), (n, 2))
    mids = [dict.fromkeys(ontology.mids[c] for c in row) for row in labels]
    table = clip_table([f"tick{i:07d}" for i in range(n)], [str(i) for i in range(n)], mids)
    pack(table, folder, audio=Ticks(), progress=False)


def memory_mb():
    """Memory that this process holds."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 1e6


def fetches(folder):
    """In a process of its own: the numbers of one size, as json."""
    ontology = Ontology.audioset()
    base = memory_mb()
    begun = time.perf_counter()
    table = read_clips("shards", folder, ontology)
    clips = Clips(table, ontology, 16000, 0.05, cache=False)
    opened = time.perf_counter() - begun

    begun = time.perf_counter()
    order = epoch_order(clips.targets, 0, 0, True, min(100_000, len(clips) // 2))
    drawn = time.perf_counter() - begun
    held = memory_mb() - base

    seconds = []
    begun = time.process_time(), time.perf_counter()
    for _ in islice(batches(clips, 16, np.resize(order, 16 * 300)), 300):
        now = time.process_time(), time.perf_counter()
        seconds.append([b - a for a, b in zip(begun, now)])
        begun = time.process_time(), time.perf_counter()
    cpu, clock = np.median(seconds[5:], axis=0) * 1e3
    found = {"fetch": cpu, "clock": clock, "opened": opened, "drawn": drawn, "base": base, "held": held}
    print(json.dumps(found))


def growth(folder, args, ontology):
    """How the time of a batch and the memory grow with the number of clips."""
    print("\ngrowth: clips of 50 ms, batches of 16 from anywhere in a balanced epoch;")
    print("a batch in ms of processor time, and of the clock")
    print(f"  {'clips':>9s}       batch    clock  table opened  epoch drawn  memory over  bytes a clip")
    for n in args.sizes:
        begun = time.perf_counter()
        ticks(folder / str(n), n, ontology)
        packing = n / (time.perf_counter() - begun)
        again = [sys.executable, __file__, "--fetches", folder / str(n)]
        found = json.loads(subprocess.run(again, capture_output=True, text=True, check=True).stdout)
        print(
            f"  {n:9,d}{found['fetch']:12.2f}{found['clock']:9.2f}{found['opened']:12.2f} s"
            f"{found['drawn']:11.3f} s{found['held']:10.0f} MB{found['held'] / n * 1e6:14.0f}"
            f"   (packed at {packing:.0f} clips/s; the libraries take {found['base']:.0f} MB)",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--encoders", nargs="+", default=["mn:tiny", "psla:tiny", "mn:base"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000])
    parts = ("rates", "loader", "growth")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--fetches", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fetches:
        return fetches(args.fetches)
    logging.getLogger("spa_lib").setLevel("ERROR")
    ontology = Ontology.audioset()
    for part in args.only:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            if part == "growth":
                growth(folder, args, ontology)
            elif part == "rates":
                rates(folder, corpus(folder, args.clips, ontology), args, ontology)
            else:
                loader(folder, corpus(folder, args.clips, ontology), args, ontology)


if __name__ == "__main__":
    main()
