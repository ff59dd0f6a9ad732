"""Clips: where they come from, what can be wrong with them, and batches of them."""
from .clips import (
    ADDRESSES, COLUMNS, FREESOUND_IDS, ON_PROBLEM, PROBLEMS, SOURCES, ClipError, Problem, clip_list_hash,
    read_clips, settle,
)
from .audio import (
    PLACE, RETRIES, WebFile, clip_size, clip_source, is_url, open_source, read_bytes, read_place,
)
from .sounds import hits, motor, notes, room, rush, signal, voice
from .dataset import (
    CROPS, PADS, RESAMPLERS, Batch, Clips, Collate, WholeClips, batches, check_clips, decode_clip, fit_length,
    load_batches, load_waveform, resample, split_by_recording, targets,
)
from .synth import VERSION, synth_classes, synth_clip, synth_clips, synth_event
from .shards import CODECS, Codec, Packing, encode, pack, read_index, shard_table, verify
from .rows import DatasetAudio, dataset_clips
from .manifest import Manifest
from .frozen import Embedded, embed_clips, freeze_encoder

__all__ = [
    "ADDRESSES", "CODECS", "COLUMNS", "CROPS", "FREESOUND_IDS", "ON_PROBLEM", "PADS", "PLACE", "PROBLEMS",
    "RESAMPLERS", "RETRIES", "SOURCES", "VERSION", "Batch", "ClipError", "Clips", "Codec", "Collate",
    "DatasetAudio", "Embedded", "Manifest", "Packing", "Problem", "WebFile", "WholeClips",
    "batches", "check_clips", "clip_list_hash", "clip_size", "clip_source", "dataset_clips", "decode_clip",
    "embed_clips", "encode", "fit_length", "freeze_encoder", "hits", "is_url", "load_batches",
    "load_waveform", "motor", "notes", "open_source", "pack", "read_bytes", "read_clips", "read_index",
    "read_place", "resample", "room", "rush", "settle", "shard_table", "signal", "split_by_recording",
    "synth_classes", "synth_clip", "synth_clips", "synth_event", "targets", "verify", "voice",
]
