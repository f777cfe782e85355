"""Settlements of the simulated 医保 platform: 2206A, 2207A, 2208, 2601, 5203, 3201, 3202."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from his_db.money import yuan_of_fen
from his_db.simulated.insurance_visits import SimulatedVisits, check, fen, node
from his_db.simulated.insurance_wire import AREA, Refused
from his_db.simulator_book import Book

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS settlement (
      setl_id TEXT PRIMARY KEY, mdtrt_id TEXT NOT NULL, psn_no TEXT NOT NULL, insutype TEXT NOT NULL,
      batch TEXT NOT NULL, msgid TEXT NOT NULL, total INTEGER NOT NULL, fund INTEGER NOT NULL, account INTEGER NOT NULL,
      cash INTEGER NOT NULL, state TEXT NOT NULL, undoes TEXT NOT NULL, info TEXT NOT NULL, at TEXT NOT NULL)""",
)
_NEEDED: Final = (
    *("psn_no", "mdtrt_cert_type", "mdtrt_cert_no", "med_type", "medfee_sumamt", "psn_setlway", "mdtrt_id"),
    *("chrg_bchno", "acct_used_flag", "insutype"),
)
_FUND_PERCENT: Final = 70
REVERSIBLE: Final = frozenset({"2207", "2207A", "2208"})


