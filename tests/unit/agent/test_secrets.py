"""Secrets: a password in the configuration is a finding wherever it stands; one behind a reference shows nowhere."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import cli
from agent.config import LogSettings, Settings, load_settings
from agent.config_shape import SHAPE
from agent.log import setup_logging
from agent.state_store import open_state
from his_db.document.problem import DocumentError
from his_db.document.shape import MapOf, Shape, TableOf
from his_db.engine import SourceSettings
from his_db.errors import HisError
from his_db.registry import ENGINES
from his_db.source import Source, engine_for, settings_from_url
from sync.store import StoreError

SECRET = "p4ssw0rd-绝密"
PLAIN = "p4ssw0rd-secret"
SITE = 'site.code = "1"\nmapping.path = "mappings"\nserver = { enabled = true, insecure = true }\n'
HIS = '[source.his]\nengine = "postgresql"\ndatabase = "his"\nhost = "db"\n'
PULL = 'delivery.sink = "pull"\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


LITERALS = {
    "source": SITE + PULL + HIS + f'password = "{PLAIN}"',
    "option": SITE + PULL + HIS + f'options = {{ sslpassword = "{PLAIN}" }}',
    "odbc option": SITE + PULL + HIS + f'options = {{ PWD = "{PLAIN}" }}',
    "option with a string": SITE + PULL + HIS + f'options = {{ extra = "UID=u;Pwd={PLAIN}" }}',
    "token": SITE + PULL + HIS + f'options = {{ access_token = "{PLAIN}" }}',
    "host": SITE + PULL + HIS.replace('"db"', f'"u:{PLAIN}@db"'),
    "connection string": SITE + PULL + HIS.replace('"his"', f'"his;PWD={PLAIN}"'),
    "base_url": SITE + PULL + HIS + f'options = {{ base_url = "http://u:{PLAIN}@his/x" }}',
    "state": f'state.password = "{PLAIN}"\n' + SITE + PULL + HIS,
    "state in PostgreSQL": f'state.url = "postgresql://u@h/d"\nstate.password = "{PLAIN}"\n' + SITE + PULL + HIS,
    "state's url": f'state.url = "postgresql://u:{PLAIN}@h/d"\n' + SITE + PULL + HIS,
    "state's query": f'state.url = "postgresql://u@h/d?password={PLAIN}"\n' + SITE + PULL + HIS,
    "nats": f'delivery.sink = "nats"\ndelivery.nats = {{ servers = ["nats://h:4222"], password = "{PLAIN}" }}\n'
    + SITE
    + HIS,
    "nats's url": f'delivery.sink = "nats"\ndelivery.nats = {{ servers = ["nats://u:{PLAIN}@h:4222"] }}\n' + SITE + HIS,
    "proxy": SITE + PULL + f'relay.proxy = "http://h:1"\nrelay.proxy_password = "{PLAIN}"\n' + HIS,
}


@pytest.mark.parametrize("where", LITERALS)
def test_a_password_in_the_configuration_is_a_finding_and_is_not_repeated(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, LITERALS[where])
    for secrets in (True, False):  # commands that need no password say it too
        with pytest.raises(DocumentError) as caught:
            load_settings(file, {}, require_files=False, secrets=secrets)
        assert [problem.code for problem in caught.value.problems] == ["H701"]
    (tmp_path / "mappings").mkdir()
    for command in ("check", "doctor", "run"):
        assert cli.run([command, "--config", str(file), *(["--only", "config"] if command == "doctor" else [])]) == 78
    said = capsys.readouterr()
    assert "H701" in said.err + said.out
    assert PLAIN not in said.err + said.out + str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'password = "{0}',
        "password = {0}",
        'pasword = "{0}"',
        'password = ["{0}"]',
        'password = "{0}"\npassword = "{0}"',
        "password = “{0}”",
        'password = "@evn:{0}"',
        'password = """{0}',
        "password = '{0}\" ",
    ],
)
def test_a_password_in_a_line_that_is_wrong_is_not_repeated(line: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load_settings(written(tmp_path, SITE + PULL + HIS + line.format(PLAIN)), {}, require_files=False)
    assert PLAIN not in str(caught.value) + repr(caught.value)


def test_a_variable_that_is_misspelt_or_literal_is_not_repeated(tmp_path: Path) -> None:
    file = written(tmp_path, SITE + PULL + HIS)
    for name in ("HIS160__SOURCE__HIS__PASWORD", "HIS160__SOURCE__HIS__PASSWORD", "HIS160__STATE__PASSWORD"):
        with pytest.raises(DocumentError) as caught:
            load_settings(file, {name: PLAIN}, require_files=False)
        assert PLAIN not in str(caught.value)


def test_the_shape_calls_every_password_a_secret() -> None:
    """What is called one is left out of every message about its type or form."""

    def passwords(shape: Shape) -> Iterator[bool]:
        if isinstance(shape, TableOf):
            for name, field in shape.fields.items():
                if "password" in name:
                    yield field.secret
                yield from passwords(field.shape)
        elif isinstance(shape, MapOf):
            yield from passwords(shape.value)

    found = list(passwords(SHAPE))
    assert len(found) == 4
    assert all(found)


# -- behind references ---------------------------------------------------------------------------------------

EVERYWHERE = (
    """\
state.url = "postgresql://u@127.0.0.1:1/d"
state.password = "@env:S"
delivery.sink = "nats"
delivery.nats = { servers = ["nats://127.0.0.1:1"], user = "u", password = "@file:pw" }
relay = { proxy = "http://127.0.0.1:1", proxy_user = "u", proxy_password = "@credential:pw" }
"""
    + SITE
    + '[source.his]\nengine = "postgresql"\ndatabase = "his"\nhost = "127.0.0.1"\nport = 1\npassword = "@env:S"\n'
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "pw").write_text(SECRET + "\n", encoding="utf-8")
    environ = {"S": SECRET, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    return load_settings(written(tmp_path, EVERYWHERE), environ, require_files=False)


def test_settings_hold_the_secrets_and_do_not_show_them(settings: Settings) -> None:
    assert settings.state.password == settings.delivery.nats.password == SECRET
    assert settings.sources["his"].settings.password == SECRET
    assert settings.relay.proxy is not None
    assert settings.relay.proxy.password == SECRET
    shown = [settings, settings.state, settings.delivery, settings.relay, settings.relay.proxy, settings.sources["his"]]
    assert SECRET not in "".join(f"{item!r}{item}" for item in shown)


def test_a_store_that_cannot_be_opened_does_not_show_its_password(settings: Settings) -> None:
    with pytest.raises(StoreError) as caught:
        open_state(settings.state)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r}{error}"
        assert "%E7%BB%9D" not in f"{error!r}{error}"  # as a url writes it
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"sqlite", "dm"}))  # the driver of 达梦 cannot be had here
async def test_a_database_that_does_not_answer_shows_no_password(engine: str, tmp_path: Path) -> None:
    """Refused, then silent: what the source says, what the driver's own exception says in our words, and every log."""
    pytest.importorskip({"mssql": "pyodbc", "oracle": "oracledb"}.get(engine, "psycopg"))
    log = tmp_path / "log"
    root = logging.getLogger()
    before, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    setup_logging(replace_log(log))
    try:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        options = {"driver": "FreeTDS"} if engine == "mssql" else {}
        one = SourceSettings(
            "his", engine, "his", "127.0.0.1", port, "u", PLAIN, connect_timeout=timedelta(seconds=1), options=options
        )
        made = engine_for(one)
        shown = f"{one!r}{made!r}{vars(made)!r}"
        source = Source(one)
        try:
            with pytest.raises(HisError) as caught:
                await source.ping(deadline=time.monotonic() + 5)
            shown += f"{caught.value!r}{caught.value}{source!r}"
        finally:
            await source.close()
            made.dispose()
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
        logging.raiseExceptions = raising
        logging.captureWarnings(False)
    assert PLAIN not in shown
    assert PLAIN not in log.read_text(encoding="utf-8")


def replace_log(file: Path) -> LogSettings:
    """Everything that anybody logs."""
    return replace(LogSettings(), level="debug", file=file)


@pytest.mark.parametrize("url", [f"foxpro://u:{PLAIN}@h/d", f"mysql://u:{PLAIN}@h", f"sqlite://u:{PLAIN}@h/d"])
def test_a_url_that_is_refused_is_not_repeated(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError) as caught:
        settings_from_url("his", url)
    assert PLAIN not in str(caught.value)
    assert cli.run(["mapping", "check", "--mapping", "pack:zebone", "--source-url", url]) == 2
    said = capsys.readouterr()
    assert PLAIN not in said.out + said.err
