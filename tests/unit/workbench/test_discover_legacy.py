"""`discover` on HIS that no pack knows: tables of published schemas (domain facts 5.6), names only, no comment, no key.

A table of pinyin initials alone (`ghxh`), English words (荆州), and words run together (新致).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from his_db.source import settings_from_url
from his_db.workbench.discover import TableMatch, discover
from his_db.workbench.site import connected

NEWTOUCH = {
    "mz_ghpb_schedule": "ScheduId OrganizeId ghpbId OutDate ysgh ysxm czks czksmc RegType Title Period PeriodDesc PeriodStart "
    "PeriodEnd TotalNum IsBook ghlx zlxm weekdd IsCancel CancelReason CancelTime YYNum istz tzyy tzsj zt",
    "mz_gh_book": "BookId yyzt ScheduId ghxz patid xm xb lxdh kh ks ys OutDate RegType Period PeriodStart PeriodEnd QueueNo "
    "RegFee PayFee PayLsh PayTime CancelReason CancelTime mzh ghrq AppId zt px yynr Title",
    "mz_gh": "ghnm patid brxz ghly mjzbz ks ys jzxh ghf zlf ckf gbf ghzt jzbz kh mzh xm xb csny zjlx zjh ghrq ScheduId",
    "mz_js": "jsnm jslx zje xjzf fph jszt cxjsnm tbz OutTradeNo ybjslsh",
    "Order_RefundInfo": "Id OutTradeNo TradeNo Amount RefundStatus RefundReason RefundDate OutRequestNo Memo",
    "xt_daysettle": "id czr rq je",
}
JINGZHOU = {
    "gh_request": "record_sn request_date ampm unit_sn group_sn doctor_sn clinic_type req_type begin_no current_no end_no "
    "enter_opera enter_date open_flag window_no workroom temp_flag limit_appoint_percent",
    "gh_request_list": "record_sn req_no out_type start_time end_time isout_flag op_date section_number",
    "gh_doctor_leave": "sn doctor_id begin_date end_date is_delete",
    "mz_patient_mi": "patient_id social_no hic_no p_bar_code name sex birthday home_tel response_type charge_type "
    "relation_code relation_name max_times max_ledger_sn yb_psn_no enter_date update_date",
    "mz_visit_table": "patient_id times visit_dept doctor_code visit_date name age group_sn clinic_type req_type gh_sequence "
    "ampm visit_flag gh_opera gh_date",
    "gh_deposit": "patient_id item_no ledger_sn times charge cheque_type cheque_no depo_status price_opera price_date "
    "mz_dept_no out_trade_no report_date",
    "zd_unit_code": "unit_sn code name py_code d_code mz_flag deleted_flag",
    "a_employee_mi": "emp_sn code name py_code dept_sn emp_tit_code",
    "zd_cheque_type": "code name",
    "gh_zd_clinic_type": "code name",
}
PINYIN = {
    "GHXH": "GHXH BRID BRXM GHRQ KSDM YSDM HX ZT DDH CZGH QXRQ",
    "KSDMB": "KSDM KSMC PYDM",
    "YSDMB": "YSDM YSXM KSDM YSZC",
    "PBB": "PBXH ZBRQ SXW KSDM YSDM XHS YGHS TZBZ",
    "HYB": "HYXH PBXH HX KSSJ JSSJ ZT",
    "BRJBXX": "BRID BLH BRXM XB CSRQ SFZH LXDH DZ",
    "SFJL": "SFXH GHXH FPH JE FKFS SFRQ SHDDH",
    # what every HIS has besides
    "ZD_XB": "DM MC",
    "XTCS": "ID VAL",
    "CZYB": "CZGH XM MM",
    "CFZD": "CFXH GHXH BRID KSDM YSDM KFRQ JE",
    "ZYBR": "ZYH BRID BRXM XB CSRQ RYRQ KSDM",
    "JYBG": "JYXH BRID GHXH XMMC JG BGRQ",
}


def discovered(tables: Mapping[str, str], file: Path) -> dict[str, TableMatch]:
    """Subject -> its best table in a database of these tables."""
    with closing(sqlite3.connect(file)) as database:
        for name, columns in tables.items():
            database.execute(f"CREATE TABLE {name} ({', '.join(f'{column} TEXT' for column in columns.split())})")
        database.commit()
    with connected(settings_from_url("his", f"sqlite:///{file}")) as connection:
        found = discover(connection.catalogue())
    return {subject: matches[0] for subject, matches in found.items() if matches}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            NEWTOUCH,
            {
                "schedule": (
                    "mz_ghpb_schedule",
                    "schedule_id=ScheduId visit_date=OutDate total_count=TotalNum state=istz",
                ),
                "appointment": (
                    "mz_gh_book",
                    "appointment_id=BookId state=yyzt queue_no=QueueNo cancel_time=CancelTime",
                ),
                "payment": ("mz_js", "amount_fen=zje out_trade_no=OutTradeNo receipt_no=fph"),
            },
        ),
        (
            JINGZHOU,
            {
                "department": ("zd_unit_code", "department_id=unit_sn name=name"),
                "doctor": ("a_employee_mi", "doctor_id=emp_sn name=name title=emp_tit_code"),
                "schedule": (
                    "gh_request",
                    "schedule_id=record_sn visit_date=request_date period=ampm doctor_id=doctor_sn",
                ),
                "slot": (
                    "gh_request_list",
                    "schedule_id=record_sn queue_no=req_no begin_time=start_time state=isout_flag",
                ),
                "patient": ("mz_patient_mi", "patient_id=patient_id sex=sex birthday=birthday mobile=home_tel"),
                "appointment": ("mz_visit_table", "state=visit_flag visit_date=visit_date operator_id=gh_opera"),
                "payment": ("gh_deposit", "amount_fen=charge method=cheque_type pay_time=price_date"),
            },
        ),
        (
            PINYIN,
            {
                "department": ("KSDMB", "department_id=KSDM name=KSMC pinyin=PYDM"),
                "doctor": ("YSDMB", "doctor_id=YSDM name=YSXM title=YSZC"),
                "schedule": ("PBB", "schedule_id=PBXH period=SXW total_count=XHS state=TZBZ"),
                "slot": ("HYB", "slot_id=HYXH queue_no=HX begin_time=KSSJ end_time=JSSJ"),
                "patient": ("BRJBXX", "patient_id=BRID birthday=CSRQ document_no=SFZH mobile=LXDH"),
                "appointment": ("GHXH", "visit_no=GHXH order_no=DDH patient_name=BRXM queue_no=HX cancel_time=QXRQ"),
                "payment": ("SFJL", "amount_fen=JE method=FKFS out_trade_no=SHDDH"),
            },
        ),
    ],
    ids=["新致", "荆州", "pinyin"],
)
def test_tables_of_a_strange_his_are_found(
    tables: Mapping[str, str], expected: Mapping[str, tuple[str, str]], tmp_path: Path
) -> None:
    found = discovered(tables, tmp_path / "his.db")
    for subject, (table, fields) in expected.items():
        assert found[subject].table == table, (subject, found.get(subject))
        columns = {match.field: match.column for match in found[subject].fields}
        for pair in fields.split():
            field, _, column = pair.partition("=")
            assert columns.get(field) == column, (subject, field, columns)


def test_where_numbers_begin_is_no_time(tmp_path: Path) -> None:
    """`begin_no` is the first number of a session, not its begin; what is used up is told apart from what there is."""
    columns = {match.field: match.column for match in discovered(JINGZHOU, tmp_path / "his.db")["schedule"].fields}
    assert "begin_time" not in columns
    assert (columns["total_count"], columns["~used_count"]) == ("end_no", "current_no")
