"""What shards cost and give: packing, reading byte ranges, the loader against the encoders, and growth with the data.

    python tests/bench/shards.py [--clips 48] [--rounds 3] [--workers 2] [--encoders mn:tiny psla:tiny mn:base] [--sizes 1000 10000 100000] [--only rates loader growth]

Rates are clips of 10 s at 32 kHz, parts timed in turn, round by round, after one that is not counted; the median counts.
Loose files and shards hold the same clips in the same run. Each rate is given twice: by the clock, and a second of
processor time, of this process and its workers. On a machine with nothing else to do the two agree (times the number of
processes); where others are at work, the second is what a free core does.
Growth: synthetic shards of clips of 50 ms; for each size a fresh process opens the table, then fetches 300 batches of 16
at random places, as training does. Times of whole-table work (once a run, once an epoch) stand beside.
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
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from spa_lib.data import Clips, batches, load_waveform, pack, read_clips, synth_clip
from spa_lib.encoders import create_encoder
from spa_lib.ontology import Ontology
from spa_lib.runs import epoch_order

RATE, SECONDS = 32000, 10.0


def processor():
    """Seconds of processor time, ended workers included."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(parts, rounds):
    """Name -> clips a second, by the clock and of processor time, of `parts` (name -> function that returns clips)."""
    seen = {name: [] for name in parts}
    for r in range(rounds + 1):
        for name, run in parts.items():
            wall, cpu = time.perf_counter(), processor()
            n = run()
            wall, cpu = time.perf_counter() - wall, processor() - cpu
            if r:
                seen[name].append((n / wall, n / cpu))
    return {name: tuple(np.median(s, axis=0)) for name, s in seen.items()}


def corpus(folder, n, ontology):
    """`n` loose clips of 10 s: eight synthesised ones, each turned round by another amount."""
    made = [synth_clip("train", i, SECONDS, RATE)[0] for i in range(8)]
    rows = []
    for i in range(n):
        path = folder / f"{i}.wav"
        soundfile.write(path, np.roll(made[i % 8], 1000 * i), RATE)
        rows.append(dict(clip_id=str(i), path=str(path), start_seconds=np.nan, end_seconds=np.nan, mids=(ontology.mids[i % 9],), split="train", fold=-1, recording=str(i)))
    return pd.DataFrame(rows)


def as_flac(table, folder):
    """The same clips as loose FLAC files."""
    folder.mkdir()
    for path in table.path:
        soundfile.write(folder / f"{Path(path).stem}.flac", *soundfile.read(path, dtype="int16"))
    return table.assign(path=[str(folder / f"{Path(p).stem}.flac") for p in table.path])


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
    n, flac = len(table), as_flac(table, folder / "loose")
    where = {codec: folder / codec for codec in ("flac", "wav", "vorbis", "opus")}
    print(f"\npacking {n} clips of {SECONDS:g} s (loose: {sum(os.path.getsize(p) for p in table.path) / 1e6:.0f} MB of 16-bit WAV)\n{'clips a second':>42s}{'a processor second':>22s}")

    def packing(label, clips, to, **options):
        wall, cpu = time.perf_counter(), processor()
        index = pack(clips, to, clips_per_shard=12, progress=False, **options)
        print(f"  {label:26s}{n / (time.perf_counter() - wall):14.1f}{n / (processor() - cpu):22.1f}{index['bytes'] / 1e6:10.1f} MB")

    for codec, to in where.items():
        packing(codec, table, to, codec=codec, sample_rate=48000 if codec == "opus" else None)
    packing("loose FLAC as is", flac, folder / "as is", codec="as is")
    packing(f"flac, {args.workers} processes, from start", table, folder / "two", workers=args.workers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Parts, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    order = np.random.default_rng(0).permutation(n)

    def read(paths):
        return lambda: len([load_waveform(paths[i], RATE) for i in order])

    parts = {"loose wav": read(table.path.tolist()), "loose flac": read(flac.path.tolist())}
    parts |= {f"shards {c}": read(read_clips("shards", to, ontology).path.tolist()) for c, to in where.items()}
    address = f"http://127.0.0.1:{server.server_port}/flac"  # the server's own time counts too
    parts["shards flac, over http"] = read(read_clips("shards", address, ontology).path.tolist())
    print(f"\nreading, one process, {n} clips a round, {args.rounds} rounds\n{'clips a second':>50s}{'a processor second':>22s}")
    for name, (rate, cpu) in timed(parts, args.rounds).items():
        print(f"  {name:34s}{rate:14.1f}{cpu:22.1f}")
    server.shutdown()
    server.server_close()


def loader(folder, table, args, ontology):
    print(f"\nthe loader, from shards at the encoder's rate, against encoders on one thread; clips a second of processor time\n"
          f"  {'':12s}forward  training   loader: flac     wav   {args.workers} free cores of loader over one of forward: flac    wav   over training: flac    wav")
    torch.set_num_threads(1)
    for label in args.encoders:
        name, size = label.split(":")
        encoder = create_encoder(name, size=size, clip_seconds=SECONDS).to(memory_format=torch.channels_last)
        sides = {}
        for codec in ("flac", "wav"):
            to = folder / f"{codec}{encoder.sample_rate}"
            pack(table, to, codec=codec, sample_rate=encoder.sample_rate, clips_per_shard=12, progress=False)
            sides[codec] = Clips(pd.concat([read_clips("shards", to, ontology)] * 12, ignore_index=True), ontology, encoder.sample_rate, SECONDS, cache=False)
        wave = torch.stack([sides["wav"][i][0] for i in range(4)])

        def forward():
            with torch.no_grad():
                encoder.eval()(wave, encoder.sample_rate)
            return 4

        def training():
            encoder.train()(wave, encoder.sample_rate).sum().backward()
            return 4

        def load(codec):
            return sum(len(b.clip_ids) for b in batches(sides[codec], 8, workers=args.workers))

        one = timed(dict(forward=forward, training=training), 3 * args.rounds)
        fed = timed({codec: partial(load, codec) for codec in sides}, max(1, args.rounds - 1))
        f, t, flac, wav = one["forward"][1], one["training"][1], fed["flac"][1], fed["wav"][1]
        n = args.workers
        print(f"  {label:12s}{f:7.1f}{t:10.1f}{flac:15.1f}{wav:8.1f}{n * flac / f:50.1f}{n * wav / f:7.1f}{n * flac / t:22.1f}{n * wav / t:7.1f}", flush=True)


class Ticks:
    """The sound of any number of clips: 50 ms of noise, one of a hundred."""

    def __init__(self):
        self.made = np.random.default_rng(0).standard_normal((100, 800)).astype(np.float32) * 0.1

    def __getitem__(self, n):
        return self.made[n % 100], 16000


def ticks(folder, n, ontology):
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(ontology), (n, 2))
    table = pd.DataFrame(dict(clip_id=[f"tick{i:07d}" for i in range(n)], path=[str(i) for i in range(n)], start_seconds=np.nan, end_seconds=np.nan,
                              mids=[tuple(dict.fromkeys(ontology.mids[c] for c in row)) for row in label], split="train", fold=-1, recording=[str(i) for i in range(n)]))
    pack(table, folder, codec="wav", audio=Ticks(), progress=False)


