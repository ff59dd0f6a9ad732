"""What OpenMP's threads cost where the processor is idle, and where a neighbour is busy.

Threads that wait spin: they keep a core that another program needs. Each row is a process of its own that
takes training steps of the demonstration (AST tiny, 16 clips of 3 s) under other settings of OpenMP, alone
and beside a process that computes all the time. The settings take turns, and the fastest and the median step
stand in the table: on a machine that others use too, the fastest step is the one that nobody disturbed.

    python tests/bench/threads.py [--steps 40] [--rounds 3] [--kernel]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

SETTINGS = {
    "torch's own": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OURS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

CHILD = """
import json, resource, time
import torch
from spa_lib.encoders import create_encoder
from spa_lib.losses import total_loss
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.text import label_features

torch.manual_seed(0)
ontology = Ontology.audioset()
encoder = create_encoder("ast", size="tiny", clip_seconds=3.0)
model = SPAModel(encoder, label_features(ontology, "concat")).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
wave = 0.1*torch.randn(16, 3*encoder.sample_rate)
y = (torch.rand(16, len(ontology)) < 0.01).float()
distances = torch.as_tensor(ontology.distances)

def step():
    logits, E_a = model(wave, encoder.sample_rate)
    loss, _ = total_loss(logits, E_a, model.label_embeddings(), y, distances, 0.03)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()

step()
seconds = []
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(STEPS):
    begun = time.perf_counter()
    loss = step()
    seconds.append(time.perf_counter() - begun)
after = resource.getrusage(resource.RUSAGE_SELF)
used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps(dict(seconds=seconds, used=used, loss=loss, threads=torch.get_num_threads())))
"""


def in_process(code: str, environment: dict) -> str:
    """What the code prints, run by Python."""
    return subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True,
                          text=True).stdout


def in_kernel(code: str, environment: dict) -> str:
    """What the code prints, run by the kernel of a notebook."""
    from jupyter_client.manager import start_new_kernel
    printed = []
    manager, client = start_new_kernel(env=environment)
    try:
        hook = lambda message: printed.append(message["content"])
        client.execute_interactive(code, timeout=600, output_hook=hook)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(content["text"] for content in printed if content.get("name") == "stdout")


def measured(setting: dict, steps: int, kernel: bool) -> dict:
    """Seconds of each step, and the processor's seconds of all of them."""
    environment = {k: v for k, v in os.environ.items() if k not in OURS} | setting
    code = CHILD.replace("STEPS", str(steps))
    printed = (in_kernel if kernel else in_process)(code, environment)
    return json.loads(printed.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernel", action="store_true", help="in the kernel of a notebook")
    parser.add_argument("--only", nargs="*", default=list(SETTINGS))
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
          f"{args.steps} steps; seconds a step")
    for neighbours in (0, 1):
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        try:
            found = {name: [] for name in args.only}
            for _ in range(args.rounds):
                for name in args.only:
                    found[name].append(measured(SETTINGS[name], args.steps, args.kernel))
        finally:
            for process in beside:
                process.kill()
                process.wait()
        for name, rounds in found.items():
            seconds = [s for one in rounds for s in one["seconds"]]
            used = sum(one["used"] for one in rounds)/len(seconds)
            figures = (f"fastest {min(seconds):.3f}  median {statistics.median(seconds):.3f}  "
                       f"processor {used:.3f}  loss {rounds[0]['loss']!r}")
            print(f"{neighbours} busy  {name:12} {figures}", flush=True)


if __name__ == "__main__":
    main()
