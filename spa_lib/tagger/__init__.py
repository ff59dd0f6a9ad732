"""A model to use: kept by every finished run, and loaded without its corpus."""
from .model_file import FILES, Loaded, describe_model, load_model, read_model_description, save_model

__all__ = [
    "FILES", "Loaded", "describe_model", "load_model", "read_model_description", "save_model",
]
