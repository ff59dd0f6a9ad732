"""What the paper does not have: other text branches, soft targets, and scores smoothed over the ontology."""
from .branches import (
    BRANCHES, Centred, Contrastive, ContrastiveBatch, Decorrelated, Detached, Sigmoid, Tied, Whitened,
    info_nce, principal_axes, principal_coordinates,
)
from .smoothing import Smoothing, smooth_scores, tune_smoothing
from .soft_targets import (
    KERNELS, RankedHead, SecondHead, SoftTargets, ancestor_kernel, borrowed_share, make_soft_targets,
    permuted_kernel, text_kernel,
)

__all__ = [
    "BRANCHES", "KERNELS", "Centred", "Contrastive", "ContrastiveBatch", "Decorrelated", "Detached",
    "RankedHead", "SecondHead", "Sigmoid", "Smoothing", "SoftTargets", "Tied", "Whitened",
    "ancestor_kernel", "borrowed_share", "info_nce", "make_soft_targets", "permuted_kernel",
    "principal_axes", "principal_coordinates", "smooth_scores", "text_kernel", "tune_smoothing",
]
