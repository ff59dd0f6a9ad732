"""Installs spa_lib; every fact about the package stands in settings.ini."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
STATUS = {"2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}


def requirements(*parts):
    """The requirements that settings.ini gives for these parts."""
    return [line for part in parts for line in cfg[f"{part}_requirements"].split()]


def classifiers():
    """PyPI's words for what settings.ini says."""
    return [
        f"Development Status :: {STATUS[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: {version}" for version in cfg["python_versions"].split()),
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ]


def readme():
    """README.md with links that hold outside of the checkout."""
    text = (here / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!\w+:|#)", rf"\1{cfg['git_url']}/raw/{cfg['branch']}/", text)
    return re.sub(r"(\]\()(?!\w+:|#)", rf"\1{cfg['git_url']}/blob/{cfg['branch']}/", text)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme(),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={
        "Source": cfg["git_url"],
        "Changelog": f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
    },
    license_expression="BSD-3-Clause",
    license_files=["LICENSE"],
    classifiers=classifiers(),
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
        "console_scripts": [
            "spa=spa_lib.cli:spa", "spa_runs=spa_lib.cli:spa_runs", "spa_plan=spa_lib.cli:spa_plan",
        ],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
        "papermill.io": ["spa_lib.defaults:=spa_lib.papermill:handler"],
    },
    zip_safe=False,
)
