"""What the SPA branch costs: the share of a training step that p_t and L_SPA take.

Three things are timed in one run: the whole step without SPA, the whole step with SPA, and the SPA branch
alone (E_t = p_t(T_hat), Eq. 4, their backward pass). The share is the time of the branch alone over that
of the step without it. It is far smaller than the noise of a whole step, so the difference of two steps
would not show it.

    python tests/bench/step.py [--encoder ast] [--size base] [--batch 4] [--seconds 10] [--rounds 3]
"""
import argparse
import statistics
import time

import torch

from spa_lib.encoders import create_encoder
from spa_lib.losses import spa_loss, total_loss
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.text import label_features


def timed(run, rounds):
    """Median seconds of `run()` over `rounds`, after one round that is not counted."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="ast")
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    ontology = Ontology.audioset()
    encoder = create_encoder(args.encoder, size=args.size, clip_seconds=args.seconds)
    model = SPAModel(encoder, label_features(ontology, "concat")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    wave = 0.1 * torch.randn(args.batch, int(args.seconds * encoder.sample_rate), generator=generator)
    y = (torch.rand(args.batch, len(ontology), generator=generator) < 0.005).float()
    y[:, 0] = 1
    distances = torch.as_tensor(ontology.distances)

    def step(alpha):
        logits, E_a = model(wave, encoder.sample_rate)
        E_t = model.label_embeddings() if alpha else None
        loss, _ = total_loss(logits, E_a, E_t, y, distances, alpha)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    E_a = torch.randn(args.batch, model.p_a.out_features, generator=generator, requires_grad=True)

    def branch():
        spa_loss(E_a, model.label_embeddings(), y).backward()

    without = timed(lambda: step(0.0), args.rounds)
    with_spa = timed(lambda: step(0.1), args.rounds)
    alone = timed(branch, 50)
    batch = f"batch {args.batch} of {args.seconds:g} s"
    threads = f"{torch.get_num_threads()} thread(s)"
    print(f"training step, {args.encoder} {args.size}, {batch}, {len(ontology)} classes, {threads}")
    print(f"  without SPA        {without:8.3f} s   ({args.batch / without:.2f} clips/s)")
    print(f"  with SPA           {with_spa:8.3f} s   (median of {args.rounds})")
    print(f"  SPA branch alone   {alone:8.5f} s")
    print(f"  share of the step  {100 * alone / without:8.3f} %  (target: under 2 %)")


if __name__ == "__main__":
    main()
