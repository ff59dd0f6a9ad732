"""Audio encoders: waveform or frames in, one vector or 527 logits out. Importing this registers all of them."""
from .augment import Augment
from .base import (
    Encoder,
    Frozen,
    OfficialHead,
    check_length,
    create_encoder,
    encoder_class,
    encoder_names,
    read_options,
    register_encoder,
)
from .blocks import Block
from .checkpoints import (
    CHECKPOINTS,
    CheckpointError,
    Released,
    find_checkpoint,
    load_official,
    read_checkpoint,
)

# Each registers itself. This is the order of encoder_names(): the paper's Table 1, then mn and vggish.
from .psla import PSLA
from .panns import Cnn14
from .ast import AST
from .passt import PaSST
from .htsat import HTSAT
from .mn import MN
from .vggish import VGGishFrames

__all__ = [
    "AST", "CHECKPOINTS", "HTSAT", "MN", "PSLA", "Augment", "Block", "CheckpointError", "Cnn14", "Encoder", "Frozen",
    "OfficialHead", "PaSST", "Released", "VGGishFrames", "check_length", "create_encoder", "encoder_class", "encoder_names",
    "find_checkpoint", "load_official", "read_checkpoint", "read_options", "register_encoder",
]
