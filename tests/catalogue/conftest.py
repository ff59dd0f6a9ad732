"""How a row of the catalogue is met: what is called, and what must come of it.

Each test file here is a table. A row says what the input is, what comes of it (an error's type, an exit
status, or OK where it is used as it is meant), and a sentence that must be in the message.
"""

import importlib.util
import io
from pathlib import Path

import pytest

OK = 0


def load(name, path):
    """A module by its path: what another folder of tests makes its inputs with."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run():
    """The function that writes a finished run with made-up scores."""
    return load("conftest_of_runs", Path(__file__).parents[1] / "runs" / "conftest.py").write_run


@pytest.fixture
def meets(capsys, caplog, recwarn):
    """`meets(call, outcome, sentence)`: the call ends as the row says, and says what the row says."""

    def check(call, outcome, sentence):
        said = io.StringIO()
        if isinstance(outcome, type):
            with pytest.raises(outcome) as raised:
                call()
            assert raised.type is not KeyError or outcome is KeyError
            said.write(str(raised.value))
        elif outcome == OK:
            said.write(f"{call()}\n")
        else:
            with pytest.raises(SystemExit) as stopped:
                call()
            code = stopped.value.code
            assert (code if isinstance(code, int) else 1) == outcome
            said.write(f"{code}\n")
        captured = capsys.readouterr()
        said.write(captured.out + captured.err + caplog.text)
        said.write("\n".join(str(w.message) for w in recwarn))
        text = " ".join(said.getvalue().split())
        assert " ".join(sentence.split()) in text, text

    return check
