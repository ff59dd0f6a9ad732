"""A model to use: kept by every finished run, and loaded without its corpus."""
from .model_file import FILES, Loaded, describe_model, load_model, read_model_description, save_model
from .windows import SUFFIXES, Sound, Window, cut_windows, sound_files, sounds_of
from .words import HEARD, WAYS, Asked, ask
from .hub import HubError, push_to_hub, write_hub_folder
from .tagging import Heard, Pretrained, Tagger, Unheard, load_pretrained, load_released
from .onnx_file import Exported, OnnxError, export_onnx

__all__ = [
    "FILES", "HEARD", "SUFFIXES", "WAYS", "Asked", "Exported", "Heard", "HubError", "Loaded", "OnnxError",
    "Pretrained", "Sound", "Tagger", "Unheard", "Window", "ask", "cut_windows", "describe_model",
    "export_onnx", "load_model", "load_pretrained", "load_released", "push_to_hub", "read_model_description",
    "save_model", "sound_files", "sounds_of", "write_hub_folder",
]
