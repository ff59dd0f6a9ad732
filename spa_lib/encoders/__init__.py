"""Audio encoders: waveform in, one vector or 527 logits out."""
from .base import Encoder, create_encoder, encoder_names

__all__ = ["Encoder", "create_encoder", "encoder_names"]
