"""A small tagger, and sounds in files of many kinds."""
import numpy as np
import pytest
import torch

from spa_lib.encoders import OfficialHead, create_encoder
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.tagger import Tagger, describe_model
from spa_lib.text import label_features

RATE = 32000


def sound(seconds, rate=RATE, seed=0):
    """Noise that swells, so that no two windows are alike."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return (0.2 * np.linspace(0, 1, n) * rng.standard_normal(n)).astype(np.float32)


def pets_tagger(branch=None, alpha=0.1, text_model="minilm", clip_seconds=2.0, pad="zero", **options):
    """A tiny network with made-up weights over three classes."""
    pets = Ontology.audioset().subset(["Dog", "Bark", "Cat"])
    torch.manual_seed(0)
    encoder = create_encoder("mn", "tiny")
    branch = dict(text_branch=branch) if branch else {}
    model = SPAModel(encoder, label_features(pets), dim=16, **branch)
    torch.nn.init.normal_(model.c_a.weight, std=3.0)
    about = describe_model(model, pets, clip_seconds=clip_seconds, pad=pad,
                           text=dict(model=text_model, method="concat"),
                           run=dict(name="pets", config=dict(alpha=alpha)))
    return Tagger(model, about, "0" * 64, device="cpu", **options)


@pytest.fixture(scope="session")
def make_tagger():
    """`make_tagger(alpha=0.0)`: see `pets_tagger`."""
    return pets_tagger


@pytest.fixture(scope="session")
def tagger():
    return pets_tagger()


@pytest.fixture(scope="session")
def official():
    """A tiny network over all 527 classes, as a released one is."""
    torch.manual_seed(0)
    ontology = Ontology.audioset()
    model = OfficialHead(create_encoder("mn", "tiny"), list(range(527)))
    about = describe_model(model, ontology, clip_seconds=2.0, pad="")
    return Tagger(model, about, "1" * 64, device="cpu")


@pytest.fixture
def write(tmp_path):
    """`write("a.mp3", samples, rate)`: the path of a file."""
    import av
    import soundfile

    coded = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "opus": ("opus", "libopus"),
             "mka": ("matroska", "flac")}

    def write_file(name, samples, rate=RATE, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix[1:]
        if suffix not in coded:
            soundfile.write(path, samples, rate, **options)
            return path
        container, codec = coded[suffix]
        with av.open(str(path), "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            resampler = av.AudioResampler(stream.codec_context.format, "mono", rate)
            for part in (frame, None):
                for converted in resampler.resample(part):
                    out.mux(stream.encode(converted))
            out.mux([packet for packet in stream.encode(None) if packet.size])
        return path

    return write_file


