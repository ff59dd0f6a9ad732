"""Several processes on a CPU: the loss, the gradients, the sampler, the scores and the log of one."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from unittest import mock

import numpy as np
import pytest
import torch

from spa_lib import train as train_module
from spa_lib.beyond import BRANCHES
from spa_lib.data import load_batches
from spa_lib.runs import (
    Processes,
    agree,
    average_gradients,
    epoch_order,
    gather,
    init_processes,
    join,
    launch,
    make_config,
    read_run,
    run_name,
)
from spa_lib.train import load_data, make_encoder, make_model, make_trainer, train, train_all

pytest.importorskip("accelerate")
SMALL = make_config(
    "smoke",
    epochs=2,
    n_train=22,
    n_eval=17,
    batch_size=7,
    clip_seconds=1.0,
    dim=16,
    mixup_rate=0.0,
    bootstrap=5,
)
STEPS = {branch: (replace(SMALL, text_branch=branch), 7) for branch in BRANCHES}
STEPS |= {
    "without": (replace(SMALL, alpha=0.0), 7),
    "mixup": (replace(SMALL, mixup_rate=0.7), 7),
    "mixup of waveforms only": (replace(SMALL, mixup_rate=0.7, mixup_labels=False), 6),
    "one clip": (SMALL, 1),
    "two clips": (replace(SMALL, mixup_rate=1.0), 2),
    "clipped": (replace(SMALL, clip_gradient=0.01), 7),
    "batch norm, mn": (replace(SMALL, encoder="mn", mixup_rate=0.5), 7),
    "batch norm, panns": (replace(SMALL, encoder="panns"), 5),
    "batch norm, one clip": (replace(SMALL, encoder="panns"), 1),
}
BEGUN = replace(SMALL, mixup_rate=0.5, seed=1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def become(rank, count, port):
    """What a launcher tells a process."""
    os.environ |= dict(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
    )
    torch.set_num_threads(1)
    return init_processes("cpu")


def spawn(work, count, *args):
    torch.multiprocessing.spawn(work, (count, free_port(), *args), nprocs=count)


def one_step(name, group):
    """Loss and its parts, gradients, weights and statistics after one step. With batch norm in float64, and
    without dropout: in float32 torch's own batch norm on a CPU is good to 1e-4 in the gradient of the
    first layer, and ours to 1e-6."""
    cfg, n = STEPS[name]
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    trainer = make_trainer(cfg, model, data, "nowhere", progress=False, processes=group)
    model.train()
    (batch,) = load_batches(data.train, [range(n)[group.rows(n)]])
    if "norm" in name:
        model.double()
        batch = batch._replace(wave=batch.wave.double())
    with mock.patch("torch.nn.functional.dropout", lambda x, *args: x):
        parts = trainer.training_step(batch, 0, 4, n)
    grads = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return dict(parts=parts, grads=grads, state=model.state_dict(), audio=trainer.task.audio.read())


def begin(cfg, folder, group, stop_at=5):
    """Train, and stop between two steps in the middle of the second epoch, as a kill would."""
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    trainer = make_trainer(cfg, model, data, folder / run_name(cfg), progress=False, processes=group)
    trainer.save_seconds, steps, step = -1.0, [], trainer.training_step

    def stopping(*args):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(1)
        return step(*args)

    with mock.patch.object(trainer, "training_step", stopping), pytest.raises(KeyboardInterrupt):
        trainer.fit()


def in_two(rank, count, port, folder):
    group = become(rank, count, port)
    found = {name: one_step(name, group) for name in STEPS}
    data = load_data(SMALL, make_encoder(SMALL).sample_rate)
    order = epoch_order(data.train.targets, 1, 0)
    whole = [order[k : k + 7] for k in range(0, len(order), 7)]
    ids = [b.clip_ids for b in load_batches(data.train, [rows[group.rows(len(rows))] for rows in whole])]
    begin(BEGUN, folder, group)
    torch.save(
        dict(steps=found, ids=ids, order=[data.train.clip_ids[i] for i in order]), folder / f"{rank}.pt"
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.getbasetemp() / "two"
    folder.mkdir()
    spawn(in_two, 2, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", STEPS)
def test_one_step_of_two_processes_is_that_of_one(two, name):
    alone = one_step(name, Processes())
    for found in (two[0]["steps"][name], two[1]["steps"][name]):
        for part, value in alone["parts"].items():
            assert found["parts"][part] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), part
        assert found["grads"].keys() == alone["grads"].keys()
        for k, g in alone["grads"].items():
            assert (found["grads"][k] - g).abs().max() <= 1e-6 * max(1, g.abs().max()), k
        for k in found["audio"]:
            assert found["audio"][k] == pytest.approx(alone["audio"][k], abs=2e-6, nan_ok=True), k
        for k, v in alone["state"].items():
            if "running" in k or "tracked" in k:
                assert torch.allclose(found["state"][k], v, atol=1e-6), k
    assert all(
        torch.equal(two[0]["steps"][name]["state"][k], two[1]["steps"][name]["state"][k])
        for k in alone["state"]
    ), "the processes stay alike"


def test_the_sampler_is_that_of_one(two):
    """The parts of each batch, one after the other, are the batch; the last has one clip, which both take."""
    order = two[0]["order"]
    assert len(order) == 22 and len(two[0]["ids"]) == len(two[1]["ids"]) == 4
    for step in range(4):
        a, b = (r["ids"][step] for r in two)
        want = tuple(order[step * 7 : step * 7 + 7])
        assert (a + b == want and len(a) + len(b) == 7) if step < 3 else a == b == want


@pytest.mark.parametrize("count", range(1, 6))
def test_parts_are_the_whole(count):
    for n in range(12):
        parts = [range(n)[Processes(r, count).part(n)] for r in range(count)]
        assert [i for p in parts for i in p] == list(range(n)) and max(map(len, parts)) - min(
            map(len, parts)
        ) <= 1
        assert all(len(range(n)[Processes(r, count).rows(n)]) for r in range(count)) or n == 0


def alike(a, b, atol=2e-5):
    """Two runs with the same numbers, but for the rounding of several steps."""
    assert list(a.clip_ids) == list(b.clip_ids) and np.abs(a.scores - b.scores).max() <= atol
    numbers = [c for c in a.log.columns if c != "seconds"]
    assert list(a.log.columns) == list(b.log.columns) and np.allclose(
        a.log[numbers], b.log[numbers], atol=atol, equal_nan=True
    )
    assert a.metrics["clips_hash"] == b.metrics["clips_hash"] and a.metrics["mAP"]["value"] == pytest.approx(
        b.metrics["mAP"]["value"], abs=1e-4
    )


def test_begun_on_two_it_goes_on_on_one(two, tmp_path_factory, tmp_path):
    folder = tmp_path_factory.getbasetemp() / "two"
    state = torch.load(folder / run_name(BEGUN) / "checkpoint" / "last.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 1)
    alike(train(BEGUN, folder, progress=False), train(BEGUN, tmp_path, progress=False))


def test_a_run_on_two_processes_is_the_run_on_one(tmp_path):
    """As the notebook starts it. 17 evaluation clips and 22 training clips in batches of 7: nothing divides
    by two."""
    configs = [replace(SMALL, mixup_rate=0.5, eval_every=1), replace(SMALL, freeze=True)]
    shared = train_all(configs, tmp_path / "two", processes=2)
    for a, b in zip(shared, train_all(configs, tmp_path / "one")):
        alike(a, b)
        files = {str(p.relative_to(a.folder)) for p in a.folder.rglob("*") if p.is_file()}
        assert (
            files - {".lock"}
            == {"config.json", "log.csv", "metrics.json", "scores.npz", "model.json", "model.safetensors",
                "checkpoint/last.pt"}
            and len(np.unique(a.clip_ids)) == 17
        )


def python(script, *args, **env):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | {k: str(v) for k, v in env.items()},
    )


def test_from_a_notebook(tmp_path):
    """accelerate's notebook_launcher, in an interpreter that has touched no device."""
    script = """
import json, sys
from accelerate import notebook_launcher
from spa_lib.runs import RunConfig
from spa_lib.train import train
cfg = RunConfig(**json.loads(sys.argv[1]))
notebook_launcher(train, (cfg, sys.argv[2], False), num_processes=2, use_port=sys.argv[3])
"""
    cfg = replace(SMALL, epochs=1)
    p = python(script, json.dumps(asdict(cfg)), tmp_path, free_port())
    out, err = p.communicate(timeout=120)
    assert p.returncode == 0, err
    assert read_run(tmp_path / run_name(cfg)).scores.shape[0] == 17


