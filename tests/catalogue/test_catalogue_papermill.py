"""The forms in which papermill takes its arguments, read by its own parser; what is said of wrong ones."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import click
import pytest
from papermill.cli import papermill

from spa_lib.papermill import with_defaults

OK = 0
MN = base64.b64encode(b"encoder: mn").decode()
WRONG = base64.b64encode(b"encodr: mn").decode()
NAME = "04_train-encoder=mn"

# what is typed after the notebook | what comes of it | the output's name, or what must be said
FORMS = [
    ("", OK, "runs/04_train.ipynb"),
    ("-p encoder mn", OK, NAME),
    ("-pencoder mn", OK, NAME),
    ("--parameters encoder mn", OK, NAME),
    ("--parameters=encoder mn", OK, NAME),
    ("-r encoder mn", OK, NAME),
    ("-rencoder mn", OK, NAME),
    ("--parameters_raw encoder mn", OK, NAME),
    ("--parameters_raw=encoder mn", OK, NAME),
    ("-y {encoder:\\ mn}", OK, NAME),
    ("-y{encoder:\\ mn}", OK, NAME),
    ("--parameters_yaml {encoder:\\ mn}", OK, NAME),
    ("--parameters_yaml={encoder:\\ mn}", OK, NAME),
    ("-b " + MN, OK, NAME),
    ("-b" + MN, OK, NAME),
    ("--parameters_base64 " + MN, OK, NAME),
    ("--parameters_base64=" + MN, OK, NAME),
    ("-f FILE", OK, NAME),
    ("-fFILE", OK, NAME),
    ("--parameters_file FILE", OK, NAME),
    ("--parameters_file=FILE", OK, NAME),
    ("-p encoder mn -p seed 1", OK, f"{NAME}-seed=1"),
    ("-y {encoder:\\ ast} -p encoder mn", OK, NAME),
    ("-y {}", OK, "runs/04_train.ipynb"),
    ("-y #nothing", OK, "runs/04_train.ipynb"),
    ("-p encoder mn --log-output --cwd .", OK, NAME),
    ("-k python3 -p encoder mn", OK, NAME),
    ("--kernel=python3 -p encoder mn", OK, NAME),
    ("--no-progress-bar -p encoder mn", OK, NAME),
    ("--execution-timeout 60 -p encoder mn", OK, NAME),
    ("--autosave-cell-every=0 -p encoder mn", OK, NAME),
    ("out.ipynb -p encoder mn", OK, "out.ipynb"),
    ("-p encoder mn out.ipynb", OK, "out.ipynb"),
    ("-p encoder mn -- out.ipynb", OK, "out.ipynb"),
    ("- -p encoder mn", OK, "-"),
    ("-p root a=b out.ipynb", OK, "out.ipynb"),
    ("seed=1.ipynb", OK, "seed=1.ipynb"),
    ("-p root -p", OK, "04_train-root=-p"),
    ("-p sede 1", ValueError, "Did you mean 'seed'?"),
    ("-psede 1", ValueError, "Did you mean 'seed'?"),
    ("--parameters=sede 1", ValueError, "Did you mean 'seed'?"),
    ("-r sede 1", ValueError, "Did you mean 'seed'?"),
    ("-y {sede:\\ 1}", ValueError, "Did you mean 'seed'?"),
    ("-y{sede:\\ 1}", ValueError, "Did you mean 'seed'?"),
    ("--parameters_yaml={sede:\\ 1}", ValueError, "Did you mean 'seed'?"),
    ("-b " + WRONG, ValueError, "Did you mean 'encoder'?"),
    ("--parameters_base64=" + WRONG, ValueError, "Did you mean 'encoder'?"),
    ("-f WRONG", ValueError, "Did you mean 'encoder'?"),
    ("--parameters_file=WRONG", ValueError, "Did you mean 'encoder'?"),
    ("-p sede 1 out.ipynb", ValueError, "Did you mean 'seed'?"),
    ("-y [1,2]", ValueError, "--parameters_yaml holds a list, not names and values"),
    ("-y 3", ValueError, "holds a int, not names and values"),
    ("-y {a", ValueError, "--parameters_yaml holds no yaml"),
    ("-b %%%", ValueError, "--parameters_base64 holds no base64"),
    ("-f no.yaml", ValueError, "no.yaml cannot be read"),
    ("-f .", ValueError, "--parameters_file . cannot be read"),
    ("encoder=mn", ValueError, "A parameter is given as: -p encoder mn"),
    ("seed=1", ValueError, "'seed=1' stands where the output's path stands"),
    ("-p encoder", click.UsageError, "requires 2 arguments"),
    ("-p", click.UsageError, "requires 2 arguments"),
    ("-p encoder mn mn x.ipynb", click.UsageError, "unexpected extra argument"),
    ("-p compare maybe", ValueError, "compare must be True or False, got 'maybe'"),
    ("--parametres encoder mn", click.UsageError, "No such option"),
    ("-y", click.UsageError, "requires an argument"),
]


def words(line):
    """A line as a shell splits it, where a blank after a backslash does not split."""
    return [word.replace("\0", " ") for word in line.replace("\\ ", "\0").split()]


def read(arguments):
    """What papermill's own parser makes of arguments, completed and checked."""
    with papermill.make_context("papermill", list(arguments)) as context:
        return with_defaults(context.params)


