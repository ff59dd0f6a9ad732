"""Files whose header says something else than their bytes, and the kinds that downloaders of videos leave."""
import io
import logging
import math
import resource
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spa_lib.data import (
    PROBLEMS,
    ClipError,
    check_clips,
    dataset_clips,
    decode_clip,
    load_waveform,
    pack,
    read_clips,
    resample,
)
from spa_lib.data.audio import _decode_any, _log_once, _Reading
from spa_lib.data.containers import Container, read_container

CASES = Path(__file__).parent / "cases"
SECONDS = {
    "vbr_pipe.mp3": 5.068, "cbr_no_xing.mp3": 3.056, "joined.mp3": 10.085, "chained.ogg": 10.012,
    "unknown_length.flac": 5.0, "vorbis_copy.ogg": 9.973,
}
CODED = { # suffix -> container, codec
    "m4a": ("ipod", "aac"), "webm": ("webm", "libopus"),
    "opus": ("opus", "libopus"), "mka": ("matroska", "flac"),
}
RATE = 48000


def coded(path, wave, rate=RATE, container=None, codec=None):
    """Write a mono waveform as its suffix says, or as it is asked for."""
    if container is None:
        container, codec = CODED[path.suffix[1:]]
    with av.open(path, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate)
        for part in (frame, None):
            for converted in resampler.resample(part):
                out.mux(stream.encode(converted))
        out.mux([packet for packet in stream.encode(None) if packet.size])
    return path


@pytest.fixture(scope="module")
def chirp():
    """Four seconds whose pitch tells the time, so that a shift is seen: [samples] at 48 kHz."""
    t = np.arange(4 * RATE) / RATE
    return 0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory, chirp):
    """The chirp as m4a, webm, opus and mka: a folder."""
    folder = tmp_path_factory.mktemp("downloads")
    for suffix in CODED:
        coded(folder / f"a.{suffix}", chirp)
    return folder


@pytest.fixture(params=[*SECONDS, *CODED])
def sound(request):
    """One file of each kind, and its length in seconds."""
    if request.param in SECONDS:
        return CASES / request.param, SECONDS[request.param]
    return request.getfixturevalue("downloads") / f"a.{request.param}", 4.0


def shift(part, whole, around, reach=3000):
    """By how many samples `part` lies beside the place `around` in `whole`."""
    first = max(0, around - reach)
    within = whole[first:around + len(part) + reach]
    return int(np.correlate(within, part, "valid").argmax()) + first - around


# ---- whole files ------------------------------------------------------------------------------------------

def test_all_of_a_file_is_read(sound, table_of):
    path, seconds = sound
    wave, rate = decode_clip(path)
    assert len(wave) / rate == pytest.approx(seconds, abs=0.05)
    assert wave.dtype == np.float32 and wave.ndim == 1 and np.abs(wave).max() > 0.2
    assert len(check_clips(table_of([path]), progress=False)) == 1


def test_bytes_are_read_as_the_file_is(sound):
    path, _ = sound
    wave, rate = decode_clip(io.BytesIO(path.read_bytes()))
    assert rate == decode_clip(path)[1] and np.array_equal(wave, decode_clip(path)[0])


def test_it_is_the_sound_that_was_coded(downloads, chirp):
    for suffix in CODED:
        wave, rate = decode_clip(downloads / f"a.{suffix}")
        assert rate == RATE
        part = wave[RATE:2 * RATE]
        found = shift(part, chirp, RATE)
        primed = 1024 if suffix == "m4a" else 0 # AAC's first frame is kept where no edit list says otherwise
        assert found == -primed
        assert np.corrcoef(part, chirp[RATE + found:2 * RATE + found])[0, 1] > 0.99


@pytest.mark.parametrize("suffix, within", [
    ("ogg", 3e-6), ("mp3", 3e-6), ("flac", 0), ("wav", 0), ("aiff", 0)])
def test_both_libraries_agree(tmp_path, noise, suffix, within):
    path = tmp_path / f"a.{suffix}"
    noise(path, 3.0, 22050, channels=2)
    ours, rate = decode_clip(path)
    expected, _ = soundfile.read(path, dtype="float32")
    assert rate == 22050 and np.abs(ours - expected.mean(1)).max() <= within
    by_av = _decode_any(str(path), Container(""), None, None)
    assert by_av.rate == rate and np.abs(by_av.wave - ours).max() <= within


