"""What an encoder costs: clips per second of its front end, of the forward pass and of a training step.

    python tests/bench/encoders.py [--encoders psla panns ast passt htsat mn] [--size base]
                                   [--batch 4] [--seconds 10] [--rounds 3]

Forward is eval mode without gradients, from the waveform to the official head's 527 logits; front/forward
is the share of the front end in it. A training step is forward, BCE, backward and AdamW in train mode, the
recipe's augmentation off; `passt + patchout` is that step with PaSST's patchout on. Weights are random, in
the memory layout of spa_lib.train. `transformers` is ASTFeatureExtractor and ASTForAudioClassification in
AST's shape. The parts of one encoder are timed in turn, round by round, after a round that is not counted;
the median counts (front ends: five times the rounds).

Operations (GFLOP a clip) are those of matrix products and convolutions, two a multiply-add, counted by
torch on one clip with attention as two matrix products, since the counter takes the CPU's fused attention
for nothing. FFTs and elementwise work are not in it. A training step counts the network three times and the
front end once: what the counter itself gives for the backward pass of grouped convolutions is too much. The
share of matmul is these operations a second over the rate of a 2048^3 float32 product in the same run.
`cpu` is processor time over clock time and threads, the least of the parts: well below 1 another process
was at work, and the times are too long.
"""
import argparse
import statistics
import time
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from spa_lib.encoders import Augment, create_encoder, encoder_names
from spa_lib.encoders.ast import ast_frames
from spa_lib.encoders.passt import scaled_patchout

HEADINGS = (
    "front end", "forward", "training", "front/forward", "GFLOP forward", "training", "of matmul: forward",
    "training", "cpu",
)


