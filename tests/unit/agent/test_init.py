"""``his160 init``: for every engine and pack a configuration that the check accepts; never over anything; no password."""

from __future__ import annotations

import os
import re
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent import cli
from agent.bench_pki import make_bench_pki
from agent.commands import init
from agent.config import load_settings
from agent.config_place import pack_names
from agent.first_config import NO_PACK, WRITTEN_FOR
from his_db.engine import EXTRA_DRIVERS
from his_db.registry import ENGINES

PASSWORD = "p4ssw0rd-绝密"
ABSENT = frozenset(engine for engine, (module, _) in EXTRA_DRIVERS.items() if find_spec(module) is None)
ANSWERS = {"code": "440305001", "name": '示例"医院', "host": "10.1.2.3", "user": "his160", "database": "his"}


def arguments(folder: Path, engine: str, pack: str, /, **more: str) -> list[str]:
    answers = {**ANSWERS, "engine": engine, "pack": pack, "relay": "", **more}
    return ["init", str(folder), *(f"--{name}={value}" for name, value in answers.items())]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [*pack_names(), NO_PACK])
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_check_accepts_what_it_writes(
    engine: str, pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    code = cli.run(arguments(folder, engine, pack, password="@file:his.password"))
    said = capsys.readouterr()
    if engine == "http" and pack != NO_PACK:  # SQL cannot be spoken there: said, and nothing written
        assert code == 2
        assert NO_PACK in said.err
        assert not folder.exists()
        return
    assert code == 0, said.err
    (folder / "his.password").write_text(PASSWORD, encoding="utf-8")
    checked, said_then = cli.run(["check", "--config", str(folder / "config.toml")]), capsys.readouterr()
    if pack == NO_PACK:  # nothing is wrong but that nothing is mapped yet
        assert checked == 78
        assert set(re.findall(r"\bH\d{3}\b", said_then.err)) == {"H241", *(["H716"] if engine in ABSENT else [])}
    elif engine in ABSENT:
        assert checked == 78
        assert re.findall(r"\bH\d{3}\b", said_then.err) == ["H716"]
    else:
        assert checked == 0, said_then.err
    settings = load_settings(folder / "config.toml", {}, require_files=False)
    assert settings.site.name == ANSWERS["name"]
    assert settings.engines == {"his": engine}
    assert settings.sources["his"].settings.password == ("" if engine == "sqlite" else PASSWORD)
    pages = re.findall(r"：(\S+README\.zh-CN\.md)", said.out)
    assert [Path(page).is_file() for page in pages] == [True] * (pack != NO_PACK)
    assert ("按" in said.out) == (pack != NO_PACK and engine not in WRITTEN_FOR[pack])


def test_every_pack_says_what_it_is_written_for() -> None:
    assert set(WRITTEN_FOR) == set(pack_names())
    assert frozenset().union(*WRITTEN_FOR.values()) <= set(ENGINES)


def test_neusoft_on_postgresql_gets_its_own_statements(tmp_path: Path) -> None:
    for engine in ("oracle", "postgresql"):
        assert cli.run(arguments(tmp_path / engine, engine, "neusoft")) == 0
    assert content(tmp_path / "oracle" / "mappings") != content(tmp_path / "postgresql" / "mappings")


def test_with_a_relay_the_certificates_are_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"relay": "relay1.example.com:443, relay2.example.com:443", "password": "@env:HIS160_TEST_PASSWORD"}
    assert cli.run(arguments(tmp_path / "site", "mysql", "bsoft", **more)) == 0
    config = tmp_path / "site" / "config.toml"
    os.environ["HIS160_TEST_PASSWORD"] = PASSWORD
    try:
        capsys.readouterr()
        assert cli.run(["check", "--config", str(config)]) == 78
        said = capsys.readouterr().err
        assert said.count("H707") == 3
        assert str(tmp_path / "site" / "pki" / "agent.pem") in said
        broken = tmp_path / "site" / "mappings" / "catalog" / "list_departments.toml"
        whole = broken.read_text(encoding="utf-8")
        broken.write_text(whole.replace("[", "[wrong.", 1), encoding="utf-8")
        assert cli.run(["check", "--config", str(config)]) == 78
        said = capsys.readouterr().err
        assert said.count("H707") == 3
        assert "list_departments.toml:" in said  # what is to come hides no problem
        broken.write_text(whole, encoding="utf-8")
        make_bench_pki(tmp_path / "site" / "pki", site="440305001")
        assert cli.run(["check", "--config", str(config)]) == 0
    finally:
        del os.environ["HIS160_TEST_PASSWORD"]
    settings = load_settings(config, {"HIS160_TEST_PASSWORD": PASSWORD})
    assert settings.relay.addresses == ("relay1.example.com:443", "relay2.example.com:443")
    assert settings.delivery.sink == "relay"


@pytest.mark.parametrize("there", ["config.toml", "mappings"])
def test_nothing_is_overwritten(there: str, tmp_path: Path) -> None:
    target = tmp_path / there
    if there == "mappings":
        target.mkdir()
        target /= "own.toml"
    target.write_text("mine", encoding="utf-8")
    before = content(tmp_path)
    assert cli.run(arguments(tmp_path, "sqlite", "zebone")) == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"password": PASSWORD}, 2),
        ({"password": "@nothing:x"}, 2),
        ({"engine": "foxpro"}, 2),
        ({"pack": "unknown"}, 2),
        ({"code": ""}, 2),
        ({"host": ""}, 2),
        ({"code": "机构"}, 78),
        ({"relay": "no port"}, 78),
    ],
)
def test_what_does_not_fit_is_said_and_leaves_nothing(
    more: dict[str, str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*arguments(tmp_path, "mysql", "bsoft", **more), "--no-input"]) == code
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err
    assert said.err
    assert content(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert cli.run(arguments(tmp_path / "file" / "site", "sqlite", "zebone")) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="there a password is protected by DPAPI, by a command of its own")
def test_what_is_not_given_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    asked: list[str] = []
    answers = {"code": "A1", "name": "", "engine": "oracle", "pack": "neusoft", "password": "", "relay": ""}
    words = {"site": "code", "hospital": "name", "engine": "engine", "pack": "pack"}

    def reply(question: str) -> str:
        asked.append(question)
        found = next((key for word, key in words.items() if word in question), "")
        return answers[found] if found else {"库名": "orcl", "主机": "10.0.0.9", "账号": "jk160"}.get(question[:2], "")

    monkeypatch.setattr(init.sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", reply)
    monkeypatch.setattr(init.getpass, "getpass", lambda _: PASSWORD)
    assert cli.run(["init", str(tmp_path)]) == 0
    assert len(asked) == 9
    text = (tmp_path / "config.toml").read_text(encoding="utf-8")
    settings = load_settings(tmp_path / "config.toml", {})
    assert settings.sources["his"].settings.host == "10.0.0.9"
    assert 'password = "@file:his.password"' in text  # what was offered
    assert settings.sources["his"].settings.password == PASSWORD
    assert stat.S_IMODE((tmp_path / "his.password").stat().st_mode) == 0o600
    said = capsys.readouterr()
    assert PASSWORD not in text + said.out + said.err


def test_the_text_explains_itself_in_both_languages(tmp_path: Path) -> None:
    assert cli.run(arguments(tmp_path, "mssql", "winning_mssql", relay="r:1", password="@credential:his")) == 0
    lines = (tmp_path / "config.toml").read_text(encoding="utf-8").splitlines()
    comments = [line.partition("#")[2] for line in lines if "#" in line]
    assert len([text for text in comments if any(char >= "\u4e00" for char in text)]) > 12
