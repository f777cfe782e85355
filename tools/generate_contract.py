"""Generate the contract: Python code, type stubs and the described descriptor set, from ``proto/his160``.

    python tools/generate_contract.py            writes proto/gen/his160
    python tools/generate_contract.py --check    exits 1 when what is committed is not what would be written
    python tools/generate_contract.py --lint     buf lint STANDARD + COMMENTS
    python tools/generate_contract.py --breaking FILE
                                                 buf breaking against an older proto/gen/his160/descriptor_set.binpb

The descriptor set keeps the comments of the .proto files, which generated Python code drops; the mapping checker and
the field reference read them from it.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "proto" / "gen" / "his160"
DESCRIPTOR_SET = "descriptor_set.binpb"


def proto_files() -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in (SOURCE / "his160").rglob("*.proto"))


def includes() -> list[str]:
    """Where protoc finds our files, google.protobuf (grpcio-tools), google.type/api/rpc (googleapis-common-protos)."""
    wellknown = str(resources.files("grpc_tools") / "_proto")
    import google.api.field_behavior_pb2 as anchor

    common = str(Path(anchor.__file__).parents[2])
    return [f"-I{SOURCE}", f"-I{wellknown}", f"-I{common}"]


def plugins() -> list[str]:
    """The stub generators of this very environment, whether or not it is on PATH."""
    found = []
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        program = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if program is None:
            raise SystemExit(f"{name} is not installed: pip install mypy-protobuf")
        found.append(f"--plugin={name}={program}")
    return found


def run_protoc(arguments: list[str]) -> None:
    code = protoc.main(["protoc", *includes(), *arguments, *proto_files()])
    if code != 0:
        raise SystemExit(f"protoc ended with {code}")


def generate(target: Path) -> None:
    """Write the package ``his160`` into ``target`` (which becomes the package's folder)."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        stubs = [*plugins(), f"--mypy_out={out}", f"--mypy_grpc_out={out}"]
        run_protoc([f"--python_out={out}", f"--grpc_python_out={out}", *stubs])
        package = out / "his160"
        for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            (folder / "__init__.py").write_text('"""Generated from proto/his160. Do not edit."""\n', encoding="utf-8")
        (package / "py.typed").write_text("", encoding="utf-8")
        # Comments are kept (source info): the field reference is made from them.
        descriptor_set = package / DESCRIPTOR_SET
        run_protoc(["--include_source_info", "--include_imports", f"--descriptor_set_out={descriptor_set}"])
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(package, target)


def differences(left: Path, right: Path) -> list[str]:
    """Relative names of files that differ or stand on one side only."""
    found: list[str] = []
    names = {str(p.relative_to(side)) for side in (left, right) for p in side.rglob("*") if p.is_file()}
    for name in sorted(names):
        if "__pycache__" in name:
            continue
        one, two = left / name, right / name
        if not (one.exists() and two.exists() and filecmp.cmp(one, two, shallow=False)):
            found.append(name)
    return found


def check() -> int:
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name) / "his160"
        generate(fresh)
        stale = differences(fresh, TARGET)
    if stale:
        print("proto/gen is not what proto/his160 generates; run `make proto`:", *stale, sep="\n  ")
        return 1
    print("proto/gen is fresh")
    return 0


def buf(*arguments: str) -> int:
    program = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if program is None:
        raise SystemExit("buf is not installed: pip install buf-bin")
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "contract.binpb"
        run_protoc(["--include_source_info", "--include_imports", f"--descriptor_set_out={image}"])
        command = [program, arguments[0], str(image), "--config", str(ROOT / "buf.yaml"), *arguments[1:]]
        return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lint", action="store_true")
    parser.add_argument("--breaking", metavar="FILE")
    options = parser.parse_args()
    if options.check:
        return check()
    if options.lint:
        return buf("lint")
    if options.breaking:
        return buf("breaking", "--against", options.breaking)
    generate(TARGET)
    print(f"written: {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
