"""One writer at a time in a run folder: refused or waited for, and free again after a kill."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from spa_lib.runs import FolderInUse, lock_wait, make_config, only_writer, run_name
from spa_lib.train import train

HOLD = """
import sys, time
from spa_lib.runs import only_writer
with only_writer(sys.argv[1]):
    print("holds it", flush=True)
    time.sleep(float(sys.argv[2]))
"""
SAVE = """
import sys
import torch
from spa_lib.runs import only_writer, save_checkpoint
failed = 0
with only_writer(sys.argv[1], wait=60):
    for k in range(60):
        try: save_checkpoint(sys.argv[1], {"k": k, "weights": torch.zeros(1000)})
        except OSError: failed += 1
print(failed)
"""


def started(code, *words):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    """A process that writes in tmp_path, for a minute or until it is killed."""
    process = started(HOLD, tmp_path, 60)
    assert process.stdout.readline() == "holds it\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(FolderInUse) as error, only_writer(tmp_path):
        pass
    first = str(error.value).partition(". ")[0]
    assert first == f"process {holder.pid} on {socket.gethostname()} writes in {tmp_path}"


def test_a_kill_frees_the_folder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with only_writer(tmp_path):
        assert json.loads((tmp_path / "writer.json").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_writer_may_enter_again(tmp_path):
    with only_writer(tmp_path):
        with only_writer(tmp_path):
            pass
        assert (tmp_path / "writer.json").exists()


def test_a_second_writer_can_wait(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SPA_LIB_WAIT", "inf")
    assert lock_wait() == float("inf")
    process = started(HOLD, tmp_path, 1.5)
    process.stdout.readline()
    begun = time.time()
    with only_writer(tmp_path):
        assert time.time() - begun > 0.5
    process.wait()
    assert f"waiting for process {process.pid}" in capfd.readouterr().err


def test_waiting_has_an_end(tmp_path, holder):
    with pytest.raises(FolderInUse, match="SPA_LIB_WAIT=inf"), only_writer(tmp_path, wait=0.2):
        pass


def test_two_writers_lose_no_state(tmp_path):
    """Without the lock, 17 and 32 of 60 saves failed: each renamed the other's file away."""
    both = [started(SAVE, tmp_path) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["0\n", "0\n"]


COUNT = """
import sys
from pathlib import Path
from spa_lib.runs import only_writer
number = Path(sys.argv[2])
for k in range(100):
    with only_writer(sys.argv[1], wait=60):
        number.write_text(str(int(number.read_text()) + 1))
"""


def test_a_lock_that_is_deleted_while_it_is_waited_for_has_one_owner(tmp_path):
    """It is deleted when it is freed, so that a finished run holds no lock file."""
    number = tmp_path / "number"
    number.write_text("0")
    both = [started(COUNT, tmp_path / "run", number) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0] and number.read_text() == "200"


def test_a_run_that_another_process_trains_is_refused(tmp_path):
    cfg = make_config("smoke", n_train=16, n_eval=16, epochs=1)
    folder = tmp_path / run_name(cfg)
    process = started(HOLD, folder, 60)
    process.stdout.readline()
    try:
        with pytest.raises(FolderInUse, match=f"process {process.pid} on"):
            train(cfg, tmp_path, progress=False)
        assert not (folder / "config.json").exists()
    finally:
        process.kill()
        process.wait()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")
    monkeypatch.setattr("spa_lib.runs.folder._take", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked"), only_writer(tmp_path):
        pass
