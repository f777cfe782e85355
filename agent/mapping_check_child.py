"""The process that checks candidate mappings: ``python -m agent.mapping_check_child``, started by ``mapping_check``.

One JSON object a line: the question on standard input, the answer on standard output. It ends with its input, and by
itself when one check takes longer than it may, also in the middle of a regular expression.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from his_db.document.problem import DocumentError, Problem
from his_db.mapping.known_files import KnownFiles
from his_db.mapping.load import load_mapping_set

_NICE: Final = 10  # a tenth of the processor where the agent wants all of it, everything that it leaves otherwise


def main() -> int:
    """Answer until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may come between the answers
    known = KnownFiles()
    is_nice = False
    for line in sys.stdin.buffer:
        question = json.loads(line)
        if not (is_nice or question["is_urgent"]) and hasattr(os, "nice"):
            is_nice = True
            with suppress(OSError):  # a hardened service may be forbidden to; the check is worth more
                os.nice(_NICE)
        faulthandler.dump_traceback_later(question["seconds"], exit=True)
        gc.disable()  # trees of a thousand statements, all of them in use: looking for garbage is a sixth of the check
        answer = _checked(question, known)
        gc.enable()
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _checked(question: dict[str, Any], known: KnownFiles) -> dict[str, Any]:
    """``revision`` of a set that is right, ``problems`` of one that is not, or the ``defect`` of a check."""
    try:
        found = load_mapping_set(
            Path(question["folder"]), sources=question["sources"], timezone=question["timezone"], known=known
        )
    except DocumentError as error:
        return {"problems": [_fields(problem) for problem in error.problems]}
    except Exception as error:  # noqa: BLE001 - the border of the process: whoever asked is told, without values
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {"defect": f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} {last.name}"}
    return {"revision": found.revision}


def _fields(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "severity": problem.severity.value}


if __name__ == "__main__":
    raise SystemExit(main())
