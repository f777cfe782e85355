"""The neusoft sample's window program: writes into the HIS tables as the vendor's own window does, with the vendor's
own texts (domain facts §1.6), knowing nothing of his160.

Lock order as in the package: the schedule's row first, then the order's. Registrations and negative rows are made by
the vendor's own `pkg_160.x_register` and `pkg_160.f_reverse`.
"""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Engine

from his_db.sample import HisRow, InsuredBill, OrderRow, WindowRefusal
from his_db.samples import neusoft_cashier as cashier
from his_db.samples.desk import Desk, DeskPool
from his_db.samples.tables import all_rows, changed, fen, one, rows_of

_STATE = (
    "CASE WHEN o.order_state = '2' THEN 'CANCELLED' WHEN o.order_state = '5' OR r.valid_flag = '0' THEN 'REFUNDED' "
    "WHEN r.ynsee = '1' THEN 'VISITED' WHEN o.order_state = '4' OR r.triage_flag = '1' THEN 'CHECKED_IN' "
    "WHEN r.clinic_code IS NOT NULL THEN 'PAID' ELSE 'BOOKED' END"
)
_ORDERS = f"""
SELECT * FROM (
  SELECT COALESCE(o.serial_no, r.clinic_code) AS his_id, o.order_id AS order_no, {_STATE} AS state,
         COALESCE(o.schema_id, r.schema_no) AS sch, COALESCE(o.seeno, r.seeno) AS num,
         COALESCE(o.card_no, r.card_no) AS patient, COALESCE((o.reg_fee + o.treat_fee) / 100,
         r.own_cost + r.pub_cost + r.pay_cost) AS total,
         COALESCE(r.own_cost + r.pub_cost + r.pay_cost, 0) AS paid,
         COALESCE(-n.own_cost - n.pub_cost - n.pay_cost, 0) AS refunded,
         COALESCE(o.oper_code, n.oper_code, r.oper_code) AS operator, COALESCE(o.order_date, r.oper_date) AS booked
    FROM (SELECT * FROM neuhis.fin_opr_appointmentorder WHERE order_state <> '1') o
    FULL JOIN (SELECT * FROM neuhis.fin_opr_register WHERE trans_type = '1') r ON r.clinic_code = o.visiting_num
    LEFT JOIN neuhis.fin_opr_register n ON n.clinic_code = r.clinic_code AND n.trans_type = '2'
   WHERE (:channel = 0 OR o.in_source = '160')) q
WHERE :states = '*' OR strpos(:states, ',' || state || ',') > 0
ORDER BY booked DESC, his_id DESC LIMIT :limit"""
_NOW = "pkg_160.f_now()"
_CANCEL_TEXTS = {"2": "该订单已取消！", "3": "该订单已支付！", "4": "该订单已取号！", "5": "该订单已退费！"}


