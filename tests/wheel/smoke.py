"""An installed spa_lib, outside of any checkout: import it, decode, tag a clip, score it.

    python tests/wheel/smoke.py

Needs what the wheel requires and nothing else.
"""
import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import soundfile
import torch

import spa_lib
from spa_lib.data import load_waveform
from spa_lib.encoders import create_encoder
from spa_lib.metrics import omap
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.tagger import Tagger, describe_model, save_model
from spa_lib.text import label_features

RATE = 16000
LOSSY = {"mp3": "libmp3lame", "m4a": "aac"} # what PyAV writes


def imported_from_the_environment():
    site = Path(sysconfig.get_path("purelib"))
    assert Path(spa_lib.__file__).is_relative_to(site), spa_lib.__file__
    assert (Path(spa_lib.__file__).parent / "py.typed").exists()
    return f"spa_lib {spa_lib.__version__} on Python {sys.version.split()[0]}"


def clip():
    """Two seconds of a rising tone."""
    t = np.arange(2*RATE)/RATE
    return (0.3*np.sin(2*np.pi*(300 + 200*t)*t)).astype(np.float32)


def write_lossy(path, codec, wave):
    """An mp3 or m4a by PyAV, which a plain install brings."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def decodes():
    """Every format of the loader comes back as the tone that was written."""
    wave, names = clip(), []
    for suffix in ("wav", "flac", "ogg", "mp3", "m4a"):
        path = Path(f"tone.{suffix}")
        if suffix in LOSSY:
            write_lossy(path, LOSSY[suffix], wave)
        else:
            soundfile.write(path, wave, RATE)
        found = np.asarray(load_waveform(path, RATE)).ravel()
        assert abs(len(found) - len(wave)) < 3000, (suffix, len(found))
        spectrum = abs(np.fft.rfft(found[4000:20000]))
        loudest = spectrum.argmax()*RATE/16000
        assert 300 < loudest < 1200, (suffix, loudest)
        names.append(suffix)
    return "decoded " + ", ".join(names)


def tags():
    """A tiny model, untrained, written and read again as a Tagger, tags the file as it scores the samples."""
    ontology = Ontology.audioset().subset(["Whistle", "Sine wave", "Dog", "Speech"])
    torch.manual_seed(0)
    made = SPAModel(create_encoder("ast", size="tiny", clip_seconds=2.0), label_features(ontology), dim=32)
    save_model(".", made, describe_model(made.eval(), ontology, clip_seconds=2.0))
    found = Tagger.from_pretrained(".", device="cpu").tag("tone.wav", top=None, progress=False)
    with torch.inference_mode():
        expected = torch.sigmoid(made(torch.from_numpy(load_waveform("tone.wav", RATE))[None], RATE)[0][0])
    assert len(found) == 4 and np.allclose(found.score, expected.sort(descending=True).values, atol=1e-5)
    best = found.iloc[0]
    return f"tagged by a tiny model, untrained: {best['name']} {best.score:.2f}"


def scores():
    """OmAP of four scores that hold one near error, and what is not installed says what to install."""
    ontology = Ontology.audioset().subset(["Laughter", "Giggle", "Dog", "Bark"])
    y_true = np.eye(4)
    y_score = 0.5*y_true
    y_score[1, 0] = 0.9
    found = omap(y_true, y_score, ontology, chance_draws=2)
    assert abs(found.value - 0.9985) < 0.01, found
    try:
        from spa_lib.metrics import OntologyAveragePrecision
        assert OntologyAveragePrecision
    except ImportError as e:
        assert "spa_lib[metrics]" in str(e)
    return str(found)


def commands():
    """The programs that the wheel installs answer."""
    names = sorted(p.name for p in entry_points(group="console_scripts") if p.value.startswith("spa_lib."))
    for name in names:
        program = Path(sysconfig.get_path("scripts")) / name
        subprocess.run([program, "--help"], check=True, capture_output=True)
    return "commands: " + ", ".join(names)


def main():
    for step in (imported_from_the_environment, decodes, tags, scores, commands):
        print(step())


if __name__ == "__main__":
    main()
