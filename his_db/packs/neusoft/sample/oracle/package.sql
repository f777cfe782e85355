-- PKG_160: the HIS's own interface for the platform, as the vendor would open it to a channel (fixture invention, domain facts 5.4).
-- Run as NEUHIS after schema.sql, in SQL*Plus or SQLcl (each unit ends with "/"). Needs no privilege beyond its own tables.
-- Every procedure answers o_code / o_msg / o_cur, never commits, raises nothing for a business refusal. o_cur is always opened:
-- one row when o_code >= 0, none when refused. p_order_id = 平台订单号; the same order number again gives the same answer.
--
--  code  meaning                          text                                                raised by
--     0  成功                             成功 (P_REFUND: 退号成功，挂号费已退回网银,不需要退现金！)   all
--     1  重复提交, earlier answer again   …请勿重复提交！                                     P_CANCEL P_PAY P_REFUND P_SI_PAY P_SI_REFUND (P_LOCK/P_BOOK answer 0)
--    -1  排班不存在或未发布               该排班不存在！                                      P_LOCK P_BOOK
--    -2  预约限额已满                     该排班预约限额已满！                                P_LOCK P_BOOK
--    -3  停诊                             该排班已停诊！                                      P_LOCK P_BOOK
--    -4  过期                             该排班已过期！                                      P_LOCK P_BOOK
--    -5  锁号不存在 (or run out)          未找到锁号记录！                                    P_UNLOCK
--    -6  锁号已转订单                     该号已下订单，不能解锁！                            P_UNLOCK
--    -7  订单号被占用                     该订单号已被使用！                                  P_LOCK P_BOOK
--    -8  锁号已超时                       锁号已超时，请重新选号！                            P_BOOK
--    -9  已取消                           该订单已取消！                                      P_LOCK P_BOOK P_CANCEL P_PAY P_REFUND P_REFUND_CHECK P_SI_PAY P_SI_REFUND
--   -10  同一排班重复预约                 该患者已预约该排班，不能重复预约！                  P_BOOK
--   -11  同科同日重复预约 (DUPDEP 1)      同一患者同一天同一科室只能预约一次！                P_BOOK
--   -12  爽约                             该患者爽约次数过多，请到窗口挂号！                  P_BOOK
--   -13  欠费                             该患者欠费x元，请到窗口处理！                       P_BOOK
--   -14  未建档                           该患者未建档！                                      P_BOOK
--   -15  单号为空                         订单号不能为空！                                    all with p_order_id
--   -20  订单不存在 (or 下定失败)         未找到该订单！                                      P_CANCEL P_PAY P_REFUND P_REFUND_CHECK P_SI_PAY
--   -21  ORDER_STATE 3                    该订单已支付！                                      P_CANCEL
--   -22  过了就诊日期                     请在就诊日期之前取消预约！                          P_CANCEL
--   -23  ORDER_STATE 4                    该订单已取号！                                      P_CANCEL
--   -24  ORDER_STATE 5                    该订单已退费！                                      P_CANCEL P_PAY P_SI_PAY
--   -25  排班行没有了                     已无排班信息,无法恢复限额                           P_CANCEL P_REFUND P_REFUND_CHECK
--   -30  停诊无法支付                     该排班已停诊，不能支付，请到窗口确认！              P_PAY P_SI_PAY
--   -31  金额不符                         支付金额x分与挂号费y分不符！                        P_PAY P_SI_PAY
--   -32  已用其他流水支付                 该订单已支付！                                      P_PAY P_SI_PAY
--   -33  流水号为空                       支付流水号不能为空！                                P_PAY P_SI_PAY
--   -34  流水号属于其他订单               支付流水号已被其他订单使用！                        P_PAY P_SI_PAY
--   -35  医保各部分之和不等于总额         医保各部分之和与总金额不符！                        P_SI_PAY
--   -36  医保结算信息不全                 医保结算号、就诊号和人员编号不能为空！              P_SI_PAY
--   -38  支付单号不符                     支付单号与订单不符！                                P_REFUND P_REFUND_CHECK
--   -40  未支付                           该订单未支付，不能退费！                            P_REFUND P_REFUND_CHECK P_SI_REFUND
--   -41  已退费                           该订单已退费！                                      P_REFUND P_REFUND_CHECK P_SI_REFUND
--   -42  已看诊                           该号已经看诊,不能作废                               P_REFUND P_REFUND_CHECK P_SI_REFUND
--   -43  部分退费                         退号的情况下，必须全退!                             P_REFUND P_REFUND_CHECK
--   -44  已日结 (DAYREF 0)                该号已日结，不能退号，请到窗口办理！                P_REFUND P_REFUND_CHECK
--   -45  医保已交费                       该号为医疗保险号已经有交费记录,不能退费!            P_REFUND
--   -46  存在处方                         存在已结处方请先退处方再退挂号                      P_REFUND P_REFUND_CHECK P_SI_REFUND
--   -47  退款单号属于其他订单             退款单号已被其他订单使用！                          P_REFUND P_SI_REFUND
--   -48  退号或作废                       该号已经退号或作废！                                P_REFUND P_REFUND_CHECK P_SI_REFUND
--   -49  已取号 (TAKREF 0)                该号已取号，不能退号，请到窗口办理！                P_REFUND P_REFUND_CHECK
--   -50  证件号与姓名不一致               证件号码已存在但姓名不一致，请到窗口核实！          P_PATIENT
--   -51  必填为空                         姓名和证件号码不能为空！                            P_PATIENT
--   -60  没有这次医保结算                 未找到医保结算记录！                                P_SI_REFUND
--   -61  退的现金与结算的不同             退现金额与结算现金不符！                            P_SI_REFUND
--
-- The texts of -21 to -25, -41 to -43, -45 and of the refund's success are the vendor's own (domain facts 1.6); the others are invented.
-- Lock order of every routine and of the window: FIN_OPR_SCHEMA row -> FIN_OPR_APPOINTMENTORDER row -> the rest.
CREATE OR REPLACE PACKAGE PKG_160 AS
  FUNCTION F_CONTROL(p_code VARCHAR2, p_default VARCHAR2) RETURN VARCHAR2;
  FUNCTION F_NOW RETURN DATE;
  FUNCTION F_LOCK_LIMIT RETURN DATE;
  FUNCTION F_SEGMENT(p_begin DATE, p_end DATE, p_lmt NUMBER, p_seeno NUMBER) RETURN VARCHAR2;
  FUNCTION F_REVERSE(p_clinic VARCHAR2, p_oper VARCHAR2) RETURN VARCHAR2;
  PROCEDURE P_LOCK(
    p_order_id VARCHAR2, p_schema_id VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_UNLOCK(p_order_id VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_BOOK(
    p_order_id VARCHAR2, p_schema_id VARCHAR2, p_card_no VARCHAR2, p_source VARCHAR2, p_order_type VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_CANCEL(
    p_order_id VARCHAR2, p_reason VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_amount NUMBER, p_pay_mode VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_REFUND_CHECK(p_order_id VARCHAR2, p_trade_no VARCHAR2, p_return_fee NUMBER, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_REFUND(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_refund_no VARCHAR2, p_return_fee NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_SI_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_psn_no VARCHAR2, p_insutype VARCHAR2, p_insuplc_admdvs VARCHAR2,
    p_mdtrt_id VARCHAR2, p_ipt_otp_no VARCHAR2, p_chrg_bchno VARCHAR2, p_setl_id VARCHAR2, p_reg_msgid VARCHAR2, p_fee_msgid VARCHAR2,
    p_setl_msgid VARCHAR2, p_sign_no VARCHAR2, p_setl_time DATE, p_clr_type VARCHAR2, p_clr_way VARCHAR2, p_clr_optins VARCHAR2,
    p_med_type VARCHAR2, p_tot_cost NUMBER, p_fund_pay_sumamt NUMBER, p_pay_cost NUMBER, p_acct_mulaid_pay NUMBER, p_own_cost NUMBER,
    p_hosp_part_amt NUMBER, p_fulamt_ownpay_amt NUMBER, p_overlmt_selfpay NUMBER, p_preselfpay_amt NUMBER, p_inscp_scp_amt NUMBER,
    p_act_pay_dedc NUMBER, p_hifp_pay NUMBER, p_cvlserv_pay NUMBER, p_hifes_pay NUMBER, p_hifmi_pay NUMBER, p_hifob_pay NUMBER,
    p_maf_pay NUMBER, p_oth_pay NUMBER, p_psn_part_amt NUMBER, p_balc NUMBER, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_SI_REFUND(
    p_order_id VARCHAR2, p_setl_id VARCHAR2, p_reversal VARCHAR2, p_refund_no VARCHAR2, p_own_cost NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
  PROCEDURE P_PATIENT(
    p_name VARCHAR2, p_idcardtype VARCHAR2, p_idenno VARCHAR2, p_sex_code VARCHAR2, p_birthday DATE, p_home_tel VARCHAR2, p_home VARCHAR2,
    p_linkman VARCHAR2, p_linkman_idenno VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR);
END PKG_160;
/
-- 排班余号: holds that have run out count as free. TEL_LEFT is never negative.
CREATE OR REPLACE VIEW VW_160_SCHEMA_LEFT AS
SELECT s.ID, GREATEST(s.TEL_LMT - s.TEL_REGED - s.TEL_REGING + (SELECT COUNT(*) FROM FIN_OPR_BOOKING b
       WHERE b.SCHEMA_ID = s.ID AND b.LOCK_STATE = '0' AND b.OPER_DATE <= (SELECT PKG_160.F_LOCK_LIMIT FROM DUAL)), 0) AS TEL_LEFT
  FROM FIN_OPR_SCHEMA s;

CREATE OR REPLACE PACKAGE BODY PKG_160 AS

  FUNCTION F_CONTROL(p_code VARCHAR2, p_default VARCHAR2) RETURN VARCHAR2 IS
    v_value COM_CONTROLARGUMENT.CONTROL_VALUE%TYPE;
  BEGIN
    SELECT MAX(CONTROL_VALUE) INTO v_value FROM COM_CONTROLARGUMENT WHERE CONTROL_CODE = p_code;
    RETURN NVL(v_value, p_default);
  END F_CONTROL;

  -- SYSDATE is the hospital's wall clock when the server's host runs on China time; OFFSET days apart in a sample
  FUNCTION F_NOW RETURN DATE IS
  BEGIN
    RETURN SYSDATE + TO_NUMBER(F_CONTROL('OFFSET', '0'));
  END F_NOW;

  -- 锁号失效的界限: a hold made before it has run out
  FUNCTION F_LOCK_LIMIT RETURN DATE IS
  BEGIN
    RETURN F_NOW - TO_NUMBER(F_CONTROL('LOCKMI', '10')) / 1440;
  END F_LOCK_LIMIT;

  -- 号序 -> 'HH24:MI'; p_lmt = REG_LMT + TEL_LMT. ROUND: a difference of DATEs is a fraction of days
  FUNCTION F_SEGMENT(p_begin DATE, p_end DATE, p_lmt NUMBER, p_seeno NUMBER) RETURN VARCHAR2 IS
  BEGIN
    RETURN TO_CHAR(LEAST(p_begin + (p_seeno - 1) * TRUNC(ROUND((p_end - p_begin) * 1440) / GREATEST(p_lmt, 1)) / 1440, p_end), 'HH24:MI');
  END F_SEGMENT;

  -- 挂号费, 分: o_reg 挂号费, o_treat 诊金+检查+其他
  PROCEDURE X_FEE(p_reglevl VARCHAR2, o_reg OUT NUMBER, o_treat OUT NUMBER) IS
  BEGIN
    SELECT MAX(ROUND(REG_FEE * 100)), MAX(ROUND((CHCK_FEE + DIAG_FEE + OTH_FEE) * 100)) INTO o_reg, o_treat
      FROM FIN_COM_REGFEESET WHERE PACT_CODE = '1' AND REGLEVL_CODE = RPAD(p_reglevl, 4);
  END X_FEE;

  -- Locks the schedule's row; NULL ID when there is none
  FUNCTION X_SCHEMA(p_schema_id VARCHAR2) RETURN FIN_OPR_SCHEMA%ROWTYPE IS
    v_s FIN_OPR_SCHEMA%ROWTYPE;
  BEGIN
    SELECT * INTO v_s FROM FIN_OPR_SCHEMA WHERE ID = p_schema_id FOR UPDATE;
    RETURN v_s;
  EXCEPTION WHEN NO_DATA_FOUND THEN v_s := NULL; RETURN v_s;
  END X_SCHEMA;

  FUNCTION X_BOOKING(p_order_id VARCHAR2) RETURN FIN_OPR_BOOKING%ROWTYPE IS
    v_b FIN_OPR_BOOKING%ROWTYPE;
  BEGIN
    SELECT * INTO v_b FROM FIN_OPR_BOOKING WHERE ORDER_ID = p_order_id;
    RETURN v_b;
  EXCEPTION WHEN NO_DATA_FOUND THEN v_b := NULL; RETURN v_b;
  END X_BOOKING;

  -- The order, its schedule's row locked first; NULL ORDER_ID = not found (or 下定失败)
  FUNCTION X_ORDER(p_order_id VARCHAR2) RETURN FIN_OPR_APPOINTMENTORDER%ROWTYPE IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_s FIN_OPR_SCHEMA%ROWTYPE;
  BEGIN
    SELECT * INTO v_o FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id AND ORDER_STATE <> '1';
    v_s := X_SCHEMA(v_o.SCHEMA_ID);
    SELECT * INTO v_o FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id AND ORDER_STATE <> '1' FOR UPDATE;
    RETURN v_o;
  EXCEPTION WHEN NO_DATA_FOUND THEN v_o := NULL; RETURN v_o;
  END X_ORDER;

  -- 清理过期锁 of one schedule, whose row is locked first: the rows are deleted. Returns how many.
  FUNCTION X_SWEEP(p_schema_id VARCHAR2) RETURN NUMBER IS
    v_s FIN_OPR_SCHEMA%ROWTYPE := X_SCHEMA(p_schema_id);
    v_limit DATE := F_LOCK_LIMIT;
    v_n NUMBER;
  BEGIN
    DELETE FROM FIN_OPR_BOOKING WHERE SCHEMA_ID = p_schema_id AND LOCK_STATE = '0' AND OPER_DATE <= v_limit;
    v_n := SQL%ROWCOUNT;
    IF v_n > 0 THEN
      UPDATE FIN_OPR_SCHEMA SET TEL_REGING = GREATEST(TEL_REGING - v_n, 0) WHERE ID = p_schema_id;
    END IF;
    RETURN v_n;
  END X_SWEEP;

  -- 占预约限额 (Schema.Increase): the one place where a number is taken. TEL_REGING + 1, or why not.
  PROCEDURE X_TAKE(p_schema_id VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_seeno OUT NUMBER) IS
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_today DATE := TRUNC(F_NOW);
  BEGIN
    FOR i IN 1 .. 2 LOOP
      UPDATE FIN_OPR_SCHEMA SET TEL_REGING = TEL_REGING + 1, ORDER_NO = ORDER_NO + 1
       WHERE ID = p_schema_id AND TEL_REGED + TEL_REGING < TEL_LMT AND VALID_FLAG = '1' AND PUB_FLAG = '1' AND SEE_DATE >= v_today
      RETURNING ORDER_NO INTO o_seeno;
      IF SQL%ROWCOUNT > 0 THEN
        o_code := 0; o_msg := '成功'; RETURN;
      END IF;
      EXIT WHEN X_SWEEP(p_schema_id) = 0;
    END LOOP;
    v_s := X_SCHEMA(p_schema_id);
    IF v_s.ID IS NULL OR v_s.PUB_FLAG <> '1' THEN o_code := -1; o_msg := '该排班不存在！';
    ELSIF v_s.VALID_FLAG <> '1' THEN o_code := -3; o_msg := '该排班已停诊！';
    ELSIF v_s.SEE_DATE < v_today THEN o_code := -4; o_msg := '该排班已过期！';
    ELSE o_code := -2; o_msg := '该排班预约限额已满！';
    END IF;
  END X_TAKE;

  -- 写锁号行 for a number that was taken. p_state 0 锁定 1 已转预约.
  FUNCTION X_HOLD(p_order_id VARCHAR2, p_schema_id VARCHAR2, p_seeno NUMBER, p_state VARCHAR2, p_oper VARCHAR2) RETURN VARCHAR2 IS
    v_s FIN_OPR_SCHEMA%ROWTYPE := X_SCHEMA(p_schema_id);
    v_reg NUMBER; v_treat NUMBER;
    v_begin VARCHAR2(5); v_end VARCHAR2(5);
    v_id FIN_OPR_BOOKING.LOCK_ID%TYPE;
    v_now DATE := F_NOW;
  BEGIN
    X_FEE(v_s.REGLEVL_CODE, v_reg, v_treat);
    v_begin := F_SEGMENT(v_s.BEGIN_TIME, v_s.END_TIME, v_s.REG_LMT + v_s.TEL_LMT, p_seeno);
    v_end := F_SEGMENT(v_s.BEGIN_TIME, v_s.END_TIME, v_s.REG_LMT + v_s.TEL_LMT, p_seeno + 1);
    INSERT INTO FIN_OPR_BOOKING (LOCK_ID, ORDER_ID, DEPT_ID, DOCTOR_ID, REG_DATE, TIME_FLAG, START_TIME, END_TIME, ORDER_TYPE, REG_FEE,
                                 TREAT_FEE, SCHEMA_ID, SEENO, LOCK_STATE, OPER_ID, OPER_DATE)
    VALUES (LPAD(SEQ_FIN_OPR_LOCK.NEXTVAL, 14, '0'), p_order_id, v_s.DEPT_CODE, v_s.DOCT_CODE, v_s.SEE_DATE, v_s.NOON_CODE,
            v_begin, v_end, '0', v_reg, v_treat, p_schema_id, p_seeno, p_state, p_oper, v_now)
    RETURNING LOCK_ID INTO v_id;
    RETURN v_id;
  END X_HOLD;

  -- 锁号
  PROCEDURE X_LOCK(p_order_id VARCHAR2, p_schema_id VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_key OUT VARCHAR2) IS
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_b FIN_OPR_BOOKING%ROWTYPE;
    v_state VARCHAR2(1);
    v_seeno NUMBER; v_n NUMBER;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_s := X_SCHEMA(p_schema_id);
    SELECT MAX(ORDER_STATE) INTO v_state FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id;
    IF v_state = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_state IS NOT NULL THEN o_code := -7; o_msg := '该订单号已被使用！'; RETURN; END IF;
    v_b := X_BOOKING(p_order_id);
    IF v_b.LOCK_ID IS NOT NULL THEN
      IF v_b.SCHEMA_ID <> p_schema_id THEN o_code := -7; o_msg := '该订单号已被使用！'; RETURN; END IF;
      IF v_b.OPER_DATE > F_LOCK_LIMIT THEN o_code := 0; o_msg := '成功'; o_key := v_b.LOCK_ID; RETURN; END IF;
      v_n := X_SWEEP(p_schema_id);
    END IF;
    X_TAKE(p_schema_id, o_code, o_msg, v_seeno);
    IF o_code <> 0 THEN RETURN; END IF;
    o_key := X_HOLD(p_order_id, p_schema_id, v_seeno, '0', p_oper);
  END X_LOCK;

  PROCEDURE P_LOCK(
    p_order_id VARCHAR2, p_schema_id VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_key FIN_OPR_BOOKING.LOCK_ID%TYPE;
    v_minutes NUMBER := TO_NUMBER(F_CONTROL('LOCKMI', '10'));
  BEGIN
    SAVEPOINT S_160_LOCK;
    BEGIN
      X_LOCK(p_order_id, p_schema_id, p_oper, o_code, o_msg, v_key);
    EXCEPTION WHEN DUP_VAL_ON_INDEX THEN   -- the same number on two schedules at once
      ROLLBACK TO SAVEPOINT S_160_LOCK;
      v_key := NULL; o_code := -7; o_msg := '该订单号已被使用！';
    END;
    OPEN o_cur FOR
      SELECT LOCK_ID, SCHEMA_ID, SEENO, START_TIME, END_TIME, REG_FEE, TREAT_FEE, REG_FEE + TREAT_FEE AS TOTAL_FEE,
             OPER_DATE + v_minutes / 1440 AS EXPIRE_DATE
        FROM FIN_OPR_BOOKING WHERE LOCK_ID = v_key;
  END P_LOCK;

  -- 解锁: the row is deleted
  PROCEDURE P_UNLOCK(p_order_id VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_b FIN_OPR_BOOKING%ROWTYPE := X_BOOKING(p_order_id);
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_code NUMBER;
  BEGIN
    v_s := X_SCHEMA(v_b.SCHEMA_ID);
    v_b := X_BOOKING(p_order_id);
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSIF v_b.LOCK_ID IS NULL THEN o_code := -5; o_msg := '未找到锁号记录！';
    ELSIF v_b.LOCK_STATE <> '0' THEN o_code := -6; o_msg := '该号已下订单，不能解锁！';
    ELSE
      UPDATE FIN_OPR_SCHEMA SET TEL_REGING = GREATEST(TEL_REGING - 1, 0) WHERE ID = v_b.SCHEMA_ID;
      DELETE FROM FIN_OPR_BOOKING WHERE LOCK_ID = v_b.LOCK_ID;
      o_code := 0; o_msg := '成功';
    END IF;
    v_code := o_code;
    OPEN o_cur FOR SELECT p_order_id AS ORDER_ID, v_code AS CODE FROM DUAL WHERE v_code = 0;
  END P_UNLOCK;

  -- 预约规则: why this patient may not book this schedule (0 = may). p_card_no is padded already.
  PROCEDURE X_RULES(p_schema_id VARCHAR2, p_card_no VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_n NUMBER; v_amount NUMBER;
    v_s FIN_OPR_SCHEMA%ROWTYPE;
  BEGIN
    o_code := 0; o_msg := '成功';
    SELECT COUNT(*) INTO v_n FROM COM_PATIENTINFO WHERE CARD_NO = p_card_no AND IS_VALID = '1';
    IF v_n = 0 THEN o_code := -14; o_msg := '该患者未建档！'; RETURN; END IF;
    SELECT COUNT(*) INTO v_n FROM COM_PATIENTLIMIT WHERE CARD_NO = p_card_no AND KIND = '1' AND VALID_STATE = '1';
    IF v_n > 0 THEN o_code := -12; o_msg := '该患者爽约次数过多，请到窗口挂号！'; RETURN; END IF;
    SELECT COUNT(*), MAX(AMOUNT) INTO v_n, v_amount FROM COM_PATIENTLIMIT WHERE CARD_NO = p_card_no AND KIND = '2' AND VALID_STATE = '1';
    IF v_n > 0 THEN
      o_code := -13; o_msg := '该患者欠费' || TO_CHAR(v_amount, 'FM999999990.00') || '元，请到窗口处理！'; RETURN;
    END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPR_APPOINTMENTORDER
     WHERE CARD_NO = p_card_no AND SCHEMA_ID = p_schema_id AND ORDER_STATE IN ('0', '3', '4');
    IF v_n > 0 THEN o_code := -10; o_msg := '该患者已预约该排班，不能重复预约！'; RETURN; END IF;
    IF F_CONTROL('DUPDEP', '0') = '1' THEN
      v_s := X_SCHEMA(p_schema_id);
      SELECT COUNT(*) INTO v_n FROM FIN_OPR_APPOINTMENTORDER
       WHERE CARD_NO = p_card_no AND DEPT_CODE = v_s.DEPT_CODE AND REG_DATE = v_s.SEE_DATE AND ORDER_STATE IN ('0', '3', '4');
      IF v_n > 0 THEN o_code := -11; o_msg := '同一患者同一天同一科室只能预约一次！'; END IF;
    END IF;
  END X_RULES;

  -- 下订单: turns the order's own hold into the order; without a hold it takes a number itself. The same order again: the same answer.
  PROCEDURE X_BOOK(
    p_order_id VARCHAR2, p_schema_id VARCHAR2, p_card_no VARCHAR2, p_source VARCHAR2, p_order_type VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_key OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_b FIN_OPR_BOOKING%ROWTYPE;
    v_card VARCHAR2(64) := CASE WHEN LENGTH(p_card_no) < 10 THEN LPAD(p_card_no, 10, '0') ELSE p_card_no END;
    v_seeno NUMBER;
    v_lock FIN_OPR_BOOKING.LOCK_ID%TYPE;
    v_now DATE := F_NOW;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_s := X_SCHEMA(p_schema_id);
    IF v_s.ID IS NULL OR v_s.PUB_FLAG <> '1' THEN o_code := -1; o_msg := '该排班不存在！'; RETURN; END IF;
    SELECT MAX(ORDER_STATE), MAX(SCHEMA_ID), MAX(CARD_NO) INTO v_o.ORDER_STATE, v_o.SCHEMA_ID, v_o.CARD_NO
      FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id;
    IF v_o.ORDER_STATE IS NOT NULL THEN
      IF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！';
      ELSIF v_o.SCHEMA_ID <> p_schema_id OR v_o.CARD_NO <> v_card THEN o_code := -7; o_msg := '该订单号已被使用！';
      ELSE o_code := 0; o_msg := '成功'; o_key := p_order_id; END IF;
      RETURN;
    END IF;
    IF v_s.VALID_FLAG <> '1' THEN o_code := -3; o_msg := '该排班已停诊！'; RETURN; END IF;
    X_RULES(p_schema_id, v_card, o_code, o_msg);
    IF o_code <> 0 THEN RETURN; END IF;
    v_b := X_BOOKING(p_order_id);
    IF v_b.LOCK_ID IS NOT NULL THEN
      IF v_b.SCHEMA_ID <> p_schema_id THEN o_code := -7; o_msg := '该订单号已被使用！'; RETURN; END IF;
      IF v_b.OPER_DATE <= F_LOCK_LIMIT THEN o_code := -8; o_msg := '锁号已超时，请重新选号！'; RETURN; END IF;
      UPDATE FIN_OPR_BOOKING SET LOCK_STATE = '1' WHERE LOCK_ID = v_b.LOCK_ID;
    ELSE
      X_TAKE(p_schema_id, o_code, o_msg, v_seeno);
      IF o_code <> 0 THEN RETURN; END IF;
      v_lock := X_HOLD(p_order_id, p_schema_id, v_seeno, '1', p_oper);
    END IF;
    INSERT INTO FIN_OPR_APPOINTMENTORDER (ORDER_ID, SERIAL_NO, USER_IDCARD, USER_NAME, USER_GENDER, USER_MOBILE, USER_BIRTHDAY,
        ORDER_TYPE, SCHEMA_ID, DEPT_CODE, DOCT_CODE, REG_DATE, TIME_FLAG, START_TIME, END_TIME, SEENO, REG_FEE, TREAT_FEE, ORDER_STATE, CARD_NO,
        IN_SOURCE, ORDER_DATE, OPER_CODE, OPER_DATE)
    SELECT p_order_id, LPAD(SEQ_FIN_OPR_ORDER.NEXTVAL, 14, '0'), p.IDENNO, p.NAME, p.SEX_CODE, p.HOME_TEL, p.BIRTHDAY,
           p_order_type, b.SCHEMA_ID, b.DEPT_ID, b.DOCTOR_ID, b.REG_DATE, b.TIME_FLAG, b.START_TIME, b.END_TIME, b.SEENO, b.REG_FEE, b.TREAT_FEE,
           '0', p.CARD_NO, p_source, v_now, p_oper, v_now
      FROM COM_PATIENTINFO p, FIN_OPR_BOOKING b WHERE p.CARD_NO = v_card AND b.ORDER_ID = p_order_id;
    o_code := 0; o_msg := '成功'; o_key := p_order_id;
  END X_BOOK;

  PROCEDURE P_BOOK(
    p_order_id VARCHAR2, p_schema_id VARCHAR2, p_card_no VARCHAR2, p_source VARCHAR2, p_order_type VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_key FIN_OPR_APPOINTMENTORDER.ORDER_ID%TYPE;
  BEGIN
    SAVEPOINT S_160_BOOK;
    BEGIN
      X_BOOK(p_order_id, p_schema_id, p_card_no, p_source, p_order_type, p_oper, o_code, o_msg, v_key);
    EXCEPTION WHEN DUP_VAL_ON_INDEX THEN
      ROLLBACK TO SAVEPOINT S_160_BOOK;
      v_key := NULL; o_code := -7; o_msg := '该订单号已被使用！';
    END;
    OPEN o_cur FOR SELECT ORDER_ID, SERIAL_NO, SEENO, START_TIME, REG_FEE + TREAT_FEE AS TOTAL_FEE
                     FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = v_key;
  END P_BOOK;

  -- 取消预约: only ORDER_STATE 0; the hold is deleted, the quota given back (Schema.Reduce)
  PROCEDURE P_CANCEL(
    p_order_id VARCHAR2, p_reason VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE := X_ORDER(p_order_id);
    v_now DATE := F_NOW;
    v_code NUMBER;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSIF v_o.ORDER_ID IS NULL THEN o_code := -20; o_msg := '未找到该订单！';
    ELSIF v_o.ORDER_STATE = '2' AND v_o.OPER_CODE = p_oper THEN o_code := 1; o_msg := '该订单已取消，请勿重复提交！';
    ELSIF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！';
    ELSIF v_o.ORDER_STATE = '3' THEN o_code := -21; o_msg := '该订单已支付！';
    ELSIF v_o.ORDER_STATE = '4' THEN o_code := -23; o_msg := '该订单已取号！';
    ELSIF v_o.ORDER_STATE = '5' THEN o_code := -24; o_msg := '该订单已退费！';
    ELSIF v_o.REG_DATE < TRUNC(v_now) THEN o_code := -22; o_msg := '请在就诊日期之前取消预约！';
    ELSE
      UPDATE FIN_OPR_SCHEMA SET TEL_REGING = GREATEST(TEL_REGING - 1, 0) WHERE ID = v_o.SCHEMA_ID;
      IF SQL%ROWCOUNT = 0 THEN o_code := -25; o_msg := '已无排班信息,无法恢复限额';
      ELSE
        UPDATE FIN_OPR_APPOINTMENTORDER SET ORDER_STATE = '2', CANCEL_REASON = p_reason, OPER_CODE = p_oper, OPER_DATE = v_now
         WHERE ORDER_ID = p_order_id;
        DELETE FROM FIN_OPR_BOOKING WHERE ORDER_ID = p_order_id;
        o_code := 0; o_msg := '成功';
      END IF;
    END IF;
    v_code := o_code;
    OPEN o_cur FOR SELECT ORDER_ID, ORDER_STATE, OPER_DATE FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id AND v_code >= 0;
  END P_CANCEL;

  -- 写挂号: the positive register row and one fee row per part, 元. p_pub 记账, p_pay 个人账户: they pay the first parts, the rest is own.
  -- The caller holds the schedule's row.
  PROCEDURE X_REGISTER(
    p_clinic VARCHAR2, p_invoice VARCHAR2, p_card_no VARCHAR2, p_schema_id VARCHAR2, p_seeno NUMBER, p_ynbook VARCHAR2, p_source VARCHAR2,
    p_pay_mode VARCHAR2, p_oper VARCHAR2, p_pub NUMBER DEFAULT 0, p_pay NUMBER DEFAULT 0) IS
    v_now DATE := F_NOW;
  BEGIN
    INSERT INTO FIN_OPR_REGISTER (CLINIC_CODE, TRANS_TYPE, CARD_NO, REG_DATE, NOON_CODE, NAME, IDENNO, SEX_CODE, BIRTHDAY, PAYKIND_CODE,
        PAYKIND_NAME, PACT_CODE, REGLEVL_CODE, REGLEVL_NAME, DEPT_CODE, DEPT_NAME, SEENO, DOCT_CODE, DOCT_NAME, YNREGCHRG, YNBOOK, YNFR, REG_FEE,
        CHCK_FEE, DIAG_FEE, OTH_FEE, OWN_COST, PUB_COST, PAY_COST, VALID_FLAG, OPER_CODE, OPER_DATE, YNSEE, CHECK_FLAG, RELA_PHONE, BEGIN_TIME,
        END_TIME, INVOICE_NO, SCHEMA_NO, IN_SOURCE, TRIAGE_FLAG)
    SELECT p_clinic, '1', p.CARD_NO, s.SEE_DATE, s.NOON_CODE, p.NAME, p.IDENNO, p.SEX_CODE, p.BIRTHDAY, CASE WHEN p_pub + p_pay > 0 THEN '02' ELSE '01' END,
           CASE WHEN p_pub + p_pay > 0 THEN '医保' ELSE '自费' END, CASE WHEN p_pub + p_pay > 0 THEN '2' ELSE '1' END, s.REGLEVL_CODE,
           s.REGLEVL_NAME, s.DEPT_CODE, s.DEPT_NAME, p_seeno, s.DOCT_CODE, s.DOCT_NAME, '1', p_ynbook, '1', f.REG_FEE, f.CHCK_FEE, f.DIAG_FEE,
           f.OTH_FEE, f.REG_FEE + f.CHCK_FEE + f.DIAG_FEE + f.OTH_FEE - p_pub - p_pay, p_pub, p_pay, '1', p_oper, v_now, '0', '0', p.HOME_TEL, s.BEGIN_TIME, s.END_TIME,
           p_invoice, s.ID, p_source, '0'
      FROM FIN_OPR_SCHEMA s, COM_PATIENTINFO p, FIN_COM_REGFEESET f
     WHERE s.ID = p_schema_id AND p.CARD_NO = p_card_no AND f.PACT_CODE = '1' AND f.REGLEVL_CODE = s.REGLEVL_CODE;
    INSERT INTO FIN_OPB_ACCOUNTCARDFEE (INVOICE_NO, TRANS_TYPE, FEE_TYPE, CARD_NO, TOT_COST, FEE_OPER, FEE_DATE, BALANCE_FLAG, CANCEL_FLAG,
        CLINIC_NO, OWN_COST, PUB_COST, PAY_COST, PAY_TYPE)
    SELECT p_invoice, '1', q.FEE_TYPE, q.CARD_NO, q.COST, p_oper, v_now, '0', '1', p_clinic, q.COST - q.PUB - q.PAY, q.PUB, q.PAY, p_pay_mode
      FROM (SELECT t.*, GREATEST(LEAST(t.UPTO, p_pub) - t.UPTO + t.COST, 0) AS PUB,
                   GREATEST(LEAST(t.UPTO, p_pub + p_pay) - GREATEST(t.UPTO - t.COST, p_pub), 0) AS PAY
              FROM (SELECT CARD_NO, '3' AS FEE_TYPE, REG_FEE AS COST, REG_FEE AS UPTO
                      FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1'
                    UNION ALL SELECT CARD_NO, '4', DIAG_FEE, REG_FEE + DIAG_FEE
                      FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1'
                    UNION ALL SELECT CARD_NO, '5', CHCK_FEE, REG_FEE + DIAG_FEE + CHCK_FEE
                      FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1') t) q
     WHERE q.COST <> 0;
  END X_REGISTER;

  -- 支付 = 挂号: FIN_OPR_REGISTER and its fee rows, TEL_REGING -> TEL_REGED. p_amount 分.
  PROCEDURE X_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_amount NUMBER, p_pay_mode VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_clinic FIN_OPR_REGISTER.CLINIC_CODE%TYPE;
    v_invoice FIN_OPR_REGISTER.INVOICE_NO%TYPE;
    v_n NUMBER;
    v_now DATE := F_NOW;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    IF NVL(p_amount, 0) > 0 AND (p_trade_no IS NULL OR p_txn_code IS NULL) THEN
      o_code := -33; o_msg := '支付流水号不能为空！'; RETURN;
    END IF;
    v_o := X_ORDER(p_order_id);
    IF v_o.ORDER_ID IS NULL THEN o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    IF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.ORDER_STATE <> '0' THEN
      IF v_o.TRADE_NO = p_trade_no AND v_o.TXN_CODE = p_txn_code THEN o_code := 1; o_msg := '该订单已支付，请勿重复提交！';
      ELSIF v_o.ORDER_STATE = '5' THEN o_code := -24; o_msg := '该订单已退费！';
      ELSE o_code := -32; o_msg := '该订单已支付！'; END IF;
      RETURN;
    END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPR_APPOINTMENTORDER WHERE TRADE_NO = p_trade_no;
    IF v_n > 0 THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    v_s := X_SCHEMA(v_o.SCHEMA_ID);
    IF NVL(v_s.VALID_FLAG, '0') <> '1' THEN o_code := -30; o_msg := '该排班已停诊，不能支付，请到窗口确认！'; RETURN; END IF;
    IF v_o.REG_FEE + v_o.TREAT_FEE <> NVL(p_amount, -1) THEN
      o_code := -31; o_msg := '支付金额' || NVL(p_amount, 0) || '分与挂号费' || (v_o.REG_FEE + v_o.TREAT_FEE) || '分不符！'; RETURN;
    END IF;
    SELECT LPAD(SEQ_FIN_OPR_CLINIC.NEXTVAL, 14, '0'), 'W' || LPAD(SEQ_FIN_OPR_INVOICE.NEXTVAL, 9, '0') INTO v_clinic, v_invoice FROM DUAL;
    X_REGISTER(v_clinic, v_invoice, v_o.CARD_NO, v_o.SCHEMA_ID, v_o.SEENO, '1', v_o.IN_SOURCE, p_pay_mode, p_oper);
    UPDATE FIN_OPR_APPOINTMENTORDER
       SET ORDER_STATE = '3', VISITING_NUM = v_clinic, PAY_MODE = p_pay_mode, TRADE_NO = p_trade_no, TXN_CODE = p_txn_code,
           OPER_CODE = p_oper, OPER_DATE = v_now
     WHERE ORDER_ID = p_order_id;
    UPDATE FIN_OPR_SCHEMA SET TEL_REGING = GREATEST(TEL_REGING - 1, 0), TEL_REGED = TEL_REGED + 1 WHERE ID = v_o.SCHEMA_ID;
    o_code := 0; o_msg := '成功';
  END X_PAY;

  PROCEDURE P_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_amount NUMBER, p_pay_mode VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_code NUMBER;
  BEGIN
    X_PAY(p_order_id, p_trade_no, p_txn_code, p_amount, p_pay_mode, p_oper, o_code, o_msg);
    v_code := o_code;
    OPEN o_cur FOR SELECT o.ORDER_ID, o.VISITING_NUM, r.INVOICE_NO, r.OWN_COST, r.OPER_DATE
                     FROM FIN_OPR_APPOINTMENTORDER o JOIN FIN_OPR_REGISTER r ON r.CLINIC_CODE = o.VISITING_NUM AND r.TRANS_TYPE = '1'
                    WHERE o.ORDER_ID = p_order_id AND v_code >= 0;
  END P_PAY;

  -- 退号: original VALID_FLAG 1 -> 0, negative row TRANS_TYPE 2, negative fee rows, quota back, hold deleted. Also the window's.
  -- Returns the invoice number of the negative row, NULL when the registration is not valid any more. The caller holds the schedule's row.
  FUNCTION F_REVERSE(p_clinic VARCHAR2, p_oper VARCHAR2) RETURN VARCHAR2 IS
    v_r FIN_OPR_REGISTER%ROWTYPE;
    v_invoice FIN_OPR_REGISTER.INVOICE_NO%TYPE;
    v_now DATE := F_NOW;
  BEGIN
    UPDATE FIN_OPR_REGISTER SET VALID_FLAG = '0', CANCEL_OPCD = p_oper, CANCEL_DATE = v_now
     WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1' AND VALID_FLAG = '1';
    IF SQL%ROWCOUNT = 0 THEN RETURN NULL; END IF;
    SELECT * INTO v_r FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1';
    SELECT SUBSTR(v_r.INVOICE_NO, 1, 1) || LPAD(SEQ_FIN_OPR_INVOICE.NEXTVAL, 9, '0') INTO v_invoice FROM DUAL;
    INSERT INTO FIN_OPR_REGISTER (CLINIC_CODE, TRANS_TYPE, CARD_NO, REG_DATE, NOON_CODE, NAME, IDENNO, SEX_CODE, BIRTHDAY, PAYKIND_CODE,
        PAYKIND_NAME, PACT_CODE, REGLEVL_CODE, REGLEVL_NAME, DEPT_CODE, DEPT_NAME, SEENO, DOCT_CODE, DOCT_NAME, YNREGCHRG, YNBOOK, YNFR, REG_FEE,
        CHCK_FEE, DIAG_FEE, OTH_FEE, OWN_COST, PUB_COST, PAY_COST, VALID_FLAG, OPER_CODE, OPER_DATE, YNSEE, CHECK_FLAG, RELA_PHONE, BEGIN_TIME,
        END_TIME, INVOICE_NO, SCHEMA_NO, IN_SOURCE, TRIAGE_FLAG)
    SELECT CLINIC_CODE, '2', CARD_NO, REG_DATE, NOON_CODE, NAME, IDENNO, SEX_CODE, BIRTHDAY, PAYKIND_CODE,
           PAYKIND_NAME, PACT_CODE, REGLEVL_CODE, REGLEVL_NAME, DEPT_CODE, DEPT_NAME, SEENO, DOCT_CODE, DOCT_NAME, YNREGCHRG, YNBOOK, YNFR, -REG_FEE,
           -CHCK_FEE, -DIAG_FEE, -OTH_FEE, -OWN_COST, -PUB_COST, -PAY_COST, '0', p_oper, v_now, YNSEE, CHECK_FLAG, RELA_PHONE, BEGIN_TIME,
           END_TIME, v_invoice, SCHEMA_NO, IN_SOURCE, TRIAGE_FLAG
      FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1';
    INSERT INTO FIN_OPB_ACCOUNTCARDFEE (INVOICE_NO, TRANS_TYPE, FEE_TYPE, CARD_NO, TOT_COST, FEE_OPER, FEE_DATE, BALANCE_FLAG, CANCEL_FLAG,
        CLINIC_NO, OWN_COST, PUB_COST, PAY_COST, PAY_TYPE)
    SELECT v_invoice, '2', FEE_TYPE, CARD_NO, -TOT_COST, p_oper, v_now, '0', '2', CLINIC_NO, -OWN_COST, -PUB_COST, -PAY_COST, PAY_TYPE
      FROM FIN_OPB_ACCOUNTCARDFEE WHERE CLINIC_NO = p_clinic AND TRANS_TYPE = '1';
    UPDATE FIN_OPB_ACCOUNTCARDFEE SET CANCEL_FLAG = '2' WHERE CLINIC_NO = p_clinic AND TRANS_TYPE = '1';
    IF v_r.YNBOOK = '1' THEN
      UPDATE FIN_OPR_SCHEMA SET TEL_REGED = GREATEST(TEL_REGED - 1, 0) WHERE ID = v_r.SCHEMA_NO;
      DELETE FROM FIN_OPR_BOOKING WHERE ORDER_ID IN (SELECT ORDER_ID FROM FIN_OPR_APPOINTMENTORDER WHERE VISITING_NUM = p_clinic);
    ELSE
      UPDATE FIN_OPR_SCHEMA SET REGED = GREATEST(REGED - 1, 0) WHERE ID = v_r.SCHEMA_NO;
    END IF;
    RETURN v_invoice;
  END F_REVERSE;

  -- The positive register row, locked where p_lock = '1'; NULL when there is none
  FUNCTION X_REGISTRATION(p_clinic VARCHAR2, p_lock VARCHAR2) RETURN FIN_OPR_REGISTER%ROWTYPE IS
    v_r FIN_OPR_REGISTER%ROWTYPE;
  BEGIN
    IF p_lock = '1' THEN
      SELECT * INTO v_r FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1' FOR UPDATE;
    ELSE
      SELECT * INTO v_r FROM FIN_OPR_REGISTER WHERE CLINIC_CODE = p_clinic AND TRANS_TYPE = '1';
    END IF;
    RETURN v_r;
  EXCEPTION WHEN NO_DATA_FOUND THEN v_r := NULL; RETURN v_r;
  END X_REGISTRATION;

  -- 退号规则: why this order may not be given back (0 = may). Reads only. p_trade_no may be empty (then any payment). p_insured '1': 医保 is undone
  -- first (医保撤销在先), so that what it has paid stands not in the way, and the amount is its business.
  PROCEDURE X_MAY_REFUND(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_return_fee NUMBER, p_insured VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_r FIN_OPR_REGISTER%ROWTYPE;
    v_si BOOLEAN;
    v_n NUMBER;
  BEGIN
    BEGIN
      SELECT * INTO v_o FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id AND ORDER_STATE <> '1';
    EXCEPTION WHEN NO_DATA_FOUND THEN o_code := -20; o_msg := '未找到该订单！'; RETURN;
    END;
    IF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.ORDER_STATE = '0' THEN o_code := -40; o_msg := '该订单未支付，不能退费！'; RETURN; END IF;
    IF v_o.ORDER_STATE = '5' THEN o_code := -41; o_msg := '该订单已退费！'; RETURN; END IF;
    v_r := X_REGISTRATION(v_o.VISITING_NUM, '0');
    v_si := NVL(v_r.PAYKIND_CODE, '01') = '02' AND NVL(v_r.PUB_COST, 0) + NVL(v_r.PAY_COST, 0) > 0;
    IF v_r.YNSEE = '1' THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF NVL(v_r.VALID_FLAG, '0') <> '1' THEN o_code := -48; o_msg := '该号已经退号或作废！'; RETURN; END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPB_FEEDETAIL WHERE CLINIC_CODE = v_r.CLINIC_CODE AND TRANS_TYPE = '1' AND CANCEL_FLAG = '1';
    IF v_n > 0 THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    IF v_o.ORDER_STATE = '4' AND F_CONTROL('TAKREF', '1') <> '1' THEN
      o_code := -49; o_msg := '该号已取号，不能退号，请到窗口办理！'; RETURN;
    END IF;
    IF v_si AND p_insured <> '1' THEN o_code := -45; o_msg := '该号为医疗保险号已经有交费记录,不能退费!'; RETURN; END IF;
    IF p_trade_no IS NOT NULL AND p_trade_no <> NVL(v_o.TRADE_NO, '-') THEN
      o_code := -38; o_msg := '支付单号与订单不符！'; RETURN;
    END IF;
    IF NOT v_si AND v_o.REG_FEE + v_o.TREAT_FEE <> NVL(p_return_fee, -1) THEN
      o_code := -43; o_msg := '退号的情况下，必须全退!'; RETURN;
    END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPB_ACCOUNTCARDFEE WHERE CLINIC_NO = v_r.CLINIC_CODE AND TRANS_TYPE = '1' AND BALANCE_FLAG = '1';
    IF v_n > 0 AND F_CONTROL('DAYREF', '1') <> '1' THEN o_code := -44; o_msg := '该号已日结，不能退号，请到窗口办理！'; RETURN; END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPR_SCHEMA WHERE ID = v_o.SCHEMA_ID;
    IF v_n = 0 THEN o_code := -25; o_msg := '已无排班信息,无法恢复限额'; RETURN; END IF;
    o_code := 0; o_msg := '成功';
  END X_MAY_REFUND;

  -- 退费预检查 (refundPayCheck): whether P_REFUND, or 医保撤销 and P_SI_REFUND, would give the order back now. Locks and changes nothing.
  PROCEDURE P_REFUND_CHECK(p_order_id VARCHAR2, p_trade_no VARCHAR2, p_return_fee NUMBER, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_code NUMBER;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！';
    ELSE X_MAY_REFUND(p_order_id, p_trade_no, p_return_fee, '1', o_code, o_msg);
    END IF;
    v_code := o_code;
    OPEN o_cur FOR SELECT ORDER_ID, SERIAL_NO FROM FIN_OPR_APPOINTMENTORDER WHERE ORDER_ID = p_order_id AND v_code >= 0;
  END P_REFUND_CHECK;

  -- 退号记录: negative rows, order state 5, history. p_refund_no is NULL when no cash went back. The caller holds the schedule's row.
  PROCEDURE X_GIVE_BACK(
    p_order_id VARCHAR2, p_clinic VARCHAR2, p_refund_no VARCHAR2, p_fee NUMBER, p_reason VARCHAR2, p_oper VARCHAR2) IS
    v_invoice FIN_OPR_BOOKINGPAYHISTORY.INVOICE_NO%TYPE := F_REVERSE(p_clinic, p_oper);
    v_now DATE := F_NOW;
  BEGIN
    UPDATE FIN_OPR_APPOINTMENTORDER SET ORDER_STATE = '5', OPER_CODE = p_oper, OPER_DATE = v_now WHERE ORDER_ID = p_order_id;
    INSERT INTO FIN_OPR_BOOKINGPAYHISTORY (ORDER_ID, RETURN_REASON, OPER_ID, REFUND_TIME, REFUND_NO, REFUND_FEE, INVOICE_NO)
    VALUES (p_order_id, NVL(p_reason, '用户请求退费'), p_oper, v_now, p_refund_no, p_fee, v_invoice);
  END X_GIVE_BACK;

  -- 退费: whole amount only (分). p_trade_no 商户订单号, may be empty. p_refund_no 商户退款单号; the same again: the same answer.
  PROCEDURE X_REFUND(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_refund_no VARCHAR2, p_return_fee NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_other FIN_OPR_BOOKINGPAYHISTORY.ORDER_ID%TYPE;
  BEGIN
    IF p_order_id IS NULL OR p_refund_no IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_o := X_ORDER(p_order_id);
    IF v_o.ORDER_ID IS NULL THEN o_code := -20; o_msg := '未找到该订单！'; RETURN; END IF;
    SELECT MAX(ORDER_ID) INTO v_other FROM FIN_OPR_BOOKINGPAYHISTORY WHERE REFUND_NO = p_refund_no;
    IF v_other IS NOT NULL THEN
      IF v_other = p_order_id THEN o_code := 1; o_msg := '该订单已退费，请勿重复提交！';
      ELSE o_code := -47; o_msg := '退款单号已被其他订单使用！'; END IF;
      RETURN;
    END IF;
    X_MAY_REFUND(p_order_id, p_trade_no, p_return_fee, '0', o_code, o_msg);
    IF o_code <> 0 THEN RETURN; END IF;
    X_GIVE_BACK(p_order_id, v_o.VISITING_NUM, p_refund_no, p_return_fee, p_reason, p_oper);
    o_code := 0; o_msg := '退号成功，挂号费已退回网银,不需要退现金！';
  END X_REFUND;

  PROCEDURE P_REFUND(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_refund_no VARCHAR2, p_return_fee NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_code NUMBER;
  BEGIN
    X_REFUND(p_order_id, p_trade_no, p_refund_no, p_return_fee, p_reason, p_oper, o_code, o_msg);
    v_code := o_code;
    OPEN o_cur FOR SELECT ORDER_ID, REFUND_NO, REFUND_FEE, INVOICE_NO, REFUND_TIME FROM FIN_OPR_BOOKINGPAYHISTORY
                    WHERE ORDER_ID = p_order_id AND v_code >= 0;
  END P_REFUND;

  -- 医保支付 = 医保挂号, after 2207A. Amounts 元: p_fund_pay_sumamt 基金, p_pay_cost 个人账户 (p_acct_mulaid_pay 其中共济), p_own_cost 现金,
  -- p_hosp_part_amt 医院负担; p_trade_no, p_txn_code: the cash part. p_ipt_otp_no as told to 医保 (NULL = not checked).
  -- The same settlement of the same order again: the same answer.
  PROCEDURE X_SI_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_psn_no VARCHAR2, p_insutype VARCHAR2, p_insuplc_admdvs VARCHAR2,
    p_mdtrt_id VARCHAR2, p_ipt_otp_no VARCHAR2, p_chrg_bchno VARCHAR2, p_setl_id VARCHAR2, p_reg_msgid VARCHAR2, p_fee_msgid VARCHAR2,
    p_setl_msgid VARCHAR2, p_sign_no VARCHAR2, p_setl_time DATE, p_clr_type VARCHAR2, p_clr_way VARCHAR2, p_clr_optins VARCHAR2,
    p_med_type VARCHAR2, p_tot_cost NUMBER, p_fund_pay_sumamt NUMBER, p_pay_cost NUMBER, p_acct_mulaid_pay NUMBER, p_own_cost NUMBER,
    p_hosp_part_amt NUMBER, p_fulamt_ownpay_amt NUMBER, p_overlmt_selfpay NUMBER, p_preselfpay_amt NUMBER, p_inscp_scp_amt NUMBER,
    p_act_pay_dedc NUMBER, p_hifp_pay NUMBER, p_cvlserv_pay NUMBER, p_hifes_pay NUMBER, p_hifmi_pay NUMBER, p_hifob_pay NUMBER,
    p_maf_pay NUMBER, p_oth_pay NUMBER, p_psn_part_amt NUMBER, p_balc NUMBER, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_s FIN_OPR_SCHEMA%ROWTYPE;
    v_clinic FIN_OPR_REGISTER.CLINIC_CODE%TYPE;
    v_invoice FIN_OPR_REGISTER.INVOICE_NO%TYPE;
    v_other FIN_IPR_SIINMAININFO.INPATIENT_NO%TYPE;
    v_mode VARCHAR2(1) := CASE WHEN p_own_cost > 0 THEN '4' ELSE '6' END;
    v_n NUMBER;
    v_now DATE := F_NOW;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    IF p_setl_id IS NULL OR p_mdtrt_id IS NULL OR p_psn_no IS NULL THEN
      o_code := -36; o_msg := '医保结算号、就诊号和人员编号不能为空！'; RETURN;
    END IF;
    IF p_own_cost > 0 AND (p_trade_no IS NULL OR p_txn_code IS NULL) THEN
      o_code := -33; o_msg := '支付流水号不能为空！'; RETURN;
    END IF;
    IF p_tot_cost <> p_fund_pay_sumamt + p_pay_cost + p_own_cost + p_hosp_part_amt THEN
      o_code := -35; o_msg := '医保各部分之和与总金额不符！'; RETURN;
    END IF;
    v_o := X_ORDER(p_order_id);
    IF v_o.ORDER_ID IS NULL OR (p_ipt_otp_no IS NOT NULL AND p_ipt_otp_no <> v_o.SERIAL_NO) THEN
      o_code := -20; o_msg := '未找到该订单！'; RETURN;
    END IF;
    IF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    SELECT MAX(INPATIENT_NO) INTO v_other FROM FIN_IPR_SIINMAININFO WHERE SETL_ID = p_setl_id AND TRANS_TYPE = '1';
    IF v_o.ORDER_STATE <> '0' THEN
      IF v_other = v_o.VISITING_NUM THEN o_code := 1; o_msg := '该订单已支付，请勿重复提交！';
      ELSIF v_o.ORDER_STATE = '5' THEN o_code := -24; o_msg := '该订单已退费！';
      ELSE o_code := -32; o_msg := '该订单已支付！'; END IF;
      RETURN;
    END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPR_APPOINTMENTORDER WHERE TRADE_NO = p_trade_no;
    IF v_n > 0 OR v_other IS NOT NULL THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    v_s := X_SCHEMA(v_o.SCHEMA_ID);
    IF NVL(v_s.VALID_FLAG, '0') <> '1' THEN o_code := -30; o_msg := '该排班已停诊，不能支付，请到窗口确认！'; RETURN; END IF;
    IF v_o.REG_FEE + v_o.TREAT_FEE <> ROUND(p_tot_cost * 100) THEN
      o_code := -31; o_msg := '支付金额' || ROUND(p_tot_cost * 100) || '分与挂号费' || (v_o.REG_FEE + v_o.TREAT_FEE) || '分不符！'; RETURN;
    END IF;
    SELECT LPAD(SEQ_FIN_OPR_CLINIC.NEXTVAL, 14, '0'), 'W' || LPAD(SEQ_FIN_OPR_INVOICE.NEXTVAL, 9, '0') INTO v_clinic, v_invoice FROM DUAL;
    X_REGISTER(v_clinic, v_invoice, v_o.CARD_NO, v_o.SCHEMA_ID, v_o.SEENO, '1', v_o.IN_SOURCE, v_mode, p_oper,
               p_tot_cost - p_pay_cost - p_own_cost, p_pay_cost);
    INSERT INTO FIN_IPR_SIINMAININFO (
        INPATIENT_NO, TRANS_TYPE, TYPE_CODE, INVOICE_NO, CARD_NO, VALID_FLAG, PSN_NO, INSUTYPE, INSUPLC_ADMDVS, MDTRT_ID, IPT_OTP_NO,
        CHRG_BCHNO, SETL_ID, REG_MSGID, FEE_MSGID, SETL_MSGID, SIGN_NO, SETL_TIME, CLR_TYPE, CLR_WAY, CLR_OPTINS, MED_TYPE, TOT_COST,
        FUND_PAY_SUMAMT, PAY_COST, ACCT_MULAID_PAY, OWN_COST, HOSP_PART_AMT, FULAMT_OWNPAY_AMT, OVERLMT_SELFPAY, PRESELFPAY_AMT,
        INSCP_SCP_AMT, ACT_PAY_DEDC, HIFP_PAY, CVLSERV_PAY, HIFES_PAY, HIFMI_PAY, HIFOB_PAY, MAF_PAY, OTH_PAY, PSN_PART_AMT, BALC,
        PUB_COST, OPER_CODE, OPER_DATE)
    VALUES (
        v_clinic, '1', '1', v_invoice, v_o.CARD_NO, '1', p_psn_no, p_insutype, p_insuplc_admdvs, p_mdtrt_id, v_o.SERIAL_NO, p_chrg_bchno,
        p_setl_id, p_reg_msgid, p_fee_msgid, p_setl_msgid, p_sign_no, p_setl_time, p_clr_type, p_clr_way, p_clr_optins, p_med_type,
        p_tot_cost, p_fund_pay_sumamt, p_pay_cost, p_acct_mulaid_pay, p_own_cost, p_hosp_part_amt, p_fulamt_ownpay_amt, p_overlmt_selfpay,
        p_preselfpay_amt, p_inscp_scp_amt, p_act_pay_dedc, p_hifp_pay, p_cvlserv_pay, p_hifes_pay, p_hifmi_pay, p_hifob_pay, p_maf_pay,
        p_oth_pay, p_psn_part_amt, p_balc, p_tot_cost - p_pay_cost - p_own_cost, p_oper, v_now);
    UPDATE FIN_OPR_APPOINTMENTORDER
       SET ORDER_STATE = '3', VISITING_NUM = v_clinic, PAY_MODE = v_mode, TRADE_NO = p_trade_no, TXN_CODE = p_txn_code,
           OPER_CODE = p_oper, OPER_DATE = v_now
     WHERE ORDER_ID = p_order_id;
    UPDATE FIN_OPR_SCHEMA SET TEL_REGING = GREATEST(TEL_REGING - 1, 0), TEL_REGED = TEL_REGED + 1 WHERE ID = v_o.SCHEMA_ID;
    o_code := 0; o_msg := '成功';
  END X_SI_PAY;

  PROCEDURE P_SI_PAY(
    p_order_id VARCHAR2, p_trade_no VARCHAR2, p_txn_code VARCHAR2, p_psn_no VARCHAR2, p_insutype VARCHAR2, p_insuplc_admdvs VARCHAR2,
    p_mdtrt_id VARCHAR2, p_ipt_otp_no VARCHAR2, p_chrg_bchno VARCHAR2, p_setl_id VARCHAR2, p_reg_msgid VARCHAR2, p_fee_msgid VARCHAR2,
    p_setl_msgid VARCHAR2, p_sign_no VARCHAR2, p_setl_time DATE, p_clr_type VARCHAR2, p_clr_way VARCHAR2, p_clr_optins VARCHAR2,
    p_med_type VARCHAR2, p_tot_cost NUMBER, p_fund_pay_sumamt NUMBER, p_pay_cost NUMBER, p_acct_mulaid_pay NUMBER, p_own_cost NUMBER,
    p_hosp_part_amt NUMBER, p_fulamt_ownpay_amt NUMBER, p_overlmt_selfpay NUMBER, p_preselfpay_amt NUMBER, p_inscp_scp_amt NUMBER,
    p_act_pay_dedc NUMBER, p_hifp_pay NUMBER, p_cvlserv_pay NUMBER, p_hifes_pay NUMBER, p_hifmi_pay NUMBER, p_hifob_pay NUMBER,
    p_maf_pay NUMBER, p_oth_pay NUMBER, p_psn_part_amt NUMBER, p_balc NUMBER, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_code NUMBER;
  BEGIN
    SAVEPOINT S_160_SI_PAY;
    BEGIN
      X_SI_PAY(
        p_order_id, p_trade_no, p_txn_code, p_psn_no, p_insutype, p_insuplc_admdvs, p_mdtrt_id, p_ipt_otp_no, p_chrg_bchno, p_setl_id,
        p_reg_msgid, p_fee_msgid, p_setl_msgid, p_sign_no, p_setl_time, p_clr_type, p_clr_way, p_clr_optins, p_med_type, p_tot_cost,
        p_fund_pay_sumamt, p_pay_cost, p_acct_mulaid_pay, p_own_cost, p_hosp_part_amt, p_fulamt_ownpay_amt, p_overlmt_selfpay,
        p_preselfpay_amt, p_inscp_scp_amt, p_act_pay_dedc, p_hifp_pay, p_cvlserv_pay, p_hifes_pay, p_hifmi_pay, p_hifob_pay, p_maf_pay,
        p_oth_pay, p_psn_part_amt, p_balc, p_oper, o_code, o_msg);
    EXCEPTION WHEN DUP_VAL_ON_INDEX THEN   -- the same SETL_ID for two orders at once
      ROLLBACK TO SAVEPOINT S_160_SI_PAY;
      o_code := -34; o_msg := '支付流水号已被其他订单使用！';
    END;
    v_code := o_code;
    OPEN o_cur FOR SELECT o.ORDER_ID, o.VISITING_NUM, r.INVOICE_NO, r.OWN_COST, r.PUB_COST, r.PAY_COST, r.OPER_DATE
                     FROM FIN_OPR_APPOINTMENTORDER o JOIN FIN_OPR_REGISTER r ON r.CLINIC_CODE = o.VISITING_NUM AND r.TRANS_TYPE = '1'
                    WHERE o.ORDER_ID = p_order_id AND v_code >= 0;
  END P_SI_PAY;

  -- 医保红冲记录: the negative row of a settlement, its original not valid any more.
  PROCEDURE X_SI_REVERSE(p_clinic VARCHAR2, p_reversal VARCHAR2, p_oper VARCHAR2) IS
    v_now DATE := F_NOW;
  BEGIN
    INSERT INTO FIN_IPR_SIINMAININFO (
        INPATIENT_NO, TRANS_TYPE, TYPE_CODE, INVOICE_NO, CARD_NO, VALID_FLAG, PSN_NO, INSUTYPE, INSUPLC_ADMDVS, MDTRT_ID, IPT_OTP_NO,
        CHRG_BCHNO, SETL_ID, SETL_TIME, CLR_TYPE, CLR_WAY, CLR_OPTINS, MED_TYPE, TOT_COST, PUB_COST, FUND_PAY_SUMAMT, PAY_COST,
        ACCT_MULAID_PAY, OWN_COST, HOSP_PART_AMT, FULAMT_OWNPAY_AMT, OVERLMT_SELFPAY, PRESELFPAY_AMT, INSCP_SCP_AMT, ACT_PAY_DEDC,
        HIFP_PAY, CVLSERV_PAY, HIFES_PAY, HIFMI_PAY, HIFOB_PAY, MAF_PAY, OTH_PAY, PSN_PART_AMT, OPER_CODE, OPER_DATE)
    SELECT
        INPATIENT_NO, '2', TYPE_CODE, INVOICE_NO, CARD_NO, '0', PSN_NO, INSUTYPE, INSUPLC_ADMDVS, MDTRT_ID, IPT_OTP_NO, CHRG_BCHNO,
        NVL(p_reversal, SETL_ID), v_now, CLR_TYPE, CLR_WAY, CLR_OPTINS, MED_TYPE, -TOT_COST, -PUB_COST, -FUND_PAY_SUMAMT, -PAY_COST,
        -ACCT_MULAID_PAY, -OWN_COST, -HOSP_PART_AMT, -FULAMT_OWNPAY_AMT, -OVERLMT_SELFPAY, -PRESELFPAY_AMT, -INSCP_SCP_AMT, -ACT_PAY_DEDC,
        -HIFP_PAY, -CVLSERV_PAY, -HIFES_PAY, -HIFMI_PAY, -HIFOB_PAY, -MAF_PAY, -OTH_PAY, -PSN_PART_AMT, p_oper, v_now
      FROM FIN_IPR_SIINMAININFO WHERE INPATIENT_NO = p_clinic AND TRANS_TYPE = '1';
    UPDATE FIN_IPR_SIINMAININFO SET VALID_FLAG = '0' WHERE INPATIENT_NO = p_clinic AND TRANS_TYPE = '1';
  END X_SI_REVERSE;

  -- 医保退号, after 2208 and after the cash has gone back: 日结 and 取号 do not stop it any more (P_REFUND_CHECK is asked before).
  -- p_reversal SETL_ID of 2208, p_refund_no 退款单号 and p_own_cost 元 of the cash.
  PROCEDURE X_SI_REFUND(
    p_order_id VARCHAR2, p_setl_id VARCHAR2, p_reversal VARCHAR2, p_refund_no VARCHAR2, p_own_cost NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2) IS
    v_o FIN_OPR_APPOINTMENTORDER%ROWTYPE;
    v_r FIN_OPR_REGISTER%ROWTYPE;
    v_own FIN_IPR_SIINMAININFO.OWN_COST%TYPE;
    v_red FIN_IPR_SIINMAININFO.SETL_ID%TYPE;
    v_by FIN_IPR_SIINMAININFO.OPER_CODE%TYPE;
    v_refund FIN_OPR_BOOKINGPAYHISTORY.REFUND_NO%TYPE;
    v_n NUMBER;
  BEGIN
    IF p_order_id IS NULL THEN o_code := -15; o_msg := '订单号不能为空！'; RETURN; END IF;
    v_o := X_ORDER(p_order_id);
    IF v_o.ORDER_STATE = '2' THEN o_code := -9; o_msg := '该订单已取消！'; RETURN; END IF;
    IF v_o.ORDER_STATE = '0' THEN o_code := -40; o_msg := '该订单未支付，不能退费！'; RETURN; END IF;
    SELECT MAX(OWN_COST) INTO v_own FROM FIN_IPR_SIINMAININFO
     WHERE INPATIENT_NO = v_o.VISITING_NUM AND TRANS_TYPE = '1' AND SETL_ID = p_setl_id;
    IF v_own IS NULL THEN o_code := -60; o_msg := '未找到医保结算记录！'; RETURN; END IF;
    IF v_o.ORDER_STATE = '5' THEN
      SELECT MAX(SETL_ID), MAX(OPER_CODE) INTO v_red, v_by FROM FIN_IPR_SIINMAININFO
       WHERE INPATIENT_NO = v_o.VISITING_NUM AND TRANS_TYPE = '2';
      SELECT MAX(REFUND_NO) INTO v_refund FROM FIN_OPR_BOOKINGPAYHISTORY WHERE ORDER_ID = p_order_id;
      IF v_red = NVL(p_reversal, p_setl_id) AND v_by = p_oper AND NVL(v_refund, '-') = NVL(p_refund_no, '-') THEN
        o_code := 1; o_msg := '该订单已退费，请勿重复提交！';
      ELSE o_code := -41; o_msg := '该订单已退费！'; END IF;
      RETURN;
    END IF;
    IF v_own <> p_own_cost THEN o_code := -61; o_msg := '退现金额与结算现金不符！'; RETURN; END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPR_BOOKINGPAYHISTORY WHERE REFUND_NO = p_refund_no;
    IF v_n > 0 THEN o_code := -47; o_msg := '退款单号已被其他订单使用！'; RETURN; END IF;
    v_r := X_REGISTRATION(v_o.VISITING_NUM, '1');
    IF v_r.YNSEE = '1' THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF v_r.VALID_FLAG <> '1' THEN o_code := -48; o_msg := '该号已经退号或作废！'; RETURN; END IF;
    SELECT COUNT(*) INTO v_n FROM FIN_OPB_FEEDETAIL WHERE CLINIC_CODE = v_r.CLINIC_CODE AND TRANS_TYPE = '1' AND CANCEL_FLAG = '1';
    IF v_n > 0 THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    X_SI_REVERSE(v_r.CLINIC_CODE, p_reversal, p_oper);
    X_GIVE_BACK(p_order_id, v_r.CLINIC_CODE, p_refund_no, ROUND(p_own_cost * 100), p_reason, p_oper);
    o_code := 0; o_msg := '成功';
  END X_SI_REFUND;

  PROCEDURE P_SI_REFUND(
    p_order_id VARCHAR2, p_setl_id VARCHAR2, p_reversal VARCHAR2, p_refund_no VARCHAR2, p_own_cost NUMBER, p_reason VARCHAR2, p_oper VARCHAR2,
    o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_code NUMBER;
  BEGIN
    X_SI_REFUND(p_order_id, p_setl_id, p_reversal, p_refund_no, p_own_cost, p_reason, p_oper, o_code, o_msg);
    v_code := o_code;
    OPEN o_cur FOR SELECT ORDER_ID, REFUND_NO, REFUND_FEE, INVOICE_NO, REFUND_TIME FROM FIN_OPR_BOOKINGPAYHISTORY
                    WHERE ORDER_ID = p_order_id AND v_code >= 0;
  END P_SI_REFUND;

  -- 建档: finds by (IDCARDTYPE, IDENNO) in either case of X, newest visit first; a minor without number by name + phone; else creates.
  PROCEDURE X_PATIENT(
    p_name VARCHAR2, p_idcardtype VARCHAR2, p_idenno VARCHAR2, p_sex_code VARCHAR2, p_birthday DATE, p_home_tel VARCHAR2, p_home VARCHAR2,
    p_linkman VARCHAR2, p_linkman_idenno VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_key OUT VARCHAR2, o_new OUT NUMBER) IS
    v_no VARCHAR2(200) := UPPER(TRIM(p_idenno));
    v_name VARCHAR2(200) := TRIM(p_name);
    v_found VARCHAR2(200);
    v_lock VARCHAR2(50);
    v_now DATE := F_NOW;
  BEGIN
    o_new := 0;
    IF v_name IS NULL OR (v_no IS NULL AND p_linkman IS NULL) THEN
      o_code := -51; o_msg := '姓名和证件号码不能为空！'; RETURN;
    END IF;
    SELECT CONTROL_VALUE INTO v_lock FROM COM_CONTROLARGUMENT WHERE CONTROL_CODE = 'PATREG' FOR UPDATE;
    IF v_no IS NOT NULL THEN
      FOR c IN (SELECT CARD_NO, TRIM(NAME) AS NAME FROM COM_PATIENTINFO
                 WHERE IDENNO IN (v_no, LOWER(v_no)) AND IDCARDTYPE = RPAD(p_idcardtype, 2) AND IS_VALID = '1'
                 ORDER BY CASE WHEN TRIM(NAME) = v_name THEN 0 ELSE 1 END, LAST_SEE DESC NULLS LAST, CARD_NO DESC) LOOP
        o_key := c.CARD_NO; v_found := c.NAME;
        EXIT;
      END LOOP;
      IF v_found <> v_name THEN
        o_key := NULL; o_code := -50; o_msg := '证件号码已存在但姓名不一致，请到窗口核实！'; RETURN;
      END IF;
    ELSE
      SELECT MAX(CARD_NO) INTO o_key FROM COM_PATIENTINFO
       WHERE TRIM(NAME) = v_name AND HOME_TEL = p_home_tel AND IDENNO IS NULL AND IS_VALID = '1';
    END IF;
    IF o_key IS NULL THEN
      INSERT INTO COM_PATIENTINFO (CARD_NO, NAME, SEX_CODE, BIRTHDAY, IDCARDTYPE, IDENNO, HOME, HOME_TEL, LINKMAN_NAME, LINKMAN_IDENNO,
                                   PACT_CODE, IS_VALID, OPER_CODE, OPER_DATE)
      VALUES (LPAD(SEQ_COM_PATIENTINFO.NEXTVAL, 10, '0'), v_name, p_sex_code, p_birthday, p_idcardtype, v_no, p_home,
              p_home_tel, p_linkman, p_linkman_idenno, '1', '1', p_oper, v_now)
      RETURNING CARD_NO INTO o_key;
      o_new := 1;
    END IF;
    o_code := 0; o_msg := '成功';
  END X_PATIENT;

  PROCEDURE P_PATIENT(
    p_name VARCHAR2, p_idcardtype VARCHAR2, p_idenno VARCHAR2, p_sex_code VARCHAR2, p_birthday DATE, p_home_tel VARCHAR2, p_home VARCHAR2,
    p_linkman VARCHAR2, p_linkman_idenno VARCHAR2, p_oper VARCHAR2, o_code OUT NUMBER, o_msg OUT VARCHAR2, o_cur OUT SYS_REFCURSOR) IS
    v_key COM_PATIENTINFO.CARD_NO%TYPE;
    v_new NUMBER;
  BEGIN
    X_PATIENT(p_name, p_idcardtype, p_idenno, p_sex_code, p_birthday, p_home_tel, p_home, p_linkman, p_linkman_idenno, p_oper,
              o_code, o_msg, v_key, v_new);
    OPEN o_cur FOR SELECT CARD_NO, NAME, IDCARDTYPE, UPPER(IDENNO) AS IDENNO, v_new AS IS_NEW FROM COM_PATIENTINFO WHERE CARD_NO = v_key;
  END P_PATIENT;

END PKG_160;
/