SUBTYPES = ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_formats_of_samples(tmp_path, noise, subtype):
    path = tmp_path / "a.wav"
    noise(path, channels=2, subtype=subtype)
    assert read_container(path.open("rb")).plain
    ours = decode_clip(path)[0]
    assert np.abs(_decode_any(str(path), Container(""), None, None).wave - ours).max() < 1e-6


def test_joined_files_are_noted_once(caplog):
    _log_once.cache_clear()
    with caplog.at_level(logging.WARNING, "spa_lib"):
        for _ in range(3):
            decode_clip(CASES / "joined.mp3")
    assert [record.getMessage().split(": ")[1:] for record in caplog.records] == [
        ["skipped what is no sound", "1 tag(s) in the middle of it"]]
    assert "joined.mp3" in caplog.text


@pytest.mark.parametrize("placeholder", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_wav_of_unknown_length(tmp_path, noise, placeholder):
    path = tmp_path / "a.wav"
    x = noise(path)
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at:at + 4] = data[4:8] = placeholder.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    assert np.abs(decode_clip(path)[0] - x[:, 0]).max() < 3.2e-5
    assert len(decode_clip(path, 0.25, 0.5)[0]) == 4000


def test_flac_whose_header_says_too_much_or_too_little(tmp_path, noise):
    x = noise(tmp_path / "a.flac", 2.0)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    (tmp_path / "two.flac").write_bytes(bytes(data) * 2)
    assert len(decode_clip(tmp_path / "two.flac")[0]) == 2 * len(x)
    data[21] |= 15
    (tmp_path / "long.flac").write_bytes(bytes(data))
    assert np.abs(decode_clip(tmp_path / "long.flac")[0] - x[:, 0]).max() < 3.2e-5


def test_a_rate_that_changes_is_refused(tmp_path, noise):
    noise(tmp_path / "a.flac", 1.0, 16000)
    noise(tmp_path / "b.flac", 1.0, 22050)
    both = (tmp_path / "a.flac").read_bytes() + (tmp_path / "b.flac").read_bytes()
    (tmp_path / "c.flac").write_bytes(both)
    with pytest.raises(ClipError, match="c.flac.*undecodable.*from mono, 16000 Hz, s16 to mono, 22050 Hz"):
        decode_clip(tmp_path / "c.flac")


def test_channels_that_change_are_refused(tmp_path, noise):
    noise(tmp_path / "a.flac", 1.0, 16000)
    noise(tmp_path / "b.flac", 1.0, 16000, channels=2)
    (tmp_path / "c.flac").write_bytes((tmp_path / "a.flac").read_bytes() + (tmp_path / "b.flac").read_bytes())
    with pytest.raises(ClipError, match="c.flac.*undecodable.*from mono.* to stereo.*after 1.0"):
        decode_clip(tmp_path / "c.flac")


@pytest.mark.parametrize("n", [1, 100, 257, 2400, 7996, 10000, 30000])
def test_a_short_ogg_has_its_length(tmp_path, n):
    """Of a file of one page ffmpeg keeps a block too much or too little."""
    soundfile.write(tmp_path / "a.ogg", 0.1 * np.random.default_rng(0).standard_normal(n), 8000)
    wave, _ = decode_clip(tmp_path / "a.ogg")
    assert len(wave) == n
    if n > 2000:
        assert np.array_equal(decode_clip(tmp_path / "a.ogg", 0.1, 0.2)[0], wave[800:1600])


# ---- segments ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("start, end", [(0.5, 1.5), (2.0, None), (None, 0.75), (1.001, 1.002), (2.5, 99)])
def test_a_segment_is_a_part_of_the_whole(sound, start, end):
    path, _ = sound
    whole, rate = decode_clip(path)
    part, _ = decode_clip(path, start, end)
    first = round((start or 0) * rate)
    stop = len(whole) if end is None else min(len(whole), round(end * rate))
    assert len(part) == stop - first
    tolerated = 1e-2 if path.suffix == ".m4a" else 1e-6 # AAC draws noise
    assert np.abs(part - whole[first:stop]).max() < tolerated


@pytest.mark.parametrize("container, codec", [
    ("ipod", "aac"), ("adts", "aac"), ("matroska", "aac"), ("webm", "libopus"), ("opus", "libopus"),
    ("mp3", "libmp3lame"), ("matroska", "libmp3lame")])
