"""Several processes on a CPU: the loss, the gradients, the sampler, the scores and the log of one."""
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from spa_lib.data import batches
from spa_lib.devices import Processes, _Normalise, agree, average_gradients, enter, gather, join, share_batch_norm
from spa_lib.model import BRANCHES
from spa_lib.recipe import epoch_order
from spa_lib.runs import make_config, read_run, run_name
from spa_lib.train import Training, load_data, make_encoder, make_model, train, train_all, training_step

pytest.importorskip("accelerate")
SMALL = make_config("smoke", epochs=2, n_train=22, n_eval=17, batch_size=7, mixup_rate=0.0, bootstrap=20)
STEPS = {branch: (replace(SMALL, text_branch=branch), 7) for branch in BRANCHES}
STEPS |= {"without": (replace(SMALL, alpha=0.0), 7), "mixup": (replace(SMALL, mixup_rate=0.7), 7), "mixup of waveforms only": (replace(SMALL, mixup_rate=0.7, mixup_labels=False), 6),
          "one clip": (SMALL, 1), "two clips": (replace(SMALL, mixup_rate=1.0), 2), "clipped": (replace(SMALL, clip_gradient=0.01), 7),
          "batch norm, mn": (replace(SMALL, encoder="mn", mixup_rate=0.5), 7), "batch norm, panns": (replace(SMALL, encoder="panns"), 5), "batch norm, one clip": (replace(SMALL, encoder="panns"), 1)}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def become(rank, count, port):
    """What a launcher tells a process."""
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    return enter("cpu")


def spawn(work, count, *args):
    torch.multiprocessing.spawn(work, (count, free_port(), *args), nprocs=count)


def one_step(name, group):
    """Loss and its parts, gradients, weights and gauges after one step."""
    cfg, n = STEPS[name]
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    t = Training(cfg, make_model(cfg, encoder, data.ontology), data, "nowhere", progress=False, group=group)
    t.model.train()
    (batch,) = batches(data.train, n, order=range(n), part=group.rows)
    parts = training_step(t, batch, 0, 4, n)
    return dict(parts=parts, grads={k: p.grad for k, p in t.model.named_parameters() if p.grad is not None}, state=t.model.state_dict(), audio=t.audio.read())


def in_two(rank, count, port, folder):
    group = become(rank, count, port)
    found = {name: one_step(name, group) for name in STEPS}
    data = load_data(SMALL, make_encoder(SMALL).sample_rate)
    order = epoch_order(data.train.targets, 1, 0)
    ids = [b.clip_ids for b in batches(data.train, 7, order=order, part=group.rows)]
    torch.save(dict(steps=found, ids=ids, order=[data.train.clip_ids[i] for i in order]), folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    spawn(in_two, 2, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", STEPS)
def test_one_step_of_two_processes_is_that_of_one(two, name):
    alone = one_step(name, Processes())
    for found in (two[0]["steps"][name], two[1]["steps"][name]):
        for part, value in alone["parts"].items():
            assert found["parts"][part] == pytest.approx(value, abs=1e-6, nan_ok=True), part
        assert found["grads"].keys() == alone["grads"].keys()
        for k, g in alone["grads"].items():
            assert (found["grads"][k] - g).abs().max() <= 1e-6 * max(1, g.abs().max()), k
        for k in found["audio"]:
            assert found["audio"][k] == pytest.approx(alone["audio"][k], abs=2e-6, nan_ok=True), k
        for k, v in alone["state"].items():
            if "running" in k or "tracked" in k:
                assert torch.allclose(found["state"][k], v, atol=1e-6), k
    assert all(torch.equal(two[0]["steps"][name]["state"][k], two[1]["steps"][name]["state"][k]) for k in alone["state"]), "the processes stay alike"


def test_the_sampler_is_that_of_one(two):
    """The parts of each batch, one after the other, are the batch; the last has one clip, which both take."""
    order = two[0]["order"]
    assert len(order) == 22 and len(two[0]["ids"]) == len(two[1]["ids"]) == 4
    for step in range(4):
        a, b = (r["ids"][step] for r in two)
        want = tuple(order[step * 7:step * 7 + 7])
        assert (a + b == want and len(a) + len(b) == 7) if step < 3 else a == b == want


@pytest.mark.parametrize("count", range(1, 6))
def test_parts_are_the_whole(count):
    for n in range(12):
        parts = [range(n)[Processes(r, count).part(n)] for r in range(count)]
        assert [i for p in parts for i in p] == list(range(n)) and max(map(len, parts)) - min(map(len, parts)) <= 1
        assert all(len(range(n)[Processes(r, count).rows(n)]) for r in range(count)) or n == 0
