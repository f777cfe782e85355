"""The house holds: arrows, sizes, grammar of the tree, registries, generated code, and what the wheel carries."""

from __future__ import annotations

import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bounds import PATIENCE
from tests.source_tree import tree_of

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("agent", "sync", "his_db", "service_install")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """All of ``sources``, parsed once for the tests that walk them."""
    return {path: tree_of(path) for path in sources()}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_arrows_point_down() -> None:
    """import-linter's contracts in pyproject.toml: layers, independence of implementations, forbidden libraries."""
    program = Path(sys.executable).with_name("lint-imports")
    done = run(str(program), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_and_no_function_is_too_long(trees: dict[Path, ast.Module]) -> None:
    """The house stops at 500 lines a file and 80 a function; generated code and tests apart."""
    long: list[str] = []
    for path, tree in trees.items():
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not long, "\n".join(long)


def test_packages_are_no_facades(trees: dict[Path, ast.Module]) -> None:
    """``__init__.py`` holds a docstring only: no facade, therefore no import cycles."""
    wrong = []
    for path, tree in trees.items():
        if path.name != "__init__.py":
            continue
        body = tree.body
        if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Constant):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, wrong


def test_there_is_no_import_package_proto() -> None:
    """``proto`` belongs to proto-plus; ours would break it or be broken by it."""
    assert not (ROOT / "proto" / "__init__.py").exists()
    assert not (ROOT / "proto" / "gen" / "__init__.py").exists()


def registries() -> list[tuple[str, str, dict[str, str]]]:
    found = []
    for module in ("his_db.registry", "sync.registry"):
        loaded = importlib.import_module(module)
        for name, value in vars(loaded).items():
            if name.isupper() and isinstance(value, dict):
                found.append((module, name, value))
    return found


def test_every_registry_entry_loads() -> None:
    lists = registries()
    assert {name for _, name, _ in lists} >= {"ENGINES", "KINDS", "SAMPLES", "STORES", "CAPTURES", "SINKS"}
    for module, name, entries in lists:
        for key, entry in entries.items():
            target, _, attribute = entry.partition(":")
            assert hasattr(importlib.import_module(target), attribute), f"{module}.{name}[{key!r}] = {entry!r}"


@pytest.mark.parametrize(
    ("folder", "module", "name"),
    [
        ("his_db/engines", "his_db.registry", "ENGINES"),
        ("his_db/kinds", "his_db.registry", "KINDS"),
        ("his_db/gateways", "his_db.registry", "GATEWAYS"),
        ("his_db/simulators", "his_db.registry", "SIMULATORS"),
        ("sync/stores", "sync.registry", "STORES"),
        ("sync/captures", "sync.registry", "CAPTURES"),
        ("sync/sinks", "sync.registry", "SINKS"),
        ("sync/report_formats", "sync.registry", "REPORT_FORMATS"),
        ("sync/file_formats", "sync.registry", "FILE_FORMATS"),
        ("sync/migrations", "sync.registry", "MIGRATIONS"),
    ],
)
def test_a_plural_folder_holds_implementations_and_nothing_else(folder: str, module: str, name: str) -> None:
    """Every module of a plural folder is named by the registry: nothing is forgotten, nothing else lives there."""
    listed = {
        entry.partition(":")[0].rpartition(".")[2] for entry in getattr(importlib.import_module(module), name).values()
    }
    present = {path.stem for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"}
    assert present == listed


def test_third_party_libraries_stay_where_they_belong(trees: dict[Path, ast.Module]) -> None:
    """apscheduler in agent/jobs.py alone; SQLAlchemy and drivers in his_db and the stores; grpc in agent."""
    allowed = {
        "apscheduler": ("agent/jobs.py",),
        "sqlalchemy": ("his_db/", "sync/store", "sync/stores/", "sync/migrations/"),
        "alembic": ("sync/migrations/", "sync/store_revision.py"),
        "psycopg": ("his_db/engines/", "his_db/samples/"),
        "pyodbc": ("his_db/engines/",),
        "oracledb": ("his_db/engines/",),
        "sqlglot": ("his_db/mapping/", "his_db/workbench/", "his_db/catalogue/"),
        "grpc": ("agent/",),
        "watchdog": ("agent/mapping_watch.py",),
        "xlsxwriter": ("sync/report_formats/xlsx.py",),
        "pymysqlreplication": ("his_db/feeds/mysql_binlog.py",),
        "dbf": ("sync/file_formats/",),
        "defusedxml": ("sync/file_formats/",),
        "ijson": ("sync/file_formats/",),
    }
    wrong = []
    for path, tree in trees.items():
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules = [node.module]
            for module in modules:
                places = allowed.get(module.partition(".")[0])
                if places is not None and not name.startswith(places):
                    wrong.append(f"{name}:{node.lineno} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_waits_of_tests_know_a_busy_machine() -> None:
    """A bound of a few seconds fails by chance when something else runs beside the tests: ``PATIENCE`` of tests/bounds.py."""
    short = re.compile(r"asyncio\.timeout\([1-9][0-9.]*\)")
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.relative_to(ROOT).parts[1] in ("bench", "race"):  # these measure
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if short.search(line)]
    assert not wrong, wrong


def test_broad_excepts_stand_only_at_borders() -> None:
    """``except Exception`` carries its reason on the same line (``# noqa: BLE001 - why``); ruff refuses it without."""
    bare = []
    for path in sources():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip().startswith("except Exception") and "BLE001 -" not in line:
                bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert not bare, bare


def is_compile(function: ast.expr) -> bool:
    """``re.compile``. Not by ``ast.unparse``: there are fifty thousand calls."""
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "compile"
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
    )