def test_what_lies_long_before_a_segment_is_counted(tmp_path, chirp, container, codec, monkeypatch):
    path = coded(tmp_path / "a", np.tile(chirp, 4), container=container, codec=codec)
    whole, rate = decode_clip(path)
    decoded, frame = [], _Reading.frame
    monkeypatch.setattr(_Reading, "frame", lambda self, f: (decoded.append(f.samples), frame(self, f)))
    for start, end in ((9.0, 9.5), (12.345, 13.0), (15.0, 99)):
        decoded.clear()
        part, _ = decode_clip(path, start, end)
        expected = whole[round(start * rate):round(end * rate)]
        assert len(part) == len(expected)
        assert np.abs(part - expected).max() < (1e-2 if codec == "aac" else 1e-4) # AAC draws noise
        assert sum(decoded) < 2.7 * rate, "of nine seconds and more"


def test_a_segment_outside_the_file(sound):
    path, _ = sound
    with pytest.raises(ClipError, match="too short"):
        decode_clip(path, 60, 70)


# ---- cut off ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0.2, 0.5, 0.83, 0.995])
def test_half_of_a_file_is_found(sound, tmp_path, share, table_of):
    path, _ = sound
    content = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(ClipError) as e:
        decode_clip(cut)
    assert e.value.problem == "truncated" and str(cut) in str(e.value)
    kept = check_clips(table_of([path, cut]), on_problem="leave_out", progress=False)
    assert list(kept.path) == [str(path)]
    with pytest.raises(ClipError, match="truncated"):
        decode_clip(io.BytesIO(cut.read_bytes()))


@pytest.mark.parametrize("content", [
    b"<html>404 not found</html>" * 50, b"#EXTM3U\n#EXTINF:1,\na.wav\n", b"RIFFxxxx", b"\xff\xfb\x90\x00",
    b"\0" * 999,
    b"ID3\x04\0\0\0\0\0\x05" + b"\0" * 99, b"\x1aE\xdf\xa3", b"fLaC" + b"\0" * 50, b"OggS" + b"\0" * 50,
    b"\0\0\0\x08ftyp", b"FORM\0\0\0\x04AIFF",
])
def test_what_is_no_sound_is_an_error_of_a_clip(tmp_path, content):
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(ClipError, match="a.mp3") as e:
        decode_clip(tmp_path / "a.mp3")
    assert e.value.problem in ("undecodable", "truncated")


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(seed=0)
def test_damaged_bytes_are_errors_of_a_clip(sound, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(sound[0].read_bytes())
    if rng.random() < 0.5:
        content = content[:rng.integers(1, min(len(content), 3000))]
    for place in rng.integers(0, min(len(content), rng.choice([64, 500, 10**6])), rng.choice([0, 1, 5, 50])):
        content[place] = rng.integers(256)
    try:
        decode_clip(io.BytesIO(bytes(content)), rng.choice([None, 0.5]))
    except ClipError as e:
        assert e.problem in PROBLEMS


READ_ALL = """
import io, os, sys
from pathlib import Path
import soundfile
from spa_lib.data import ClipError, decode_clip, stream_clip

def here(path):
    for source in (path, io.BytesIO(Path(path).read_bytes())):
        for call in (decode_clip, lambda source: list(stream_clip(source))):
            try: call(source)
            except ClipError: pass

def by_libsndfile(path):
    try: soundfile.read(path)
    except soundfile.LibsndfileError: pass

for read in (here, by_libsndfile):
    os.write(2, f"== {read.__name__}\\n".encode())
    for path in sys.argv[1:]: read(path)
"""


def test_a_damaged_mp3_brings_no_lines_of_a_library(tmp_path, noise):
    """libmpg123 writes to file descriptor 2, past Python, and names no file: "Note: Trying to resync...".
    What stands there is our own line."""
    noise(tmp_path / "clip.mp3", 3.0, rate=32000)
    data = (tmp_path / "clip.mp3").read_bytes()
    half, junk = len(data) // 2, np.random.default_rng(0).bytes(5000)
    damaged = {
        "other bytes": data[:half] + junk[:300] + data[half + 300:],
        "junk": data[:half] + junk + data[half:],
        "zeros": data[:1000] + bytes(20000) + data[1000:],
        "tag": b"ID3\x03\0\0\0\0\x02\0TIT2\0\0\xff\xff\0\0" + bytes(300) + data,
        "cut off": data[:half],
    }
    paths = [tmp_path / f"{name}.mp3" for name in damaged]
    for path, content in zip(paths, damaged.values()):
        path.write_bytes(content)
    command = [sys.executable, "-c", READ_ALL, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, _, lines = done.stderr.partition("== here\n")
    ours, _, theirs = lines.partition("== by_libsndfile\n")
    assert ours and all(": skipped what is no sound: " in line for line in ours.splitlines()), ours
    if not theirs:
        pytest.skip("this libsndfile says nothing of such files")


def test_an_info_frame_that_is_cut_off():
    content = (CASES / "joined.mp3").read_bytes()
    at = content.find(b"Info")
    at = content.find(b"Xing") if at < 0 else at
    for more in range(0, 40):
        with pytest.raises(ClipError):
            decode_clip(io.BytesIO(content[:at + more]))


def test_errors_say_what_was_read(tmp_path):
    with pytest.raises(ClipError, match="clip 'row 7'"):
        decode_clip(io.BytesIO(b"nothing"), name="row 7")
    with pytest.raises(ClipError, match=r"clip 'sound in memory \(7 bytes\)'"):
        decode_clip(io.BytesIO(b"nothing"))


def test_rows_of_a_data_set_are_named(ontology, tmp_path):
    rows = [dict(id="row7", labels=["Rain"], audio=dict(bytes=b"nothing"))]
    table, audio = dataset_clips(rows, ontology)
    with pytest.raises(ClipError, match="clip 'row7': undecodable"):
        pack(table, tmp_path, audio=audio, on_problem="refuse", progress=False)


# ---- through the other modules ----------------------------------------------------------------------------

def test_packed_as_they_are(tmp_path, downloads, table_of, ontology):
    paths = [*(CASES / name for name in SECONDS), downloads / "a.m4a"]
    table = table_of(paths)
    for codec in ("as is", "flac"):
        pack(table, tmp_path / codec, codec=codec, progress=False)
        there = read_clips("shards", tmp_path / codec, ontology)
        for path, packed in zip(paths, there.path):
            mine, theirs = load_waveform(path, 16000), load_waveform(packed, 16000)
            assert len(mine) == len(theirs)
            assert np.array_equal(mine, theirs) or codec == "flac"


# ---- resampling -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rate, wanted", [
    (44100, 32000), (22050, 32000), (48000, 16000), (44099, 32000), (44101, 32000), (8000, 32000)])
