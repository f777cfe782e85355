-- PostgreSQL port of oracle/package.sql: schema pkg_160 stands for the package PKG_160, so that CALL pkg_160.p_lock(…) is what
-- PKG_160.P_LOCK is there; o_cur is a refcursor, always opened, empty when the answer is a refusal.
-- The table of all codes and texts, the lock order and the rules are in oracle/package.sql. Nothing here commits.
CREATE SCHEMA pkg_160;

CREATE FUNCTION pkg_160.f_control(p_code varchar, p_default varchar) RETURNS varchar LANGUAGE sql STABLE AS $$
    SELECT COALESCE((SELECT control_value FROM neuhis.com_controlargument WHERE control_code = p_code), p_default)
$$;
-- SYSDATE of the sample: hospital wall clock (UTC+8) in whole seconds, OFFSET days apart
CREATE FUNCTION pkg_160.f_now() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
    SELECT date_trunc('second', (clock_timestamp() AT TIME ZONE 'UTC') + interval '8 hours')
         + make_interval(days => pkg_160.f_control('OFFSET', '0')::int)
$$;
-- 锁号失效的界限: a hold made before it has run out
CREATE FUNCTION pkg_160.f_lock_limit() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
    SELECT pkg_160.f_now() - make_interval(mins => pkg_160.f_control('LOCKMI', '10')::int)
$$;
-- 号序 -> 'HH24:MI'; p_lmt = REG_LMT + TEL_LMT
CREATE FUNCTION pkg_160.f_segment(p_begin timestamp, p_end timestamp, p_lmt numeric, p_seeno numeric) RETURNS varchar
LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(LEAST(p_begin + make_interval(mins => ((p_seeno - 1)
         * trunc(round(extract(epoch FROM p_end - p_begin) / 60) / GREATEST(p_lmt, 1)))::int), p_end), 'HH24:MI')
$$;

-- 排班余号: holds that have run out count as free. TEL_LEFT is never negative.
CREATE VIEW neuhis.vw_160_schema_left AS
SELECT s.id, GREATEST(s.tel_lmt - s.tel_reged - s.tel_reging + (SELECT count(*) FROM neuhis.fin_opr_booking b
       WHERE b.schema_id = s.id AND b.lock_state = '0' AND b.oper_date <= (SELECT pkg_160.f_lock_limit())), 0) AS tel_left
  FROM neuhis.fin_opr_schema s;

-- 挂号费, 分: REG_FEE 挂号费, TREAT_FEE 诊金+检查+其他
CREATE FUNCTION pkg_160.x_fee(p_reglevl varchar, OUT o_reg numeric, OUT o_treat numeric) LANGUAGE sql STABLE AS $$
    SELECT round(f.reg_fee * 100), round((f.chck_fee + f.diag_fee + f.oth_fee) * 100)
      FROM neuhis.fin_com_regfeeset f WHERE f.pact_code = '1' AND f.reglevl_code = p_reglevl
$$;

-- 清理过期锁 of one schedule, whose row is locked first: the rows are deleted. Returns how many.
CREATE FUNCTION pkg_160.x_sweep(p_schema_id varchar) RETURNS int LANGUAGE plpgsql AS $$
DECLARE v_n int;
BEGIN
    PERFORM 1 FROM neuhis.fin_opr_schema WHERE id = p_schema_id FOR UPDATE;
    DELETE FROM neuhis.fin_opr_booking WHERE schema_id = p_schema_id AND lock_state = '0' AND oper_date <= pkg_160.f_lock_limit();
    GET DIAGNOSTICS v_n = ROW_COUNT;
    IF v_n > 0 THEN
        UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - v_n, 0) WHERE id = p_schema_id;
    END IF;
    RETURN v_n;
END $$;

-- 占预约限额 (Schema.Increase): the one place where a number is taken. TEL_REGING + 1, or why not.
CREATE FUNCTION pkg_160.x_take(p_schema_id varchar, OUT o_code int, OUT o_msg varchar, OUT o_seeno numeric) LANGUAGE plpgsql AS $$
DECLARE v_s neuhis.fin_opr_schema;
BEGIN
    FOR i IN 1..2 LOOP
        UPDATE neuhis.fin_opr_schema SET tel_reging = tel_reging + 1, order_no = order_no + 1
         WHERE id = p_schema_id AND tel_reged + tel_reging < tel_lmt AND valid_flag = '1' AND pub_flag = '1'
           AND see_date >= date_trunc('day', pkg_160.f_now())
        RETURNING order_no INTO o_seeno;
        IF FOUND THEN o_code := 0; o_msg := '成功'; RETURN; END IF;
        EXIT WHEN pkg_160.x_sweep(p_schema_id) = 0;
    END LOOP;
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = p_schema_id;
    IF NOT FOUND OR v_s.pub_flag <> '1' THEN o_code := -1; o_msg := '该排班不存在！';
    ELSIF v_s.valid_flag <> '1' THEN o_code := -3; o_msg := '该排班已停诊！';
    ELSIF v_s.see_date < date_trunc('day', pkg_160.f_now()) THEN o_code := -4; o_msg := '该排班已过期！';
    ELSE o_code := -2; o_msg := '该排班预约限额已满！';
    END IF;
END $$;

-- 写锁号行 for a number that was taken. p_state 0 锁定 1 已转预约.
CREATE FUNCTION pkg_160.x_hold(p_order_id varchar, p_schema_id varchar, p_seeno numeric, p_state varchar, p_oper varchar) RETURNS varchar
LANGUAGE plpgsql AS $$
DECLARE v_s neuhis.fin_opr_schema; v_reg numeric; v_treat numeric; v_id varchar;
BEGIN
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = p_schema_id;
    SELECT f.o_reg, f.o_treat INTO v_reg, v_treat FROM pkg_160.x_fee(v_s.reglevl_code) f;
    INSERT INTO neuhis.fin_opr_booking (lock_id, order_id, dept_id, doctor_id, reg_date, time_flag, start_time, end_time, order_type, reg_fee,
                                        treat_fee, schema_id, seeno, lock_state, oper_id, oper_date)
    VALUES (lpad(nextval('neuhis.seq_fin_opr_lock')::text, 14, '0'), p_order_id, v_s.dept_code, v_s.doct_code, v_s.see_date, v_s.noon_code,
            pkg_160.f_segment(v_s.begin_time, v_s.end_time, v_s.reg_lmt + v_s.tel_lmt, p_seeno),
            pkg_160.f_segment(v_s.begin_time, v_s.end_time, v_s.reg_lmt + v_s.tel_lmt, p_seeno + 1),
            '0', v_reg, v_treat, p_schema_id, p_seeno, p_state, p_oper, pkg_160.f_now())
    RETURNING lock_id INTO v_id;
    RETURN v_id;
END $$;

