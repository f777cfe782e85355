-- AppointmentService.BookAppointment
EXEC [dbo].[usp_yy_yysq] @ddh = ?, @pbmxid = ?, @patid = ?, @kfsdm = ?, @czyh = ?;

-- AppointmentService.CancelAppointment
EXEC [dbo].[usp_yy_yyqx] @ddh = ?, @czyh = ?, @yy = ?;

-- AppointmentService.LockSlot
EXEC [dbo].[usp_yy_lockno] @ddh = ?, @pbmxid = ?, @czyh = ?;

-- AppointmentService.UnlockSlot
EXEC [dbo].[usp_yy_unlockno] @ddh = ?, @czyh = ?;

-- PatientService.EnsurePatient
EXEC [dbo].[usp_gh_jbxxdj] @hzxm = ?, @zjlx = ?, @sfzh = ?, @sex = ?, @birth = ?, @lxdh = ?, @lxdz = ?, @jhrxm = ?, @jhrsfzh = ?, @jhrgx = ?, @czyh = ?;

-- PaymentService.ConfirmPayment
EXEC [dbo].[usp_yy_zfhx] @ddh = ?, @zph = ?, @lsh = ?, @je = ?, @zffs = ?, @czyh = ?, @ybje = ?, @zxlsh = ?;

-- PaymentService.RefundPayment
EXEC [dbo].[usp_gh_thtf] @ddh = ?, @sjh = ?, @tkdh = ?, @je = ?, @czyh = ?, @yy = ?;