@pytest.mark.parametrize("hertz", [100, 1000, 3300])
def test_resampling_against_a_sinusoid(rate, wanted, hertz):
    def tone(r):
        return 0.9 * np.sin(2 * np.pi * hertz * np.arange(2 * r) / r + 0.3)
    out = resample(tone(rate), rate, wanted)
    assert out.dtype == np.float32 and len(out) == 2 * wanted
    assert np.abs(out - tone(wanted))[500:-500].max() < 3e-6
    assert np.array_equal(out, resample(tone(rate), rate, wanted)), "the same each time"


@pytest.mark.parametrize("hertz, within", [(7000, 3e-6), (12000, 4e-4), (14000, 1e-3)])
def test_resampling_close_to_the_new_limit(hertz, within):
    tones = [np.sin(2 * np.pi * hertz * np.arange(2 * r) / r) for r in (44100, 32000)]
    assert np.abs(resample(tones[0], 44100, 32000) - tones[1])[2000:-2000].max() < within


def test_what_lies_above_the_new_limit_is_gone():
    high = np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100)
    assert np.abs(resample(high, 44100, 16000))[500:-500].max() < 1e-5


@pytest.mark.parametrize("n", [1, 2, 5, 50])
def test_a_few_samples_stay_a_few(n):
    for rate, wanted in ((44100, 8000), (8000, 44100), (44101, 32000)):
        assert len(resample(np.ones(n, np.float32), rate, wanted)) == math.ceil(n * wanted / rate)


ODD = """
import resource, sys
import numpy as np
from spa_lib.data import resample
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wave = np.ones(10*44100, np.float32)
for rate in (44099, 44101):
    assert abs(len(resample(wave, rate, 32000)) - len(wave)*32000/rate) < 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)/1024)
"""


def test_odd_rates_need_little_memory():
    limit = 3 * 2**30 # bytes of address space: with torchaudio's filters both ask for more
    out = subprocess.run([sys.executable, "-c", ODD], capture_output=True, text=True, check=True, timeout=120,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
    assert float(out.stdout) < 100, "megabytes"
