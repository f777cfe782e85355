"""Secrets by reference: a configuration never holds a password itself.

``@file:path`` (first line of a file), ``@env:NAME``, ``@credential:name`` (systemd ``LoadCredential=``),
``@dpapi:path`` (a file of ``his160 secret protect``, Windows). No message repeats a value, and an error of a file is
told by its reason alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.dpapi import DpapiError, unprotect
from his_db.document.problem import Place, Problems

_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_FORMS: Final = 'write "@file:path", "@env:NAME", "@credential:name" or "@dpapi:path"'
_FORMS_ZH: Final = '改写为 "@file:路径"、"@env:变量名"、"@credential:名称" 或 "@dpapi:路径"'


def resolve(reference: str, folder: Path, environ: Mapping[str, str], place: Place, problems: Problems) -> str:
    """The secret behind a reference; empty after a report. ``folder``: what a relative path is relative to."""
    kind, separator, name = reference.partition(":")
    if not reference.startswith("@") or not separator:
        message = "a password may not stand in the configuration"
        problems.add(place, "H701", message, "密码不能直接写在配置文件中", _FORMS, _FORMS_ZH)
        return ""
    if kind == "@env" and name:
        return _from_environment(name, environ, place, problems)
    if kind == "@file" and name:
        return _from_file(folder / name, place, problems)
    if kind == "@dpapi" and name:
        return _from_dpapi(folder / name, place, problems)
    if kind == "@credential" and name and "/" not in name and "\\" not in name:
        return _from_credential(name, environ, place, problems)
    problems.add(place, "H702", "not a reference to a secret", "密码引用的写法不对", _FORMS, _FORMS_ZH)
    return ""


def _from_environment(name: str, environ: Mapping[str, str], place: Place, problems: Problems) -> str:
    value = environ.get(name, "")
    if not value:
        problems.add(
            place,
            "H703",
            f"the environment variable {name} is not set",
            f"环境变量 {name} 未设置",
            "set it for the account of the service: systemd: in the file environment beside the configuration",
            "请为运行服务的账号设置该变量；systemd：写在配置文件旁的 environment 文件中",
        )
    return value


def _from_credential(name: str, environ: Mapping[str, str], place: Place, problems: Problems) -> str:
    folder = environ.get(_CREDENTIALS, "")
    if not folder:
        problems.add(
            place,
            "H703",
            "there are no systemd credentials: this process was not started by a unit with LoadCredential=",
            "没有 systemd 凭据：本进程不是由带 LoadCredential= 的服务启动的",
            f'add "LoadCredential={name}:/path" to the unit, or use "@file:path"',
            f'在服务单元中加入 "LoadCredential={name}:/路径"，或改用 "@file:路径"',
        )
        return ""
    return _from_file(Path(folder) / name, place, problems)


def _from_dpapi(path: Path, place: Place, problems: Problems) -> str:
    text = _from_file(path, place, problems)
    if not text:
        return ""
    try:
        return unprotect(text)
    except DpapiError as error:
        problems.add(
            place,
            "H703",
            f"the protected secret cannot be read: {error}",
            f"无法解开受保护的密码：{error}",
            "make it on this machine: his160 secret protect FILE",
            "请在本机重新制作：his160 secret protect 文件",
        )
        return ""


def _from_file(path: Path, place: Place, problems: Problems) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not UTF-8"
        problems.add(
            place,
            "H703",
            f"the secret's file cannot be read: {reason}",
            f"无法读取密码文件：{reason}",
            "check the path and that the account of the service may read it",
            "请检查路径，以及运行服务的账号是否有读取权限",
        )
        return ""
    secret = text.splitlines()[0] if text.strip() else ""
    if not secret:
        problems.add(place, "H703", "the secret's file is empty", "密码文件为空", "write the password", "请写入密码")
    return secret
