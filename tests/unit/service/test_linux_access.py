"""What is refused before anything is changed on Linux, each with what to do about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agent.config import Settings, load_settings
from service_install.plan import ServiceError

if sys.platform == "win32":
    pytest.skip("owners, groups and modes of POSIX", allow_module_level=True)

from service_install.linux_access import (
    Account,
    check_grantable,
    check_visible,
    read_paths,
    ungranted,
    write_folders,
)
from service_install.systems.systemd import Systemd

CONFIG = """\
site.code = "440305001"
mapping.path = "mappings"
source.his = { engine = "postgresql", database = "his", host = "127.0.0.1", password = "@file:secret/his.password" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:50160" }
delivery.sink = "pull"
"""


def settings_of(folder: Path, more: str = "") -> Settings:
    (folder / "secret").mkdir(exist_ok=True)
    (folder / "secret" / "his.password").write_text("geheim\n")
    (folder / "mappings").mkdir(exist_ok=True)
    (folder / "mappings" / "one.toml").write_text("schema = 1\n")
    (folder / "config.toml").write_text(CONFIG + more, encoding="utf-8")
    return load_settings(folder / "config.toml", {})


def test_the_files_of_a_configuration_are_found(tmp_path: Path) -> None:
    found = set(read_paths(settings_of(tmp_path)))
    assert {tmp_path / "config.toml", tmp_path / "mappings", tmp_path / "secret" / "his.password"} <= found
    assert tmp_path / "state" not in found


def test_what_an_account_may_not_read_is_found(tmp_path: Path) -> None:
    settings_of(tmp_path)
    stranger = Account("his160", 64001, frozenset({64001}))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    inside = [path for path in ungranted(tmp_path / "mappings", stranger) if path.is_relative_to(tmp_path)]
    assert inside == []
    (tmp_path / "mappings" / "one.toml").chmod(0o600)
    (tmp_path / "secret").chmod(0o700)
    inside = [path for path in ungranted(tmp_path / "mappings", stranger) if path.is_relative_to(tmp_path)]
    assert inside == [tmp_path / "mappings" / "one.toml"]
    inside = [p for p in ungranted(tmp_path / "secret" / "his.password", stranger) if p.is_relative_to(tmp_path)]
    assert inside == [tmp_path / "secret"]


@pytest.mark.parametrize(
    "place", [("home", "x", "config.toml"), ("root", "his160"), ("tmp", "c.toml"), ("run", "user", "0")]
)
def test_what_the_service_cannot_see_is_refused(place: tuple[str, ...]) -> None:
    with pytest.raises(ServiceError, match="cannot see") as caught:
        check_visible([Path("/etc/his160/config.toml"), Path("/", *place)])
    assert "/opt/his160" in caught.value.fix


@pytest.mark.parametrize("state", ["/his160.db", "/var/lib/his160.db", "/etc/his160.db", "secret/his160.db"])
def test_a_folder_that_others_use_is_not_given_away(tmp_path: Path, state: str) -> None:
    settings = settings_of(tmp_path, f'state.path = "{state}"\n')
    with pytest.raises(ServiceError, match="holds other things") as caught:
        write_folders(settings)
    assert "/var/lib/his160" in caught.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another group needs root")
def test_a_file_of_another_group_is_not_taken_from_it(tmp_path: Path) -> None:
    key = tmp_path / "agent.key"
    key.write_text("key")
    os.chown(key, 0, 64002)
    stranger = Account("his160", 64001, frozenset({64001}))
    with pytest.raises(ServiceError, match="belongs to the group 64002") as caught:
        check_grantable(key, stranger, Path("/etc/his160"))
    assert "usermod -aG 64002 his160" in caught.value.fix
    check_grantable(key, stranger, tmp_path)
    check_grantable(key, Account("his160", 64001, frozenset({64002})), Path("/etc/his160"))


def test_rights_and_systemd_are_needed(tmp_path: Path) -> None:
    def never(words: object) -> tuple[int, str]:
        raise AssertionError(words)

    with pytest.raises(ServiceError, match="root is needed"):
        Systemd(never, tmp_path, lambda: 1000, tmp_path).check_rights()
    absent = tmp_path / "absent"
    with pytest.raises(ServiceError, match="not run by systemd"):
        Systemd(never, tmp_path, lambda: 0, absent).check_rights()
    with pytest.raises(ServiceError, match="not run by systemd"):
        Systemd(never, tmp_path, lambda: 0, absent).state("his160")
    Systemd(never, tmp_path, lambda: 0, tmp_path).check_rights()
