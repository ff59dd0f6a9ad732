"""What the package says of itself: settings.ini, setup.py, the manifest, the citation and the workflow agree.

That the wheel works in an environment of its own: `make wheel`.
"""
import re
import subprocess
import sys
from configparser import ConfigParser
from email import message_from_string

import pytest


@pytest.fixture(scope="module")
def settings(root):
    parser = ConfigParser(delimiters=["="])
    parser.read(root / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


@pytest.fixture(scope="module")
def metadata(root, tmp_path_factory):
    """The metadata as setuptools writes it, without building anything."""
    folder = tmp_path_factory.mktemp("metadata")
    command = [sys.executable, "setup.py", "-q", "dist_info", "--output-dir", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (info,) = folder.glob("*.dist-info")
    return message_from_string((info / "METADATA").read_text(encoding="utf-8"))


def test_metadata_is_what_the_settings_say(settings, metadata):
    assert metadata["Version"] == settings["version"] and metadata["License-Expression"] == "BSD-3-Clause"
    versions = settings["python_versions"].split()
    assert metadata["Requires-Python"] == f">={settings['min_python']}" == f">={versions[0]}"
    for version in versions:
        assert f"Programming Language :: Python :: {version}" in metadata.get_all("Classifier")
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert urls["Source"] == settings["git_url"] and urls["Changelog"].endswith("/CHANGELOG.md")


def test_every_part_of_the_settings_is_an_extra(settings, metadata):
    parts = {key.removesuffix("_requirements") for key in settings if key.endswith("_requirements")}
    assert parts == set(metadata.get_all("Provides-Extra")) >= {"metrics", "onnx", "hub"}
    for key in ("requirements", *(f"{part}_requirements" for part in parts)):
        for line in settings[key].split():
            assert re.search(r"[<>]=?\d", line), f"{line} has no bound"


def test_readme_on_a_package_index_has_whole_links(metadata, settings):
    links = re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload())
    assert len(links) > 50 and all(re.match(r"https?://|#", link) for link in links)
    assert f"{settings['git_url']}/blob/{settings['branch']}/CHANGELOG.md" in links


def test_sdist_holds_what_setup_reads(root):
    manifest = (root / "MANIFEST.in").read_text().split()
    for name in re.findall(r'here / "([^"]+)"', (root / "setup.py").read_text()):
        assert name in manifest, f"MANIFEST.in lacks {name}"


def test_extras_are_those_that_messages_name(root, metadata):
    known = set(metadata.get_all("Provides-Extra"))
    for path in (root / "spa_lib").rglob("*.py"):
        for extras in re.findall(r"spa_lib\[([\w,]+)\]", path.read_text()):
            assert set(extras.split(",")) <= known, f"{path.name} names {extras}"


def test_workflow_and_citation(root, settings):
    workflow = (root / ".github" / "workflows" / "test.yml").read_text()
    matrices = re.findall(r"python: \[(.*)\]", workflow)
    assert len(matrices) == 2
    for matrix in matrices:
        assert re.findall(r"[\d.]+", matrix) == settings["python_versions"].split()
    citation = (root / "CITATION.cff").read_text()
    assert f"version: {settings['version']}\n" in citation and settings["git_url"] in citation
    assert {"make test", "make lint", "make wheel"} <= set((root / ".ci" / "run").read_text().splitlines())
