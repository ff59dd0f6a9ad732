"""What goes wrong on real machines, and what happens then; the table in nbs/runs/folder.ipynb names these
tests."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from spa_lib import train as train_module
from spa_lib.runs import Trainer, keep_last, load_checkpoint, make_config, read_run, run_name, save_checkpoint
from spa_lib.train import train

SMALL = make_config(
    "smoke", epochs=3, n_train=16, n_eval=8, batch_size=8, clip_seconds=1.0, dim=16, bootstrap=5
)


def same(a, b):
    """Bit for bit, but for the clock."""
    assert np.array_equal(a.scores, b.scores) and list(a.clip_ids) == list(b.clip_ids)
    assert {k: v for k, v in a.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in b.metrics.items() if k != "train_seconds"
    }
    timeless = [c for c in a.log.columns if c != "seconds"]
    assert a.log[timeless].equals(b.log[timeless])


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run to which nothing happens."""
    return train(SMALL, tmp_path_factory.mktemp("spared"), progress=False)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A run that was stopped after the second of its three epochs: two states."""
    real, left = Trainer.save, [2]

    def stopping(t):
        real(t)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path, progress=False)
    monkeypatch.setattr(Trainer, "save", real)
    return tmp_path / run_name(SMALL)


SERVER = """
import json, os, sys, threading, traceback
from tqdm import tqdm
tqdm.set_lock(threading.RLock()); tqdm.monitor_interval = 0
# tqdm's own lock is shared with children: one that is killed while it holds it would hold up all that follow
from spa_lib.metrics import measure
from spa_lib.runs import RunConfig, Trainer, load_checkpoint, predict_clips, save_checkpoint
from spa_lib.train import load_data, make_encoder, make_model, make_trainer, train
cfg = RunConfig(**json.loads(sys.argv[1]))
Trainer.save_seconds = -1 # a state after every step
encoder = make_encoder(cfg)
data = load_data(cfg, encoder.sample_rate)
model = make_model(cfg, encoder, data.ontology)
make_trainer(cfg, model, data, "nowhere", progress=False) # whatever is imported on the way
save_checkpoint(sys.argv[2], dict(model.state_dict())); load_checkpoint(sys.argv[2])
scores = predict_clips(model, data.evaluate)
measure(data.evaluate.targets, scores, data.ontology, data.evaluate.table.recording, 5)
for folder in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        code = 1
        try: train(cfg, folder.strip(), progress=False); code = 0
        except BaseException: traceback.print_exc()
        os._exit(code)
    print(child, flush=True)
    sys.stdin.readline() # until then a child that has ended keeps its number
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    """A process with everything imported, which makes children that train; they are there in milliseconds."""

    def __init__(self, cfg, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, json.dumps(asdict(cfg)), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def train(self, folder, kill_after=None):
        """Exit status of a child, and the seconds it lived."""
        print(folder, file=self.process.stdin, flush=True)
        child, begun = int(self.process.stdout.readline()), time.perf_counter()
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        print(file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline()), time.perf_counter() - begun


def test_fifty_kills(tmp_path):
    """SIGKILL at random moments of a run's life, from reading its clips to its last file. A state is
    written after every step."""
    cfg = replace(SMALL, epochs=16)
    nursery, rng, kills, runs, seen = Nursery(cfg, tmp_path / "warm"), np.random.default_rng(0), 0, 1, set()
    nursery.train(tmp_path / "warm")
    status, seconds = nursery.train(tmp_path / "spared")
    assert status == 0
    while kills < 50:
        status, _ = nursery.train(tmp_path / f"killed{runs}", kill_after=rng.uniform(0, seconds / 4))
        kills += status == signal.SIGKILL
        runs += status == 0  # it came to its end: the next one begins
        if state := load_checkpoint(tmp_path / f"killed{runs}" / run_name(cfg)):
            seen.add((runs, state["epoch"], state["step"]))
        assert status in (0, signal.SIGKILL)
    assert nursery.train(tmp_path / f"killed{runs}")[0] == 0
    nursery.process.stdin.close()
    assert nursery.process.wait() == 0
    print(seconds, kills, runs, len(seen))
    assert len(seen) > 10, "most kills came before anything was done"
    spared = read_run(tmp_path / "spared" / run_name(cfg))
    for i in range(1, runs + 1):
        killed = read_run(tmp_path / f"killed{i}" / run_name(cfg))
        same(spared, killed)
        assert sorted(p.name for p in (killed.folder / "checkpoint").iterdir()) == ["last.pt"]


def damage(path, how):
    """Cut a file short, or flip a bit of a weight in its middle."""
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) * 2 // 3]
    else:
        content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_damaged_state(begun, reference, how):
    last, previous = (begun / "checkpoint" / name for name in ("last.pt", "previous.pt"))
    assert [torch.load(p, weights_only=True)["epoch"] for p in (last, previous)] == [2, 1]
    damage(last, how)
    with pytest.warns(UserWarning, match="last.pt is damaged: .*Going on from previous.pt"):
        run = train(SMALL, begun.parent, progress=False)
    same(reference, run)


