"""The plan on Windows against a faithful fake: what wine does not do is shown here (see docs/windows.md)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.config import Settings, load_settings
from service_install.plan import Plan, PlanFailed, ServiceError, carry_out
from service_install.service_system import ServiceRequest
from service_install.systems.windows import WindowsServices
from service_install.windows_manager import ProcessState, service_sid
from tests.unit.service.fake_windows import FakeWindows

CONFIG = """\
site.code = "440305001"
mapping.path = "pack:zebone"
source.his = { engine = "postgresql", database = "his", host = "127.0.0.1" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:50160" }
delivery = { sink = "file", folder = "events" }
limits.grace = "15s"
"""
SERVICE = r"NT SERVICE\his160"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "config.toml"
    file.write_text(CONFIG + f'state.path = "{tmp_path}/state/his160.db"\n', encoding="utf-8")
    return load_settings(file, {})


@pytest.fixture
def windows() -> FakeWindows:
    return FakeWindows()


def system(windows: FakeWindows) -> WindowsServices:
    seconds = iter(range(10_000))
    return WindowsServices(windows, clock=lambda: float(next(seconds)), pause=lambda _: None)


def request(settings: Settings, **more: object) -> ServiceRequest:
    return ServiceRequest("his160", settings.file, **more)  # type: ignore[arg-type]  # a record by name


def done(plan: Plan) -> list[str]:
    """The steps that were done, in English."""
    found: list[str] = []
    carry_out(plan, lambda step, skipped: None if skipped else found.append(step.does.en))
    return found


def test_it_is_installed_as_it_should_be(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings, start=True), settings))
    service = windows.services["his160"]
    assert service.definition.account == SERVICE
    assert "service_install.windows_entry" in service.definition.command
    assert service.definition.command.endswith(f"--name his160 --config {settings.file}")
    assert service.behaviour is not None
    assert service.behaviour.delayed
    assert service.behaviour.restarts == (timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=60))
    assert service.behaviour.reset == timedelta(days=1)
    assert service.behaviour.preshutdown == timedelta(seconds=35)
    assert service.state.state == 4
    assert windows.sources == {"his160"}
    folder = settings.state.path.parent
    assert windows.is_granted(folder, SERVICE, write=True)
    assert not windows.is_granted(settings.file.parent, SERVICE, write=True)
    assert windows.is_granted(settings.file.parent, SERVICE, write=False)
    assert done(system(windows).install(request(settings, start=True), settings)) == []


@pytest.mark.parametrize("failing", ["add_event_source", "create", "set_mark", "behave", "grant", "start"])
def test_a_failing_step_leaves_windows_as_it_was(windows: FakeWindows, settings: Settings, failing: str) -> None:
    before = windows.snapshot()
    windows.fail_at = failing
    with pytest.raises(PlanFailed) as caught:
        done(system(windows).install(request(settings, start=True), settings))
    assert not caught.value.left
    assert windows.snapshot() == before
    assert not settings.state.path.parent.exists()


def test_a_start_that_fails_is_told_with_its_reason_and_taken_back(windows: FakeWindows, settings: Settings) -> None:
    before = windows.snapshot()
    windows.starting = [ProcessState(2, 4711), ProcessState(1, exit_code=1066, service_code=78)]
    with pytest.raises(PlanFailed) as caught:
        done(system(windows).install(request(settings, start=True), settings))
    assert "(78)" in caught.value.error.en
    assert windows.snapshot() == before


def test_a_start_that_never_ends_is_given_up(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings), settings))
    windows.starting = [ProcessState(2, 4711)] * 1000
    with pytest.raises(ServiceError, match="state 2 after 180 s"):
        system(windows).start("his160")


def test_it_is_removed_and_its_files_stay(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings, start=True), settings))
    assert done(system(windows).uninstall("his160", force=False)) == [
        "stop his160",
        "remove the event source his160",
        "remove the service his160",
    ]
    assert not windows.services
    assert not windows.sources
    assert settings.state.path.parent.is_dir()
    assert done(system(windows).uninstall("his160", force=False)) == []


def test_a_removal_that_fails_leaves_it_running(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings, start=True), settings))
    windows.fail_at = "delete"
    with pytest.raises(PlanFailed):
        done(system(windows).uninstall("his160", force=False))
    assert windows.services["his160"].state.state == 4
    assert windows.sources == {"his160"}


def test_what_a_person_edited_or_made_is_left_alone(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings), settings))
    definition = windows.services["his160"].definition
    for field, value in (("command", "other.exe"), ("account", "LocalSystem"), ("automatic", False)):
        edited = {**{name: getattr(definition, name) for name in definition.__dataclass_fields__}, field: value}
        windows.services["his160"].definition = type(definition)(**edited)
        before = windows.snapshot()
        for plan in (
            lambda: system(windows).install(request(settings), settings),
            lambda: system(windows).uninstall("his160", force=False),
        ):
            with pytest.raises(ServiceError, match="left alone"):
                plan()
        assert windows.snapshot() == before
    done(system(windows).install(request(settings, force=True), settings))
    assert windows.services["his160"].definition == definition


def test_a_new_version_changes_its_own_service(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings, account="LocalSystem"), settings))
    steps = done(system(windows).install(request(settings), settings))
    assert any(step.startswith("register the service") for step in steps)
    assert windows.services["his160"].definition.account == SERVICE


def test_an_account_of_the_hospital(windows: FakeWindows, settings: Settings) -> None:
    asked = request(settings, account=r"hospital\his160", password="geheim")
    done(system(windows).install(asked, settings))
    assert windows.rights == {r"hospital\his160"}
    assert "geheim" not in repr(asked) + repr(windows.services)
    with pytest.raises(PlanFailed) as caught:
        done(system(FakeWindows()).install(request(settings, account=r"hospital\his160"), settings))
    assert "1326" in caught.value.error.en


def test_the_system_account_needs_no_grants(windows: FakeWindows, settings: Settings) -> None:
    done(system(windows).install(request(settings, account="LocalSystem"), settings))
    assert not windows.lists
    assert not windows.rights


def test_without_rights_nothing_is_touched(windows: FakeWindows, settings: Settings) -> None:
    windows.admin = False
    with pytest.raises(ServiceError) as caught:
        system(windows).check_rights()
    assert "管理员" in caught.value.zh
    assert caught.value.fix
    assert windows.calls == []


def test_credentials_are_not_of_windows(windows: FakeWindows, settings: Settings) -> None:
    with pytest.raises(ServiceError, match="systemd"):
        system(windows).install(request(settings, credentials={"his": Path("x")}), settings)


def test_what_this_windows_does_not_know_is_told(
    windows: FakeWindows, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    windows.unknown = ("delayed start",)
    done(system(windows).install(request(settings), settings))
    assert "delayed start" in caplog.text


def test_the_sid_of_a_service() -> None:
    """Against a SID that everybody knows: NT SERVICE\\TrustedInstaller."""
    assert service_sid("TrustedInstaller") == ("S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464")