-- 锁号
CREATE FUNCTION pkg_160.x_lock(p_order_id varchar, p_schema_id varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_key varchar)
LANGUAGE plpgsql AS $$
DECLARE v_b neuhis.fin_opr_booking; v_state varchar; v_seeno numeric;
BEGIN
    IF p_order_id IS NULL OR p_order_id = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opr_schema WHERE id = p_schema_id FOR UPDATE;
    SELECT order_state INTO v_state FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id;
    IF FOUND THEN
        IF v_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; ELSE o_code := -7; o_msg := '该订单号已被使用！'; END IF;
        RETURN;
    END IF;
    SELECT * INTO v_b FROM neuhis.fin_opr_booking WHERE order_id = p_order_id;
    IF FOUND THEN
        IF v_b.schema_id <> p_schema_id THEN o_code := -7; o_msg := '该订单号已被使用！'; RETURN; END IF;
        IF v_b.oper_date > pkg_160.f_lock_limit() THEN o_code := 0; o_msg := '成功'; o_key := v_b.lock_id; RETURN; END IF;
        PERFORM pkg_160.x_sweep(p_schema_id);
    END IF;
    SELECT t.o_code, t.o_msg, t.o_seeno INTO o_code, o_msg, v_seeno FROM pkg_160.x_take(p_schema_id) t;
    IF o_code <> 0 THEN RETURN; END IF;
    o_key := pkg_160.x_hold(p_order_id, p_schema_id, v_seeno, '0', p_oper);