class SimulatedSettlements:
    """All methods run inside a transaction of the book. Raise Refused."""

    def __init__(self, book: Book, visits: SimulatedVisits) -> None:
        self.book = book
        self._visits = visits

    def quote(self, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """2206A."""
        info, _ = self._computed(given, now)
        return {"setlinfo": {**info, "setl_id": ""}, "setldetail": _detail(info)}

    def settle(self, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """2207A."""
        info, parts = self._computed(given, now)
        data = given["input"]["data"]
        setl_id = f"S{now:%Y%m%d}{secrets.randbelow(10**9):09d}"
        info |= {"setl_id": setl_id, "medins_setl_id": given["msgid"]}
        self._insert(info, data["chrg_bchno"], given["msgid"], parts, "SETTLED", "", now)
        self.book.run(
            "UPDATE fee SET setl_id = ? WHERE mdtrt_id = ? AND batch = ? AND setl_id = ''",
            setl_id,
            data["mdtrt_id"],
            data["chrg_bchno"],
        )
        self.book.run("UPDATE person SET balance = balance - ? WHERE psn_no = ?", parts["account"], data["psn_no"])
        return {"setlinfo": info, "setldetail": _detail(info)}

    def cancel(self, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """2208."""
        data = node(given, "data", ("setl_id", "mdtrt_id", "psn_no"))
        row = self.book.one("SELECT * FROM settlement WHERE setl_id = ?", data["setl_id"])
        if row is None or row["mdtrt_id"] != data["mdtrt_id"] or row["psn_no"] != data["psn_no"]:
            raise Refused("结算信息不存在")
        if row["state"] != "SETTLED":
            raise Refused("该结算已撤销")
        info = {name: _negated(name, value) for name, value in json.loads(row["info"]).items()}
        info |= {
            "setl_id": f"S{now:%Y%m%d}{secrets.randbelow(10**9):09d}",
            "medins_setl_id": given["msgid"],
            "setl_time": now.strftime("%Y-%m-%d %H:%M:%S"),
        }
        parts = {name: -row[name] for name in ("total", "fund", "account", "cash")}
        self._insert(info, row["batch"], given["msgid"], parts, "NEGATIVE", row["setl_id"], now)
        self._release(row, "CANCELLED")
        return {"setlinfo": info, "setldetail": _detail(info)}

    def reverse(self, given: Mapping[str, Any]) -> None:
        """2601, by omsgid."""
        data = node(given, "data", ("psn_no", "omsgid", "oinfno"))
        if data["oinfno"] not in REVERSIBLE:
            raise Refused("该交易不支持冲正")
        message = self.book.one("SELECT * FROM message WHERE msgid = ?", data["omsgid"])
        if message is None or message["infno"] != data["oinfno"] or message["psn_no"] != data["psn_no"]:
            raise Refused("原交易不存在")
        if message["undone"]:
            raise Refused("原交易已冲正")
        row = self.book.one("SELECT * FROM settlement WHERE msgid = ?", data["omsgid"])
        if row is None:
            raise Refused("原交易不存在")
        if row["state"] == "CANCELLED":
            raise Refused("该结算已撤销，不能冲正")
        self.book.run("UPDATE message SET undone = 1 WHERE msgid = ?", data["omsgid"])
        if row["state"] == "NEGATIVE":
            self._restore(row)
        else:
            self._release(row, "REVERSED")

    def _restore(self, negative: Mapping[str, Any]) -> None:
        """The undone undoing: what was settled stands again."""
        row = self.book.one("SELECT * FROM settlement WHERE setl_id = ?", negative["undoes"]) or {}
        self.book.run("UPDATE settlement SET state = 'REVERSED' WHERE setl_id = ?", negative["setl_id"])
        self.book.run("UPDATE settlement SET state = 'SETTLED' WHERE setl_id = ?", row["setl_id"])
        self.book.run(
            "UPDATE fee SET setl_id = ? WHERE mdtrt_id = ? AND batch = ?", row["setl_id"], row["mdtrt_id"], row["batch"]
        )
        self.book.run("UPDATE person SET balance = balance - ? WHERE psn_no = ?", row["account"], row["psn_no"])

    def _release(self, row: Mapping[str, Any], state: str) -> None:
        self.book.run("UPDATE settlement SET state = ? WHERE setl_id = ?", state, row["setl_id"])
        self.book.run("UPDATE fee SET setl_id = '' WHERE setl_id = ?", row["setl_id"])
        self.book.run("UPDATE person SET balance = balance + ? WHERE psn_no = ?", row["account"], row["psn_no"])

    def find(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """5203: what stands, what was cancelled and its counter-entry; not what was reversed."""
        data = node(given, "data", ("psn_no",))
        rows = self.book.all(
            "SELECT * FROM settlement WHERE psn_no = ? AND state != 'REVERSED' AND (mdtrt_id = ? OR setl_id = ?) "
            "ORDER BY at, rowid",
            data["psn_no"],
            data.get("mdtrt_id", ""),
            data.get("setl_id", ""),
        )
        return {"setlinfo": [json.loads(row["info"]) for row in rows], "setldetail": []}

    def totals(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """3201."""
        data = node(given, "data", ("insutype", "clr_type", "setl_optins", "stmt_begndate", "stmt_enddate"))
        check(data, ("medfee_sumamt", "fund_pay_sumamt", "acct_pay", "fixmedins_setl_cnt"))
        rows = self.book.all(
            "SELECT * FROM settlement WHERE state != 'REVERSED' AND insutype = ? AND substr(at, 1, 10) BETWEEN ? AND ?",
            data["insutype"],
            data["stmt_begndate"],
            data["stmt_enddate"],
        )
        ours = [sum(row[name] for row in rows) for name in ("total", "fund", "account")]
        theirs = [fen(data, name) for name in ("medfee_sumamt", "fund_pay_sumamt", "acct_pay")]
        agrees = ours == theirs and str(len(rows)) == data["fixmedins_setl_cnt"]
        words = "平" if agrees else f"不平：中心{len(rows)}笔，{yuan_of_fen(ours[0])}元"
        return {"stmtinfo": {"setl_optins": AREA, "stmt_rslt": "0" if agrees else "1", "stmt_rslt_dscr": words}}

    def details(self, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """3202: where the result can be fetched."""
        node(given, "data", ("setl_optins", "file_qury_no", "stmt_begndate", "stmt_enddate", "fixmedins_setl_cnt"))
        until = now.replace(hour=23, minute=59, second=59)
        return {
            "fileinfo": {
                "file_qury_no": f"F{secrets.token_hex(8)}",
                "filename": f"{now:%Y%m%d}.zip",
                "dld_endtime": until.strftime("%Y-%m-%d %H:%M:%S"),
            }
        }

    def _computed(self, given: Mapping[str, Any], now: datetime) -> tuple[dict[str, Any], dict[str, int]]:
        data = node(given, "data", _NEEDED)
        person = self._visits.insured(data["psn_no"], given)
        visit = self._visits.visit(data)
        if visit["insutype"] != data["insutype"]:
            raise Refused("险种类型与就诊登记不一致")
        lines = self.book.all(
            "SELECT * FROM fee WHERE mdtrt_id = ? AND batch = ?", data["mdtrt_id"], data["chrg_bchno"]
        )
        if any(line["setl_id"] for line in lines):
            raise Refused("该批次费用已结算")
        total, covered = (sum(line[name] for line in lines) for name in ("amount", "covered"))
        if not lines or total != fen(data, "medfee_sumamt"):
            raise Refused("上传费用总额与结算总额不一致，金额不符")
        fund = covered * _FUND_PERCENT // 100
        account = min(person["balance"], total - fund) if data["acct_used_flag"] == "1" else 0
        parts = {"total": total, "fund": fund, "account": account, "cash": total - fund - account}
        return _info(data, person, parts, covered, now), parts

    def _insert(
        self, info: Mapping[str, Any], batch: str, msgid: str, parts: Mapping[str, int], state: str, undoes: str,
        now: datetime,
    ) -> None:  # fmt: skip
        self.book.insert(
            "settlement",
            {
                **{name: info[name] for name in ("setl_id", "mdtrt_id", "psn_no", "insutype")},
                "batch": batch,
                "msgid": msgid,
                **parts,
                "state": state,
                "undoes": undoes,
                "info": json.dumps(info, ensure_ascii=False),
                "at": now.isoformat(),
            },
        )


_AMOUNTS: Final = (
    *("medfee_sumamt", "fulamt_ownpay_amt", "overlmt_selfpay", "preselfpay_amt", "inscp_scp_amt", "act_pay_dedc"),
    *("hifp_pay", "cvlserv_pay", "hifes_pay", "hifmi_pay", "hifob_pay", "maf_pay", "oth_pay", "fund_pay_sumamt"),
    *("psn_part_amt", "acct_pay", "psn_cash_pay", "hosp_part_amt", "acct_mulaid_pay"),
)


def _info(
    data: Mapping[str, Any], person: Mapping[str, Any], parts: Mapping[str, int], covered: int, now: datetime
) -> dict[str, Any]:
    amounts = dict.fromkeys(_AMOUNTS, 0) | {
        "medfee_sumamt": parts["total"],
        "fulamt_ownpay_amt": parts["total"] - covered,
        "inscp_scp_amt": covered,
        "hifp_pay": parts["fund"],
        "fund_pay_sumamt": parts["fund"],
        "psn_part_amt": parts["account"] + parts["cash"],
        "acct_pay": parts["account"],
        "psn_cash_pay": parts["cash"],
        "balc": person["balance"] - parts["account"],
    }
    return {
        "mdtrt_id": data["mdtrt_id"],
        "psn_no": data["psn_no"],
        "psn_name": person["name"],
        "psn_cert_type": "01",
        "certno": person["certno"],
        "insutype": data["insutype"],
        "psn_type": "1101",
        "cvlserv_flag": "0",
        "setl_time": now.strftime("%Y-%m-%d %H:%M:%S"),
        "mdtrt_cert_type": data["mdtrt_cert_type"],
        "med_type": data["med_type"],
        **{name: yuan_of_fen(amount) for name, amount in amounts.items()},
        "pool_prop_selfpay": "0.7",
        "medins_setl_id": "",
        "clr_optins": AREA,
        "clr_way": "1",
        "clr_type": "11",
    }


def _negated(name: str, value: Any) -> Any:
    if name not in _AMOUNTS or value == "0.00":
        return value
    return value[1:] if value.startswith("-") else f"-{value}"


def _detail(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    amount = info["fund_pay_sumamt"]
    if amount == "0.00":
        return []
    detail = {"fund_pay_type": "310100", "fund_pay_type_name": "城镇职工基本医疗保险统筹基金"}
    return [{**detail, "inscp_scp_amt": info["inscp_scp_amt"], "crt_payb_lmt_amt": "0.00", "fund_payamt": amount}]
