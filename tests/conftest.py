"""Where the optional real data lies, and the markers that the tests use."""
import os
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
    """The folder of real clips, golden values and checkpoints: $SPA_LIB_SHARED, else ../shared beside the checkout."""
    path = Path(os.environ.get("SPA_LIB_SHARED") or ROOT.parent / "shared")
    if not path.is_dir():
        pytest.skip(f"no golden values or real clips at {path}; point SPA_LIB_SHARED at them")
    return path
