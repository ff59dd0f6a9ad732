"""Audio encoders: waveform or frames in, one vector or 527 logits out. Importing this registers all of them."""
from .augment import Augment
from .base import (
    Encoder, Frozen, OfficialHead, Wrapped, check_length, checkpoint_digest, checkpoint_keys, create_encoder,
    encoder_class, encoder_label, encoder_names, encoder_parameters, encoder_sizes, encoder_takes,
    read_options, register_encoder,
)
from .blocks import Block
from .checkpoints import (
    CHECKPOINTS, CheckpointError, Released, SavedEncoder, find_checkpoint, load_official, read_checkpoint,
    read_description, saved_encoder,
)
from .psla import PSLA
from .panns import Cnn14
from .ast import AST
from .passt import PaSST
from .htsat import HTSAT
from .mn import MN
from .vggish import VGGishFrames
from .hf import Transformer

__all__ = [
    "AST", "CHECKPOINTS", "HTSAT", "MN", "PSLA", "Augment", "Block", "CheckpointError", "Cnn14", "Encoder",
    "Frozen", "OfficialHead", "PaSST", "Released", "SavedEncoder", "Transformer", "VGGishFrames", "Wrapped",
    "check_length", "checkpoint_digest", "checkpoint_keys", "create_encoder", "encoder_class",
    "encoder_label", "encoder_names", "encoder_parameters", "encoder_sizes", "encoder_takes",
    "find_checkpoint", "load_official", "read_checkpoint", "read_description", "read_options",
    "register_encoder", "saved_encoder",
]
