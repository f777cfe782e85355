-- AppointmentService.BookAppointment
BEGIN PKG_160.P_BOOK(p_order_id => :p0, p_schema_id => :p1, p_card_no => :p2, p_source => :p3, p_order_type => :p4, p_oper => :p5, o_code => :p6, o_msg => :p7, o_cur => :p8); END;

-- AppointmentService.CancelAppointment
BEGIN PKG_160.P_CANCEL(p_order_id => :p0, p_reason => :p1, p_oper => :p2, o_code => :p3, o_msg => :p4, o_cur => :p5); END;

-- AppointmentService.LockSlot
BEGIN PKG_160.P_LOCK(p_order_id => :p0, p_schema_id => :p1, p_oper => :p2, o_code => :p3, o_msg => :p4, o_cur => :p5); END;

-- AppointmentService.UnlockSlot
BEGIN PKG_160.P_UNLOCK(p_order_id => :p0, p_oper => :p1, o_code => :p2, o_msg => :p3, o_cur => :p4); END;

-- InsuredRegistrationService.CancelInsured
BEGIN PKG_160.P_SI_REFUND(p_order_id => :p0, p_setl_id => :p1, p_reversal => :p2, p_refund_no => :p3, p_own_cost => :p4, p_reason => :p5, p_oper => :p6, o_code => :p7, o_msg => :p8, o_cur => :p9); END;

-- InsuredRegistrationService.RegisterInsured
BEGIN PKG_160.P_SI_PAY(p_order_id => :p0, p_trade_no => :p1, p_txn_code => :p2, p_psn_no => :p3, p_insutype => :p4, p_insuplc_admdvs => :p5, p_mdtrt_id => :p6, p_ipt_otp_no => :p7, p_chrg_bchno => :p8, p_setl_id => :p9, p_reg_msgid => :p10, p_fee_msgid => :p11, p_setl_msgid => :p12, p_sign_no => :p13, p_setl_time => :p14, p_clr_type => :p15, p_clr_way => :p16, p_clr_optins => :p17, p_med_type => :p18, p_tot_cost => :p19, p_fund_pay_sumamt => :p20, p_pay_cost => :p21, p_acct_mulaid_pay => :p22, p_own_cost => :p23, p_hosp_part_amt => :p24, p_fulamt_ownpay_amt => :p25, p_overlmt_selfpay => :p26, p_preselfpay_amt => :p27, p_inscp_scp_amt => :p28, p_act_pay_dedc => :p29, p_hifp_pay => :p30, p_cvlserv_pay => :p31, p_hifes_pay => :p32, p_hifmi_pay => :p33, p_hifob_pay => :p34, p_maf_pay => :p35, p_oth_pay => :p36, p_psn_part_amt => :p37, p_balc => :p38, p_oper => :p39, o_code => :p40, o_msg => :p41, o_cur => :p42); END;

-- PatientService.EnsurePatient
BEGIN PKG_160.P_PATIENT(p_name => :p0, p_idcardtype => :p1, p_idenno => :p2, p_sex_code => :p3, p_birthday => :p4, p_home_tel => :p5, p_home => :p6, p_linkman => :p7, p_linkman_idenno => :p8, p_oper => :p9, o_code => :p10, o_msg => :p11, o_cur => :p12); END;

-- PaymentService.ConfirmPayment
BEGIN PKG_160.P_PAY(p_order_id => :p0, p_trade_no => :p1, p_txn_code => :p2, p_amount => :p3, p_pay_mode => :p4, p_oper => :p5, o_code => :p6, o_msg => :p7, o_cur => :p8); END;

-- PaymentService.RefundPayment
BEGIN PKG_160.P_REFUND(p_order_id => :p0, p_trade_no => :p1, p_refund_no => :p2, p_return_fee => :p3, p_reason => :p4, p_oper => :p5, o_code => :p6, o_msg => :p7, o_cur => :p8); END;

-- RefundCheckService.CheckRefund
BEGIN PKG_160.P_REFUND_CHECK(p_order_id => :p0, p_trade_no => :p1, p_return_fee => :p2, o_code => :p3, o_msg => :p4, o_cur => :p5); END;