def test_both_states_damaged(begun):
    files = [begun / "checkpoint" / name for name in ("last.pt", "previous.pt")]
    damage(files[0], "cut"), damage(files[1], "flipped")
    before = [f.read_bytes() for f in files]
    with pytest.raises(
        ValueError,
        match="last.pt is damaged: .*cut short.*previous.pt is damaged: .*SHA-256.*"
        "delete .*checkpoint to begin afresh",
    ):
        train(SMALL, begun.parent, progress=False)
    assert before == [f.read_bytes() for f in files]


def test_a_damaged_state_never_takes_the_place_of_a_good_one(tmp_path):
    for epoch in range(2):
        save_checkpoint(tmp_path, dict(epoch=epoch, w=torch.rand(1000)))
    damage(tmp_path / "checkpoint" / "last.pt", "flipped")
    save_checkpoint(tmp_path, dict(epoch=2))
    assert load_checkpoint(tmp_path)["epoch"] == 2
    assert torch.load(tmp_path / "checkpoint" / "previous.pt", weights_only=True)["epoch"] == 0


def test_every_flip_and_every_cut_is_found(tmp_path):
    """Or it does not matter: a flip in the digest's own mark."""
    state = dict(w=torch.arange(300.0), names=["a", "b"], epoch=3)
    content = save_checkpoint(tmp_path, state).read_bytes()
    path, rng = tmp_path / "checkpoint" / "last.pt", np.random.default_rng(0)

    def check():
        try:
            found = load_checkpoint(tmp_path)
        except ValueError as e:
            assert "is damaged" in str(e)
            return 1
        assert torch.equal(found["w"], state["w"]) and found["names"] == ["a", "b"] and found["epoch"] == 3
        return 0

    caught = 0
    for byte in rng.choice(len(content), 300, replace=False):
        changed = bytearray(content)
        changed[byte] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        caught += check()
    assert caught > 280
    for length in [0, 1, *rng.choice(len(content) - 100, 40)]:
        path.write_bytes(content[:length])
        assert check()


def test_killed_at_every_rename(tmp_path, monkeypatch):
    """A run stops before its first rename or removal of a file, another before its second, and so on to its
    last one: nothing that a kill leaves behind is lost or left over."""
    real = {name: getattr(os, name) for name in ("rename", "replace", "unlink")}

    def until(k):
        """No such call succeeds from the k-th on, as in a process that is no more."""
        calls = [0]

        def wrapped(function):
            def call(*args, **kw):
                calls[0] += str(tmp_path) in str(args[0])
                if calls[0] >= k:
                    raise KeyboardInterrupt
                return function(*args, **kw)

            return call

        for name, function in real.items():
            monkeypatch.setattr(os, name, wrapped(function))

    cfg, k = replace(SMALL, epochs=2), 1
    spared = train(cfg, tmp_path / "spared", progress=False)
    while True:
        until(k)
        try:
            train(cfg, tmp_path / f"{k}", progress=False)
            break
        except KeyboardInterrupt:
            until(float("inf"))
        killed = train(cfg, tmp_path / f"{k}", progress=False)
        same(spared, killed)
        assert sorted(p.name for p in (killed.folder / "checkpoint").iterdir()) == ["last.pt"], k
        k += 1
    assert k > 12