class NeusoftWindow:
    """`CashierWindow` over the schema `neuhis`. HIS id of an order: SERIAL_NO; of a walk-in: CLINIC_CODE (their
    ranges do not meet)."""

    def __init__(self, engine: Engine | DeskPool) -> None:
        self._engine = engine

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def orders(self, *, channel_only: bool, states: tuple[str, ...] | None = None, limit: int) -> list[OrderRow]:
        """Newest first."""
        wanted = "*" if states is None else f",{','.join(states)},"
        binds = {"channel": int(channel_only), "states": wanted, "limit": limit}
        with self._engine.connect() as connection:
            rows = all_rows(connection, _ORDERS, **binds)
        return [
            OrderRow(
                his_id=r["his_id"],
                platform_order_no=r["order_no"],
                state=r["state"],
                schedule_id=r["sch"],
                number=int(r["num"]),
                patient_id=r["patient"],
                total_fen=fen(r["total"]),
                paid_fen=fen(r["paid"]),
                refunded_fen=fen(r["refunded"]),
                operator=r["operator"],
            )
            for r in rows
        ]

    def cancel_booking(self, his_id: str, *, operator: str) -> None:
        """Only ORDER_STATE 0, before the visit date has passed: state 2, quota back, the hold deleted."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            order = _order(connection, his_id)
            if order is None:
                raise WindowRefusal("未找到该预约订单！")
            if str(order["order_state"]) in _CANCEL_TEXTS:
                raise WindowRefusal(_CANCEL_TEXTS[str(order["order_state"])])
            if order["past"]:
                raise WindowRefusal("请在就诊日期之前取消预约！")
            changed(
                connection,
                "UPDATE neuhis.fin_opr_appointmentorder SET order_state = '2', cancel_reason = '窗口取消', "
                f"oper_code = :op, oper_date = {_NOW} WHERE serial_no = :id AND order_state = '0'",
                op=operator,
                id=his_id,
            )
            reduced = changed(
                connection,
                "UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - 1, 0) WHERE id = :sch",
                sch=order["schema_id"],
            )
            if reduced == 0:
                raise WindowRefusal("已无排班信息,无法恢复限额")
            changed(connection, "DELETE FROM neuhis.fin_opr_booking WHERE order_id = :no", no=order["order_id"])

    def refund(self, his_id: str, *, operator: str) -> None:
        """Negative register and fee rows, quota back, order state 5 and a history row without REFUND_NO."""
        with self._engine.begin() as connection:
            self._give_back(connection, his_id, operator, insured=False)

    def refund_insured(self, his_id: str, reversal_setl_id: str, *, operator: str) -> None:
        """As `refund`, of a registration whose 医保 settlement the window has reversed: its negative row too."""
        with self._engine.begin() as connection:
            clinic = self._give_back(connection, his_id, operator, insured=True)
            cashier.reverse_settlement(connection, clinic, reversal_setl_id, operator)

    def refund_part(self, his_id: str, amount_fen: int, *, operator: str) -> None:
        """Not to be had: 必须全退, for orders and for walk-ins."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            self._present(connection, his_id)
            raise WindowRefusal("退号的情况下，必须全退!")

    def close_day(self, *, operator: str) -> str:
        """FIN_OPR_DAYREPORT and BALANCE_* of the operator's fee rows."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            return cashier.close_day(connection, operator)

    def reschedule(self, his_id: str, schedule_id: str, *, operator: str) -> None:
        """SCHEMA_ID, number, time, department and doctor of order, hold and registration; quotas of both sessions."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            cashier.lock_both(connection, his_id, schedule_id)
            order = _order(connection, his_id)
            register = _register(connection, his_id, order)
            seen = register is not None and str(register["ynsee"]) == "1"
            if order is None or order["order_state"] not in ("0", "3") or seen:
                raise WindowRefusal("该订单已取消、已取号或已就诊，不能改诊！")
            cashier.move(connection, order, schedule_id, operator)

    def prescribe(self, his_id: str) -> None:
        """A line of FIN_OPB_FEEDETAIL."""
        with self._engine.begin() as connection:
            _, register = self._present(connection, his_id)
            cashier.prescribe(connection, register)

    def clear_holds(self) -> int:
        """Rows of FIN_OPR_BOOKING that ran out are deleted, their numbers go back to TEL_REGING."""
        with self._engine.begin() as connection:
            return cashier.clear_holds(connection)

    def night_job(self) -> int:
        """This vendor moves nothing."""
        return 0

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """VALID_FLAG 0 with reason, operator and time."""
        self._change_schema(
            schedule_id,
            operator,
            f"valid_flag = '0', reason_no = '09', reason_name = :reason, stop_opcd = :op, stop_date = {_NOW}",
            "valid_flag = '1'",
            "该排班不存在或已停诊！",
            reason=reason,
        )

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """VALID_FLAG 1; reason, operator and time are blanked: no trace is left."""
        self._change_schema(
            schedule_id,
            operator,
            f"valid_flag = '1', reason_no = NULL, reason_name = NULL, stop_opcd = NULL, stop_date = NULL, "
            f"oper_code = :op, oper_date = {_NOW}",
            "valid_flag = '0'",
            "该排班未停诊！",
        )

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """DOCT_CODE of the schedule, of its open orders (USER_CHOICE 1) and valid registrations."""
        with self._engine.connect() as connection:
            doctor = one(
                connection,
                "SELECT empl_name FROM neuhis.com_employee "
                "WHERE empl_code = :id AND empl_type = 'D' AND valid_state = '1'",
                id=doctor_id,
            )
        if doctor is None:
            raise WindowRefusal("替诊医生不存在或与原医生相同！")
        self._change_schema(
            schedule_id,
            operator,
            "old_doct_code = COALESCE(old_doct_code, doct_code, 'None'), "
            "old_doct_name = COALESCE(old_doct_name, doct_name), doct_code = :doctor, doct_name = :name, "
            f"remark = '替诊', oper_code = :op, oper_date = {_NOW}",
            "COALESCE(doct_code, 'None') <> :doctor",
            "替诊医生不存在或与原医生相同！",
            "UPDATE neuhis.fin_opr_appointmentorder SET doct_code = :doctor, user_choice = '1' "
            "WHERE schema_id = :sch AND order_state IN ('0', '3', '4')",
            "UPDATE neuhis.fin_opr_register SET doct_code = :doctor, doct_name = :name "
            "WHERE schema_no = :sch AND trans_type = '1' AND valid_flag = '1'",
            doctor=doctor_id,
            name=doctor["empl_name"],
        )

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """On-site quota (REGED), FIN_OPR_REGISTER without an order, cash."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            return self._register_on_site(connection, schedule_id, patient_id, operator, None)

    def register_insured(self, schedule_id: str, patient_id: str, bill: InsuredBill, *, operator: str) -> str:
        """As `walk_in`, PAYKIND_CODE 02, its costs split, and a row of FIN_IPR_SIINMAININFO."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            clinic = self._register_on_site(connection, schedule_id, patient_id, operator, bill)
            cashier.record_settlement(connection, clinic, bill)
            return clinic

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """As 健康160 would have: the package's own procedures, operator jk160, WeChat money."""
        with self._engine.begin() as connection:
            self._book(connection, schedule_id, patient_id, platform_order_no)
            order = one(
                connection,
                "SELECT serial_no, reg_fee + treat_fee AS fee FROM neuhis.fin_opr_appointmentorder "
                "WHERE order_id = :no",
                no=platform_order_no,
            )
            assert order is not None
            if paid:
                self._pay(connection, platform_order_no, order["fee"])
        return str(order["serial_no"])

    def check_in(self, his_id: str) -> None:
        """取号: ORDER_STATE 3 to 4, TRIAGE_FLAG 1. Only on the visit day where TAKEDT says so."""
        with self._engine.begin() as connection:
            order, register = self._present(connection, his_id)
            if str(register["triage_flag"]) == "1":
                raise WindowRefusal("该患者已经签到！")
            row = one(
                connection,
                "SELECT CASE WHEN pkg_160.f_control('TAKEDT', '0') = '1' AND "
                f":day <> date_trunc('day', {_NOW}) THEN 1 ELSE 0 END AS early",
                day=register["reg_date"],
            )
            if row and row["early"]:
                raise WindowRefusal("只能在就诊当日取号！")
            if order is not None:
                changed(
                    connection,
                    "UPDATE neuhis.fin_opr_appointmentorder SET order_state = '4' WHERE serial_no = :id",
                    id=his_id,
                )
            cashier.mark(connection, register, "triage_flag = '1', check_flag = '1'")

    def visit(self, his_id: str) -> None:
        """看诊: YNSEE 1."""
        with self._engine.begin() as connection:
            _, register = self._present(connection, his_id)
            if str(register["ynsee"]) == "1":
                raise WindowRefusal("该患者已经就诊过了！")
            cashier.mark(connection, register, f"ynsee = '1', see_date = {_NOW}")

    def half_written(self, schedule_id: str, patient_id: str) -> str | None:
        """None: this window writes a registration in one transaction."""
        return None

    def raw(self, his_id: str) -> list[HisRow]:
        """Order, hold, register rows, fee rows, refund history."""
        with self._engine.connect() as connection:
            found = rows_of(connection, "neuhis.fin_opr_appointmentorder", "serial_no = :id", id=his_id)
            order_id = found[0][1]["order_id"] if found else None
            clinic = found[0][1]["visiting_num"] if found else his_id
            found += rows_of(connection, "neuhis.fin_opr_booking", "order_id = :no", no=order_id)
            found += rows_of(
                connection, "neuhis.fin_opr_register", "clinic_code = :clinic ORDER BY trans_type", clinic=clinic
            )
            found += rows_of(
                connection,
                "neuhis.fin_opb_accountcardfee",
                "clinic_no = :clinic ORDER BY trans_type, fee_type",
                clinic=clinic,
            )
            found += rows_of(
                connection,
                "neuhis.fin_ipr_siinmaininfo",
                "inpatient_no = :clinic ORDER BY trans_type",
                clinic=clinic,
            )
            found += rows_of(connection, "neuhis.fin_opr_bookingpayhistory", "order_id = :no", no=order_id)
        return found

    def raw_schedule(self, schedule_id: str) -> list[HisRow]:
        """The schedule row; this vendor keeps no stop or change records."""
        with self._engine.connect() as connection:
            return rows_of(connection, "neuhis.fin_opr_schema", "id = :sch", sch=schedule_id)

    def _give_back(self, connection: Connection | Desk, his_id: str, operator: str, *, insured: bool) -> str:
        """退号; answers CLINIC_CODE. Raises WindowRefusal."""
        right = _operator(connection, operator)
        order = _order(connection, his_id)
        register = _register(connection, his_id, order)
        cashier.check_refund(connection, order, register, right, insured=insured)
        assert register is not None
        clinic = str(register["clinic_code"])
        invoice = self._reverse(connection, clinic, operator)
        if invoice is None:
            raise WindowRefusal("该号已经退号！")
        if order is not None:
            cashier.close_order(connection, order, operator, invoice)
        return clinic

    def _reverse(self, connection: Connection | Desk, clinic: str, operator: str) -> str | None:
        """The vendor's own 退号: the invoice number of the negative row, None when it is not valid any more."""
        row = one(connection, "SELECT pkg_160.f_reverse(:clinic, :op) AS invoice", clinic=clinic, op=operator)
        return None if row is None or row["invoice"] is None else str(row["invoice"])

    def _book(self, connection: Connection | Desk, schedule_id: str, patient_id: str, order_no: str) -> None:
        """The vendor's own 下订单. Raises WindowRefusal."""
        found = one(
            connection,
            "SELECT o_code, o_msg FROM pkg_160.x_book(:no, :sch, :card, '160', '0', 'jk160')",
            no=order_no, sch=schedule_id, card=patient_id,
        )  # fmt: skip
        assert found is not None
        accepted(found)

    def _pay(self, connection: Connection | Desk, order_no: str, fee: object) -> None:
        """The vendor's own 支付. Raises WindowRefusal."""
        answer = one(
            connection,
            "SELECT o_code, o_msg FROM pkg_160.x_pay(:no, :trade, :txn, CAST(:fee AS numeric), '4', 'jk160')",
            no=order_no, trade=f"M{order_no}", txn=f"4200{order_no}", fee=fee,
        )  # fmt: skip
        assert answer is not None
        accepted(answer)

    def _write_register(self, connection: Connection | Desk, **binds: object) -> None:
        """The vendor's own 写挂号: register and fee rows of what is paid at the window."""
        one(
            connection,
            "SELECT pkg_160.x_register(:clinic, :invoice, :card, :sch, :number, '0', '0', '0', :op, :pub, :pay) "
            "AS done",
            **binds,
        )

    def _register_on_site(
        self,
        connection: Connection | Desk,
        schedule_id: str,
        patient_id: str,
        operator: str,
        bill: InsuredBill | None,
    ) -> str:
        """A registration without order: ordinary invoice number, cash, for `bill` its cash part."""
        number = cashier.take_on_site(connection, schedule_id)
        known = "SELECT count(*) AS n FROM neuhis.com_patientinfo WHERE card_no = :card AND is_valid = '1'"
        found = one(connection, known, card=patient_id)
        if found is None or found["n"] == 0:
            raise WindowRefusal("该患者未建档！")
        keys = one(
            connection,
            "SELECT lpad(CAST(nextval('neuhis.seq_fin_opr_clinic') AS text), 14, '0') AS clinic, "
            "'F' || lpad(CAST(nextval('neuhis.seq_fin_opr_invoice') AS text), 9, '0') AS invoice",
        )
        assert keys is not None
        self._write_register(
            connection,
            clinic=keys["clinic"],
            invoice=keys["invoice"],
            card=patient_id,
            sch=schedule_id,
            number=number,
            op=operator,
            **cashier.insurance_parts(connection, schedule_id, bill),
        )
        return str(keys["clinic"])

    def _change_schema(
        self, schedule_id: str, operator: str, change: str, guard: str, refusal: str, *more: str, **binds: object
    ) -> None:
        with self._engine.begin() as connection:
            _operator(connection, operator)
            sql = f"UPDATE neuhis.fin_opr_schema SET {change} WHERE id = :sch AND {guard}"
            if changed(connection, sql, sch=schedule_id, op=operator, **binds) != 1:
                raise WindowRefusal(refusal)
            for statement in more:
                used = {name: value for name, value in binds.items() if f":{name}" in statement}
                changed(connection, statement, sch=schedule_id, **used)

    def _present(
        self, connection: Connection | Desk, his_id: str
    ) -> tuple[dict[str, object] | None, dict[str, object]]:
        """Order (None of a walk-in) and its valid registration."""
        order = _order(connection, his_id)
        register = _register(connection, his_id, order)
        if register is None or register["valid_flag"] != "1":
            raise WindowRefusal("该号未缴费或已退号！")
        return order, register


