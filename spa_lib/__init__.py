"""Semantic Proximity Alignment for audio tagging: the paper, runnable."""
__version__ = "0.2.0"

from .utils import import_torchaudio_without_extension

import_torchaudio_without_extension()  # before anything imports torchaudio, as transformers does