@pytest.fixture
def notebook(root, tmp_path, monkeypatch):
    """The training notebook in a checkout of its own, and two files of parameters."""
    monkeypatch.chdir(tmp_path)
    Path("nbs").mkdir()
    Path("settings.ini").touch()
    Path("nbs/04_train.ipynb").write_text((root / "nbs" / "04_train.ipynb").read_text())
    Path("FILE").write_text("encoder: mn")
    Path("WRONG").write_text("encodr: mn")
    return "nbs/04_train.ipynb"


@pytest.mark.parametrize("line, outcome, sentence", FORMS, ids=[row[0] for row in FORMS])
def test_form(line, outcome, sentence, notebook, meets):
    meets(lambda: read([notebook, *words(line)])["output_path"], outcome, sentence)


@pytest.mark.parametrize(
    "given, value",
    [
        *((word, False) for word in ("False", "false", "FALSE", "no", "No", "off", "0")),
        *((word, True) for word in ("True", "true", "yes", "on", "1")),
    ],
)
def test_a_switch_is_what_its_word_says(given, value, notebook):
    """`-p compare false` and `-p compare no` did the opposite."""
    for line in (["-p", "compare", given], ["-r", "compare", given], ["-y", json.dumps({"compare": given})]):
        options = read([notebook, *line])
        assert options["parameters"][-1] == ("compare", str(value)) and not options["parameters_raw"]


def test_a_notebook_that_is_not_there(notebook, meets):
    for line in (["nbs/4_train.ipynb"], ["--", "out.ipynb"], ["-p", "seed", "1", "nbs/4_train.ipynb"]):
        meets(lambda line=line: read(line), FileNotFoundError, "there is no notebook")


def python_m(*arguments):
    command = [sys.executable, "-m", "papermill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_the_module_is_checked_as_the_command_is(notebook):
    """`python -m papermill` passed all checks by, and wrote the notebook to stdout."""
    done = python_m(notebook, "-p", "sede", "1")
    assert (
        done.returncode == 1 and done.stdout == "" and done.stderr.startswith("papermill: unknown parameter")
    )
    assert len(done.stderr.splitlines()) == 1
    shown = python_m(notebook, "--help-notebook").stdout
    assert "compare = True" in shown and "also run alpha = 0 with the same seed" in shown


# the second cell of a notebook | what must stand first and last on stderr | its number of lines, at most
ENDS = [
    (
        "raise ValueError('alpha is no number: give one')",
        "papermill: ValueError: alpha is no number: give one",
        12,
    ),
    ("open('/no/file')", "papermill: FileNotFoundError: [Errno 2] No such file or directory: '/no/file'", 12),
    ("{}['x']", "papermill: KeyError: 'x'", 60),
]


@pytest.mark.parametrize("source, sentence, most", ENDS, ids=[row[0] for row in ENDS])
def test_an_error_is_one_sentence(source, sentence, most, notebook):
    """A wrong value gave 50 to 190 lines of traceback."""
    content = json.loads(Path(notebook).read_text())
    tagged = next(c for c in content["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    content["cells"] = [tagged, {**cell, "source": f"import spa_lib.utils\n{source}"}]
    Path("one.ipynb").write_text(json.dumps(content))
    done = python_m("one.ipynb")
    lines = [line.rpartition("\r")[2] for line in done.stderr.splitlines()]
    assert done.returncode == 1 and len(lines) <= most, done.stderr
    assert lines[-2] == sentence and lines[-1].endswith("runs/one.ipynb")


def test_interrupted_it_says_that_the_same_line_goes_on(notebook):
    """Ctrl-C reaches papermill and the kernel alike: the whole group of processes."""
    content = json.loads(Path(notebook).read_text())
    tagged = next(c for c in content["cells"] if "parameters" in c["metadata"].get("tags", []))
    source = "import time, spa_lib.utils\nopen('begun', 'w').close()\ntime.sleep(600)"
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    content["cells"] = [tagged, {**cell, "source": source}]
    Path("one.ipynb").write_text(json.dumps(content))
    command = [sys.executable, "-m", "papermill", "one.ipynb"]
    default = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=default
    )
    while not Path("begun").exists() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    last = said.replace("\r", "\n").strip().splitlines()[-1]
    assert process.returncode == 130, said
    assert last == "papermill: interrupted. Run the same line again: a training goes on from its last state"
