"""Every random stream has a purpose, and no two streams draw the same numbers."""
from itertools import product

import numpy as np
import pytest
import torch

from spa_lib.data.synth import SINGLE_EVENT_SETS, synth_classes
from spa_lib.ontology import Ontology
from spa_lib.runs import Processes, Task, Trainer, make_config
from spa_lib.utils import PURPOSES, seed_stream, seeded, torch_seed

GRID = {"seed": 3, "epoch": 3, "step": 3, "rank": 3, "clip": 3, "number": 4}  # values from 0 on


def first_draw(seed) -> bytes:
    return np.random.default_rng(seed).bytes(16)


def all_streams() -> list:
    return [(purpose, *numbers) for purpose, names in PURPOSES.items()
            for numbers in product(*(range(GRID[name]) for name in names))]


def synthetic_clips() -> list:
    """The keys of the synthetic corpora, which are as they were: their version is in the folder's name."""
    n = len(synth_classes())
    clips = {(seed, split, i) for seed in range(3) for split in range(2) for i in range(3)}
    orders = {(seed, split, i//n, 1) for seed, split, i in clips}
    audioset = Ontology.audioset()
    single = {(k, audioset.index(name), i) for k, single_set in enumerate(SINGLE_EVENT_SETS.values())
              for name in single_set.classes for i in range(3)}
    assert not clips & single
    return [*clips, *orders, *single]


def test_no_two_streams_draw_the_same():
    streams, corpora = all_streams(), synthetic_clips()
    draws = [first_draw(seed_stream(*key)) for key in streams] + [first_draw(key) for key in corpora]
    assert len(set(draws)) == len(streams) + len(corpora)
    plain = {first_draw(key) for n in range(5) for key in product(range(3), repeat=n)}  # what zeros pad
    assert not plain & set(draws[:len(streams)])


def test_torch_draws_nothing_twice():
    streams = all_streams()
    assert len({torch_seed(*key) for key in streams}) == len(streams)
    draws = set()
    for key in streams:
        with seeded(*key):
            draws.add(tuple(torch.rand(4).tolist()))
    assert len(draws) == len(streams)


def test_a_stream_is_the_same_on_every_machine():
    rng = np.random.default_rng(seed_stream("order", 0, 1))
    assert rng.integers(10**6, size=3).tolist() == [563655, 954785, 45975]
    assert torch_seed("mixup", 0, 1, 2) == 16592363529191091466


@pytest.mark.parametrize("numbers", [(), (0,), (0, 0, 0)])
def test_a_stream_takes_all_its_numbers(numbers):
    with pytest.raises(TypeError, match=r"'order' depends on \(seed, epoch\), got"):
        seed_stream("order", *numbers)


def test_an_unknown_purpose_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'mixup'"):
        seed_stream("mix-up", 0, 0, 0)


def test_numbers_of_numpy_and_large_ones_count_as_themselves():
    assert first_draw(seed_stream("holdout", np.int64(3))) == first_draw(seed_stream("holdout", 3))
    assert first_draw(seed_stream("holdout", 2**32)) != first_draw(seed_stream("holdout", 0))


class Draws(Task):
    """Draws a number in each half of a step, and keeps it."""

    def __init__(self):
        self.model, self.found = torch.nn.Linear(2, 2), {}

    def embed(self, wave, sample_rate):
        self.found["embed"] = torch.rand(4)
        return self.model(wave)

    def loss(self, embedded, y):
        self.found["loss"] = torch.rand(4)
        return embedded.sum(), {}


@pytest.mark.parametrize("rank, count", [(0, 1), (0, 2), (1, 2)])
def test_a_step_draws_mixup_dropout_and_loss_apart(tmp_path, monkeypatch, rank, count):
    """Before: the first of two processes drew for its dropout what mixup had just drawn."""
    task, mixed = Draws(), {}
    trainer = Trainer(task, None, make_config("smoke", epochs=1), tmp_path, seed=0)
    trainer.processes = Processes(rank, count)

    def mixup(batch):
        mixed["mixup"] = torch.rand(4)
        return torch.zeros(2, 2), torch.zeros(2, 2)

    monkeypatch.setattr(trainer, "mixed", mixup)
    monkeypatch.setattr("spa_lib.runs.trainer.join", lambda processes, x: x)
    with trainer.processes.sharing(4):
        trainer.forward(type("Batch", (), {"sample_rate": 1}), step=0)
    draws = {tuple(x.tolist()) for x in (*mixed.values(), *task.found.values())}
    assert len(draws) == 3
