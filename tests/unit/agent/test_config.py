"""config.toml: the reference loads and is complete; every problem comes at once, at its place; no secret shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import state_store
from agent.bench_pki import make_bench_pki
from agent.config import Settings, load_settings
from agent.config_shape import SHAPE
from agent.http_place import HttpPlace
from his_db.document.located import load_document
from his_db.document.problem import DocumentError
from his_db.document.shape import Field, MapOf, Shape, TableOf
from his_db.source import DEFAULT_LANES, LaneSettings

ROOT = Path(__file__).resolve().parents[3]
SECRET = "p4ssw0rd-绝密"

GOOD = """\
[site]
code = "440305001"
[source.his]
engine = "postgresql"
database = "his"
host = "db"
password = "@env:HIS_PASSWORD"
[mapping]
path = "mappings"
[server]
enabled = true
insecure = true
[delivery]
sink = "pull"
"""


PAY = '[source.pay]\nengine = "http"\ndatabase = "https://pay.example"\n'


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None, *, files: bool = False) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, {"HIS_PASSWORD": SECRET, **(environ or {})}, require_files=files)


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None, *, files: bool = False) -> list[str]:
    """``line code`` of each problem; ``$NAME code`` for one of the environment."""
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, text, environ, files=files)
    for problem in caught.value.problems:
        assert re.search(r"[\u4e00-\u9fff]", problem.message_zh), problem
        assert problem.message
    assert SECRET not in str(caught.value)
    return [f"{p.place.file if p.place.file.startswith('$') else p.place.line} {p.code}" for p in caught.value.problems]


def test_the_reference_loads() -> None:
    environ = {"HIS160_HIS_PASSWORD": SECRET}
    settings = load_settings(ROOT / "config.toml", environ, require_files=False)
    assert settings.site.code == "440305001"
    assert settings.mapping.folder == ROOT / "his_db/packs/zebone/mappings"
    assert settings.sources["his"].settings.password == SECRET
    assert settings.state.path == ROOT / "state/his160.db"


def leaves(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    if isinstance(shape, TableOf):
        for name, field in shape.fields.items():
            if isinstance(field.shape, TableOf | MapOf):
                yield from leaves(field.shape, (*path, name))
            if not isinstance(field.shape, TableOf):
                yield (*path, name), field
    elif isinstance(shape, MapOf) and isinstance(shape.value, TableOf):
        yield from leaves(shape.value, (*path, "windows" if path == ("drop",) else "his"))


def test_the_reference_shows_every_setting_and_its_default(tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    # A section that few sites have stands there as a comment.
    optional = re.compile(r"^# \[drop\.windows\]\n(?:# .*\n)+", re.MULTILINE)
    (tmp_path / "config.toml").write_text(optional.sub(lambda m: re.sub(r"(?m)^# ", "", m[0]), text), encoding="utf-8")
    document = load_document(tmp_path / "config.toml")
    data = document.data
    lines = (tmp_path / "config.toml").read_text(encoding="utf-8").splitlines()
    seen = 0
    for path, field in leaves(SHAPE):
        if path == ("source",):
            continue
        value: object = data
        for part in path:
            if isinstance(value, dict) and part not in value and path[-1] == "statement_timeout":
                break  # of a lane: only where it differs
            assert isinstance(value, dict), path
            assert part in value, f"config.toml does not show {'.'.join(path)}"
            value = value[part]
        seen += 1
        line = lines[document.place(path).line - 1]
        if isinstance(value, str | int | bool) and isinstance(field.default, str | int | bool) and "例" not in line:
            is_given = field.required or "必填" in line or path[-1] == "password"
            assert is_given or value == field.default, f"{'.'.join(path)}: not the default"
    assert seen > 40


def test_the_reference_explains_in_both_languages() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    sections = re.findall(r"^\[", text, re.MULTILINE)
    assert len(sections) == 19
    assert len(re.findall(r"#.*[\u4e00-\u9fff].* / ", text)) > 30


def test_defaults_and_relative_paths(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert settings.site.timezone == "Asia/Shanghai"
    assert settings.site.instance
    assert settings.state.path == tmp_path / "state" / "his160.db"
    assert settings.mapping.folder == tmp_path / "mappings"
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 50160)
    assert settings.watch.poll == timedelta(milliseconds=500)
    assert settings.engines == {"his": "postgresql"}
    assert settings.sources["his"].lanes == {}
    assert settings.log.file is None
    assert settings.limits.grace == timedelta(seconds=10)


def test_the_store_in_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The url holds no password, the reference does; tools without the HIS's secrets have this one where they can."""
    file = tmp_path / "config.toml"
    file.write_text(GOOD + '\n[state]\nurl = "postgresql://a@db:5433/his160?sslmode=require"\npassword = "@env:PW"\n')
    state = load_settings(file, {"PW": "p@ss/1"}, require_files=False, secrets=False).state
    assert "p@ss" not in repr(state)
    opened: list[str] = []
    monkeypatch.setattr(state_store, "open_store", lambda place, clock, exclusive: opened.append(place))
    state_store.open_state(state)
    assert opened == ["postgresql://a:p%40ss%2F1@db:5433/his160?sslmode=require"]
    assert load_settings(file, {}, require_files=False, secrets=False).state.password == ""
    with pytest.raises(DocumentError):
        load_settings(file, {}, require_files=False)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://a:secret@db/his160", "H701"),
        ("postgresql://db", "H708"),
        ("postgresql:///his160", "H708"),
        ("mysql://db/his160", "H708"),
        ("postgresql://db:x/his160", "H708"),
        ("nonsense", "H708"),
    ],
)
def test_addresses_of_a_store_that_are_none(tmp_path: Path, url: str, code: str) -> None:
    assert problems(tmp_path, GOOD + f'\n[state]\nurl = "{url}"\n')[0].endswith(code)