def accepted(answer: Mapping[str, object]) -> None:
    """Raises WindowRefusal with the procedure's own text."""
    if answer["o_code"] != 0:
        raise WindowRefusal(str(answer["o_msg"]))


def _operator(connection: Connection | Desk, code: str) -> str:
    """NET_RIGHT of the operator: 0 ordinary window, 1 both, 2 only 网上预约."""
    row = one(
        connection,
        "SELECT COALESCE(net_right, '1') AS net_right FROM neuhis.com_employee "
        "WHERE empl_code = :id AND valid_state = '1'",
        id=code,
    )
    if row is None:
        raise WindowRefusal("操作员不存在！")
    return str(row["net_right"])


def _order(connection: Connection | Desk, his_id: str) -> dict[str, object] | None:
    """The order with `past`, its schedule's row locked first."""
    all_rows(
        connection,
        "SELECT 1 FROM neuhis.fin_opr_schema WHERE id = (SELECT schema_id FROM neuhis.fin_opr_appointmentorder "
        "WHERE serial_no = :id) FOR UPDATE",
        id=his_id,
    )
    return one(
        connection,
        f"SELECT o.*, CASE WHEN o.reg_date < date_trunc('day', {_NOW}) THEN 1 ELSE 0 END AS past "
        "FROM neuhis.fin_opr_appointmentorder o "
        "WHERE o.serial_no = :id AND o.order_state <> '1' FOR UPDATE",
        id=his_id,
    )


def _register(connection: Connection | Desk, his_id: str, order: dict[str, object] | None) -> dict[str, object] | None:
    """The positive register row of an order or a walk-in, its schedule's row locked first."""
    clinic = his_id if order is None else order["visiting_num"]
    all_rows(
        connection,
        "SELECT 1 FROM neuhis.fin_opr_schema WHERE id IN (SELECT schema_no FROM neuhis.fin_opr_register "
        "WHERE clinic_code = :clinic) FOR UPDATE",
        clinic=clinic,
    )
    return one(
        connection,
        "SELECT * FROM neuhis.fin_opr_register WHERE clinic_code = :clinic AND trans_type = '1' FOR UPDATE",
        clinic=clinic,
    )
