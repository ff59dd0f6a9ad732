"""Build the sdist and the wheel, install the wheel into an empty environment, and run smoke.py there.

    python tests/wheel/environment.py [--folder FOLDER]

The wheel is built from the sdist, so a file that the sdist lacks is missed here. The environment is new, with
nothing in it but pip, and pip installs the wheel itself. What the wheel requires is not downloaded again: the
distributions of the running environment that its requirements name, with all that these require, are linked
into the new one, and `pip check` compares their versions with the requirements. Everything else, such as
matplotlib or an extra, is not there. So this tests the files, the metadata and the completeness of the
requirements, with the versions that are installed here. It does not test that an index offers them, nor other
versions: the workflow on GitHub installs from the index.
"""
import argparse
import re
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def run(*command, **options):
    """Run a command; its output is shown where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build(folder):
    """Sdist and wheel of the checkout, the wheel made from the sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def required_by(found):
    """The distributions that one requires without extras, by their normal names."""
    names = set()
    for line in found.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.add(re.sub(r"[-_.]+", "-", requirement.name).lower())
    return names


def closure(names):
    """These distributions of the running environment and all that they require."""
    found, todo = {}, list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = distribution(name)
            todo += required_by(found[name])
    return found


def link(found, site):
    """Link a distribution's packages, modules and metadata into a folder of site-packages."""
    source = Path(found.locate_file(""))
    tops = {file.parts[0] for file in found.files if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        if (source / top).exists() and not (site / top).exists():
            (site / top).symlink_to(source / top)


def check(folder):
    """Build, install and run in a folder, and say what came of it."""
    begun = time.perf_counter()
    sdist, wheel = build(folder / "dist")
    for made in (sdist, wheel):
        print(f"{made.name} {made.stat().st_size/2**20:.1f} MB")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (info,) = site.glob("spa_lib-*.dist-info")
    requirements = closure(required_by(Distribution.at(info)))
    for found in requirements.values():
        link(found, site)
    run(python, "-m", "pip", "check")
    print(f"an environment of {len(requirements)} distributions, {time.perf_counter() - begun:.0f} s")
    empty = folder / "empty"
    empty.mkdir()
    print(run(python, "-I", HERE / "smoke.py", cwd=empty), end="")
    print(f"the wheel works, {time.perf_counter() - begun:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="an empty one to work in, kept; default: a temporary one")
    if folder := parser.parse_args().folder:
        return check(folder.resolve())
    with tempfile.TemporaryDirectory(prefix="spa_lib_wheel_") as name:
        check(Path(name))


if __name__ == "__main__":
    main()
