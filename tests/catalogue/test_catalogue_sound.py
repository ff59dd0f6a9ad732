"""Files of sound as people have them: whole, cut, from pipes, of other kinds, or hardly sound."""

import io
import struct

import numpy as np
import pytest
import soundfile

from spa_lib.data import ClipError, decode_clip, encode, examine_clip

OK, SECONDS, RATE = 0, 1.0, 16000
X = (0.3 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)


def coded(form, subtype=None, x=X, rate=RATE):
    """A second of noise as a file of this kind."""
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=form, subtype=subtype)
    return file.getvalue()


def wav(tag=1, channels=1, rate=RATE, bits=16, data=None, stated=None):
    """A WAV whose header says whatever it is given."""
    data = coded("WAV", "PCM_16")[44:] if data is None else data
    block = max(1, channels * bits // 8) % 65536
    head = struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * block % 2**32, block, bits)
    stated = len(data) if stated is None else stated
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + head
        + b"data"
        + struct.pack("<I", stated)
        + data
    )


def without_end(data, n=100):
    return data[:-n]


def first_half(data):
    return data[: len(data) // 2]


PLAIN = coded("WAV", "PCM_16")
UNDECODABLE, NOT_SOUND = "undecodable", "no sound of a kind that can be decoded here"

# what it is | its bytes | what comes of it | what must be said: "1.000 s" where it is read as it is meant
WHOLE = [
    (f"{form} {subtype}", coded(form, subtype), OK, "1.0")
    for form, subtype in [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AIFF", "FLOAT"),
        ("AU", "PCM_16"),
        ("AU", "ULAW"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ]
]
CUT = [
    (f"{form} {subtype}, its last 100 bytes are lost", without_end(coded(form, subtype)), ClipError, how)
    for form, subtype, how in [
        ("WAV", "PCM_16", "truncated (its data chunk ends at byte 32,044, the file at byte 31,944)"),
        ("WAV", "FLOAT", "truncated"),
        ("WAV", "GSM610", "truncated"),
        ("WAV", "IMA_ADPCM", "truncated"),
        ("WAVEX", "FLOAT", "truncated"),
        ("RF64", "PCM_16", "truncated"),
        ("AIFF", "PCM_16", "SSND chunk ends"),
        ("AU", "PCM_16", "its samples end at byte"),
        ("AU", "ULAW", "truncated"),
        ("CAF", "PCM_16", "truncated"),
        ("W64", "PCM_16", "truncated"),
        ("FLAC", "PCM_16", "truncated"),
        ("OGG", "VORBIS", "end of a page"),
        ("OGG", "OPUS", "truncated"),
        ("MP3", "MPEG_LAYER_III", "truncated"),
    ]
]
HALF = [
    (f"{form} {subtype}, half of it", first_half(coded(form, subtype)), ClipError, how)
    for form, subtype, how in [
        ("WAV", "PCM_16", "truncated"),
        ("RF64", "PCM_16", "truncated"),
        ("AIFF", "PCM_16", "truncated"),
        ("AU", "PCM_16", "truncated"),
        ("CAF", "PCM_16", "truncated"),
        ("W64", "PCM_16", "truncated"),
        ("FLAC", "PCM_16", "truncated"),
        ("OGG", "VORBIS", "truncated"),
        ("OGG", "OPUS", "truncated"),
        ("MP3", "MPEG_LAYER_III", "samples are lacking"),
    ]
]
PIPED = [
    (f"a WAV from a pipe that states {stated:#010x} bytes", wav(stated=stated), OK, "1.0")
    for stated in (0xFFFFFFFF, 0xFFFFFFFC, 0x80000000, 0x7FFFFFFF, 0x7FFFF000, 0)
]
FALSE = [
    ("a WAV of 0 Hz", wav(rate=0), ClipError, UNDECODABLE),
    ("a WAV of 1 Hz", wav(rate=1), ClipError, "it states a rate of 1 Hz"),
    ("a WAV of 999 Hz", wav(rate=999), ClipError, "none of 1,000 to 1,000,000"),
    ("a WAV of 1,000 Hz", wav(rate=1000), OK, "16.0"),
    ("a WAV of a billion Hz", wav(rate=10**9), ClipError, "it states a rate of 1,000,000,000 Hz"),
    ("a WAV without channels", wav(channels=0), ClipError, UNDECODABLE),
    ("a WAV of 65,535 channels", wav(channels=65535), ClipError, UNDECODABLE),
    ("a WAV of 0 bits", wav(bits=0), ClipError, UNDECODABLE),
    ("a WAV of 64 bits", wav(bits=64), ClipError, UNDECODABLE),
    ("a WAV whose codec is MP3, and is not", wav(tag=0x55), ClipError, "packets can be decoded"),
    ("a WAV of codec 0", wav(tag=0), ClipError, "it holds no sound that can be decoded"),
    ("a WAV of codec 65,535 without the codec", wav(tag=0xFFFF), ClipError, UNDECODABLE),
    ("a WAV without samples", wav(data=b""), ClipError, "empty"),
    ("a WAV of half a sample", wav(data=b"\0"), ClipError, "empty"),
    ("a WAV without its format", PLAIN[:12] + PLAIN[36:], ClipError, UNDECODABLE),
    ("a WAV that ends within its format", PLAIN[:20], ClipError, "truncated (it has no data chunk)"),
    ("a WAV that ends before its samples", PLAIN[:36], ClipError, "it has no data chunk"),
    (
        "a WAV whose format has no length",
        PLAIN[:16] + bytes(4) + PLAIN[20:],
        ClipError,
        "it has no data chunk",
    ),
    (
        "a WAV whose format has 4 GB",
        PLAIN[:16] + b"\xf0\xff\xff\xff" + PLAIN[20:],
        ClipError,
        "no data chunk",
    ),
    ("a WAV of the other byte order", b"RIFX" + PLAIN[4:], ClipError, UNDECODABLE),
    ("a WAV with a list after its samples", PLAIN + b"LIST" + struct.pack("<I", 4) + b"INFO", OK, "1.0"),
    (
        "a WAV with a sample that is nan",
        wav(3, bits=32, data=np.float32([np.nan] * 999).tobytes()),
        ClipError,
        "non-finite",
    ),
    (
        "a WAV with a sample that is infinite",
        wav(3, bits=32, data=np.float32([np.inf] * 999).tobytes()),
        ClipError,
        "non-finite",
    ),
    ("two WAV in one file", PLAIN + PLAIN, OK, "2.0"),
    ("two WAV in one file, the second cut", PLAIN + PLAIN[:-9], ClipError, "number 2 is cut"),
    ("two MP3 in one file, with the padding between them", 2 * coded("MP3"), OK, "2.1"),
    ("two Ogg in one file", 2 * coded("OGG"), OK, "2.0"),
    ("two FLAC in one file", 2 * coded("FLAC"), OK, "2.0"),
    ("an MP3 behind an ID3 tag", b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + coded("MP3"), OK, "1.0"),
]
OTHER = [
    (what, start + bytes(fill), ClipError, sentence)
    for what, start, fill, sentence in [
        ("nothing", b"", 0, "undecodable"),
        ("zeros", b"", 5000, NOT_SOUND),
        ("a text", b"this is no sound\n", 0, NOT_SOUND),
        ("a web page", b"<!doctype html><html><body>404</body></html>", 0, NOT_SOUND),
        ("a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00", 0, NOT_SOUND),
        ("a json file", b'{"title": "a video"}', 0, NOT_SOUND),
        ("a zip archive", b"PK\x03\x04", 5000, NOT_SOUND),
        ("a pdf", b"%PDF-1.4", 5000, NOT_SOUND),
        ("a gif", b"GIF89a", 5000, NOT_SOUND),
        ("a png", b"\x89PNG\r\n\x1a\n", 5000, NOT_SOUND),
        ("an empty amr", b"#!AMR\n", 0, UNDECODABLE),
        ("only RIFF", b"RIFF", 0, NOT_SOUND),
        ("only fLaC", b"fLaC", 0, "truncated (it ends within its header)"),
        ("only OggS", b"OggS", 0, "truncated"),
        ("only ID3", b"ID3", 0, NOT_SOUND),
        ("only caff", b"caff", 0, "truncated"),
        ("fLaC and zeros", b"fLaC", 5000, NOT_SOUND),
        ("OggS and zeros", b"OggS", 5000, "truncated"),
        ("a matroska head and zeros", b"\x1aE\xdf\xa3", 5000, NOT_SOUND),
        ("an MP3 frame of zeros", b"\xff\xfb\x90\0", 5000, NOT_SOUND),
    ]
]
ROWS = [*WHOLE, *CUT, *HALF, *PIPED, *FALSE, *OTHER]


@pytest.mark.parametrize("what, data, outcome, sentence", ROWS, ids=[row[0] for row in ROWS])
def test_file(what, data, outcome, sentence, tmp_path, meets):
    """As a file and as bytes alike: read as it is meant, or refused by name and reason."""
    path = tmp_path / "clip.wav"
    path.write_bytes(data)

    def seconds(source):
        wave, rate = decode_clip(source)
        return round(len(wave) / rate, 1)

    if data:
        meets(lambda: seconds(io.BytesIO(data)), outcome, sentence)
        meets(lambda: seconds(path), outcome, sentence)
        if isinstance(outcome, type):
            meets(lambda: seconds(path), outcome, str(path))
    else:
        meets(lambda: seconds(path), outcome, "empty")


STEREO = np.stack([X, X], 1)
TONE = np.sin(np.arange(RATE) / 5).astype(np.float32)

# what it is | samples [frames] or [frames, channels] | what is doubtful; "" = nothing
ODD = [
    ("noise", X, ""),
    ("a quiet tone", 1e-4 * TONE, ""),
    ("a loud tone that overshoots", 1.5 * TONE, ""),
    ("stereo, both channels alike", STEREO, ""),
    ("stereo, one channel silent", STEREO * [1, 0], ""),
    ("stereo, independent channels", np.stack([X, X[::-1]], 1), ""),
    ("a tone on a constant", 0.5 * TONE + 0.3, ""),
    ("silence with one click", np.eye(1, RATE, 5)[0], ""),
    ("silence", 0 * X, "silent"),
    ("stereo silence", 0 * STEREO, "silent"),
    ("a constant", 0 * X + 0.25, "constant: every sample is 0.25"),
    ("a constant below zero", 0 * X - 1, "constant: every sample is -1"),
    ("floats of the size of int16", 32767 * TONE, "out of scale: samples from -3.277e+04"),
    ("floats of the size of int8", 100 * TONE, "out of scale"),
    ("floats of the size of int24", 2.0**23 * TONE, "out of scale"),
    ("stereo in opposite phase", STEREO * [1, -1], "channels cancel"),
    ("stereo in nearly opposite phase", STEREO * [1, -0.99], "channels cancel"),
    ("one sample", X[:1], "hardly any samples: 1 at 16,000 Hz"),
    ("nine samples", X[:9], "hardly any samples"),
    ("10 ms", X[:160], "hardly any samples"),
    ("30 ms", X[:480], ""),
]


@pytest.mark.parametrize("what, x, sentence", ODD, ids=[row[0] for row in ODD])
def test_whole_but_odd(what, x, sentence, tmp_path):
    """A whole file that may hold nothing to hear is no error, but it is named."""
    soundfile.write(tmp_path / "clip.wav", x, RATE, subtype="FLOAT")
    seconds, doubt = examine_clip(tmp_path / "clip.wav")
    assert seconds == len(x) / RATE
    assert doubt.startswith(sentence) and bool(doubt) == bool(sentence)


# what it is | start and end in seconds | what comes of it | what must be said
SEGMENTS = [
    ("all", (None, None), OK, "1.0"),
    ("from the middle on", (0.5, None), OK, "0.5"),
    ("the first tenth", (0, 0.1), OK, "0.1"),
    ("behind the end", (2, 3), ClipError, "nothing lies between 2 s and 3 s"),
    ("backwards", (0.5, 0.2), ClipError, "too short"),
    ("of no length", (0.5, 0.5), ClipError, "too short"),
    ("over the end", (0.5, 9), OK, "0.5"),
    ("nan, as a table writes it", (np.nan, np.nan), OK, "1.0"),
]


@pytest.mark.parametrize("form", ["WAV", "OGG"])
@pytest.mark.parametrize("what, segment, outcome, sentence", SEGMENTS, ids=[row[0] for row in SEGMENTS])
def test_segment(what, segment, outcome, sentence, form, meets):
    data = coded(form)

    def seconds():
        wave, rate = decode_clip(io.BytesIO(data), *segment)
        return round(len(wave) / rate, 1)

    meets(seconds, outcome, sentence)


def test_no_file_and_no_permission(tmp_path, meets, monkeypatch):
    meets(lambda: decode_clip(tmp_path / "no.wav"), ClipError, "missing")
    meets(lambda: decode_clip(tmp_path), ClipError, "missing (it is a folder)")
    (tmp_path / "a.wav").write_bytes(PLAIN)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    meets(lambda: decode_clip(tmp_path / "a.wav"), ClipError, "unreadable (there is no permission")


def test_what_is_packed_is_whole():
    """`encode` is what a packing writes."""
    wave, rate = decode_clip(io.BytesIO(encode(X, RATE)))
    assert rate == RATE and len(wave) == len(X)