def in_three(rank, count, port):
    group = become(rank, count, port)
    for n in (0, 1, 2, 5, 7):
        rows = torch.arange(float(2 * n)).view(n, 2)
        assert torch.equal(gather(group, rows[group.part(n)], n), rows)
    x = torch.arange(10.0).view(5, 2).requires_grad_()
    with group.sharing(5):
        (join(group, x[group.part(5)]) * torch.arange(5.0)[:, None]).sum().backward()
    average_gradients(group, [torch.nn.Parameter(torch.zeros(1)), x])
    assert torch.allclose(x.grad, torch.arange(5.0)[:, None].expand(5, 2))
    agree(group, ("a", 1), "nothing")
    with pytest.raises(ValueError, match="do not agree on the clips"):
        agree(group, group.rank, "the clips")


def test_three_processes_say_the_same():
    spawn(in_three, 3)


LOOP = """
import os, signal, sys, time, torch
from spa_lib.runs import init_processes, total
group = init_processes("cpu")
print("in", flush=True)
for step in range(10_000):
    if group.rank == 1 and step == 20: os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    total(group, torch.ones(3)); time.sleep(0.01)
"""


def lose_one(how, timeout):
    port = free_port()
    a, b = (
        python(
            LOOP,
            how,
            RANK=r,
            LOCAL_RANK=r,
            WORLD_SIZE=2,
            LOCAL_WORLD_SIZE=2,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            SPA_LIB_TIMEOUT=timeout,
        )
        for r in range(2)
    )
    try:
        _, err = a.communicate(timeout=100)
        return a.returncode, err
    finally:
        b.kill(), b.communicate()


