-- AppointmentService.BookAppointment
BEGIN PKG_160.P_BOOK(p_order_id => :p0, p_schema_id => :p1, p_card_no => :p2, p_source => :p3, p_order_type => :p4, p_oper => :p5, o_code => :p6, o_msg => :p7, o_cur => :p8); END;

-- AppointmentService.CancelAppointment
BEGIN PKG_160.P_CANCEL(p_order_id => :p0, p_reason => :p1, p_oper => :p2, o_code => :p3, o_msg => :p4, o_cur => :p5); END;

-- AppointmentService.LockSlot
BEGIN PKG_160.P_LOCK(p_order_id => :p0, p_schema_id => :p1, p_oper => :p2, o_code => :p3, o_msg => :p4, o_cur => :p5); END;

-- AppointmentService.UnlockSlot
BEGIN PKG_160.P_UNLOCK(p_order_id => :p0, p_oper => :p1, o_code => :p2, o_msg => :p3, o_cur => :p4); END;

-- PatientService.EnsurePatient
BEGIN PKG_160.P_PATIENT(p_name => :p0, p_idcardtype => :p1, p_idenno => :p2, p_sex_code => :p3, p_birthday => :p4, p_home_tel => :p5, p_home => :p6, p_linkman => :p7, p_linkman_idenno => :p8, p_oper => :p9, o_code => :p10, o_msg => :p11, o_cur => :p12); END;

-- PaymentService.ConfirmPayment
BEGIN PKG_160.P_PAY(p_order_id => :p0, p_trade_no => :p1, p_txn_code => :p2, p_amount => :p3, p_pay_mode => :p4, p_oper => :p5, o_code => :p6, o_msg => :p7, o_cur => :p8); END;

-- PaymentService.RefundPayment
BEGIN PKG_160.P_REFUND(p_order_id => :p0, p_refund_no => :p1, p_return_fee => :p2, p_reason => :p3, p_oper => :p4, o_code => :p5, o_msg => :p6, o_cur => :p7); END;