@pytest.mark.parametrize("rename", [1, 2])
def test_killed_between_two_renames(begun, reference, rename, monkeypatch):
    """As a kill leaves the folder: the new state is whole, and the first or both of the renames are still
    to come."""
    folder = begun / "checkpoint"
    (folder / "last.pt").rename(folder / "next.pt")
    if rename == 1:
        (folder / "previous.pt").rename(folder / "last.pt")
    (folder / ".next-abcd1234.pt").write_bytes(b"left by an earlier kill")
    same(reference, train(SMALL, begun.parent, progress=False))
    assert [p.name for p in folder.iterdir()] == ["last.pt"]


def test_state_of_an_earlier_version(begun, reference):
    """Without a digest."""
    for p in (begun / "checkpoint").iterdir():
        p.write_bytes(p.read_bytes()[:-71])
    same(reference, train(SMALL, begun.parent, progress=False))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, with room for two states and a bit: mounted where that is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(
        ["umount", "--lazy", str(folder)], check=True
    )  # the error that the test saw still holds a file


def full_disk(begun, reference, fill, empty):
    files = {p: p.read_bytes() for p in begun.rglob("*") if p.is_file()}
    fill()
    with pytest.raises(
        OSError,
        match=r"the training needs about [\d,]{7,} bytes in .*checkpoint, where [\d,]+ are free|"
        r"no room for .*log.csv",
    ) as error:
        train(SMALL, begun.parent, progress=False)
    assert error.value.errno in (errno.ENOSPC, errno.EIO)  # torch does not say which
    empty()
    for name in ("last.pt", "previous.pt"):
        assert files[begun / "checkpoint" / name] == (begun / "checkpoint" / name).read_bytes()
    assert sorted(p.name for p in (begun / "checkpoint").iterdir()) == ["last.pt", "previous.pt"]
    same(reference, train(SMALL, begun.parent, progress=False))


def test_full_disk(begun, reference, monkeypatch):
    """The kernel's own error, wherever the tests run: a state is written to /dev/full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    real = torch.save
    full_disk(
        begun,
        reference,
        lambda: monkeypatch.setattr(torch, "save", lambda state, path: real(state, "/dev/full")),
        lambda: monkeypatch.setattr(torch, "save", real),
    )


def test_full_disk_of_its_own(begun, reference, small_disk):
    begun = shutil.copytree(begun, small_disk / begun.name)
    rubbish = small_disk / "rubbish"

    def fill():
        with open(rubbish, "wb") as f, pytest.raises(OSError):
            while True:
                f.write(b"0" * 65536), f.flush()
        os.truncate(rubbish, rubbish.stat().st_size - 300_000)  # room for a log, not for a state

    full_disk(begun, reference, fill, rubbish.unlink)


LOSING_A_LOADER = """
import json, os, signal, sys, time
import torch
from spa_lib.runs import RunConfig, Trainer
from spa_lib.train import train
real = Trainer.training_step
def killing(trainer, batch, step, *rest):
    if (trainer.epoch, step) == (1, 1):
        os.kill(torch.multiprocessing.active_children()[0].pid, signal.SIGKILL)
        while True: # until torch's signal handler raises the loss
            time.sleep(0.01)
    return real(trainer, batch, step, *rest)
