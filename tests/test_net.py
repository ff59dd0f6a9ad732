"""Two small runs have the names and, up to rounding, the numbers that tests/net/net.json holds.

Digit for digit, over all of its runs: `python tests/net/net.py check`.
"""
import importlib.util
import json

import pytest


@pytest.fixture(scope="module")
def net(root):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("net", root / "tests" / "net" / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def committed(net):
    return json.loads(net.FILE.read_text())


@pytest.mark.parametrize("paper, name", [("spa", "smoke"), ("semanticac", "spa")])
def test_small_run_is_the_committed_one(net, committed, paper, name, tmp_path):
    """On any machine: these two runs have no scores so close that rounding changes their order."""
    if paper == "spa":
        old, new = committed["runs"][name], net.spa_run(name, tmp_path)
    else:
        old, new = committed["runs"][f"semanticac: {name}"], net.semantic_run(name, tmp_path)
    new = json.loads(json.dumps(new))
    rounded = {"scores": "a digest, which shows every rounding"}
    assert not net.differences(old | rounded, new | rounded, tolerance=1e-3)


def test_names_are_the_committed_ones(net, committed):
    assert net.all_names() == committed["names"]


def test_differences_name_the_place(net):
    old = {"a": [1, {"b": 0.5}], "c": "x"}
    assert net.differences(old, {"a": [1, {"b": 0.5}], "c": "x"}) == []
    assert net.differences(old, {"a": [1, {"b": 0.5001}], "c": "x"}) == ["/a/1/b: 0.5 -> 0.5001"]
    assert net.differences(old, {"a": [1, {"b": 0.5001}], "c": "x"}, tolerance=1e-3) == []
    assert net.differences(old, {"a": [1], "c": "y"}) == ["/a: [1, {'b': 0.5}] -> [1]", "/c: x -> y"]
    assert net.differences(old, old | {"d": 0}) == ["/d: None -> 0"]
