"""The command line: finds the subcommand, imports it alone, and makes every end an exit code.

Exit codes: 0 done; 1 it failed, or findings; 2 wrong usage; 78 bad configuration or mapping; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from agent.commands.registry import COMMANDS, load
from agent.console import prepare_console, say_error
from agent.log import frames
from agent.version import VERSION
from his_db.document.problem import DocumentError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130


def run(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name; the exit code."""
    prepare_console()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())  # noqa: T201 - the console is what this is for
        return EXIT_OK if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        arguments = ["version"]
    name, *rest = arguments
    if name not in COMMANDS:
        say_error(f"没有命令 {name}", f"there is no command {name}; try his160 --help")
        return EXIT_USAGE
    return _guarded(name, rest)


def usage() -> str:
    """What ``his160 --help`` prints."""
    lines = [
        f"his160 {VERSION}  医院 HIS 与健康160预约平台之间的代理 / agent between a hospital's HIS and the 160 platform",
        "",
        "用法 / usage: his160 命令 [参数]   (his160 命令 --help)",
        "",
    ]
    lines += [f"  {name:<9} {entry.help_zh}  {entry.help}" for name, entry in COMMANDS.items()]
    return "\n".join(lines)


def _guarded(name: str, arguments: Sequence[str]) -> int:
    try:
        return load(name)(arguments)
    except SystemExit as stop:  # argparse: 0 after --help, 2 for wrong usage
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except DocumentError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the border of the program: a person gets a sentence, not values in a trace
        say_error(f"程序内部错误：{type(error).__name__}", f"internal error: {frames(error)}")
        return EXIT_FAILED
