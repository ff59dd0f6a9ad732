"""python alone.py LOCK COMMAND...: become COMMAND as soon as no other process holds LOCK.

A workflow that was killed can leave its training behind, still running. When the workflow is started
again, it waits here for that training, instead of training the same run a second time. The lock ends
with the process that holds it, however that process ends.
"""
import fcntl
import os
import sys

path, *command = sys.argv[1:]
os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"waiting for the process that holds {path}", file=sys.stderr, flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)
except OSError as error:
    print(f"{path} cannot be locked here ({error}): going on without", file=sys.stderr, flush=True)
os.set_inheritable(lock, True)
os.execvp(command[0], command)
