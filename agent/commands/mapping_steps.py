"""Statements of a trial as the mapping tools print them."""

from __future__ import annotations

from typing import Any

from his_db.workbench.trial_run import ShownRows, ShownStep


def step_text(step: ShownStep) -> None:
    """Print one for people."""
    print(f"-- {step.milliseconds:.1f} ms")
    print(step.sql)
    print("   " + ("  ".join(f":{name} = {value}" for name, value in step.binds.items()) or "(no binds)"))
    for rows in step.sets:
        _print_rows(rows)
    if step.out:
        print("   OUT " + "  ".join(f"{name} = {value}" for name, value in step.out.items()))
    if step.error:
        print(f"   !! {step.error}")


def step_json(step: ShownStep) -> dict[str, Any]:
    """The same for programs."""
    return {
        "sql": step.sql,
        "binds": step.binds,
        "results": [
            {
                "columns": list(rows.columns),
                "rows": [list(row) for row in rows.rows],
                "more": rows.more,
                "changed": rows.changed,
            }
            for rows in step.sets
        ],
        "out": step.out,
        "milliseconds": round(step.milliseconds, 2),
        "error": step.error,
    }


def _print_rows(rows: ShownRows) -> None:
    if not rows.columns:
        print(f"   {rows.changed} 行已修改 / rows changed")
        return
    print("   " + " | ".join(rows.columns))
    for row in rows.rows:
        print("   " + " | ".join(row))
    if rows.more:
        print(f"   … 还有 {rows.more} 行 / {rows.more} more rows")
