"""Small encoders and made-up clips, for all tests of this folder."""
import pytest
import torch

from spa_lib.encoders import create_encoder


@pytest.fixture(scope="session")
def noise():
    """`noise(2, 16000, batch=3)`: clips of so many seconds at that rate, always the same."""
    def make(seconds, rate, batch=1, seed=0):
        return 0.1 * torch.randn(batch, int(seconds * rate), generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def tiny():
    """`tiny("ast", clip_seconds=2)`: an encoder of the smallest size, its weights always the same."""
    def make(name, seed=0, **options):
        torch.manual_seed(seed)
        return create_encoder(name, size="tiny", **options)

    return make
