"""Finds Chromium, starts it without a window on a fresh profile, and ends it with everything that it started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from haversack.runtimes.engines.quiet import one_line
from haversack.runtimes.errors import EngineError

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows, where this module is imported too, but starts nothing
    resource = None

VARIABLE = "HAVERSACK_CHROMIUM"
"""The environment variable that names Chromium's executable."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    # Nothing leaves the machine, whoever asks.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--password-store=basic",
    "--use-mock-keychain",
    # WebAssembly on the CPU needs no graphics; small containers have a small /dev/shm.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # A page without a window is a page in the background, which would be slowed down.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


def find_chromium(told: str | Path | None = None) -> Path:
    """Chromium's executable.

    Args:
        told: Where it is; by default what the environment variable `HAVERSACK_CHROMIUM` says, else what is on the PATH
            or in macOS's applications.

    Raises:
        EngineError: There is none.
    """
    told = told or os.environ.get(VARIABLE) or None
    if told is not None:
        found = shutil.which(str(told))
        if found is None:
            raise EngineError(f"no Chromium: {told} is no executable file")
        return Path(found).absolute()
    for name in (*NAMES, *PLACES):
        found = shutil.which(name)
        if found is not None:
            return Path(found).absolute()
    raise EngineError(
        f"no Chromium found; install it (Debian: apt-get install chromium) or name its executable in {VARIABLE}"
    )


class Chromium:
    """A running Chromium with one blank page.

    It runs under a keeper (`keeper.py`), which ends it when this process ends, however that happens.

    Args:
        told: See `find_chromium`.

    Attributes:
        pid: The keeper's process.
        read: Descriptor of what Chromium says on its debugging pipe.
        write: Descriptor of what Chromium hears there.

    Raises:
        EngineError: There is none, or this system has no process groups.
    """

    def __init__(self, told: str | Path | None = None):
        if resource is None:
            raise EngineError("the browser engines run on Linux and macOS")
        executable = find_chromium(told)
        self._folder = tempfile.mkdtemp(prefix="haversack-chromium-", dir=_short_folder())
        flags = [*FLAGS, f"--user-data-dir={self._folder}/profile"]
        if os.geteuid() == 0:  # Chromium refuses to run as root with its sandbox
            flags.append("--no-sandbox")
        try:
            hears, self.write = os.pipe()
            self.read, says = os.pipe()
            keeper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py"))]
            self._log = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and is read after Chromium's end)
            self._process = subprocess.Popen(
                [*keeper, self._folder, str(hears), str(says), str(executable), *flags, "about:blank"],
                env={**os.environ, "TMPDIR": self._folder},
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(hears, says),
                start_new_session=True,  # Ctrl-C in a terminal is for this process alone
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        os.close(hears)
        os.close(says)
        self.pid = self._process.pid

    def last_words(self) -> str:
        """Why it may have ended: a limit that it cannot live under, or the last line that it printed."""
        assert resource is not None
        bound: int = resource.getrlimit(resource.RLIMIT_AS)[1]
        if bound != resource.RLIM_INFINITY:
            return (
                f"Chromium reserves terabytes of address space, and this process may have {bound >> 30} GiB: ulimit -v"
            )
        size = os.fstat(self._log.fileno()).st_size
        lines = os.pread(self._log.fileno(), size, 0).decode(errors="replace").splitlines()
        return one_line(*[line for line in lines if line.strip()][-1:])

    def memory(self) -> int | None:
        """Bytes that all its processes hold now (Linux's proportional set size); None on other systems."""
        held = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # After the name in parentheses: state, parent, process group (proc(5)).
                group = int(_status(process.name)[2])
                if int(_status(group)[1]) != self.pid:
                    continue
                rolled = (process / "smaps_rollup").read_text(encoding="utf-8")
            except (OSError, ValueError, IndexError):
                continue
            held += sum(int(line.split()[1]) << 10 for line in rolled.splitlines() if line.startswith("Pss:"))
        return held or None

    def close(self) -> None:
        """End it and wait until all of it is gone; the profile is removed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # the keeper itself was stopped
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _short_folder() -> str:
    """Where temporary files belong, unless its name is so long that Chromium cannot make a socket in it.

    A socket's path has at most 107 bytes, and Chromium, which adds some 80, dies of a longer one.
    """
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= 28 or not os.access("/tmp", os.W_OK) else "/tmp"


def _status(process: int | str) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