def test_killed_process():
    """The others notice the broken connection, long before their timeout."""
    code, err = lose_one("SIGKILL", 1800)
    assert code == 1 and "waited in vain" in err and "Begin the run again" in err


def test_process_that_hangs():
    code, err = lose_one("SIGSTOP", 15)  # which must also do for both to arrive
    assert code == 1 and "waited in vain for the others, 15 s at most (SPA_LIB_TIMEOUT)" in err


def test_a_batch_smaller_than_the_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "init_processes", lambda device: Processes(0, 8))
    with pytest.raises(ValueError, match="batch_size is that of all processes together"):
        train(SMALL, tmp_path)


def test_failed_processes_raise_with_what_they_said(tmp_path, monkeypatch, capfd):
    (tmp_path / "fails.py").write_text(
        "import os\nprint('hello', flush=True)\n"
        "if os.environ['RANK'] == '1': raise ValueError('of process 1')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(RuntimeError, match="(?s)2 processes of fails failed.*ValueError: of process 1"):
        launch("fails", [], 2)
    assert "hello" in capfd.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="a child learns of its parent's death on Linux only")
def test_killed_notebook_takes_its_processes_along():
    psutil = pytest.importorskip("psutil")
    p = python(
        "from spa_lib.runs import launch; launch('timeit', ['-n1', '-r1', 'import time; time.sleep(100)'], 2)"
    )
    try:
        family, end = [], time.time() + 60
        while len(family) < 3 and time.time() < end:  # torchrun and its two
            time.sleep(0.1)
            family = psutil.Process(p.pid).children(recursive=True)
    finally:
        p.kill(), p.communicate()
    assert len(family) == 3 and not psutil.wait_procs(family, timeout=60)[1]


@pytest.mark.slow
def test_compiled_encoder(tmp_path):
    """torch.compile changes the rounding only, and not which run it is."""
    plain, compiled = (
        train(replace(SMALL, compile=c), tmp_path / str(c), progress=False) for c in (False, True)
    )
    assert plain.folder.name == compiled.folder.name
    alike(plain, compiled, 1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_one_step_on_a_gpu(precision):
    found = []
    for cfg in (replace(SMALL, device="cpu"), replace(SMALL, device="cuda", precision=precision)):
        with train_module.matrix_precision(cfg):
            encoder = make_encoder(cfg)
            data = load_data(cfg, encoder.sample_rate)
            t = make_trainer(cfg, make_model(cfg, encoder, data.ontology), data, "nowhere", progress=False)
            assert t.optimizer.defaults["fused"] is (True if cfg.device == "cuda" else None)
            (batch,) = load_batches(data.train, [range(7)], pin=cfg.device == "cuda")
            found.append(t.training_step(batch, 0, 4)["loss"])
    assert found[1] == pytest.approx(found[0], abs=1e-4 if precision == "float32" else 2e-2)
