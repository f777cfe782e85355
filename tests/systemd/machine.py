"""A machine that systemd runs: this one's files below an overlay in memory, booted by systemd-nspawn without a network.

Nothing of this machine is changed: the overlay and its mounts are in a mount namespace that ends with the process.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import unavailable

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/opt/his160/bin/python"
_BOOT_SECONDS = 60
_SCRIPT = """
mount -t tmpfs -o size=1g,mode=0755 his160 "$1"
tree="$1/tree"
mkdir "$1/upper" "$1/work" "$tree"
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$tree"
shift
# The interpreter's own library: where its home is hidden, the system's older one of the same name would be taken.
echo /opt/python/lib >"$tree/etc/ld.so.conf.d/000-python.conf"
exec systemd-nspawn --quiet --directory="$tree" --register=no --keep-unit --private-network --link-journal=no \
  --console=pipe --kill-signal=SIGRTMIN+3 "$@" --boot systemd.unit=basic.target systemd.show_status=0
"""


class Machine:
    """Runs programs inside. ``leader``: number of its first process, seen from here."""

    def __init__(self, leader: int) -> None:
        self.leader = leader

    def run(self, *words: str, seconds: float = 120, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """A program inside, as root, to its end; ``text``: its standard input."""
        into = [
            "nsenter",
            "--target",
            str(self.leader),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]
        environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/",
            "LANG": "C.UTF-8",
        }
        given = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            [*into, *words], capture_output=True, encoding="utf-8", timeout=seconds, check=False, env=environ, **given
        )

    def must(self, *words: str, text: str | None = None) -> str:
        """What the program printed; fails for another exit code than 0."""
        done = self.run(*words, text=text)
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def his160(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Our program inside."""
        return self.run(PYTHON, "-P", "-m", "agent", *words)

    def shown(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.must("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def until(self, unit: str, name: str, wanted: str, seconds: float = 60) -> None:
        """Wait until a property of a unit has a value."""
        end = time.monotonic() + seconds
        pause = threading.Event()
        while (found := self.shown(unit, name)) != wanted:
            assert time.monotonic() < end, f"{name} of {unit} is {found}, not {wanted}\n{self.journal(unit)}"
            pause.wait(0.1)

    def journal(self, unit: str) -> str:
        """The last lines of a unit's log."""
        return self.run("journalctl", "--no-pager", "--output=cat", "-n", "60", "-u", unit).stdout


@contextmanager
def booted(folder: Path, wheel: Path, site: Path) -> Iterator[Machine]:
    """Boot a machine with our wheel in /opt/his160 and ``site`` readable at /opt/site. Skips where that cannot be."""
    _check()
    top = folder / "machine"
    top.mkdir()
    program = _program(folder, wheel)
    binds = [
        f"--bind-ro={sys.base_prefix}:/opt/python",
        f"--bind-ro={sysconfig.get_path('purelib')}:/opt/libraries",
        f"--bind-ro={program}:/opt/his160",
        f"--bind-ro={site}:/opt/site",
    ]
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-eu", "-c", _SCRIPT, "sh", str(top), *binds]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    said: deque[str] = deque(maxlen=60)
    assert process.stdout is not None
    reader = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield _up(process, said)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        reader.join(10)
        process.stdout.close()


def _check() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        unavailable("systemd", "needs Linux and root")
    for program in ("systemd-nspawn", "systemctl", "nsenter", "unshare"):
        if shutil.which(program) is None:
            unavailable("systemd", f"no {program} (Debian: systemd, systemd-container)")


def _program(folder: Path, wheel: Path) -> Path:
    """A virtual environment for /opt/his160: our wheel, and the libraries of the environment that runs the tests."""
    place = folder / "program"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(f"/opt/python/bin/{version}")
    (place / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    zipfile.ZipFile(wheel).extractall(packages)
    # The machine cannot write there: every start would compile all of it anew.
    assert compileall.compile_dir(packages, quiet=1)
    # A path line does not run the .pth files of that folder, so the editable install there is not seen.
    (packages / "libraries.pth").write_text("/opt/libraries\n")
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return place


def _up(process: subprocess.Popen[str], said: Sequence[str]) -> Machine:
    end = time.monotonic() + _BOOT_SECONDS
    pause = threading.Event()
    while time.monotonic() < end:
        if process.poll() is not None:
            unavailable("systemd", f"systemd-nspawn ended with {process.returncode}: {''.join(said)}")
        leader = _child(process.pid)
        if leader is not None:
            machine = Machine(leader)
            done = machine.run("systemctl", "is-active", "basic.target")
            if done.stdout.strip() == "active":
                machine.must("ldconfig")
                return machine
        pause.wait(0.1)
    raise AssertionError(f"the machine has not booted: {''.join(said)}")


def _child(parent: int) -> int | None:
    """The first process of the machine: the child of systemd-nspawn."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if len(children) == 1 else None