def test_the_reference_shows_the_usual_lanes() -> None:
    shown = load_document(ROOT / "config.toml").data["source"]["his"]["lanes"]
    assert shown.keys() == DEFAULT_LANES.keys()
    for name, usual in DEFAULT_LANES.items():
        expected = {"workers": usual.workers, "queue_limit": usual.queue_limit}
        if usual.statement_timeout is not None:
            expected["statement_timeout"] = f"{usual.statement_timeout.total_seconds():g}s"
        assert shown[name] == expected


@pytest.mark.parametrize(("engine", "workers"), [("sqlite", 1), ("postgresql", 2), ("mysql", 2)])
def test_the_engine_decides_what_a_lane_leaves_out(tmp_path: Path, engine: str, workers: int) -> None:
    """SQLite has one writer at a time: a lane that names its queue only must not get two."""
    text = GOOD.replace('"postgresql"', f'"{engine}"') + "[source.his.lanes]\nwrite = { queue_limit = 7 }\n"
    assert load(tmp_path, text).sources["his"].lanes["write"] == LaneSettings(workers=workers, queue_limit=7)


def test_lanes_differ_where_they_say_so(tmp_path: Path) -> None:
    text = GOOD + '[source.his.lanes]\nread = { workers = 7 }\nreport = { workers = 1, statement_timeout = "5m" }\n'
    lanes = load(tmp_path, text).sources["his"].lanes
    assert set(lanes) == {"read", "report"} <= set(DEFAULT_LANES)
    assert lanes["read"].queue_limit == DEFAULT_LANES["read"].queue_limit
    assert (lanes["read"].workers, lanes["report"].statement_timeout) == (7, timedelta(minutes=5))


def test_a_sqlite_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    text = GOOD.replace('"postgresql"', '"sqlite"').replace('"his"\n', '"data/his.db"\n')
    assert load(tmp_path, text).sources["his"].settings.database == str(tmp_path / "data/his.db")