def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 1e6


def fetches(folder):
    """In a process of its own: the numbers of one size, as json."""
    ontology = Ontology.audioset()
    before, begun = rss(), time.perf_counter()
    table = read_clips("shards", folder, ontology)
    clips = Clips(table, ontology, 16000, 0.05, cache=False)
    opened, begun = time.perf_counter() - begun, time.perf_counter()
    order = epoch_order(clips.targets, 0, 0, True, min(100_000, len(clips) // 2))
    drawn, after = time.perf_counter() - begun, rss()
    seconds, begun = [], (time.process_time(), time.perf_counter())
    for _, _batch in zip(range(300), batches(clips, 16, np.resize(order, 16 * 300))):
        now = time.process_time(), time.perf_counter()
        seconds.append([b - a for a, b in zip(begun, now)])
        begun = time.process_time(), time.perf_counter()
    cpu, wall = np.median(seconds[5:], axis=0) * 1e3
    print(json.dumps(dict(fetch=cpu, wall=wall, opened=opened, drawn=drawn, base=before, held=after - before)))


def growth(folder, args, ontology):
    print(f"\ngrowth: clips of 50 ms, batches of 16 at random places of a balanced epoch; a batch in ms of processor time, and of the clock\n  {'clips':>9s}       batch    clock  table opened  epoch drawn  memory over {'':1s}bytes a clip")
    for n in args.sizes:
        begun = time.perf_counter()
        ticks(folder / str(n), n, ontology)
        packing = n / (time.perf_counter() - begun)
        got = json.loads(subprocess.run([sys.executable, __file__, "--fetches", folder / str(n)], capture_output=True, text=True, check=True).stdout)
        print(f"  {n:9,d}{got['fetch']:12.2f}{got['wall']:9.2f}{got['opened']:12.2f} s{got['drawn']:11.3f} s{got['held']:10.0f} MB{got['held'] / n * 1e6:14.0f}"
              f"   (packed at {packing:.0f} clips/s; the libraries take {got['base']:.0f} MB)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--encoders", nargs="+", default=["mn:tiny", "psla:tiny", "mn:base"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--only", nargs="+", choices=("rates", "loader", "growth"), default=("rates", "loader", "growth"))
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
            else:
                dict(rates=rates, loader=loader)[part](folder, corpus(folder, args.clips, ontology), args, ontology)


if __name__ == "__main__":
    main()
