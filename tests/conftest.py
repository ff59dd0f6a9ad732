"""Where the optional real data lies, and the markers that the tests use."""
import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds; run with --slow")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run pytest --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared():
    """Real clips, golden values and checkpoints: $SPA_LIB_SHARED, or ../shared beside the checkout."""
    path = Path(os.environ.get("SPA_LIB_SHARED") or ROOT.parent / "shared")
    if not path.is_dir():
        pytest.skip(f"no golden values or real clips at {path}; point SPA_LIB_SHARED at them")
    return path


class Golden:
    """What the authors' own code gives for an encoder with made-up weights, and a file of these weights."""

    def __init__(self, folder, name):
        file = {"panns": "cnn14"}.get(name, name)
        spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
        self.fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.fill)
        self.name = name
        self.spec = self.fill.read_spec(folder / f"{file}.json")
        self.values = np.load(folder / f"{file}.npz")

    def waves(self):
        """The clips of ten seconds, [B, samples]."""
        rate = self.spec["sample_rate"]
        return np.stack([self.fill.waveform(seed, rate) for seed in self.spec["waveform_seeds"]])

    def short_wave(self):
        """The short clip, [samples]."""
        short = self.spec["short_waveform"]
        return self.fill.waveform(short["seed"], self.spec["sample_rate"], short["seconds"])

    def save(self, path):
        """Write the weights as the authors' file has them; returns `path`."""
        filled = self.fill.fill_state_dict(self.spec, self.spec["salt"])
        state = {key: torch.from_numpy(value) for key, value in filled.items()}
        wrapped = {"panns": {"iteration": 1, "model": state}, "htsat": {"epoch": 1, "state_dict": state}}
        torch.save(wrapped.get(self.name, state), path)
        return path


@pytest.fixture(scope="session")
def golden_encoder(shared):
    """`golden_encoder("ast")`: a Golden."""
    return lambda name: Golden(shared / "golden" / "encoders", name)


@pytest.fixture(scope="session")
def ontology():
    """AudioSet's."""
    from spa_lib.ontology import Ontology

    return Ontology.audioset()


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the notebooks and the workflow, so that a test can write runs/ and figures/ of its own."""
    for name in ("nbs", "workflow"):
        shutil.copytree(root / name, tmp_path / name)
    for name in ("settings.ini", "setup.py"):
        shutil.copy(root / name, tmp_path / name)
    return tmp_path
