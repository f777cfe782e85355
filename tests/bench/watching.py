"""An agent that does nothing but watch: 20 tables of 50 rows, each read once a second, and nothing ever changes.

Its processor time and memory; what the database does for it is not counted where it is a server of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.demo.hospital import Hospital
from agent.demo.site import Site
from tests.bench import bare, process
from tests.bench.figures import Figure
from tests.bench.plan import Plan

TABLES: Final = 20
ROWS: Final = 50
_WATCH: Final = """
schema = 1
watch = "bench{number}"
subject = "schedule"
poll = "1s"
key = "schedule_id"
platform_operators = ["jk160"]
vanish = "ignore"
sql = "SELECT id, day, state, dept, doctor, free, operator FROM bench_watch{number}"
fields = [
  {{ to = "schedule_id", column = "id" }},
  {{ to = "visit_date", column = "day", date = "%Y-%m-%d" }},
  {{ to = "state", column = "state" }},
  {{ to = "department_id", column = "dept" }},
  {{ to = "doctor_id", column = "doctor" }},
  {{ to = "free_count", column = "free" }},
  {{ to = "period", const = "MORNING" }},
  {{ to = "fee_fen", const = 2500 }},
  {{ to = "operator_id", column = "operator" }},
]
[[event]]
kind = "SUSPENDED"
when = "state: OPEN -> SUSPENDED"
"""
_UNSUPPORTED: Final = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'
_TABLE: Final = """
CREATE TABLE bench_watch{number} (id VARCHAR(32) PRIMARY KEY, day CHAR(10), state VARCHAR(10), dept VARCHAR(10),
  doctor VARCHAR(10), free INTEGER, operator VARCHAR(10))
"""


def measure(plan: Plan, hospital: Hospital, folder: Path) -> list[Figure]:
    """Percent of one core and megabytes. The tables are made in the sample HIS and dropped again."""
    driver = bare.connect(hospital)
    try:
        for number in range(TABLES):
            _fill(driver, number)
        try:
            return _figures(plan, hospital, folder)
        finally:
            for number in range(TABLES):
                driver.run((f"DROP TABLE bench_watch{number}", {}))
    finally:
        driver.close()


def _figures(plan: Plan, hospital: Hospital, folder: Path) -> list[Figure]:
    mappings = folder / "mappings"
    with Site(folder, hospital) as site:
        mappings.mkdir(parents=True)
        for number in range(TABLES):
            (mappings / f"watch{number}.toml").write_text(_WATCH.format(number=number), encoding="utf-8")
        (mappings / "refund.toml").write_text(_UNSUPPORTED, encoding="utf-8")  # a set has an operation
        site.start_sandbox()
        site.write_config()
        text = site.config.read_text(encoding="utf-8")
        text = text.replace(f'path = "pack:{hospital.pack}"', 'path = "mappings"\ncanary = []')
        text = text.replace('sweep = "1s"\n', "")  # the demo's hurry; an agent sweeps as it does without being told
        site.config.write_text(text, encoding="utf-8")
        pid = site.start_agent().pid
        site.wait_attached()
        site.wait_watching()
        share = process.processor(pid, plan.idle_seconds * 3)
        params: dict[str, str | int] = {"his": hospital.kind, "watches": TABLES, "rows": ROWS}
        return [
            process.processor_figure("processor idle, a poll a second each", share, params),
            Figure(process.GROUP, "RSS idle", process.memory(pid), "MB", params),
        ]


def _fill(driver: bare.Driver, number: int) -> None:
    driver.run((_TABLE.format(number=number), {}))
    driver.begin()
    for row in range(ROWS):
        values = f"'S{row:05d}', '2026-11-24', 'OPEN', 'D{row % 7}', 'E{row % 11}', {row % 30}, '0931'"
        driver.run((f"INSERT INTO bench_watch{number} VALUES ({values})", {}))
    driver.commit()
