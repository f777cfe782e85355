-- Sample HIS "neusoft", PostgreSQL port of oracle/schema.sql, schema `neuhis`: same tables, columns, keys and meanings (see the comments there).
-- VARCHAR2 -> varchar, NUMBER -> numeric, DATE -> timestamp(0) (Oracle's DATE holds seconds). '' IS NULL is kept by hand: nothing stores ''.
CREATE SCHEMA neuhis;
CREATE SEQUENCE neuhis.seq_fin_opr_order START WITH 10000001;
CREATE SEQUENCE neuhis.seq_fin_opr_clinic START WITH 20000001;
CREATE SEQUENCE neuhis.seq_fin_opr_lock START WITH 50001;
CREATE SEQUENCE neuhis.seq_fin_opr_invoice START WITH 800001;
CREATE SEQUENCE neuhis.seq_com_patientinfo START WITH 200001;
CREATE SEQUENCE neuhis.seq_fin_opb_recipe START WITH 600001;
CREATE SEQUENCE neuhis.seq_fin_opr_balance START WITH 100001;

-- 控制参数. LOCKMI 锁号分钟数 · DAYREF 日结后允许退号 0/1 · TAKREF 取号后允许退号 0/1 · DUPDEP 同科同日限约一次 0/1 · TAKEDT 只能就诊当日取号 0/1 · OFFSET 样例时间偏移(天)
-- · PATREG 建档串行锁 (the row P_PATIENT locks: DBMS_LOCK needs a grant, and its ALLOCATE_UNIQUE commits)
CREATE TABLE neuhis.com_controlargument (
  control_code varchar(6) NOT NULL, control_name varchar(50), control_value varchar(50),
  CONSTRAINT pk_com_controlargument PRIMARY KEY (control_code)
);

-- 科室; DEPT_TYPE 'C ' 门诊 (CHAR(2), blank padded); REGDEPT_FLAG '1' 挂号科室; VALID_STATE '1' 在用 '0' 停用. HOS_CODE 院区 [K], PLACE/BRIEF [K]
-- SI_CODE 医保科室编码, SI_CATY 医保科别 [K]: NULL = not registered with 医保
CREATE TABLE neuhis.com_department (
  dept_code varchar(10) NOT NULL, dept_name varchar(50) NOT NULL, spell_code varchar(16), wb_code varchar(16), user_code varchar(16),
  dept_type char(2) NOT NULL, regdept_flag char(1) NOT NULL, sort_id numeric(6), hos_code varchar(10), place varchar(60), brief varchar(400),
  si_code varchar(30), si_caty varchar(10), valid_state char(1) NOT NULL,
  CONSTRAINT pk_com_department PRIMARY KEY (dept_code)
);
-- 人员; EMPL_TYPE 'D' 医生 'F' 收费员 'X' 虚拟 [K]. LEVL_CODE 1 主任 2 副主任 3 主治 4 住院 [K: order of the codes].
-- NET_RIGHT 网上预约退号权限 [K] 0 普通窗口 1 两者 2 仅网上预约. INTERFACE_CODE 医保医师编码 [K]: NULL = not registered with 医保, self-pay only
CREATE TABLE neuhis.com_employee (
  empl_code varchar(10) NOT NULL, empl_name varchar(20) NOT NULL, spell_code varchar(16), sex_code char(1), dept_code varchar(10),
  levl_code char(2), expert_flag char(1), brief varchar(400), empl_type char(1) NOT NULL, net_right char(1), interface_code varchar(30), valid_state char(1) NOT NULL,
  CONSTRAINT pk_com_employee PRIMARY KEY (empl_code)
);
CREATE INDEX idx_com_employee_dept ON neuhis.com_employee (dept_code);

-- 午别: 1 上午 2 下午 3 晚上
CREATE TABLE neuhis.fin_opr_noon (
  noon_code char(1) NOT NULL, noon_name varchar(20), begin_time varchar(5), end_time varchar(5),
  CONSTRAINT pk_fin_opr_noon PRIMARY KEY (noon_code)
);
-- 挂号级别, CHAR(4) blank padded: a comparison with a bind needs the blanks
CREATE TABLE neuhis.fin_opr_reglevel (
  reglevl_code char(4) NOT NULL, reglevl_name varchar(20), expert_flag char(1),
  CONSTRAINT pk_fin_opr_reglevel PRIMARY KEY (reglevl_code)
);
-- 挂号费维护, 元; PACT_CODE '1' 自费. REG_ITEM, DIAG_ITEM [K]: FIN_COM_UNDRUGINFO.ITEM_CODE of 挂号费 and 诊查费
CREATE TABLE neuhis.fin_com_regfeeset (
  pact_code varchar(10) NOT NULL, reglevl_code char(4) NOT NULL, reg_fee numeric(12,2) NOT NULL, chck_fee numeric(12,2) NOT NULL,
  diag_fee numeric(12,2) NOT NULL, oth_fee numeric(12,2) NOT NULL, own_digfee numeric(12,2), pub_digfee numeric(12,2),
  reg_item varchar(12), diag_item varchar(12),
  CONSTRAINT pk_fin_com_regfeeset PRIMARY KEY (pact_code, reglevl_code)
);

-- 非药品收费项目; GB_CODE 国家医保目录编码, NULL = 医保不支付
CREATE TABLE neuhis.fin_com_undruginfo (
  item_code varchar(12) NOT NULL, item_name varchar(50) NOT NULL, unit_price numeric(12,2), gb_code varchar(50), valid_state char(1) NOT NULL,
  CONSTRAINT pk_fin_com_undruginfo PRIMARY KEY (item_code)
);

-- 排班. SCHEMA_TYPE 0 科室 1 医生; DOCT_CODE 'None' or NULL for a department schema (both occur). VALID_FLAG 1 正常 0 停诊 (REASON_*, STOP_*
-- set, blanked again at 恢复). REG_* 现场 quota, TEL_* 预约 quota: TEL_REGING 锁号+未支付, TEL_REGED 已支付; free = TEL_LMT - TEL_REGED - TEL_REGING.
-- ORDER_NO = last number allotted (never reused) [K]. PUB_FLAG '1' 已发布 [K]. OLD_DOCT_* = 原医生 after a 替诊 [K].
-- Number n starts at BEGIN_TIME + (n - 1) * interval, interval = whole minutes of (END_TIME - BEGIN_TIME) / (REG_LMT + TEL_LMT).
CREATE TABLE neuhis.fin_opr_schema (
  id varchar(14) NOT NULL, schema_type char(1) NOT NULL, see_date timestamp(0) NOT NULL, week char(1), noon_code char(1) NOT NULL,
  dept_code varchar(10) NOT NULL, dept_name varchar(50), doct_code varchar(10), doct_name varchar(20), doct_type char(1),
  reg_lmt numeric(6) NOT NULL, reged numeric(6) NOT NULL, tel_lmt numeric(6) NOT NULL, tel_reged numeric(6) NOT NULL, tel_reging numeric(6) NOT NULL,
  spe_lmt numeric(6) DEFAULT 0, spe_reged numeric(6) DEFAULT 0, append_flag char(1) DEFAULT '0', order_no numeric(6) NOT NULL,
  reglevl_code char(4) NOT NULL, reglevl_name varchar(20), valid_flag char(1) NOT NULL, reason_no char(2), reason_name varchar(60),
  stop_opcd varchar(10), stop_date timestamp(0), remark varchar(60), old_doct_code varchar(10), old_doct_name varchar(20),
  oper_code varchar(10), oper_date timestamp(0), begin_time timestamp(0) NOT NULL, end_time timestamp(0) NOT NULL, room_id varchar(10), room_name varchar(20),
  pub_flag char(1) NOT NULL,
  CONSTRAINT pk_fin_opr_schema PRIMARY KEY (id)
);
CREATE INDEX idx_fin_opr_schema_date ON neuhis.fin_opr_schema (see_date, dept_code);

-- 病人; CARD_NO 10 digits, 0-padded. IDCARDTYPE CV02.01.101 in CHAR(2). Several rows per IDENNO exist. NAME may hold blanks. IS_VALID '1'.
CREATE TABLE neuhis.com_patientinfo (
  card_no varchar(10) NOT NULL, name varchar(50) NOT NULL, spell_code varchar(16), sex_code char(1), birthday timestamp(0), idcardtype char(2),
  idenno varchar(20), home varchar(128), home_tel varchar(32), linkman_name varchar(50), linkman_idenno varchar(20), pact_code varchar(10),
  mcard_no varchar(30), last_see timestamp(0), is_valid char(1) NOT NULL, oper_code varchar(10), oper_date timestamp(0),
  CONSTRAINT pk_com_patientinfo PRIMARY KEY (card_no)
);
CREATE INDEX idx_com_patientinfo_idenno ON neuhis.com_patientinfo (idenno);
CREATE INDEX idx_com_patientinfo_tel ON neuhis.com_patientinfo (home_tel);
CREATE INDEX idx_com_patientinfo_mcard ON neuhis.com_patientinfo (mcard_no);
-- 限制名单 [K]: KIND 1 爽约 2 欠费 (AMOUNT 元)
CREATE TABLE neuhis.com_patientlimit (
  card_no varchar(10) NOT NULL, kind char(1) NOT NULL, amount numeric(12,2), valid_state char(1) NOT NULL,
  CONSTRAINT pk_com_patientlimit PRIMARY KEY (card_no, kind)
);

-- 锁号. LOCK_STATE 0 锁定 (runs out LOCKMI minutes after OPER_DATE) 1 已转预约. The row is DELETED on unlock, expiry, cancel and refund.
-- ORDER_ID = 平台订单号, SEENO 号序 [K]
CREATE TABLE neuhis.fin_opr_booking (
  lock_id varchar(14) NOT NULL, order_id varchar(64) NOT NULL, dept_id varchar(10), doctor_id varchar(10), reg_date timestamp(0), time_flag char(1),
  start_time varchar(5), end_time varchar(5), order_type char(1), reg_fee numeric(10), treat_fee numeric(10), schema_id varchar(14) NOT NULL,
  seeno numeric(6) NOT NULL, lock_state char(1) NOT NULL, oper_id varchar(10), oper_date timestamp(0) NOT NULL,
  CONSTRAINT pk_fin_opr_booking PRIMARY KEY (lock_id), CONSTRAINT uk_fin_opr_booking_order UNIQUE (order_id)
);
CREATE INDEX idx_fin_opr_booking_schema ON neuhis.fin_opr_booking (schema_id);

-- 预约订单. ORDER_STATE 0 下定成功 1 下定失败 2 已取消 3 已支付 4 已取号 5 已退费. ORDER_TYPE 0 网络 1/2 电话 3 自助终端. REG_FEE/TREAT_FEE 分.
-- USER_CHOICE on a stop: 1 换医生 2 退费. VISITING_NUM = FIN_OPR_REGISTER.CLINIC_CODE. OPER_CODE/OPER_DATE = last change (overwritten).
-- PAY_MODE 1 银联 2 手机 3 羊城通; 0 现金 4 微信 5 支付宝 6 医保 9 其他 [K]. IN_SOURCE 160/WX/ZZJ, ORDER_DATE, TRADE_NO 商户订单号,
-- TXN_CODE 交易流水号, CANCEL_REASON [K]. SERIAL_NO = the HIS's own key.
CREATE TABLE neuhis.fin_opr_appointmentorder (
  order_id varchar(64) NOT NULL, serial_no varchar(14) NOT NULL, user_idcard varchar(20), user_jkk varchar(30), user_smk varchar(30),
  user_ybk varchar(30), user_name varchar(50), user_gender char(1), user_mobile varchar(32), user_birthday timestamp(0), agent_id varchar(20),
  user_choice char(1), order_type char(1) NOT NULL, schema_id varchar(14) NOT NULL, dept_code varchar(10), doct_code varchar(10),
  reg_date timestamp(0) NOT NULL, time_flag char(1), start_time varchar(5), end_time varchar(5), seeno numeric(6) NOT NULL,
  reg_fee numeric(10) NOT NULL, treat_fee numeric(10) NOT NULL, order_state char(1) NOT NULL, visiting_num varchar(14), card_no varchar(10) NOT NULL,
  pay_mode char(1), trade_no varchar(64), txn_code varchar(64), in_source varchar(10), cancel_reason varchar(60), order_date timestamp(0) NOT NULL,
  oper_code varchar(10), oper_date timestamp(0),
  CONSTRAINT pk_fin_opr_appointmentorder PRIMARY KEY (order_id), CONSTRAINT uk_fin_opr_order_serial UNIQUE (serial_no)
);
CREATE INDEX idx_fin_opr_order_date ON neuhis.fin_opr_appointmentorder (reg_date);
CREATE INDEX idx_fin_opr_order_card ON neuhis.fin_opr_appointmentorder (card_no);
CREATE INDEX idx_fin_opr_order_schema ON neuhis.fin_opr_appointmentorder (schema_id);
CREATE INDEX idx_fin_opr_order_trade ON neuhis.fin_opr_appointmentorder (trade_no);
CREATE INDEX idx_fin_opr_order_visit ON neuhis.fin_opr_appointmentorder (visiting_num);

-- 挂号. TRANS_TYPE 1 正 2 负 (the refund row: same CLINIC_CODE, negative amounts). VALID_FLAG 0 退费 1 有效 2 作废 3 废号.
-- YNBOOK 1 = from an order; YNSEE 1 = 已看诊; YNFR 1 初诊 2 复诊; amounts 元; PAYKIND_CODE 01 自费 02 医保. INVOICE_NO 'W…' = 网上发票.
CREATE TABLE neuhis.fin_opr_register (
  clinic_code varchar(14) NOT NULL, trans_type char(1) NOT NULL, card_no varchar(10) NOT NULL, reg_date timestamp(0) NOT NULL, noon_code char(1),
  name varchar(50), idenno varchar(20), sex_code char(1), birthday timestamp(0), paykind_code char(2), paykind_name varchar(20), pact_code varchar(10),
  pact_name varchar(20), mcard_no varchar(30), reglevl_code char(4), reglevl_name varchar(20), dept_code varchar(10), dept_name varchar(50),
  seeno numeric(6), doct_code varchar(10), doct_name varchar(20), see_date timestamp(0), ynregchrg char(1), ynbook char(1), ynfr char(1),
  reg_fee numeric(12,2) NOT NULL, chck_fee numeric(12,2) NOT NULL, diag_fee numeric(12,2) NOT NULL, oth_fee numeric(12,2) NOT NULL,
  own_cost numeric(12,2) NOT NULL, pub_cost numeric(12,2) NOT NULL, pay_cost numeric(12,2) NOT NULL, valid_flag char(1) NOT NULL,
  oper_code varchar(10), oper_date timestamp(0) NOT NULL, ynsee char(1), check_flag char(1), rela_phone varchar(32), address varchar(128),
  begin_time timestamp(0), end_time timestamp(0), cancel_opcd varchar(10), cancel_date timestamp(0), invoice_no varchar(14), recipe_no varchar(14),
  schema_no varchar(14), in_source varchar(10), is_emergency char(1), triage_flag char(1), hos_code varchar(10),
  CONSTRAINT pk_fin_opr_register PRIMARY KEY (clinic_code, trans_type)
);
CREATE INDEX idx_fin_opr_register_date ON neuhis.fin_opr_register (reg_date);
CREATE INDEX idx_fin_opr_register_card ON neuhis.fin_opr_register (card_no);
CREATE INDEX idx_fin_opr_register_schema ON neuhis.fin_opr_register (schema_no);

-- 账户卡费用 (one row per fee type). FEE_TYPE 1 卡 2 病历本 3 挂号 4 诊金 5 检查 6 空调. CANCEL_FLAG 0 无效 1 有效 2 退费.
-- BALANCE_FLAG '1' = 已日结. Refund rows: TRANS_TYPE 2, negative, same CLINIC_NO.
CREATE TABLE neuhis.fin_opb_accountcardfee (
  invoice_no varchar(14) NOT NULL, trans_type char(1) NOT NULL, fee_type char(1) NOT NULL, card_no varchar(10), tot_cost numeric(12,2) NOT NULL,
  fee_oper varchar(10), fee_date timestamp(0), balance_flag char(1), balance_no varchar(14), balance_opcd varchar(10), balance_date timestamp(0),
  cancel_flag char(1) NOT NULL, clinic_no varchar(14), own_cost numeric(12,2), pub_cost numeric(12,2), pay_cost numeric(12,2), pay_type char(1),
  CONSTRAINT pk_fin_opb_accountcardfee PRIMARY KEY (invoice_no, trans_type, fee_type)
);
CREATE INDEX idx_fin_opb_cardfee_clinic ON neuhis.fin_opb_accountcardfee (clinic_no);
-- 处方费用明细 (one row per item). TRANS_TYPE 1 正 2 负; PAY_FLAG 0 划价 1 收费; CANCEL_FLAG 0 退费 1 正常 [K]. Open rows stand in the way of a 退号.
CREATE TABLE neuhis.fin_opb_feedetail (
  recipe_no varchar(14) NOT NULL, sequence_no numeric(6) NOT NULL, trans_type char(1) NOT NULL, clinic_code varchar(14) NOT NULL, card_no varchar(10),
  item_code varchar(12), item_name varchar(50), own_cost numeric(12,2), pay_flag char(1), cancel_flag char(1) NOT NULL,
  oper_code varchar(10), oper_date timestamp(0),
  CONSTRAINT pk_fin_opb_feedetail PRIMARY KEY (recipe_no, sequence_no, trans_type)
);
CREATE INDEX idx_fin_opb_feedetail_clinic ON neuhis.fin_opb_feedetail (clinic_code);
-- 医保结算 (国标 2.0, amounts 元). INPATIENT_NO = FIN_OPR_REGISTER.CLINIC_CODE, TYPE_CODE 1 门诊 2 住院; TRANS_TYPE 1 = 2207A, 2 = its reversal
-- (negative, SETL_ID of 2208, that of the original when it was voided by 2601). VALID_FLAG of the original 1 -> 0. PUB_COST 记账 = 基金 + 医院负担,
-- PAY_COST 个人账户, OWN_COST 现金. IPT_OTP_NO as told to 医保 = SERIAL_NO of the order. REG_/FEE_/SETL_MSGID = msgid of 2201 / 2204 / 2207A.
-- Columns of the national interface keep its names; which of them a site has is [K].
CREATE TABLE neuhis.fin_ipr_siinmaininfo (
  inpatient_no varchar(14) NOT NULL, trans_type char(1) NOT NULL, type_code char(1) NOT NULL, invoice_no varchar(14), card_no varchar(10),
  valid_flag char(1) NOT NULL, psn_no varchar(30) NOT NULL, insutype varchar(6), insuplc_admdvs varchar(6), mdtrt_id varchar(30) NOT NULL,
  ipt_otp_no varchar(30), chrg_bchno varchar(30), setl_id varchar(30) NOT NULL, reg_msgid varchar(30), fee_msgid varchar(30), setl_msgid varchar(30),
  sign_no varchar(30), setl_time timestamp(0), clr_type varchar(6), clr_way varchar(6), clr_optins varchar(6), med_type varchar(6),
  tot_cost numeric(12,2) NOT NULL, pub_cost numeric(12,2) NOT NULL, pay_cost numeric(12,2) NOT NULL, own_cost numeric(12,2) NOT NULL,
  fulamt_ownpay_amt numeric(12,2), overlmt_selfpay numeric(12,2), preselfpay_amt numeric(12,2), inscp_scp_amt numeric(12,2),
  act_pay_dedc numeric(12,2), hifp_pay numeric(12,2), cvlserv_pay numeric(12,2), hifes_pay numeric(12,2), hifmi_pay numeric(12,2),
  hifob_pay numeric(12,2), maf_pay numeric(12,2), oth_pay numeric(12,2), fund_pay_sumamt numeric(12,2), psn_part_amt numeric(12,2),
  acct_mulaid_pay numeric(12,2), hosp_part_amt numeric(12,2), balc numeric(12,2), oper_code varchar(10), oper_date timestamp(0),
  CONSTRAINT pk_fin_ipr_siinmaininfo PRIMARY KEY (inpatient_no, trans_type), CONSTRAINT uk_fin_ipr_siinmaininfo_setl UNIQUE (setl_id, trans_type)
);
-- 退费历史; REFUND_NO 商户退款单号 (NULL when the window refunded), REFUND_FEE 分, INVOICE_NO of the negative row [K]
CREATE TABLE neuhis.fin_opr_bookingpayhistory (
  order_id varchar(64) NOT NULL, return_reason varchar(60), oper_id varchar(10), refund_time timestamp(0) NOT NULL, refund_no varchar(64),
  refund_fee numeric(10), invoice_no varchar(14),
  CONSTRAINT pk_fin_opr_bookingpayhistory PRIMARY KEY (order_id)
);
CREATE INDEX idx_fin_opr_payhistory_refund ON neuhis.fin_opr_bookingpayhistory (refund_no);
-- 挂号员日结 (name [K]); FIN_OPB_ACCOUNTCARDFEE.BALANCE_NO points here
CREATE TABLE neuhis.fin_opr_dayreport (
  balance_no varchar(14) NOT NULL, begin_date timestamp(0), end_date timestamp(0), oper_id varchar(10), sum_count numeric(6), sum_regfee numeric(12,2),
  sum_chkfee numeric(12,2), sum_digfee numeric(12,2), sum_othfee numeric(12,2), sum_owncost numeric(12,2), sum_paycost numeric(12,2),
  sum_pubcost numeric(12,2), sum_cardfee numeric(12,2), sum_casefee numeric(12,2),
  CONSTRAINT pk_fin_opr_dayreport PRIMARY KEY (balance_no)
);
