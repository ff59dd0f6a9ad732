"""Installs spa_lib; every fact about the package stands in settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def requirements(*parts):
    """The requirements that settings.ini gives for these parts."""
    return [line for part in parts for line in cfg[f"{part}_requirements"].split()]


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="BSD-3-Clause",
    keywords=cfg["keywords"],
    packages=find_packages(include=["spa_lib", "spa_lib.*"]),
    package_data={"spa_lib": ["assets/*", "assets/real_corpus/*", "py.typed"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={
        "dev": requirements("dev", "listening", "devices", "metrics", "onnx", "hub"),
        "paper": requirements("paper"),
        "metrics": requirements("metrics"),
        "onnx": requirements("onnx"),
        "hub": requirements("hub"),
        "listening": requirements("listening"),
        "devices": requirements("devices"),
        "browser": requirements("browser"),
        "clip": requirements("clip"),
    },
    entry_points={
        "console_scripts": ["spa_runs=spa_lib.cli:spa_runs", "spa_plan=spa_lib.cli:spa_plan"],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
        "papermill.io": ["spa_lib.defaults:=spa_lib.papermill:handler"],
    },
    zip_safe=False,
)
