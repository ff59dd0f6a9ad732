"""Where the optional real data lies, and the markers that the tests use."""
import os
import shutil
from pathlib import Path

import pytest

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


@pytest.fixture
def checkout(root, tmp_path):
    """A copy of the notebooks and the workflow, so that a test can write runs/ and figures/ of its own."""
    for name in ("nbs", "workflow"):
        shutil.copytree(root / name, tmp_path / name)
    for name in ("settings.ini", "setup.py"):
        shutil.copy(root / name, tmp_path / name)
    return tmp_path
