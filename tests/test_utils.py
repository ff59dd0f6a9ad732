"""The parameters of notebooks, what an import loads, and torch's random state."""
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import torch

from spa_lib.utils import assignments, field_comments, parameters, pick_device, seeded, torch_seed


def python(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@dataclass
class Parent:
    a: int = 1  # first: "x", "y"
    kind: Literal["x", "y"] = "x" # of what


@dataclass
class Child(Parent):
    "A docstring, which assigns nothing."
    b: Annotated[str, "mark"] = "#" # a # in both
    c: float = (0.5 +
                0.5)  # two lines
    plain: Literal["x", "y"] = "x" # "x" or "y"
    bare: bool = False


def test_comments_of_a_dataclass_and_of_what_it_inherits():
    inherited = dict(a='first: "x", "y"', kind='of what: "x", "y"')
    own = dict(b="a # in both", c="two lines", plain='"x" or "y"', bare="")
    assert field_comments(Child) == inherited | own


def test_assignments_of_a_cell():
    cell = "import os\na = 1 # é, one\nb = c = [1, 'x']\nd: int\ne.f = 2\ng += 1\n"
    assert assignments(cell) == {"a": ("1", "é, one"), "b": ("[1, 'x']", ""), "c": ("[1, 'x']", "")}


def test_parameters_are_the_variables_of_whoever_calls():
    script = "kind = 'y'\nother = 3\nbare = print\nfound = parameters(Child)"
    names = dict(parameters=parameters, Child=Child)
    exec(script, names)
    assert names["found"] == dict(kind="y")


def test_importing_what_papermill_loads_is_light():
    heavy = {"torch", "numpy", "pandas", "tqdm"}
    done = python(f"import sys, spa_lib.papermill; print({heavy} & set(sys.modules))")
    assert done.returncode == 0 and done.stdout == "set()\n"


@pytest.mark.parametrize("error", ["OSError", "RuntimeError", "ImportError"])
def test_torchaudio_imports_where_its_extension_does_not_load(error):
    """The extension's module raises; torchaudio's part in plain torch is there all the same."""
    done = python(f"""
import sys
from importlib.machinery import PathFinder, SourceFileLoader
find, name = PathFinder.find_spec, "torchaudio._extension"
class Broken:
    def create_module(self, spec): return None
    def exec_module(self, module): raise {error}("broken")
def find_spec(fullname, path=None, target=None):
    spec = find(fullname, path, target)
    if fullname == name: spec.loader = Broken()
    return spec
PathFinder.find_spec = find_spec
import spa_lib, torchaudio, torch
assert not torchaudio._extension._IS_ALIGN_AVAILABLE
assert torchaudio.functional.resample(torch.ones(1, 441), 441, 320).shape == (1, 320)
try: torchaudio._extension.fail_if_no_align(print)()
except RuntimeError as e: assert "does not load here" in str(e)
else: raise AssertionError
""")
    assert done.returncode == 0, done.stderr


def test_the_hook_is_there_once():
    done = python("""
import sys, spa_lib
from spa_lib.utils import import_torchaudio_without_extension as again
before = list(sys.meta_path); again(); assert sys.meta_path == before
""")
    assert done.returncode == 0, done.stderr


def test_a_key_sets_the_state_and_leaves_it_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded("holdout", 3):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded("holdout", 3):
        assert torch.equal(torch.rand(2), inside)
    with seeded("holdout", 4):
        assert not torch.equal(torch.rand(2), inside)


def test_auto_is_a_device_that_is_there():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_seeded_block_asks_no_absent_device(monkeypatch):
    """torch.manual_seed notes down a call and its stack for each kind of device: half of a small step."""
    state = torch.get_rng_state()
    with torch.random.fork_rng([]):
        torch.manual_seed(torch_seed("mixup", 0, 0, 2))
        expected = torch.rand(2)
    monkeypatch.delattr("torch.cuda.random._lazy_call")
    with seeded("mixup", 0, 0, 2):
        assert torch.equal(torch.rand(2), expected)
    assert torch.equal(torch.get_rng_state(), state)