def test_no_repr_shows_a_password(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert settings.sources["his"].settings.password == SECRET
    for thing in (settings, settings.sources, settings.sources["his"]):
        assert SECRET not in repr(thing)


def test_every_problem_comes_at_once(tmp_path: Path) -> None:
    text = """\
[site]
code = "a b"
timezone = "Asia/Nowhere"
[source.his]
engine = "oracel"
database = ""
password = "p4ssw0rd-绝密"
colour = 1
[source.Bad]
engine = "sqlite"
database = "x"
[mapping]
path = "pack:nothing"
[server]
enabled = true
listen = "0.0.0.0"
[relay]
enabled = true
[watch]
poll = 5
[delivery]
sink = "kafka"
[log]
level = "loud"
"""
    assert problems(tmp_path, text, files=True) == [
        "2 H124",  # code
        "3 H704",  # time zone
        "5 H123",  # engine
        "6 H126",  # database
        "7 H701",  # password
        "8 H120",  # colour
        "9 H129",  # Bad
        "13 H707",  # no such pack
        "14 H705",  # certificate
        "14 H705",  # client_ca
        "14 H705",  # key
        "16 H708",  # listen
        "17 H705",  # addresses
        "17 H705",
        "17 H705",
        "17 H705",
        "20 H122",  # poll
        "22 H123",  # sink
        "24 H123",  # level
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[site]\n", "[sight]\n"), ["1 H121", "1 H120"]),
        (("insecure = true", "insecure = false"), ["10 H705"] * 3),
        (("insecure = true", 'insecure = true\nlisten = "0.0.0.0:1"'), ["12 H706"]),
        (("insecure = true", 'insecure = true\nlisten = "[::1]:1"'), []),
        (("enabled = true", "enabled = false"), ["1 H705", "14 H705"]),
        (('"pull"', '"relay"'), ["14 H705"]),
        (('"pull"', '"file"'), []),
        (('host = "db"\n', ""), ["3 H705"]),
        (('"@env:HIS_PASSWORD"', '"@env:NOT_SET"'), ["7 H703"]),
        (('"@env:HIS_PASSWORD"', '"@vault:x"'), ["7 H702"]),
        (('"@env:HIS_PASSWORD"', '"@file:none"'), ["7 H703"]),
        (('"@env:HIS_PASSWORD"', '"@credential:x"'), ["7 H703"]),
        (('"@env:HIS_PASSWORD"', '"@credential:../x"'), ["7 H702"]),
        (('"pull"\n', '"pull"\n[insurance]\nmsgid_sequences = "4500-8999"\n'), []),
        (('"pull"\n', '"pull"\n[insurance]\nmsgid_sequences = "4500-9000"\n'), ["16 H705"]),
        (('"pull"\n', '"pull"\n[insurance]\nmsgid_sequences = "4500-4500"\n'), ["16 H705"]),
        (('"pull"\n', '"pull"\n[insurance]\nmsgid_sequences = "all"\n'), ["16 H124"]),
        (('"pull"\n', '"pull"\n' + PAY + 'options = { proxy = "http://10.1.1.1:3128" }\n'), []),
        (('"pull"\n', '"pull"\n' + PAY + 'options = { proxy = "10.1.1.1:3128" }\n'), ["18 H708"]),
        (('"@env:HIS_PASSWORD"', f'"{SECRET}"'), ["7 H701"]),
        (('"@env:HIS_PASSWORD"', "12345"), ["7 H122"]),
        (('password = "@env:HIS_PASSWORD"\n', ""), []),
        (("[source.his]\n", "[source]\n"), None),
    ],
)
def test_problems(tmp_path: Path, change: tuple[str, str], expected: list[str] | None) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    if expected == []:
        load(tmp_path, text)
    elif expected is None:
        assert problems(tmp_path, text)
    else:
        assert sorted(problems(tmp_path, text)) == sorted(expected)


