"""Text for people on a console: Chinese and English, safe on Windows, nothing lost to an encoding."""

from __future__ import annotations

import io
import sys


def prepare_console() -> None:
    """Make standard output and error take every character: UTF-8 for files and pipes, its own code for a console."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue  # a service without a console, or a test
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text_zh: str, text: str = "") -> None:
    """One line to standard output, Chinese then English."""
    print(both(text_zh, text), flush=True)  # noqa: T201 - the console is what this is for


def say_error(text_zh: str, text: str = "") -> None:
    """One line to standard error, Chinese then English."""
    print(f"his160: {both(text_zh, text)}", file=sys.stderr, flush=True)  # noqa: T201 - as above


def both(text_zh: str, text: str) -> str:
    """Two languages on one line."""
    return f"{text_zh} / {text}" if text and text_zh else text_zh or text