Trainer.training_step = killing
train(RunConfig(**json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


def test_lost_loader(reference, tmp_path):
    """A process that loads clips is killed in the middle of the second epoch. In an interpreter of its own:
    torch raises the loss from a signal handler, which may come late, so the step waits for it."""
    cfg = replace(SMALL, batch_size=2, workers=1, epochs=2)
    spared = train(cfg, tmp_path / "spared", progress=False)
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    p = subprocess.run(
        [sys.executable, "-c", LOSING_A_LOADER, json.dumps(asdict(cfg)), tmp_path],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert p.returncode and re.search(
        r"a process that loads clips was lost in epoch 1, step \d: DataLoader worker .*lower workers \(1\)",
        p.stderr,
    ), p.stderr
    assert load_checkpoint(tmp_path / run_name(cfg))["epoch"] == 1
    same(spared, train(cfg, tmp_path, progress=False))


def interrupt():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    signal.raise_signal(signal.SIGINT)  # as Ctrl-C does


def exhaust(error):
    def raising():
        raise error

    return raising


STOPS = {
    "interrupted": (interrupt, KeyboardInterrupt),
    "out of memory": (exhaust(MemoryError("Unable to allocate 3.00 GiB")), MemoryError),
    "out of the GPU's memory": (exhaust(torch.OutOfMemoryError("out of memory")), torch.OutOfMemoryError),
}


@pytest.mark.parametrize("stop, error", STOPS.values(), ids=STOPS)
def test_stopped_in_a_step(reference, stop, error, tmp_path, monkeypatch):
    """In the middle of the second epoch; begun again, the numbers are the same."""
    real = Trainer.training_step

    def stopping(trainer, batch, step, *rest):
        if (trainer.epoch, step) == (1, 1):
            stop()
        return real(trainer, batch, step, *rest)

    with monkeypatch.context() as patched, pytest.raises(error):
        patched.setattr(Trainer, "training_step", stopping)
        train(SMALL, tmp_path, progress=False)
    assert load_checkpoint(tmp_path / run_name(SMALL))["epoch"] == 1
    same(reference, train(SMALL, tmp_path, progress=False))


@pytest.mark.parametrize("on_problem", ["refuse", "leave_out"])
def test_cut_from_its_mount(on_problem, tmp_path, monkeypatch):
    """The folder of clips goes in the middle of the second epoch. As long as it is away the run refuses to
    go on, and nothing of it changes; when it is back, the numbers are those of the run that was spared."""
    from scipy.io import wavfile

    mount, away = tmp_path / "mount", tmp_path / "away"
    mount.mkdir()
    lines = ["path,labels,split"]
    for i in range(12):
        wavfile.write(mount / f"{i}.wav", 16000, np.random.default_rng(i).normal(0, 0.1, 16000).astype("f4"))
        lines.append(f"mount/{i}.wav,{'Dog' if i % 2 else 'Music'},{'eval' if i > 7 else 'train'}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    cfg = replace(SMALL, source="csv", root=str(tmp_path / "clips.csv"), n_train=0, n_eval=0, batch_size=4,
                  epochs=2, cache=False, on_problem=on_problem)
    spared = train(cfg, tmp_path / "spared", progress=False)
    real = Trainer.training_step

    def cutting(trainer, batch, step, *rest):
        if (trainer.epoch, step) == (1, 0):
            mount.rename(away)
        return real(trainer, batch, step, *rest)

    with monkeypatch.context() as patched, pytest.raises(ValueError, match="missing .*wav"):
        patched.setattr(Trainer, "training_step", cutting)
        train(cfg, tmp_path, progress=False)
    run = tmp_path / run_name(cfg)
    left = {path: path.read_bytes() for path in (run / "checkpoint").iterdir()}
    with pytest.raises(ValueError, match="12 missing"):
        train(cfg, tmp_path, progress=False)
    assert left == {path: path.read_bytes() for path in (run / "checkpoint").iterdir()}
    away.rename(mount)
    same(spared, train(cfg, tmp_path, progress=False))


@pytest.fixture
def with_nan(tmp_path):
    """Nine clips, one of them with a NaN in its middle; the configuration of a run on them."""
    from scipy.io import wavfile

    rng, lines = np.random.default_rng(0), ["path,labels,split"]
    for i in range(9):
        wave = rng.normal(0, 0.1, 16000).astype(np.float32)
        wave[8000] = np.nan if i == 4 else 0
        wavfile.write(tmp_path / f"{i}.wav", 16000, wave)
        lines.append(f"{i}.wav,{'Dog' if i % 2 else 'Music'},{'eval' if i > 6 else 'train'}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    return make_config(
        "smoke",
        source="csv",
        root=str(tmp_path / "clips.csv"),
        clip_seconds=1.0,
        dim=16,
        batch_size=3,
        bootstrap=5,
    )


@pytest.mark.parametrize("cache", [True, False])
def test_clip_of_nan(with_nan, cache, tmp_path):
    cfg = replace(with_nan, cache=cache)
    with pytest.raises(ValueError, match="clips cannot be used: 1 non-finite\\n  4.wav"): # before a step
        train(cfg, tmp_path, progress=False)
    left_out = replace(cfg, on_problem="leave_out")
    run = train(left_out, tmp_path, progress=False)
    assert (
        run.metrics["left_out"] == {"non-finite": 1}
        and run.metrics["n_train"] == 6
        and np.isfinite(run.log.loss).all()
    )


def test_loss_that_is_not_finite(begun, monkeypatch):
    """No state is written with it, and both that are there stay."""
    files = {p: p.read_bytes() for p in (begun / "checkpoint").iterdir()}
    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    real = train_module.total_loss
    monkeypatch.setattr(
        train_module, "total_loss", lambda *args, **kw: (real(*args, **kw)[0] * torch.nan, {})
    )
    with pytest.raises(
        FloatingPointError,
        match="the loss is nan, the norm of its gradient nan, in epoch 2, step 0; the clips: synth",
    ):
        train(SMALL, begun.parent, progress=False)
    assert files == {p: p.read_bytes() for p in (begun / "checkpoint").iterdir()}


class Overflow(torch.autograd.Function):
    """A finite value whose gradient is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * torch.inf


@pytest.mark.parametrize("clip_gradient", [0.0, 1.0])
def test_gradient_that_is_not_finite(tmp_path, monkeypatch, clip_gradient):
    """The loss of the last step is finite, so only the next one would tell, and there is none."""
    cfg = replace(SMALL, clip_gradient=clip_gradient, text_branch="centred")
    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    real, states = train_module.total_loss, []
    last = cfg.epochs * -(-cfg.n_train // cfg.batch_size)

    def overflowing(*args, **kw):
        loss, parts = real(*args, **kw)
        states.append(None)
        return (Overflow.apply(loss) if len(states) == last else loss), parts

    monkeypatch.setattr(train_module, "total_loss", overflowing)
    with pytest.raises(
        FloatingPointError,
        match=r"the loss is [\d.]+, the norm of its gradient (inf|nan), in epoch 2, step 1; the clips: synth",
    ):
        train(cfg, tmp_path, progress=False)
    state = load_checkpoint(tmp_path / run_name(cfg))
    assert (state["epoch"], state["step"]) == (2, 1) and all(
        v.isfinite().all() for v in state["model"].values() if v.is_floating_point()
    )
    monkeypatch.setattr(train_module, "total_loss", real)
    same(train(cfg, tmp_path / "spared", progress=False), train(cfg, tmp_path, progress=False))


def test_another_run_is_refused_before_anything_is_read(tmp_path):
    save_checkpoint(tmp_path, dict(epoch=1, config_hash="a"))
    with pytest.raises(
        ValueError, match=r"another configuration or other clips or classes \(config_hash differs\)"
    ):
        load_checkpoint(tmp_path, config_hash="b")
    assert load_checkpoint(tmp_path / "empty") is None
    keep_last(tmp_path / "empty")
