"""Models on the Hugging Face hub: a folder that stands for it, and what it says when something is wrong."""
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from spa_lib.cli import spa
from spa_lib.metrics import chance
from spa_lib.ontology import Ontology
from spa_lib.runs import make_config
from spa_lib.tagger import FILES, Tagger, load_pretrained, save_model
from spa_lib.tagger.hub import HubError, hub_name, is_on_hub, model_card, push_to_hub, write_hub_folder
from spa_lib.train import train

hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cfg = make_config("smoke", encoder="mn", n_train=24, n_eval=16, bootstrap=20, epochs=1)
    return train(cfg, tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A hub that is a folder: `OWNER/NAME/FILE`. Its attribute `calls` lists what was asked of it."""
    top = tmp_path / "hub"

    class Fake:
        folder, calls = top, []

        def __init__(self, token=None, **k):
            self.calls.append(("token", token))

        def create_repo(self, name, private=None, exist_ok=False):
            self.calls.append(("create", name, private, exist_ok))
            (top / name).mkdir(parents=True, exist_ok=True)

        def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
            assert sorted(p.name for p in Path(folder_path).iterdir()) == sorted(allow_patterns)
            self.calls.append(("upload", repo_id, commit_message))
            shutil.copytree(folder_path, top / repo_id, dirs_exist_ok=True)

    def download(name, file, revision=None, **k):
        Fake.calls.append(("download", name, file, revision))
        if not (top / name).is_dir():
            raise raised(errors.RepositoryNotFoundError, 404)
        if not (top / name / file).is_file():
            raise raised(errors.RemoteEntryNotFoundError, 404)
        return str(top / name / file)

    Fake.calls = []
    monkeypatch.setattr(hub, "HfApi", Fake)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return Fake


def raised(kind, status=None):
    """An exception as huggingface_hub raises it."""
    try:
        import httpx as client
        response = client.Response(status or 500, request=client.Request("GET", "https://huggingface.co/x"))
    except ImportError: # before version 1
        import requests as client
        response = client.Response()
        response.status_code = status or 500
    return kind("as the hub says it", response=response) if status else kind("as the hub says it")


def test_there_and_back(run, fake):
    address = push_to_hub(run.folder, "me/pets", private=True, token="secret")
    assert address.endswith("/me/pets")
    assert fake.calls[:2] == [("token", "secret"), ("create", "me/pets", True, True)]
    assert "secret" not in "".join(p.read_text() for p in (fake.folder / "me/pets").glob("*.[jm]*"))
    wave = 0.1 * np.random.default_rng(0).standard_normal(96000).astype(np.float32)
    tagger = Tagger.from_pretrained("hf://me/pets@v2", device="cpu")
    assert np.array_equal(tagger.scores(wave, 32000), Tagger.from_pretrained(run.folder).scores(wave, 32000))
    assert [call[2:] for call in fake.calls[-2:]] == [("model.json", "v2"), ("model.safetensors", "v2")]
    assert load_pretrained(Path("hf://me/pets")).sha256 == tagger.sha256, "Path takes a slash away"


@pytest.mark.parametrize("name", ["psla", "panns", "ast", "passt", "htsat"])
def test_a_folder_of_every_encoder_scores_as_before(name, fake, tmp_path):
    """`mn` is that of the run."""
    import torch

    from spa_lib.encoders import create_encoder
    from spa_lib.model import SPAModel
    from spa_lib.tagger import describe_model

    pets = Ontology.audioset().subset(["Dog", "Bark", "Cat"])
    torch.manual_seed(0)
    model = SPAModel(create_encoder(name, "tiny", clip_seconds=3.0), np.eye(3, 5, dtype=np.float32), dim=8)
    save_model(tmp_path, model, describe_model(model, pets, clip_seconds=3.0))
    push_to_hub(tmp_path, f"me/{name}")
    before = Tagger(model, describe_model(model, pets, clip_seconds=3.0))
    after = Tagger.from_pretrained(f"hf://me/{name}")
    for seconds in (0.5, 3, 10, 17):
        rate = before.sample_rate
        wave = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate)).astype(np.float32)
        assert np.array_equal(before.scores(wave, rate), after.scores(wave, rate))


def test_the_card_is_that_of_the_run(run, tmp_path):
    folder = write_hub_folder(run.folder, tmp_path / "out", "me/pets", "cc-by-4.0")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "README.md"])
    card = (folder / "README.md").read_text()
    head, body = card.split("---\n")[1:]
    assert "license: cc-by-4.0\n" in head and "pipeline_tag: audio-classification\n" in head
    assert 'Tagger.from_pretrained("hf://me/pets")' in body and run.folder.name in body
    assert f"a score for each of {len(run.mids)} classes" in body and "24 clips for training, 16 for" in body
    level = chance(run.targets, Ontology.audioset().subset(list(run.mids)))
    for name, by_chance in (("mAP", level.map), ("OmAP", level.omap)):
        one = run.metrics[name]
        row = f"| {name} | {one['value']:.3f} | {one['low']:.3f} to {one['high']:.3f} | {by_chance:.3f} |"
        assert row in body
    assert "synthetic sounds alone" in body and "Its encoder began with random weights" in body
    assert json.loads(re.search(r"```json\n(.*?)```", body, re.S)[1])["encoder"] == "mn"


def test_a_card_without_a_licence_or_results(run, tmp_path):
    for name in FILES:
        shutil.copy(run.folder / name, tmp_path / name)
    folder = write_hub_folder(tmp_path, tmp_path / "out")
    card = (folder / "README.md").read_text()
    assert "license: unknown" in card and "The licence of these weights is not stated." in card
    assert "| mAP |" in card, "its scores stand in model.json; chance needs the run's targets"


def test_a_released_checkpoint_keeps_its_licence(tagger):
    about = dict(tagger.description, encoder=dict(tagger.description["encoder"],
                                                  checkpoint=dict(name="mn04_as_mAP_432.pt")))
    assert "`mn04_as_mAP_432.pt` (licence MIT, https://" in model_card(about)


def test_names():
    assert hub_name("hf://me/pets@main") == ("me/pets", "main") and hub_name("me/pets") == ("me/pets", None)
    assert is_on_hub("hf://me/pets") and not is_on_hub("hf:me/pets") and not is_on_hub("me/pets")
    for wrong in ("hf://pets", "hf://", "hf://a/b/c", "hf://../x"):
        with pytest.raises(ValueError, match=f"{re.escape(wrong)} is no name on the Hugging Face hub"):
            load_pretrained(wrong)
    with pytest.raises(ValueError, match="pushed to the main branch"):
        push_to_hub("anywhere", "me/pets@v1")


WRONG = {
    "RepositoryNotFoundError": (404, "there is no model me/pets .* or it is private: .*hf auth login"),
    "GatedRepoError": (403, "is gated: ask for access on https://.*/me/pets"),
    "RevisionNotFoundError": (404, "has no revision 'v9'"),
    "RemoteEntryNotFoundError": (404, "holds no model.safetensors and model.json.*encoder='hf:me/pets'"),
    "LocalEntryNotFoundError": (None, "cannot be reached .*me/pets is not among the models in .*"
                                      "copy the folder"),
    "OfflineModeIsEnabled": (None, "cannot be reached"),
    "HfHubHTTPError": (500, "cannot be reached"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_hub_cannot_give(kind, monkeypatch, capsys):
    status, said = WRONG[kind]
    if not hasattr(errors, kind):
        pytest.skip("of a later huggingface_hub")

    def refuse(*a, **k):
        raise raised(getattr(errors, kind), status)

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(HubError, match=said) as problem:
        Tagger.from_pretrained("hf://me/pets@v9")
    assert "\n" not in str(problem.value)
    with pytest.raises(SystemExit, match=said):
        spa(["tag", __file__, "--model", "hf://me/pets@v9"])


@pytest.mark.parametrize("error, said", [
    (lambda: errors.LocalTokenNotFoundError("no token"), "from a stranger: log in with `hf auth login`"),
    (lambda: raised(errors.HfHubHTTPError, 401), r"refuses me/pets \(401\): .*HF_TOKEN"),
    (lambda: raised(errors.HfHubHTTPError, 403), r"refuses me/pets \(403\): .*may write"),
    (lambda: ConnectionError("no address"), r"cannot be reached \(no address\)"),
])
def test_what_the_hub_does_not_take(error, said, run, fake, monkeypatch):
    def refuse(*a, **k):
        raise error()

    monkeypatch.setattr(fake, "create_repo", refuse)
    with pytest.raises(HubError, match=said):
        push_to_hub(run.folder, "me/pets")


def test_what_is_no_run_is_not_pushed(fake, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        push_to_hub(tmp_path, "me/pets")
    assert not any(call[0] == "create" for call in fake.calls)


def test_without_the_package(monkeypatch, run):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'spa_lib\[hub\]'"):
        Tagger.from_pretrained("hf://me/pets")
    with pytest.raises(SystemExit, match=r"spa export: .*pip install 'spa_lib\[hub\]'"):
        spa(["export", str(run.folder), "--hub", "me/pets"])


def test_from_the_terminal(run, fake, tmp_path, capsys):
    out = str(tmp_path / "out")
    spa(["export", str(run.folder), "--hub", "me/pets", "--folder", out, "--licence", "mit"])
    assert capsys.readouterr().out.split() == [out, "https://huggingface.co/me/pets"]
    assert "license: mit" in (fake.folder / "me/pets/README.md").read_text()
    with pytest.raises(SystemExit, match="nothing to export to: give --onnx FILE, --hub OWNER/NAME"):
        spa(["export", str(run.folder)])
