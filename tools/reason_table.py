"""Print the table of refusals (agent.errors.REFUSALS) as Markdown for ARCHITECTURE.md; a test says it is fresh."""

from __future__ import annotations

from google.rpc import code_pb2
from his160.v1 import reason_pb2

from agent.errors import REFUSALS

MARK_BEGIN = "<!-- reasons: made by tools/reason_table.py -->"
MARK_END = "<!-- end of reasons -->"


def table() -> str:
    """Rows `reason | canonical code | what the caller may do`, in the order of the enum."""
    lines = ["| reason | canonical code | the caller |", "|---|---|---|"]
    words = {"same": "sends the same again", "wait": "waits, then decides anew", "never": "does not repeat"}
    for reason, refusal in sorted(REFUSALS.items()):
        name = reason_pb2.Reason.Name(reason).removeprefix("REASON_")
        lines.append(f"| {name} | {code_pb2.Code.Name(refusal.code)} | {words[refusal.retry.value]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
