"""What the paper does not have: other text branches."""
from .branches import (
    BRANCHES, Centred, Contrastive, ContrastiveBatch, Decorrelated, Detached, Sigmoid, Whitened, info_nce,
    principal_coordinates,
)

__all__ = [
    "BRANCHES", "Centred", "Contrastive", "ContrastiveBatch", "Decorrelated", "Detached", "Sigmoid", "Whitened",
    "info_nce", "principal_coordinates",
]
