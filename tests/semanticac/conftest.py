"""What the tests of SemanticAC share: a small configuration, and a run of it that was never stopped."""
import pytest

from spa_lib.semanticac.config import semantic_config
from spa_lib.semanticac.train import train_semantic


@pytest.fixture(scope="session")
def small():
    """Two epochs on fifty synthetic clips of one second."""
    return semantic_config("smoke", epochs=2, freeze=False)


@pytest.fixture(scope="session")
def reference(small, tmp_path_factory):
    """The run that is never stopped."""
    return train_semantic(small, tmp_path_factory.mktemp("never-stopped"), progress=False)
