"""What the paper does not have: other text branches, and scores smoothed over the ontology."""
from .branches import (
    BRANCHES, Centred, Contrastive, ContrastiveBatch, Decorrelated, Detached, Sigmoid, Tied, Whitened, info_nce,
    principal_axes, principal_coordinates,
)
from .smoothing import Smoothing, smooth_scores, tune_smoothing

__all__ = [
    "BRANCHES", "Centred", "Contrastive", "ContrastiveBatch", "Decorrelated", "Detached", "Sigmoid", "Smoothing",
    "Tied", "Whitened", "info_nce", "principal_axes", "principal_coordinates", "smooth_scores", "tune_smoothing",
]
