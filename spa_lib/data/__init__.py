"""Clips: where they come from, what can be wrong with them, and batches of them.

Importing the folder imports all its modules: that is how the sources of clips come to be registered."""
from .audio import (
    CROPS, DOUBTS, PADS, RATES, RESAMPLERS, RETRIES, SHARD_RANGE, clip_size, clip_source, decode_clip,
    examine_clip, fit_length, is_url, load_waveform, read_bytes, read_shard_range, read_source, read_url,
    resample, shard_range, stream_clip, stream_waveform,
)
from .clips import (
    CLIP_COLUMNS, FREESOUND_IDS, HOLDOUT_SEED, ON_LABEL, SOURCES, YOUTUBE_IDS, Source, check_clips,
    clip_list_hash, clip_table, file_problems, pick_unseen, read_clips, recordings_of, register_source,
    resolve_labels, split_by_fold, split_by_recording, targets,
)
from .containers import Container, MpegFrame, mpeg_frame, read_container
from .dataset import (
    Batch, Clips, Collate, Embedded, WholeClips, batches, embed_clips, embedding_key, load_batches,
)
from .errors import ON_PROBLEM, PROBLEMS, ClipError, Problem, located, refuse_or_leave_out
from .shards import CODECS, Packing, encode, pack, read_index, shard_table, verify
from .sounds import motor, notes, percussion, reverberation, rush, signal, voice
from .sources import (
    ADDRESSES, LABELLED_SETS, SET_LISTS, DatasetAudio, Manifest, Segment, audioset_clips, class_names,
    csv_clips, dataset_clips, esc10_clips, esc50_clips, labelled_clips, locate_set, manifest, read_segments,
    urbansound8k_clips, weak_classes,
)
from .synth import (
    SINGLE_EVENT_SETS, SYNTH_VERSION, Event, single_event_clip, single_event_clips, synth_classes, synth_clip,
    synth_clips, synth_event,
)
from .real_corpus import build_real_corpus, real_corpus_list, segment_list
from .sides import (
    ON_LEAK, Leak, clip_digests, content_digests, draw_clips, find_leaks, same_content, without_leaks,
)
from .report import ON_DOUBT, Finding, decode_report, examine_sides, report_doubts, report_problems
from .features import (
    FEATURE_SETS, TRAIN_SETS, FeatureClip, FrameClips, compare_with_list, feature_clips, feature_record,
    locate_features, read_feature_clip, read_records, repeated_clips, unpack_features,
)

__all__ = [
    "ADDRESSES", "CLIP_COLUMNS", "CODECS", "CROPS", "DOUBTS", "FEATURE_SETS", "FREESOUND_IDS", "HOLDOUT_SEED",
    "LABELLED_SETS", "ON_DOUBT", "ON_LABEL", "ON_LEAK", "ON_PROBLEM", "PADS", "PROBLEMS", "RATES",
    "RESAMPLERS", "RETRIES", "SET_LISTS", "SHARD_RANGE", "SINGLE_EVENT_SETS", "SOURCES", "SYNTH_VERSION",
    "TRAIN_SETS", "YOUTUBE_IDS", "Batch", "ClipError", "Clips", "Collate", "Container", "DatasetAudio",
    "Embedded", "Event", "FeatureClip", "Finding", "FrameClips", "Leak", "Manifest", "MpegFrame", "Packing",
    "Problem", "Segment", "Source", "WholeClips", "audioset_clips", "batches", "build_real_corpus",
    "check_clips", "class_names", "clip_digests", "clip_list_hash", "clip_size", "clip_source", "clip_table",
    "compare_with_list", "content_digests", "csv_clips", "dataset_clips", "decode_clip", "decode_report",
    "draw_clips", "embed_clips", "embedding_key", "encode", "esc10_clips", "esc50_clips", "examine_clip",
    "examine_sides", "feature_clips", "feature_record", "file_problems", "find_leaks", "fit_length", "is_url",
    "labelled_clips", "load_batches", "load_waveform", "locate_features", "locate_set", "located", "manifest",
    "motor", "mpeg_frame", "notes", "pack", "percussion", "pick_unseen", "read_bytes", "read_clips",
    "read_container", "read_feature_clip", "read_index", "read_records", "read_segments", "read_shard_range",
    "read_source", "read_url", "real_corpus_list", "recordings_of", "refuse_or_leave_out", "register_source",
    "repeated_clips", "report_doubts", "report_problems", "resample", "resolve_labels", "reverberation",
    "rush", "same_content", "segment_list", "shard_range", "shard_table", "signal", "single_event_clip",
    "single_event_clips", "split_by_fold", "split_by_recording", "stream_clip", "stream_waveform",
    "synth_classes", "synth_clip", "synth_clips", "synth_event", "targets", "unpack_features",
    "urbansound8k_clips", "verify", "voice", "weak_classes", "without_leaks",
]