def test_no_group_of_a_regular_expression_is_possessive(trees: dict[Path, ast.Module]) -> None:
    """Python before 3.11.5 (Debian 12 has 3.11.2) does not match ``(?:…|…)*+`` as it should; single characters it does."""
    wrong = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and is_compile(node.func):
                pattern = ast.unparse(node.args[0])
                if any(mark in pattern for mark in (")*+", ")++", ")?+", "(?>")):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, wrong


def test_generated_code_is_fresh() -> None:
    done = run(sys.executable, "tools/generate_contract.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_contract_is_lint_clean() -> None:
    done = run(sys.executable, "tools/generate_contract.py", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_contract_lint_can_fail(tmp_path: Path) -> None:
    """The lint is real: the same check on a contract with a missing comment fails."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "proto" / "his160", copy / "proto" / "his160")
    shutil.copytree(ROOT / "tools", copy / "tools")
    shutil.copy(ROOT / "buf.yaml", copy)
    target = copy / "proto" / "his160" / "v1" / "event.proto"
    target.write_text(
        target.read_text(encoding="utf-8").replace("// Booked (YUYUE_SUCCESS).\n", "\n"), encoding="utf-8"
    )
    done = run(sys.executable, str(copy / "tools" / "generate_contract.py"), "--lint")
    assert done.returncode != 0
    assert "EVENT_KIND_BOOKED" in done.stdout + done.stderr


def test_lock_and_project_name_no_index() -> None:
    for name in ("requirements.lock", "pyproject.toml", "Makefile", ".ci/run", ".ci/servers"):
        found = re.search(r"index.url|https?://|\bfile:", (ROOT / name).read_text(encoding="utf-8"))
        assert found is None, f"{name} holds {found and found[0]!r}"


def test_no_tracked_file_names_this_machine() -> None:
    """Neither the folder of this tree, a home, the interpreter's place, nor the host of a package index."""
    configured = run(sys.executable, "-m", "pip", "config", "list").stdout
    hosts = {host for url in re.findall(r"https?://[^'\s]+", configured) if (host := urlsplit(url).hostname)}
    places = {f"{ROOT}/", f"{ROOT.parent}/", f"{Path.home()}/", f"{sys.prefix}/", f"{sys.base_prefix}/"}
    # A tree in / or an interpreter in /usr says nothing about this machine.
    words = sorted(hosts | (places - {"//", "/", "/usr/", "/usr/local/", "/opt/"}))
    # A home or folder name only where a path begins, not in the middle of another one.
    pattern = re.compile("|".join(rf"(?<![\w$}}\"./-]){re.escape(word)}" for word in words).encode())
    listed = run("git", "ls-files", "-z")
    assert listed.returncode == 0, listed.stderr
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        found = pattern.search(path.read_bytes()) if path.is_file() else None
        if found is not None:
            wrong.append(f"{name}: {found[0].decode()}")
    assert not wrong, wrong


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked sources so that nothing of this tree is touched. Beside them stands
    what Windows Python under wine leaves behind, a link to the whole file system: whoever follows it is not back in time."""
    import shutil

    copy = tmp_path_factory.mktemp("source")
    devices = copy / "var" / "windows" / "prefix" / "dosdevices"
    devices.mkdir(parents=True)
    (devices / "z:").symlink_to("/", target_is_directory=True)
    for name in (*ROOMS, "proto"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    # With the setuptools of this environment: an isolated build fetches one from an index, which takes what it takes.
    words = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    command = (sys.executable, "-m", "pip", *words)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    build = subprocess.Popen(command, cwd=copy, start_new_session=True, **pipes)
    try:
        said, _ = build.communicate(timeout=2 * PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(build.pid, signal.SIGKILL)  # pip builds in children of its own
        build.wait()
        pytest.fail("the build of the wheel followed a link out of its folder")
    assert build.returncode == 0, said
    return next(out.glob("his160-*.whl"))


@pytest.mark.slow
def test_wheel_holds_exactly_our_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert tops == {"agent", "sync", "his_db", "service_install", "his160", f"his160-{version}.dist-info"}
    assert "his160/v1/relay_pb2.py" in names
    assert "his160/descriptor_set.binpb" in names
    assert "his160/py.typed" in names
    assert "his_db/packs/zebone/mappings/watch/orders.toml" in names
    assert "sync/migrations/r0001_first.py" in names
    assert "his_db/packs/winning/sample/procedures.sql" in names
    assert not [name for name in names if name.endswith((".pyc", ".db", ".pem", ".key"))]
    assert {name for name in names if name.endswith(".py")} == tracked_modules()


def tracked_modules() -> set[str]:
    """Every module of the rooms and of the generated contract that git knows, as the wheel names it."""
    listed = run("git", "ls-files", "-z", "--", *(f"{room}/*.py" for room in ROOMS), "proto/gen/*.py")
    assert listed.returncode == 0, listed.stderr
    return {name.removeprefix("proto/gen/") for name in listed.stdout.split("\0") if name}


@pytest.mark.slow
def test_wheel_lives_beside_proto_plus(wheel: Path, tmp_path: Path) -> None:
    """Unpacked on one path with proto-plus, ``import proto`` is theirs and ``import his160`` is ours."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import proto, his160.v1.relay_pb2 as r, agent.__main__; print(proto.__file__, r.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs, ours = done.stdout.split()
    assert "proto" in Path(theirs).parent.name
    assert not theirs.startswith(str(tmp_path))
    assert ours.startswith(str(tmp_path))


def test_the_table_of_refusals_in_the_documentation_is_fresh() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    begin, end = "<!-- reasons: made by tools/reason_table.py -->\n", "\n<!-- end of reasons -->"
    printed = run(sys.executable, "tools/reason_table.py")
    assert printed.returncode == 0, printed.stderr
    assert text[text.index(begin) + len(begin) : text.index(end)] == printed.stdout.strip()


def test_decisions_are_numbered_once_each_and_their_links_lead_somewhere() -> None:
    notes = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [note.name[:4] for note in notes] == [f"{number:04}" for number in range(1, len(notes) + 1)]
    for note in notes:
        assert note.read_text(encoding="utf-8").startswith(f"# {note.name[:4]} ")
    listed = run("git", "ls-files", "-z", "--", "*.md")
    assert listed.returncode == 0, listed.stderr
    for page in filter(None, listed.stdout.split("\0")):
        for name in re.findall(
            r"\(((?:docs/)?(?:\.\./)?decisions/[^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")
        ):
            assert (ROOT / page).parent.joinpath(name).exists(), (page, name)
