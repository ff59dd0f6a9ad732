"""How OpenMP's threads wait, and how many a small network takes."""
import os
import subprocess
import sys

import pytest
import torch

from spa_lib.runs import make_config
from spa_lib.train import train
from spa_lib.utils import WAITING, torch_threads


def policy(**environment) -> str:
    """What OMP_WAIT_POLICY is once spa_lib has been imported."""
    clean = {name: value for name, value in os.environ.items() if name not in WAITING} | environment
    code = "import os, sys, spa_lib; print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    return subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True,
                          check=True).stdout.strip()


def test_threads_sleep_while_they_wait():
    """It is set before torch is loaded, which reads it once."""
    assert policy() == "False PASSIVE"


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"),
                                         ("KMP_BLOCKTIME", "200")])
def test_what_the_user_has_set_stays(name, value):
    assert policy(**{name: value}) == f"False {value if name == 'OMP_WAIT_POLICY' else None}"


def test_every_launcher_sets_it_too(root):
    assert "export OMP_WAIT_POLICY ?= PASSIVE" in (root / "Makefile").read_text()
    assert "make test" in (root / ".ci" / "run").read_text()


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_are_those_before_afterwards(two_threads, monkeypatch):
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with torch_threads(None):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with torch_threads(1):
        assert torch.get_num_threads() == 2


def test_a_tiny_run_takes_one_thread(two_threads, tmp_path, monkeypatch):
    """So its numbers do not depend on how many cores there are."""
    seen = []
    monkeypatch.setattr("spa_lib.train.make_encoder", lambda cfg: seen.append(torch.get_num_threads()) or 1/0)
    for size in ("tiny", "base"):
        with pytest.raises(ZeroDivisionError):
            train(make_config("smoke", size=size), tmp_path, progress=False)
    assert seen == [1, 2] and torch.get_num_threads() == 2