@pytest.mark.parametrize(("mappings", "is_apart"), [("mappings", False), (".", False), ("his-mappings", True)])
def test_mappings_lie_apart_from_their_copies(tmp_path: Path, mappings: str, is_apart: bool) -> None:
    text = GOOD.replace('path = "mappings"', f'path = "{mappings}"') + '\n[state]\npath = "agent.db"\n'
    if is_apart:
        load(tmp_path, text)
    else:
        assert [code.split()[1] for code in problems(tmp_path, text)] == ["H714"]


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('engine = "http", database = "https://api.mch.weixin.qq.com"', []),
        ('engine = "http", database = "/", options = { base_url = "http://10.1.2.3:8443/his" }', []),
        ('engine = "http", database = "/his", host = "10.1.2.3"', []),
        ('engine = "http", database = "/his"', ["H705"]),
        ('engine = "mysql", database = "mysql://10.1.2.3/his"', ["H705"]),
    ],
)
def test_an_interface_over_http_says_where_it_is(tmp_path: Path, source: str, codes: list[str]) -> None:
    text = GOOD + "".join(f"\n{line}" for line in ("[source.pay]", *source.split(", ")))
    if codes:
        assert [code.split()[1] for code in problems(tmp_path, text)] == codes
    else:
        assert load(tmp_path, text).sources["pay"].settings.engine == "http"


def test_call_backs_are_off_and_need_a_certificate(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).payment_notify is None
    plain = "\n[payment_notify]\nenabled = true\ninsecure = true\n"
    found = load(tmp_path, GOOD + plain).payment_notify
    assert found == HttpPlace("127.0.0.1", 50163)
    assert [code.split()[1] for code in problems(tmp_path, GOOD + plain.replace("insecure = true\n", ""))] == [
        "H705"
    ] * 2
    assert [code.split()[1] for code in problems(tmp_path, GOOD + plain + 'listen = "anywhere"\n')] == ["H708"]


def test_reload_and_guard_settings(tmp_path: Path) -> None:
    text = GOOD.replace('host = "db"', 'host = "db"\nquiet_hours = "08:00-09:00, 22:30-01:00"\nslow_percent = 0')
    text += '[operations]\noff = ["PaymentService.RefundPayment"]\n'
    settings = load(tmp_path, text)
    assert settings.off == ("PaymentService.RefundPayment",)
    source = settings.sources["his"].load
    assert (len(source.quiet), source.slow.percent, source.slow.after) == (2, 0, timedelta(seconds=3))
    assert (settings.mapping.watch, settings.mapping.quiet) == ("auto", timedelta(milliseconds=500))
    assert settings.mapping.canary == ("CatalogService.ListDepartments",)
    assert settings.mapping.start_with_last_good
    assert (settings.mapping.use, settings.mapping.approval) == ("folder", False)
    assert settings.mapping.drift == timedelta(minutes=10)
    strict = GOOD.replace('"mappings"', '"mappings"\nuse = "published"\napproval = true\ndrift = "0s"')
    assert load(tmp_path, strict).mapping == replace(
        settings.mapping, use="published", approval=True, drift=timedelta(0)
    )
    packed = load(tmp_path, GOOD.replace('"mappings"', '"pack:zebone"'))
    assert packed.mapping.watch == "off"  # it changes with the program
    bad = GOOD.replace('host = "db"', 'host = "db"\nquiet_hours = "8-9"')
    bad = bad.replace('path = "mappings"', 'path = "mappings"\ncanary = ["CatalogService.ListSlots", "X.Y"]')
    bad += '[operations]\noff = ["AgentService.GetInfo", "PaymentService.Refund"]\n'
    assert sorted(problems(tmp_path, bad)) == sorted(["7 H709", "11 H711", "11 H710", "18 H710", "18 H710"])


def test_a_missing_folder_is_no_problem_where_a_good_copy_is_kept(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD, files=True) == ["9 H707"]
    (tmp_path / "state" / "mappings" / "last-good").mkdir(parents=True)
    load(tmp_path, GOOD, files=True)
    text = GOOD.replace('path = "mappings"', 'path = "mappings"\nstart_with_last_good = false')
    assert problems(tmp_path, text, files=True) == ["9 H707"]


