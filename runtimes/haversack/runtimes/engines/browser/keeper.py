"""Keeps one command: runs it in a process group of its own, and ends the whole group when its own parent is gone.

    python -I -S keeper.py FOLDER READ WRITE COMMAND [ARGUMENT...]

The command gets the inherited pipes READ and WRITE as its descriptors 3 and 4, where Chromium's
`--remote-debugging-pipe` looks for them. Standard input is a pipe whose other end the parent holds: when that closes,
for whatever reason (the parent closed it, ended, or was killed), the command and everything that it started are killed
and FOLDER is removed. When the command ends by itself, the same is done at once. Only the standard library's core is
imported: it must start in milliseconds.
"""

import contextlib
import os
import signal
import sys
import threading
import time


def main() -> int:
    """Run the command line above; the command's own exit code, 128 and the signal's number where one killed it."""
    folder, read, write, *command = sys.argv[1:]
    _raise_memory_limit()
    _adopt_orphans()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        _become(command, int(read), int(write))
    with contextlib.suppress(PermissionError):  # the child has done it, and is the command already
        os.setpgid(child, child)  # both sides do it, so that neither can be too late
    # The command's own ends of the pipes must be nobody else's, or nobody would hear that it ended.
    os.close(int(read))
    os.close(int(write))
    threading.Thread(target=_until_closed, args=(child,), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _end(child)
    _remove(folder)
    return code if code >= 0 else 128 - code


def _become(command: list[str], read: int, write: int) -> None:
    """Replace this process by the command."""
    import fcntl

    # Out of the way first: one of them may be 3 or 4 itself.
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 10) for handle in (read, write)]
    for handle, number in zip(high, (3, 4), strict=True):
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(5, 64)
    try:
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _until_closed(group: int) -> None:
    while os.read(0, 1024):
        pass
    os.killpg(group, signal.SIGKILL)


def _end(group: int) -> None:
    """Kill what is left of the group and wait until none is."""
    for _ in range(200):
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.01)


def _remove(folder: str) -> None:
    import shutil

    for _ in range(20):  # a process that was killed a moment ago may still be writing
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110  (pathlib takes longer to import than all the rest)
            return
        time.sleep(0.05)


def _raise_memory_limit() -> None:
    """Lift the soft limit of the address space: V8 reserves terabytes for its sandbox and touches little of them."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _adopt_orphans() -> None:
    """On Linux, have the group's orphans handed to this process, which can then wait for them to be gone."""
    import ctypes

    set_child_subreaper = 36  # prctl(2)
    try:
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    sys.exit(main())
