-- AppointmentService.BookAppointment
EXEC [dbo].[usp_yy_yysq] @ddh = ?, @pbmxid = ?, @patid = ?, @kfsdm = ?, @czyh = ?;

-- AppointmentService.CancelAppointment
EXEC [dbo].[usp_yy_yyqx] @ddh = ?, @czyh = ?, @yy = ?;

-- AppointmentService.LockSlot
EXEC [dbo].[usp_yy_lockno] @ddh = ?, @pbmxid = ?, @czyh = ?;

-- AppointmentService.UnlockSlot
EXEC [dbo].[usp_yy_unlockno] @ddh = ?, @czyh = ?;

-- InsuredRegistrationService.CancelInsured
EXEC [dbo].[usp_gh_ybthtf] @ddh = ?, @jsid = ?, @cxjsid = ?, @tkdh = ?, @xjje = ?, @czyh = ?, @yy = ?;

-- InsuredRegistrationService.RegisterInsured
EXEC [dbo].[usp_yy_ybzfhx] @ddh = ?, @zph = ?, @lsh = ?, @czyh = ?, @rybh = ?, @xzlx = ?, @cbdq = ?, @jzid = ?, @jzlsh = ?, @sfpch = ?, @jsid = ?, @msgidgh = ?, @msgidmx = ?, @msgidjs = ?, @qdbh = ?, @jssj = ?, @qslb = ?, @qsfs = ?, @qsjg = ?, @yllb = ?, @zje = ?, @jjzf = ?, @zhzf = ?, @gjzf = ?, @xjzf = ?, @yyfd = ?, @qzf = ?, @cxj = ?, @xxzf = ?, @fhfw = ?, @qfx = ?, @tczf = ?, @gwy = ?, @qybc = ?, @dbzf = ?, @dezf = ?, @yljz = ?, @qtzf = ?, @grfd = ?, @ye = ?;

-- PatientService.EnsurePatient
EXEC [dbo].[usp_gh_jbxxdj] @hzxm = ?, @zjlx = ?, @sfzh = ?, @sex = ?, @birth = ?, @lxdh = ?, @lxdz = ?, @jhrxm = ?, @jhrsfzh = ?, @jhrgx = ?, @czyh = ?;

-- PaymentService.ConfirmPayment
EXEC [dbo].[usp_yy_zfhx] @ddh = ?, @zph = ?, @lsh = ?, @je = ?, @zffs = ?, @czyh = ?, @ybje = ?, @zxlsh = ?;

-- PaymentService.RefundPayment
EXEC [dbo].[usp_gh_thtf] @ddh = ?, @sjh = ?, @zph = ?, @tkdh = ?, @je = ?, @czyh = ?, @yy = ?;

-- RefundCheckService.CheckRefund
EXEC [dbo].[usp_gh_thjc] @ddh = ?, @zph = ?, @je = ?;