def test_secrets_come_from_files_and_credentials(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"\ufeff{SECRET}\r\nsecond line", encoding="utf-8")
    text = GOOD.replace("@env:HIS_PASSWORD", "@file:secret")
    assert load(tmp_path, text).sources["his"].settings.password == SECRET
    text = GOOD.replace("@env:HIS_PASSWORD", "@credential:secret")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(tmp_path, text, environ).sources["his"].settings.password == SECRET
    (tmp_path / "secret").write_text("\n", encoding="utf-8")
    assert problems(tmp_path, text, environ) == ["7 H703"]


def test_the_environment_wins(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        GOOD,
        {
            "HIS160__SITE__CODE": "0012",
            "HIS160__SOURCE__HIS__PORT": "5433",
            "HIS160__SOURCE__HIS__LANES__READ__WORKERS": "9",
            "HIS160__SOURCE__HIS__OPTIONS__APP": "his160",
            "HIS160__RELAY__ADDRESSES": "a:1, b:2",
            "HIS160__WATCH__ENABLED": "false",
            "HIS160__WATCH__POLL": "2s",
            "HIS160__LOG__FORMAT": "json",
            "HIS160_OTHER": "x",
        },
    )
    assert settings.site.code == "0012"
    source = settings.sources["his"]
    assert (source.settings.port, source.lanes["read"].workers, source.settings.options["app"]) == (5433, 9, "his160")
    assert settings.relay.addresses == ("a:1", "b:2")
    assert (settings.watch.enabled, settings.watch.poll) == (False, timedelta(seconds=2))
    assert settings.log.format == "json"


def test_a_source_may_come_from_the_environment_alone(tmp_path: Path) -> None:
    environ = {"HIS160__SOURCE__LIS__ENGINE": "sqlite", "HIS160__SOURCE__LIS__DATABASE": "lis.db"}
    assert set(load(tmp_path, GOOD, environ).sources) == {"his", "lis"}


def test_problems_of_the_environment_are_placed_there(tmp_path: Path) -> None:
    environ = {
        "HIS160__SITE__CODE": "a b",
        "HIS160__SITE__COLOUR": "red",
        "HIS160__SOURCE__HIS__PORT": "many",
        "HIS160__SOURCE__HIS__PASSWORD": SECRET,
        "HIS160__SERVER": "x",
        "HIS160__WATCH__ENABLED": "maybe",
    }
    assert problems(tmp_path, GOOD, environ) == [
        "$HIS160__SERVER H700",
        "$HIS160__SITE__CODE H124",
        "$HIS160__SITE__COLOUR H700",
        "$HIS160__SOURCE__HIS__PASSWORD H701",
        "$HIS160__SOURCE__HIS__PORT H122",
        "$HIS160__WATCH__ENABLED H122",
    ]


def test_files_must_be_there(tmp_path: Path) -> None:
    pki = make_bench_pki(tmp_path / "pki", site="440305001")
    text = GOOD.replace(
        "insecure = true", 'certificate = "pki/agent.pem"\nkey = "pki/agent.key"\nclient_ca = "pki/no.pem"'
    )
    assert problems(tmp_path, text, files=True) == ["9 H707", "14 H707"]
    (tmp_path / "mappings").mkdir()
    settings = load(tmp_path, text.replace("no.pem", "ca.pem"), files=True)
    assert settings.server.client_ca == pki.ca


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="H100"):
        load_settings(tmp_path / "none.toml", os.environ)


def test_codes_are_of_the_configuration() -> None:
    """Every code that agent/ reports is one of the H7xx range."""
    used = set()
    for path in (ROOT / "agent").glob("*.py"):
        used |= set(re.findall(r'"(H\d{3})"', path.read_text(encoding="utf-8")))
    assert used
    assert all(code.startswith("H7") for code in used)
