"""The house holds: arrows, sizes, grammar of the tree, registries, generated code, and what the wheel carries."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("agent", "sync", "his_db", "service_install")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_arrows_point_down() -> None:
    """import-linter's contracts in pyproject.toml: layers, independence of implementations, forbidden libraries."""
    program = Path(sys.executable).with_name("lint-imports")
    done = run(str(program), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_and_no_function_is_too_long() -> None:
    """The house stops at 500 lines a file and 80 a function; generated code and tests apart."""
    long: list[str] = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not long, "\n".join(long)


def test_packages_are_no_facades() -> None:
    """``__init__.py`` holds a docstring only: no facade, therefore no import cycles."""
    wrong = []
    for path in sources():
        if path.name != "__init__.py":
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
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
        ("sync/stores", "sync.registry", "STORES"),
        ("sync/captures", "sync.registry", "CAPTURES"),
        ("sync/sinks", "sync.registry", "SINKS"),
    ],
)
def test_a_plural_folder_holds_implementations_and_nothing_else(folder: str, module: str, name: str) -> None:
    """Every module of a plural folder is named by the registry: nothing is forgotten, nothing else lives there."""
    listed = {
        entry.partition(":")[0].rpartition(".")[2] for entry in getattr(importlib.import_module(module), name).values()
    }
    present = {path.stem for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"}
    assert present == listed


def test_third_party_libraries_stay_where_they_belong() -> None:
    """apscheduler in agent/jobs.py alone; SQLAlchemy and drivers in his_db and the stores; grpc in agent."""
    allowed = {
        "apscheduler": ("agent/jobs.py",),
        "sqlalchemy": ("his_db/", "sync/store", "sync/stores/"),
        "psycopg": ("his_db/engines/", "his_db/samples/"),
        "pyodbc": ("his_db/engines/",),
        "oracledb": ("his_db/engines/",),
        "sqlglot": ("his_db/mapping/", "his_db/workbench/", "his_db/catalogue/"),
        "grpc": ("agent/",),
        "watchdog": ("agent/mapping_watch.py",),
    }
    wrong = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_broad_excepts_stand_only_at_borders() -> None:
    """``except Exception`` carries its reason on the same line (``# noqa: BLE001 - why``); ruff refuses it without."""
    bare = []
    for path in sources():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip().startswith("except Exception") and "BLE001 -" not in line:
                bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert not bare, bare


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
        text = (ROOT / name).read_text(encoding="utf-8")
        for word in ("index-url", "http://", "https://", "file:", Path("~").expanduser().as_posix() + "/"):
            assert word not in text, f"{name} holds {word!r}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked sources so that nothing of this tree is touched."""
    import shutil

    copy = tmp_path_factory.mktemp("source")
    for name in (*ROOMS, "proto"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy))
    assert done.returncode == 0, done.stdout + done.stderr
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
    assert "his_db/packs/winning/sample/procedures.sql" in names
    assert not [name for name in names if name.endswith((".pyc", ".db", ".pem", ".key"))]


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