END $$;
CREATE PROCEDURE pkg_160.p_lock(
    p_order_id varchar, p_schema_id varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
DECLARE v_key varchar;
BEGIN
    BEGIN
        SELECT x.o_code, x.o_msg, x.o_key INTO o_code, o_msg, v_key FROM pkg_160.x_lock(p_order_id, p_schema_id, p_oper) x;
    EXCEPTION WHEN unique_violation THEN o_code := -7; o_msg := '该订单号已被使用！';   -- the same number on two schedules at once
    END;
    OPEN o_cur FOR
        SELECT lock_id, schema_id, seeno, start_time, end_time, reg_fee, treat_fee, reg_fee + treat_fee AS total_fee,
               oper_date + make_interval(mins => pkg_160.f_control('LOCKMI', '10')::int) AS expire_date
          FROM neuhis.fin_opr_booking WHERE lock_id = v_key;
END $$;

-- 解锁: the row is deleted
CREATE PROCEDURE pkg_160.p_unlock(p_order_id varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
DECLARE v_b neuhis.fin_opr_booking;
BEGIN
    SELECT * INTO v_b FROM neuhis.fin_opr_booking WHERE order_id = p_order_id;
    PERFORM 1 FROM neuhis.fin_opr_schema WHERE id = v_b.schema_id FOR UPDATE;
    SELECT * INTO v_b FROM neuhis.fin_opr_booking WHERE order_id = p_order_id FOR UPDATE;
    IF p_order_id IS NULL OR p_order_id = '' THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSIF v_b.lock_id IS NULL THEN o_code := -5; o_msg := '未找到锁号记录！';
    ELSIF v_b.lock_state <> '0' THEN o_code := -6; o_msg := '该号已下订单，不能解锁！';
    ELSE
        UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - 1, 0) WHERE id = v_b.schema_id;
        DELETE FROM neuhis.fin_opr_booking WHERE lock_id = v_b.lock_id;
        o_code := 0; o_msg := '成功';
    END IF;
    OPEN o_cur FOR SELECT p_order_id AS order_id, o_code AS code WHERE o_code = 0;
END $$;

-- 预约规则: why this patient may not book this schedule (0 = may). p_card_no is padded already.
CREATE FUNCTION pkg_160.x_rules(p_schema_id varchar, p_card_no varchar, OUT o_code int, OUT o_msg varchar) LANGUAGE plpgsql AS $$
DECLARE v_amount numeric; v_s neuhis.fin_opr_schema;
BEGIN
    o_code := 0; o_msg := '成功';
    PERFORM 1 FROM neuhis.com_patientinfo WHERE card_no = p_card_no AND is_valid = '1';
    IF NOT FOUND THEN o_code := -14; o_msg := '该患者未建档！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.com_patientlimit WHERE card_no = p_card_no AND kind = '1' AND valid_state = '1';
    IF FOUND THEN o_code := -12; o_msg := '该患者爽约次数过多，请到窗口挂号！'; RETURN; END IF;
    SELECT amount INTO v_amount FROM neuhis.com_patientlimit WHERE card_no = p_card_no AND kind = '2' AND valid_state = '1';
    IF FOUND THEN o_code := -13; o_msg := '该患者欠费' || v_amount || '元，请到窗口处理！'; RETURN; END IF;
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = p_schema_id;
    PERFORM 1 FROM neuhis.fin_opr_appointmentorder
      WHERE card_no = p_card_no AND schema_id = p_schema_id AND order_state IN ('0', '3', '4');
    IF FOUND THEN o_code := -10; o_msg := '该患者已预约该排班，不能重复预约！'; RETURN; END IF;
    IF pkg_160.f_control('DUPDEP', '0') = '1' THEN
        PERFORM 1 FROM neuhis.fin_opr_appointmentorder
          WHERE card_no = p_card_no AND dept_code = v_s.dept_code AND reg_date = v_s.see_date AND order_state IN ('0', '3', '4');
        IF FOUND THEN o_code := -11; o_msg := '同一患者同一天同一科室只能预约一次！'; END IF;
    END IF;
END $$;

-- 下订单: turns the order's own hold into the order; without a hold it takes a number itself. The same order again: the same answer.
CREATE FUNCTION pkg_160.x_book(
    p_order_id varchar, p_schema_id varchar, p_card_no varchar, p_source varchar, p_order_type varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_key varchar)
LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder; v_s neuhis.fin_opr_schema; v_b neuhis.fin_opr_booking; v_card varchar; v_seeno numeric;
BEGIN
    IF p_order_id IS NULL OR p_order_id = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_card := CASE WHEN length(p_card_no) < 10 THEN lpad(p_card_no, 10, '0') ELSE p_card_no END;
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = p_schema_id FOR UPDATE;
    IF NOT FOUND OR v_s.pub_flag <> '1' THEN o_code := -1; o_msg := '该排班不存在！'; RETURN; END IF;
    SELECT * INTO v_o FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id;
    IF FOUND THEN
        IF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！';
        ELSIF v_o.schema_id <> p_schema_id OR v_o.card_no <> v_card THEN o_code := -7; o_msg := '该订单号已被使用！';
        ELSE o_code := 0; o_msg := '成功'; o_key := p_order_id; END IF;
        RETURN;
    END IF;
    IF v_s.valid_flag <> '1' THEN o_code := -3; o_msg := '该排班已停诊！'; RETURN; END IF;
    SELECT r.o_code, r.o_msg INTO o_code, o_msg FROM pkg_160.x_rules(p_schema_id, v_card) r;
    IF o_code <> 0 THEN RETURN; END IF;
    SELECT * INTO v_b FROM neuhis.fin_opr_booking WHERE order_id = p_order_id;
    IF FOUND THEN
        IF v_b.schema_id <> p_schema_id THEN o_code := -7; o_msg := '该订单号已被使用！'; RETURN; END IF;
        IF v_b.oper_date <= pkg_160.f_lock_limit() THEN o_code := -8; o_msg := '锁号已超时，请重新选号！'; RETURN; END IF;
        UPDATE neuhis.fin_opr_booking SET lock_state = '1' WHERE lock_id = v_b.lock_id;
    ELSE
        SELECT t.o_code, t.o_msg, t.o_seeno INTO o_code, o_msg, v_seeno FROM pkg_160.x_take(p_schema_id) t;
        IF o_code <> 0 THEN RETURN; END IF;
        PERFORM pkg_160.x_hold(p_order_id, p_schema_id, v_seeno, '1', p_oper);
    END IF;
    INSERT INTO neuhis.fin_opr_appointmentorder (order_id, serial_no, user_idcard, user_name, user_gender, user_mobile, user_birthday,
        order_type, schema_id, dept_code, doct_code, reg_date, time_flag, start_time, end_time, seeno, reg_fee, treat_fee, order_state, card_no,
        in_source, order_date, oper_code, oper_date)
    SELECT p_order_id, lpad(nextval('neuhis.seq_fin_opr_order')::text, 14, '0'), p.idenno, p.name, p.sex_code, p.home_tel, p.birthday,
           p_order_type, b.schema_id, b.dept_id, b.doctor_id, b.reg_date, b.time_flag, b.start_time, b.end_time, b.seeno, b.reg_fee, b.treat_fee,
           '0', p.card_no, p_source, pkg_160.f_now(), p_oper, pkg_160.f_now()
      FROM neuhis.com_patientinfo p, neuhis.fin_opr_booking b WHERE p.card_no = v_card AND b.order_id = p_order_id;
    o_code := 0; o_msg := '成功'; o_key := p_order_id;
END $$;
CREATE PROCEDURE pkg_160.p_book(
    p_order_id varchar, p_schema_id varchar, p_card_no varchar, p_source varchar, p_order_type varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
DECLARE v_key varchar;
BEGIN
    BEGIN
        SELECT x.o_code, x.o_msg, x.o_key INTO o_code, o_msg, v_key
          FROM pkg_160.x_book(p_order_id, p_schema_id, p_card_no, p_source, p_order_type, p_oper) x;
    EXCEPTION WHEN unique_violation THEN o_code := -7; o_msg := '该订单号已被使用！';
    END;
    OPEN o_cur FOR SELECT order_id, serial_no, seeno, start_time, reg_fee + treat_fee AS total_fee
                     FROM neuhis.fin_opr_appointmentorder WHERE order_id = v_key;
END $$;

-- The order, its schedule's row locked first; no row = not found (or 下定失败)
CREATE FUNCTION pkg_160.x_order(p_order_id varchar) RETURNS neuhis.fin_opr_appointmentorder LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder;
BEGIN
    PERFORM 1 FROM neuhis.fin_opr_schema
      WHERE id = (SELECT schema_id FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id) FOR UPDATE;
    SELECT * INTO v_o FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id AND order_state <> '1' FOR UPDATE;
    RETURN v_o;
END $$;

-- 取消预约: only ORDER_STATE 0; the hold is deleted, the quota given back (Schema.Reduce)
CREATE PROCEDURE pkg_160.p_cancel(
    p_order_id varchar, p_reason varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder := pkg_160.x_order(p_order_id);
BEGIN
    IF p_order_id IS NULL OR p_order_id = '' THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSIF v_o.order_id IS NULL THEN o_code := -20; o_msg := '未找到该订单！';
    ELSIF v_o.order_state = '2' AND v_o.oper_code = p_oper THEN o_code := 1; o_msg := '该订单已取消，请勿重复提交！';
    ELSIF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！';
    ELSIF v_o.order_state = '3' THEN o_code := -21; o_msg := '该订单已支付！';
    ELSIF v_o.order_state = '4' THEN o_code := -23; o_msg := '该订单已取号！';
    ELSIF v_o.order_state = '5' THEN o_code := -24; o_msg := '该订单已退费！';
    ELSIF v_o.reg_date < date_trunc('day', pkg_160.f_now()) THEN o_code := -22; o_msg := '请在就诊日期之前取消预约！';
    ELSE
        UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - 1, 0) WHERE id = v_o.schema_id;
        IF NOT FOUND THEN o_code := -25; o_msg := '已无排班信息,无法恢复限额';
        ELSE
            UPDATE neuhis.fin_opr_appointmentorder
               SET order_state = '2', cancel_reason = NULLIF(p_reason, ''), oper_code = p_oper, oper_date = pkg_160.f_now()
             WHERE order_id = p_order_id;
            DELETE FROM neuhis.fin_opr_booking WHERE order_id = p_order_id;
            o_code := 0; o_msg := '成功';
        END IF;
    END IF;
    OPEN o_cur FOR SELECT order_id, order_state, oper_date FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id AND o_code >= 0;
END $$;

-- 支付 = 挂号: FIN_OPR_REGISTER and its fee rows, TEL_REGING -> TEL_REGED. p_amount 分.
CREATE FUNCTION pkg_160.x_pay(
    p_order_id varchar, p_trade_no varchar, p_txn_code varchar, p_amount numeric, p_pay_mode varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder; v_s neuhis.fin_opr_schema; v_clinic varchar; v_invoice varchar;
BEGIN
    IF p_order_id IS NULL OR p_order_id = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    IF COALESCE(p_amount, 0) > 0 AND (COALESCE(p_trade_no, '') = '' OR COALESCE(p_txn_code, '') = '') THEN
        o_code := -33; o_msg := '支付流水号不能为空！'; RETURN; END IF;
    v_o := pkg_160.x_order(p_order_id);
    IF v_o.order_id IS NULL THEN o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    IF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.order_state <> '0' THEN
        IF v_o.trade_no = p_trade_no AND v_o.txn_code = p_txn_code THEN o_code := 1; o_msg := '该订单已支付，请勿重复提交！';
        ELSIF v_o.order_state = '5' THEN o_code := -24; o_msg := '该订单已退费！';
        ELSE o_code := -32; o_msg := '该订单已支付！'; END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM neuhis.fin_opr_appointmentorder WHERE trade_no = p_trade_no;
    IF FOUND THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = v_o.schema_id;
    IF v_s.valid_flag IS DISTINCT FROM '1' THEN o_code := -30; o_msg := '该排班已停诊，不能支付，请到窗口确认！'; RETURN; END IF;
    IF v_o.reg_fee + v_o.treat_fee <> COALESCE(p_amount, -1) THEN
        o_code := -31; o_msg := '支付金额' || COALESCE(p_amount, 0) || '分与挂号费' || (v_o.reg_fee + v_o.treat_fee) || '分不符！'; RETURN; END IF;
    v_clinic := lpad(nextval('neuhis.seq_fin_opr_clinic')::text, 14, '0');
    v_invoice := 'W' || lpad(nextval('neuhis.seq_fin_opr_invoice')::text, 9, '0');
    PERFORM pkg_160.x_register(v_clinic, v_invoice, v_o.card_no, v_o.schema_id, v_o.seeno, '1', v_o.in_source, p_pay_mode, p_oper);
    UPDATE neuhis.fin_opr_appointmentorder
       SET order_state = '3', visiting_num = v_clinic, pay_mode = p_pay_mode, trade_no = NULLIF(p_trade_no, ''), txn_code = NULLIF(p_txn_code, ''),
           oper_code = p_oper, oper_date = pkg_160.f_now()
     WHERE order_id = p_order_id;
    UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - 1, 0), tel_reged = tel_reged + 1 WHERE id = v_o.schema_id;
    o_code := 0; o_msg := '成功';
END $$;
CREATE PROCEDURE pkg_160.p_pay(
    p_order_id varchar, p_trade_no varchar, p_txn_code varchar, p_amount numeric, p_pay_mode varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT x.o_code, x.o_msg INTO o_code, o_msg FROM pkg_160.x_pay(p_order_id, p_trade_no, p_txn_code, p_amount, p_pay_mode, p_oper) x;
    OPEN o_cur FOR SELECT o.order_id, o.visiting_num, r.invoice_no, r.own_cost, r.oper_date
                     FROM neuhis.fin_opr_appointmentorder o JOIN neuhis.fin_opr_register r ON r.clinic_code = o.visiting_num AND r.trans_type = '1'
                    WHERE o.order_id = p_order_id AND o_code >= 0;
END $$;

-- 写挂号: the positive register row and one fee row per part, 元. p_pub 记账, p_pay 个人账户: they pay the first parts, the rest is own.
-- Also the window's (p_ynbook 0). The caller holds the schedule's row.
CREATE FUNCTION pkg_160.x_register(
    p_clinic varchar, p_invoice varchar, p_card_no varchar, p_schema_id varchar, p_seeno numeric, p_ynbook varchar, p_source varchar,
    p_pay_mode varchar, p_oper varchar, p_pub numeric DEFAULT 0, p_pay numeric DEFAULT 0)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_now timestamp := pkg_160.f_now();
BEGIN
    INSERT INTO neuhis.fin_opr_register (clinic_code, trans_type, card_no, reg_date, noon_code, name, idenno, sex_code, birthday, paykind_code,
        paykind_name, pact_code, reglevl_code, reglevl_name, dept_code, dept_name, seeno, doct_code, doct_name, ynregchrg, ynbook, ynfr, reg_fee,
        chck_fee, diag_fee, oth_fee, own_cost, pub_cost, pay_cost, valid_flag, oper_code, oper_date, ynsee, check_flag, rela_phone, begin_time,
        end_time, invoice_no, schema_no, in_source, triage_flag)
    SELECT p_clinic, '1', p.card_no, s.see_date, s.noon_code, p.name, p.idenno, p.sex_code, p.birthday, CASE WHEN p_pub + p_pay > 0 THEN '02' ELSE '01' END,
           CASE WHEN p_pub + p_pay > 0 THEN '医保' ELSE '自费' END, CASE WHEN p_pub + p_pay > 0 THEN '2' ELSE '1' END, s.reglevl_code,
           s.reglevl_name, s.dept_code, s.dept_name, p_seeno, s.doct_code, s.doct_name, '1', p_ynbook, '1', f.reg_fee, f.chck_fee, f.diag_fee,
           f.oth_fee, f.reg_fee + f.chck_fee + f.diag_fee + f.oth_fee - p_pub - p_pay, p_pub, p_pay, '1', p_oper, v_now, '0', '0', p.home_tel, s.begin_time, s.end_time,
           p_invoice, s.id, p_source, '0'
      FROM neuhis.fin_opr_schema s, neuhis.com_patientinfo p, neuhis.fin_com_regfeeset f
     WHERE s.id = p_schema_id AND p.card_no = p_card_no AND f.pact_code = '1' AND f.reglevl_code = s.reglevl_code;
    INSERT INTO neuhis.fin_opb_accountcardfee (invoice_no, trans_type, fee_type, card_no, tot_cost, fee_oper, fee_date, balance_flag, cancel_flag,
        clinic_no, own_cost, pub_cost, pay_cost, pay_type)
    SELECT p_invoice, '1', q.fee_type, q.card_no, q.cost, p_oper, v_now, '0', '1', p_clinic, q.cost - q.pub - q.pay, q.pub, q.pay, p_pay_mode
      FROM (SELECT t.*, GREATEST(LEAST(t.upto, p_pub) - t.upto + t.cost, 0) AS pub,
                   GREATEST(LEAST(t.upto, p_pub + p_pay) - GREATEST(t.upto - t.cost, p_pub), 0) AS pay
              FROM (SELECT card_no, '3' AS fee_type, reg_fee AS cost, reg_fee AS upto
                      FROM neuhis.fin_opr_register WHERE clinic_code = p_clinic AND trans_type = '1'
                    UNION ALL SELECT card_no, '4', diag_fee, reg_fee + diag_fee
                      FROM neuhis.fin_opr_register WHERE clinic_code = p_clinic AND trans_type = '1'
                    UNION ALL SELECT card_no, '5', chck_fee, reg_fee + diag_fee + chck_fee
                      FROM neuhis.fin_opr_register WHERE clinic_code = p_clinic AND trans_type = '1') t) q
     WHERE q.cost <> 0;
END $$;

-- 退号: original VALID_FLAG 1 -> 0, negative row TRANS_TYPE 2, negative fee rows, quota back, hold deleted. Also the window's.
-- Returns the invoice number of the negative row, NULL when the registration is not valid any more. The caller holds the schedule's row.
CREATE FUNCTION pkg_160.f_reverse(p_clinic varchar, p_oper varchar) RETURNS varchar LANGUAGE plpgsql AS $$
DECLARE v_r neuhis.fin_opr_register; v_invoice varchar; v_now timestamp := pkg_160.f_now();
BEGIN
    UPDATE neuhis.fin_opr_register SET valid_flag = '0', cancel_opcd = p_oper, cancel_date = v_now
     WHERE clinic_code = p_clinic AND trans_type = '1' AND valid_flag = '1' RETURNING * INTO v_r;
    IF NOT FOUND THEN RETURN NULL; END IF;
    v_invoice := substr(v_r.invoice_no, 1, 1) || lpad(nextval('neuhis.seq_fin_opr_invoice')::text, 9, '0');
    INSERT INTO neuhis.fin_opr_register (clinic_code, trans_type, card_no, reg_date, noon_code, name, idenno, sex_code, birthday, paykind_code,
        paykind_name, pact_code, reglevl_code, reglevl_name, dept_code, dept_name, seeno, doct_code, doct_name, ynregchrg, ynbook, ynfr, reg_fee,
        chck_fee, diag_fee, oth_fee, own_cost, pub_cost, pay_cost, valid_flag, oper_code, oper_date, ynsee, check_flag, rela_phone, begin_time,
        end_time, invoice_no, schema_no, in_source, triage_flag)
    SELECT clinic_code, '2', card_no, reg_date, noon_code, name, idenno, sex_code, birthday, paykind_code,
           paykind_name, pact_code, reglevl_code, reglevl_name, dept_code, dept_name, seeno, doct_code, doct_name, ynregchrg, ynbook, ynfr, -reg_fee,
           -chck_fee, -diag_fee, -oth_fee, -own_cost, -pub_cost, -pay_cost, '0', p_oper, v_now, ynsee, check_flag, rela_phone, begin_time,
           end_time, v_invoice, schema_no, in_source, triage_flag
      FROM neuhis.fin_opr_register WHERE clinic_code = p_clinic AND trans_type = '1';
    INSERT INTO neuhis.fin_opb_accountcardfee (invoice_no, trans_type, fee_type, card_no, tot_cost, fee_oper, fee_date, balance_flag, cancel_flag,
        clinic_no, own_cost, pub_cost, pay_cost, pay_type)
    SELECT v_invoice, '2', fee_type, card_no, -tot_cost, p_oper, v_now, '0', '2', clinic_no, -own_cost, -pub_cost, -pay_cost, pay_type
      FROM neuhis.fin_opb_accountcardfee WHERE clinic_no = p_clinic AND trans_type = '1';
    UPDATE neuhis.fin_opb_accountcardfee SET cancel_flag = '2' WHERE clinic_no = p_clinic AND trans_type = '1';
    IF v_r.ynbook = '1' THEN
        UPDATE neuhis.fin_opr_schema SET tel_reged = GREATEST(tel_reged - 1, 0) WHERE id = v_r.schema_no;
        DELETE FROM neuhis.fin_opr_booking
         WHERE order_id IN (SELECT order_id FROM neuhis.fin_opr_appointmentorder WHERE visiting_num = p_clinic);
    ELSE
        UPDATE neuhis.fin_opr_schema SET reged = GREATEST(reged - 1, 0) WHERE id = v_r.schema_no;
    END IF;
    RETURN v_invoice;
END $$;

-- 退号规则: why this order may not be given back (0 = may). Reads only. p_trade_no may be empty (then any payment). p_insured '1': 医保 is undone
-- first (医保撤销在先), so that what it has paid stands not in the way, and the amount is its business.
CREATE FUNCTION pkg_160.x_may_refund(
    p_order_id varchar, p_trade_no varchar, p_return_fee numeric, p_insured varchar, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql STABLE AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder; v_r neuhis.fin_opr_register; v_si boolean;
BEGIN
    SELECT * INTO v_o FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id AND order_state <> '1';
    IF NOT FOUND THEN o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    IF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.order_state = '0' THEN o_code := -40; o_msg := '该订单未支付，不能退费！'; RETURN; END IF;
    IF v_o.order_state = '5' THEN o_code := -41; o_msg := '该订单已退费！'; RETURN; END IF;
    SELECT * INTO v_r FROM neuhis.fin_opr_register WHERE clinic_code = v_o.visiting_num AND trans_type = '1';
    v_si := v_r.paykind_code = '02' AND v_r.pub_cost + v_r.pay_cost > 0;
    IF v_r.ynsee = '1' THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF v_r.valid_flag IS DISTINCT FROM '1' THEN o_code := -48; o_msg := '该号已经退号或作废！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opb_feedetail WHERE clinic_code = v_r.clinic_code AND trans_type = '1' AND cancel_flag = '1';
    IF FOUND THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    IF v_o.order_state = '4' AND pkg_160.f_control('TAKREF', '1') <> '1' THEN
        o_code := -49; o_msg := '该号已取号，不能退号，请到窗口办理！'; RETURN; END IF;
    IF v_si AND p_insured <> '1' THEN o_code := -45; o_msg := '该号为医疗保险号已经有交费记录,不能退费!'; RETURN; END IF;
    IF COALESCE(p_trade_no, '') <> '' AND p_trade_no <> COALESCE(v_o.trade_no, '') THEN
        o_code := -38; o_msg := '支付单号与订单不符！'; RETURN; END IF;
    IF NOT v_si AND v_o.reg_fee + v_o.treat_fee <> COALESCE(p_return_fee, -1) THEN
        o_code := -43; o_msg := '退号的情况下，必须全退!'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opb_accountcardfee WHERE clinic_no = v_r.clinic_code AND trans_type = '1' AND balance_flag = '1';
    IF FOUND AND pkg_160.f_control('DAYREF', '1') <> '1' THEN o_code := -44; o_msg := '该号已日结，不能退号，请到窗口办理！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opr_schema WHERE id = v_o.schema_id;
    IF NOT FOUND THEN o_code := -25; o_msg := '已无排班信息,无法恢复限额'; RETURN; END IF;
    o_code := 0; o_msg := '成功';
END $$;

-- 退费预检查 (refundPayCheck): whether P_REFUND, or 医保撤销 and P_SI_REFUND, would give the order back now. Locks and changes nothing.
CREATE PROCEDURE pkg_160.p_refund_check(
    p_order_id varchar, p_trade_no varchar, p_return_fee numeric, OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
BEGIN
    IF COALESCE(p_order_id, '') = '' THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSE SELECT x.o_code, x.o_msg INTO o_code, o_msg FROM pkg_160.x_may_refund(p_order_id, p_trade_no, p_return_fee, '1') x;
    END IF;
    OPEN o_cur FOR SELECT order_id, serial_no FROM neuhis.fin_opr_appointmentorder WHERE order_id = p_order_id AND o_code >= 0;
END $$;

-- 退号记录: negative rows, order state 5, history. p_refund_no is NULL when no cash went back. The caller holds the schedule's row.
CREATE FUNCTION pkg_160.x_give_back(p_order_id varchar, p_clinic varchar, p_refund_no varchar, p_fee numeric, p_reason varchar, p_oper varchar)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_invoice varchar := pkg_160.f_reverse(p_clinic, p_oper);
BEGIN
    UPDATE neuhis.fin_opr_appointmentorder SET order_state = '5', oper_code = p_oper, oper_date = pkg_160.f_now() WHERE order_id = p_order_id;
    INSERT INTO neuhis.fin_opr_bookingpayhistory (order_id, return_reason, oper_id, refund_time, refund_no, refund_fee, invoice_no)
    VALUES (p_order_id, COALESCE(NULLIF(p_reason, ''), '用户请求退费'), p_oper, pkg_160.f_now(), NULLIF(p_refund_no, ''), p_fee, v_invoice);
END $$;

-- 退费: whole amount only (分). p_trade_no 商户订单号, may be empty. p_refund_no 商户退款单号; the same again: the same answer.
CREATE FUNCTION pkg_160.x_refund(
    p_order_id varchar, p_trade_no varchar, p_refund_no varchar, p_return_fee numeric, p_reason varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder; v_other varchar;
BEGIN
    IF COALESCE(p_order_id, '') = '' OR COALESCE(p_refund_no, '') = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_o := pkg_160.x_order(p_order_id);
    IF v_o.order_id IS NULL THEN o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    SELECT order_id INTO v_other FROM neuhis.fin_opr_bookingpayhistory WHERE refund_no = p_refund_no;
    IF FOUND THEN
        IF v_other = p_order_id THEN o_code := 1; o_msg := '该订单已退费，请勿重复提交！';
        ELSE o_code := -47; o_msg := '退款单号已被其他订单使用！'; END IF;
        RETURN;
    END IF;
    SELECT x.o_code, x.o_msg INTO o_code, o_msg FROM pkg_160.x_may_refund(p_order_id, p_trade_no, p_return_fee, '0') x;
    IF o_code <> 0 THEN RETURN; END IF;
    PERFORM pkg_160.x_give_back(p_order_id, v_o.visiting_num, p_refund_no, p_return_fee, p_reason, p_oper);
    o_code := 0; o_msg := '退号成功，挂号费已退回网银,不需要退现金！';
END $$;
CREATE PROCEDURE pkg_160.p_refund(
    p_order_id varchar, p_trade_no varchar, p_refund_no varchar, p_return_fee numeric, p_reason varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT x.o_code, x.o_msg INTO o_code, o_msg
      FROM pkg_160.x_refund(p_order_id, p_trade_no, p_refund_no, p_return_fee, p_reason, p_oper) x;
    OPEN o_cur FOR SELECT order_id, refund_no, refund_fee, invoice_no, refund_time FROM neuhis.fin_opr_bookingpayhistory
                    WHERE order_id = p_order_id AND o_code >= 0;
END $$;

-- 医保支付 = 医保挂号, after 2207A. Amounts 元: p_fund_pay_sumamt 基金, p_pay_cost 个人账户 (p_acct_mulaid_pay 其中共济), p_own_cost 现金,
-- p_hosp_part_amt 医院负担; p_trade_no, p_txn_code: the cash part. p_ipt_otp_no as told to 医保 ('' = not checked).
-- The same settlement of the same order again: the same answer.
CREATE FUNCTION pkg_160.x_si_pay(
    p_order_id varchar, p_trade_no varchar, p_txn_code varchar, p_psn_no varchar, p_insutype varchar, p_insuplc_admdvs varchar, p_mdtrt_id varchar,
    p_ipt_otp_no varchar, p_chrg_bchno varchar, p_setl_id varchar, p_reg_msgid varchar, p_fee_msgid varchar, p_setl_msgid varchar, p_sign_no varchar,
    p_setl_time timestamp, p_clr_type varchar, p_clr_way varchar, p_clr_optins varchar, p_med_type varchar, p_tot_cost numeric,
    p_fund_pay_sumamt numeric, p_pay_cost numeric, p_acct_mulaid_pay numeric, p_own_cost numeric, p_hosp_part_amt numeric,
    p_fulamt_ownpay_amt numeric, p_overlmt_selfpay numeric, p_preselfpay_amt numeric, p_inscp_scp_amt numeric, p_act_pay_dedc numeric,
    p_hifp_pay numeric, p_cvlserv_pay numeric, p_hifes_pay numeric, p_hifmi_pay numeric, p_hifob_pay numeric, p_maf_pay numeric, p_oth_pay numeric,
    p_psn_part_amt numeric, p_balc numeric, p_oper varchar, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE v_o neuhis.fin_opr_appointmentorder; v_s neuhis.fin_opr_schema; v_clinic varchar; v_invoice varchar; v_other varchar;
BEGIN
    IF COALESCE(p_order_id, '') = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    IF COALESCE(p_setl_id, '') = '' OR COALESCE(p_mdtrt_id, '') = '' OR COALESCE(p_psn_no, '') = '' THEN
        o_code := -36; o_msg := '医保结算号、就诊号和人员编号不能为空！'; RETURN; END IF;
    IF p_own_cost > 0 AND (COALESCE(p_trade_no, '') = '' OR COALESCE(p_txn_code, '') = '') THEN
        o_code := -33; o_msg := '支付流水号不能为空！'; RETURN; END IF;
    IF p_tot_cost <> p_fund_pay_sumamt + p_pay_cost + p_own_cost + p_hosp_part_amt THEN
        o_code := -35; o_msg := '医保各部分之和与总金额不符！'; RETURN; END IF;
    v_o := pkg_160.x_order(p_order_id);
    IF v_o.order_id IS NULL OR (COALESCE(p_ipt_otp_no, '') <> '' AND p_ipt_otp_no <> v_o.serial_no) THEN
        o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    IF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    SELECT inpatient_no INTO v_other FROM neuhis.fin_ipr_siinmaininfo WHERE setl_id = p_setl_id AND trans_type = '1';
    IF v_o.order_state <> '0' THEN
        IF v_other = v_o.visiting_num THEN o_code := 1; o_msg := '该订单已支付，请勿重复提交！';
        ELSIF v_o.order_state = '5' THEN o_code := -24; o_msg := '该订单已退费！';
        ELSE o_code := -32; o_msg := '该订单已支付！'; END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM neuhis.fin_opr_appointmentorder WHERE trade_no = NULLIF(p_trade_no, '');
    IF FOUND OR v_other IS NOT NULL THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    SELECT * INTO v_s FROM neuhis.fin_opr_schema WHERE id = v_o.schema_id;
    IF v_s.valid_flag IS DISTINCT FROM '1' THEN o_code := -30; o_msg := '该排班已停诊，不能支付，请到窗口确认！'; RETURN; END IF;
    IF v_o.reg_fee + v_o.treat_fee <> round(p_tot_cost * 100) THEN
        o_code := -31; o_msg := '支付金额' || round(p_tot_cost * 100) || '分与挂号费' || (v_o.reg_fee + v_o.treat_fee) || '分不符！'; RETURN; END IF;
    v_clinic := lpad(nextval('neuhis.seq_fin_opr_clinic')::text, 14, '0');
    v_invoice := 'W' || lpad(nextval('neuhis.seq_fin_opr_invoice')::text, 9, '0');
    PERFORM pkg_160.x_register(v_clinic, v_invoice, v_o.card_no, v_o.schema_id, v_o.seeno, '1', v_o.in_source,
                               CASE WHEN p_own_cost > 0 THEN '4' ELSE '6' END, p_oper, p_tot_cost - p_pay_cost - p_own_cost, p_pay_cost);
    INSERT INTO neuhis.fin_ipr_siinmaininfo (
        inpatient_no, trans_type, type_code, invoice_no, card_no, valid_flag, psn_no, insutype, insuplc_admdvs, mdtrt_id, ipt_otp_no, chrg_bchno,
        setl_id, reg_msgid, fee_msgid, setl_msgid, sign_no, setl_time, clr_type, clr_way, clr_optins, med_type, tot_cost, fund_pay_sumamt, pay_cost,
        acct_mulaid_pay, own_cost, hosp_part_amt, fulamt_ownpay_amt, overlmt_selfpay, preselfpay_amt, inscp_scp_amt, act_pay_dedc, hifp_pay,
        cvlserv_pay, hifes_pay, hifmi_pay, hifob_pay, maf_pay, oth_pay, psn_part_amt, balc, pub_cost, oper_code, oper_date)
    VALUES (
        v_clinic, '1', '1', v_invoice, v_o.card_no, '1', p_psn_no, p_insutype, p_insuplc_admdvs, p_mdtrt_id, v_o.serial_no, p_chrg_bchno, p_setl_id,
        p_reg_msgid, p_fee_msgid, p_setl_msgid, p_sign_no, p_setl_time, p_clr_type, p_clr_way, p_clr_optins, p_med_type, p_tot_cost,
        p_fund_pay_sumamt, p_pay_cost, p_acct_mulaid_pay, p_own_cost, p_hosp_part_amt, p_fulamt_ownpay_amt, p_overlmt_selfpay, p_preselfpay_amt,
        p_inscp_scp_amt, p_act_pay_dedc, p_hifp_pay, p_cvlserv_pay, p_hifes_pay, p_hifmi_pay, p_hifob_pay, p_maf_pay, p_oth_pay, p_psn_part_amt,
        p_balc, p_tot_cost - p_pay_cost - p_own_cost, p_oper, pkg_160.f_now());
    UPDATE neuhis.fin_opr_appointmentorder
       SET order_state = '3', visiting_num = v_clinic, pay_mode = CASE WHEN p_own_cost > 0 THEN '4' ELSE '6' END, trade_no = NULLIF(p_trade_no, ''),
           txn_code = NULLIF(p_txn_code, ''), oper_code = p_oper, oper_date = pkg_160.f_now()
     WHERE order_id = p_order_id;
    UPDATE neuhis.fin_opr_schema SET tel_reging = GREATEST(tel_reging - 1, 0), tel_reged = tel_reged + 1 WHERE id = v_o.schema_id;
    o_code := 0; o_msg := '成功';
END $$;
CREATE PROCEDURE pkg_160.p_si_pay(
    p_order_id varchar, p_trade_no varchar, p_txn_code varchar, p_psn_no varchar, p_insutype varchar, p_insuplc_admdvs varchar, p_mdtrt_id varchar,
    p_ipt_otp_no varchar, p_chrg_bchno varchar, p_setl_id varchar, p_reg_msgid varchar, p_fee_msgid varchar, p_setl_msgid varchar, p_sign_no varchar,
    p_setl_time timestamp, p_clr_type varchar, p_clr_way varchar, p_clr_optins varchar, p_med_type varchar, p_tot_cost numeric,
    p_fund_pay_sumamt numeric, p_pay_cost numeric, p_acct_mulaid_pay numeric, p_own_cost numeric, p_hosp_part_amt numeric,
    p_fulamt_ownpay_amt numeric, p_overlmt_selfpay numeric, p_preselfpay_amt numeric, p_inscp_scp_amt numeric, p_act_pay_dedc numeric,
    p_hifp_pay numeric, p_cvlserv_pay numeric, p_hifes_pay numeric, p_hifmi_pay numeric, p_hifob_pay numeric, p_maf_pay numeric, p_oth_pay numeric,
    p_psn_part_amt numeric, p_balc numeric, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        SELECT x.o_code, x.o_msg INTO o_code, o_msg FROM pkg_160.x_si_pay(
            p_order_id, p_trade_no, p_txn_code, p_psn_no, p_insutype, p_insuplc_admdvs, p_mdtrt_id, p_ipt_otp_no, p_chrg_bchno, p_setl_id,
            p_reg_msgid, p_fee_msgid, p_setl_msgid, p_sign_no, p_setl_time, p_clr_type, p_clr_way, p_clr_optins, p_med_type, p_tot_cost,
            p_fund_pay_sumamt, p_pay_cost, p_acct_mulaid_pay, p_own_cost, p_hosp_part_amt, p_fulamt_ownpay_amt, p_overlmt_selfpay, p_preselfpay_amt,
            p_inscp_scp_amt, p_act_pay_dedc, p_hifp_pay, p_cvlserv_pay, p_hifes_pay, p_hifmi_pay, p_hifob_pay, p_maf_pay, p_oth_pay, p_psn_part_amt,
            p_balc, p_oper) x;
    EXCEPTION WHEN unique_violation THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！';   -- the same SETL_ID for two orders at once
    END;
    OPEN o_cur FOR SELECT o.order_id, o.visiting_num, r.invoice_no, r.own_cost, r.pub_cost, r.pay_cost, r.oper_date
                     FROM neuhis.fin_opr_appointmentorder o JOIN neuhis.fin_opr_register r ON r.clinic_code = o.visiting_num AND r.trans_type = '1'
                    WHERE o.order_id = p_order_id AND o_code >= 0;
END $$;

-- 医保红冲记录: the negative row of a settlement, its original not valid any more.
CREATE FUNCTION pkg_160.x_si_reverse(p_clinic varchar, p_reversal varchar, p_oper varchar) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_now timestamp := pkg_160.f_now();
BEGIN
    INSERT INTO neuhis.fin_ipr_siinmaininfo (
        inpatient_no, trans_type, type_code, invoice_no, card_no, valid_flag, psn_no, insutype, insuplc_admdvs, mdtrt_id, ipt_otp_no, chrg_bchno,
        setl_id, setl_time, clr_type, clr_way, clr_optins, med_type, tot_cost, pub_cost, fund_pay_sumamt, pay_cost, acct_mulaid_pay, own_cost,
        hosp_part_amt, fulamt_ownpay_amt, overlmt_selfpay, preselfpay_amt, inscp_scp_amt, act_pay_dedc, hifp_pay, cvlserv_pay, hifes_pay, hifmi_pay,
        hifob_pay, maf_pay, oth_pay, psn_part_amt, oper_code, oper_date)
    SELECT
        inpatient_no, '2', type_code, invoice_no, card_no, '0', psn_no, insutype, insuplc_admdvs, mdtrt_id, ipt_otp_no, chrg_bchno,
        COALESCE(NULLIF(p_reversal, ''), setl_id), v_now, clr_type, clr_way, clr_optins, med_type, -tot_cost, -pub_cost, -fund_pay_sumamt, -pay_cost,
        -acct_mulaid_pay, -own_cost, -hosp_part_amt, -fulamt_ownpay_amt, -overlmt_selfpay, -preselfpay_amt, -inscp_scp_amt, -act_pay_dedc, -hifp_pay,
        -cvlserv_pay, -hifes_pay, -hifmi_pay, -hifob_pay, -maf_pay, -oth_pay, -psn_part_amt, p_oper, v_now
      FROM neuhis.fin_ipr_siinmaininfo WHERE inpatient_no = p_clinic AND trans_type = '1';
    UPDATE neuhis.fin_ipr_siinmaininfo SET valid_flag = '0' WHERE inpatient_no = p_clinic AND trans_type = '1';
END $$;

-- 医保退号, after 2208 and after the cash has gone back: 日结 and 取号 do not stop it any more (P_REFUND_CHECK is asked before).
-- p_reversal SETL_ID of 2208, p_refund_no 退款单号 and p_own_cost 元 of the cash.
CREATE FUNCTION pkg_160.x_si_refund(
    p_order_id varchar, p_setl_id varchar, p_reversal varchar, p_refund_no varchar, p_own_cost numeric, p_reason varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE
    v_o neuhis.fin_opr_appointmentorder; v_r neuhis.fin_opr_register; v_i neuhis.fin_ipr_siinmaininfo; v_red neuhis.fin_ipr_siinmaininfo;
    v_h neuhis.fin_opr_bookingpayhistory;
BEGIN
    IF COALESCE(p_order_id, '') = '' THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_o := pkg_160.x_order(p_order_id);
    IF v_o.order_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.order_state = '0' THEN o_code := -40; o_msg := '该订单未支付，不能退费！'; RETURN; END IF;
    SELECT * INTO v_i FROM neuhis.fin_ipr_siinmaininfo WHERE inpatient_no = v_o.visiting_num AND trans_type = '1' AND setl_id = p_setl_id;
    IF v_i.setl_id IS NULL THEN o_code := -60; o_msg := '未找到医保结算记录！'; RETURN; END IF;
    IF v_o.order_state = '5' THEN
        SELECT * INTO v_red FROM neuhis.fin_ipr_siinmaininfo WHERE inpatient_no = v_o.visiting_num AND trans_type = '2';
        SELECT * INTO v_h FROM neuhis.fin_opr_bookingpayhistory WHERE order_id = p_order_id;
        IF v_red.setl_id = COALESCE(NULLIF(p_reversal, ''), p_setl_id) AND v_red.oper_code = p_oper
           AND COALESCE(v_h.refund_no, '-') = COALESCE(NULLIF(p_refund_no, ''), '-') THEN
            o_code := 1; o_msg := '该订单已退费，请勿重复提交！';
        ELSE o_code := -41; o_msg := '该订单已退费！'; END IF;
        RETURN;
    END IF;
    IF v_i.own_cost <> p_own_cost THEN o_code := -61; o_msg := '退现金额与结算现金不符！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opr_bookingpayhistory WHERE refund_no = NULLIF(p_refund_no, '');
    IF FOUND THEN o_code := -47; o_msg := '退款单号已被其他订单使用！'; RETURN; END IF;
    SELECT * INTO v_r FROM neuhis.fin_opr_register WHERE clinic_code = v_o.visiting_num AND trans_type = '1' FOR UPDATE;
    IF v_r.ynsee = '1' THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF v_r.valid_flag <> '1' THEN o_code := -48; o_msg := '该号已经退号或作废！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.fin_opb_feedetail WHERE clinic_code = v_r.clinic_code AND trans_type = '1' AND cancel_flag = '1';
    IF FOUND THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    PERFORM pkg_160.x_si_reverse(v_r.clinic_code, p_reversal, p_oper);
    PERFORM pkg_160.x_give_back(p_order_id, v_r.clinic_code, p_refund_no, round(p_own_cost * 100), p_reason, p_oper);
    o_code := 0; o_msg := '成功';
END $$;
CREATE PROCEDURE pkg_160.p_si_refund(
    p_order_id varchar, p_setl_id varchar, p_reversal varchar, p_refund_no varchar, p_own_cost numeric, p_reason varchar, p_oper varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT x.o_code, x.o_msg INTO o_code, o_msg
      FROM pkg_160.x_si_refund(p_order_id, p_setl_id, p_reversal, p_refund_no, p_own_cost, p_reason, p_oper) x;
    OPEN o_cur FOR SELECT order_id, refund_no, refund_fee, invoice_no, refund_time FROM neuhis.fin_opr_bookingpayhistory
                    WHERE order_id = p_order_id AND o_code >= 0;
END $$;

-- 建档: finds by (IDCARDTYPE, IDENNO) in either case of X, newest visit first; a minor without number by name + phone; else creates.
CREATE FUNCTION pkg_160.x_patient(
    p_name varchar, p_idcardtype varchar, p_idenno varchar, p_sex_code varchar, p_birthday timestamp, p_home_tel varchar, p_home varchar,
    p_linkman varchar, p_linkman_idenno varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_key varchar, OUT o_new int)
LANGUAGE plpgsql AS $$
DECLARE v_no varchar := NULLIF(upper(trim(p_idenno)), ''); v_name varchar := NULLIF(trim(p_name), ''); v_found varchar;
BEGIN
    o_new := 0;
    IF v_name IS NULL OR (v_no IS NULL AND COALESCE(p_linkman, '') = '') THEN
        o_code := -51; o_msg := '姓名和证件号码不能为空！'; RETURN; END IF;
    PERFORM 1 FROM neuhis.com_controlargument WHERE control_code = 'PATREG' FOR UPDATE;
    IF v_no IS NOT NULL THEN
        SELECT card_no, trim(name) INTO o_key, v_found FROM neuhis.com_patientinfo
         WHERE idenno IN (v_no, lower(v_no)) AND idcardtype = p_idcardtype AND is_valid = '1'
         ORDER BY CASE WHEN trim(name) = v_name THEN 0 ELSE 1 END, last_see DESC NULLS LAST, card_no DESC LIMIT 1;
        IF v_found <> v_name THEN o_key := NULL; o_code := -50; o_msg := '证件号码已存在但姓名不一致，请到窗口核实！'; RETURN; END IF;
    ELSE
        SELECT max(card_no) INTO o_key FROM neuhis.com_patientinfo
         WHERE trim(name) = v_name AND home_tel = p_home_tel AND idenno IS NULL AND is_valid = '1';
    END IF;
    IF o_key IS NULL THEN
        INSERT INTO neuhis.com_patientinfo (card_no, name, sex_code, birthday, idcardtype, idenno, home, home_tel, linkman_name, linkman_idenno,
                                            pact_code, is_valid, oper_code, oper_date)
        VALUES (lpad(nextval('neuhis.seq_com_patientinfo')::text, 10, '0'), v_name, p_sex_code, p_birthday, p_idcardtype, v_no, NULLIF(p_home, ''),
                NULLIF(p_home_tel, ''), NULLIF(p_linkman, ''), NULLIF(p_linkman_idenno, ''), '1', '1', p_oper, pkg_160.f_now())
        RETURNING card_no INTO o_key;
        o_new := 1;
    END IF;
    o_code := 0; o_msg := '成功';
END $$;
CREATE PROCEDURE pkg_160.p_patient(
    p_name varchar, p_idcardtype varchar, p_idenno varchar, p_sex_code varchar, p_birthday timestamp, p_home_tel varchar, p_home varchar,
    p_linkman varchar, p_linkman_idenno varchar, p_oper varchar, OUT o_code int, OUT o_msg varchar, OUT o_cur refcursor)
LANGUAGE plpgsql AS $$
DECLARE v_key varchar; v_new int;
BEGIN
    SELECT x.o_code, x.o_msg, x.o_key, x.o_new INTO o_code, o_msg, v_key, v_new
      FROM pkg_160.x_patient(p_name, p_idcardtype, p_idenno, p_sex_code, p_birthday, p_home_tel, p_home, p_linkman, p_linkman_idenno, p_oper) x;
    OPEN o_cur FOR SELECT card_no, name, idcardtype, upper(idenno) AS idenno, v_new AS is_new FROM neuhis.com_patientinfo WHERE card_no = v_key;
END $$;