class Tagger:
    """A model, its front end (waveforms to log-mel), its logits (of waveforms), and which parts are timed."""

    def __init__(self, label, model, front_end, logits, augment=None, parts=("front", "forward", "train")):
        self.label = label
        self.model = model
        self.front_end = front_end
        self.logits = logits
        self.augment = augment
        self.parts = parts
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def mode(self, training):
        self.model.train(training).augment = self.augment

    @torch.no_grad()
    def front(self, wave, y):
        self.front_end(wave)

    @torch.no_grad()
    def forward(self, wave, y):
        self.mode(training=False)
        self.logits(wave)

    def train(self, wave, y):
        self.mode(training=True)
        loss = binary_cross_entropy_with_logits(self.logits(wave), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def operations(self, wave):
        """Part -> billions of operations."""
        counts = []
        for call, training in ((self.front_end, False), (self.logits, False), (self.logits, True)):
            self.mode(training)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                call(wave)
            counts.append(counter.get_total_flops()/1e9)
        front, forward, forward_in_training = counts
        return {"forward": forward, "train": front + 3*(forward_in_training - front)}


def with_patchout(model):
    """The training step of `model`, a PaSST, with the patchout of its recipe and nothing else of it."""
    recipe = scaled_patchout(model.recipe, model.grid)
    augment = Augment(patchout_freq=recipe["patchout_freq"], patchout_time=recipe["patchout_time"])
    return Tagger("passt + patchout", model, model.front_end, model, augment, parts=("train",))


def their_ast(ours, seconds):
    """transformers' AST in the shape of `ours`, behind its own extractor."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, __version__

    blocks, stride, frames = ours.v.blocks, ours.v.patch_embed.proj.stride[0], ast_frames(seconds)
    extractor = ASTFeatureExtractor(max_length=frames)
    model = ASTForAudioClassification(ASTConfig(
        hidden_size=ours.embed_dim, intermediate_size=4*ours.embed_dim, num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.heads, frequency_stride=stride, time_stride=stride,
        max_length=frames, num_labels=ours.n_classes, layer_norm_eps=1e-6))

    def front_end(wave):
        clips = list(wave.numpy())
        return extractor(clips, sampling_rate=ours.sample_rate, return_tensors="pt")["input_values"]

    return Tagger(f"transformers {__version__}", model, front_end, lambda wave: model(front_end(wave)).logits)


def in_turn(calls, rounds):
    """Name -> (median seconds, processor time over clock time) of calls that take turns.

    The first round is not counted."""
    taken = {name: [] for name in calls}
    for counted in (False, *[True]*rounds):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            if counted:
                taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
    found = {}
    for name, times in taken.items():
        clock, processor = zip(*times)
        found[name] = (statistics.median(clock), sum(processor)/sum(clock))
    return found


def matmul_rate(n=2048, rounds=20):
    """Billions of operations a second in a product of two float32 matrices, the best of `rounds`."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    seconds, _ = min(in_turn({i: lambda: a @ b for i in range(rounds)}, 1).values())
    return 2*n**3/seconds/1e9


def measure(taggers, wave, rounds):
    """(label, part) -> (median seconds, processor time over clock time)."""
    y = (torch.rand(len(wave), 527, generator=torch.Generator().manual_seed(1)) < 0.005).float()
    calls = {(t.label, part): partial(getattr(t, part), wave, y) for t in taggers for part in t.parts}
    fronts = {key: calls.pop(key) for key in list(calls) if key[1] == "front"}
    return in_turn(fronts, 5*rounds) | in_turn(calls, rounds)


def line(t, taken, wave, rate):
    """The table's line of one tagger."""
    seconds = {part: taken[t.label, part][0] for part in t.parts}
    operations = t.operations(wave[:1])
    network = ("forward", "train")

    def cells(text, parts):
        return [text(part) if part in seconds else "" for part in parts]

    row = cells(lambda part: f"{len(wave)/seconds[part]:.3f}", ("front", *network))
    row.append(f"{seconds['front']/seconds['forward']:.1%}" if "front" in seconds else "")
    row += cells(lambda part: f"{operations[part]:.2f}", network)
    row += cells(lambda part: f"{operations[part]*len(wave)/seconds[part]/rate:.0%}", network)
    row.append(f"{min(taken[t.label, part][1] for part in t.parts)/torch.get_num_threads():.2f}")
    aligned = [f"{cell:>{len(heading)}}" for cell, heading in zip(row, HEADINGS)]
    return "  ".join([f"{t.label:20}", *aligned])


def bench(name, args, rate):
    """Measure an encoder and what is timed in turn with it, and print."""
    model = create_encoder(name, size=args.size, clip_seconds=args.seconds)
    model = model.to(memory_format=torch.channels_last)
    samples = int(args.seconds*model.sample_rate)
    wave = 0.1*torch.randn(args.batch, samples, generator=torch.Generator().manual_seed(0))
    taggers = [Tagger(name, model, model.front_end, model)]
    if name == "ast":
        taggers.append(their_ast(model, args.seconds))
    if name == "passt":
        taggers.append(with_patchout(model))
    taken = measure(taggers, wave, args.rounds)
    for tagger in taggers:
        print(line(tagger, taken, wave, rate), flush=True)
    if name == "ast":
        ours, theirs = taggers
        factors = {part: taken[theirs.label, part][0]/taken[name, part][0] for part in ours.parts}
        times = ", ".join(f"{part} {factor:.2f}" for part, factor in factors.items())
        print(f"{'':20}  ast is faster than {theirs.label} by the factor: {times}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = encoder_names("waveform")
    parser.add_argument("--encoders", nargs="+", default=names, choices=names)
    for option, default in dict(size="base", batch=4, seconds=10.0, rounds=3).items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    args = parser.parse_args()

    capability = torch.backends.cpu.get_cpu_capability()
    where = f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, {capability}"
    rate = matmul_rate()
    print(f"clips per second, encoders of size {args.size}, batch {args.batch} of {args.seconds:g} s, "
          f"float32, {where}; median of {args.rounds}")
    print("  ".join([" "*20, *HEADINGS]), flush=True)
    for name in args.encoders:
        bench(name, args, rate)
    print(f"matmul, 2048^3 float32, {where}, best of 20: {rate:.1f} GFLOP/s, and {matmul_rate():.1f} at the "
          f"end")


if __name__ == "__main__":
    main()
