"""Semantic Proximity Alignment for audio tagging: the paper, runnable."""
__version__ = "0.2.0"

from .utils import import_torchaudio_without_extension, let_threads_sleep

let_threads_sleep()  # before anything imports torch, which reads it once
import_torchaudio_without_extension()  # before anything imports torchaudio, as transformers does
