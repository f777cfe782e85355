-- The HIS's own interface on SQL Server, as the vendor opens it to a channel. Run after schema.sql, with sqlcmd -I or Management Studio.
-- Every procedure answers ONE row: 'T', value, value … (done; columns without names) or 'F', text (refused; two columns). There are no codes:
-- the text is the reason. None commits or rolls back: it must be called inside the caller's transaction (sp_getapplock needs one).
-- @ddh = 平台订单号; the same order number again gives the same answer ('T' with the earlier values).
-- The vendor's originals hold double-quoted literals (select "F","…"): they live because their procedures are made with QUOTED_IDENTIFIER OFF.
-- The same text sent ad hoc by an ODBC client (ON) is an error 207: never copy their SQL, call the procedures.
--
--  text of 'F'                                              raised by
--  排班不存在或已停用！                                      usp_yy_lockno usp_yy_yysq
--  该排班已无号源！                                          usp_yy_lockno usp_yy_yysq
--  该排班已停诊或作废！                                      usp_yy_lockno usp_yy_yysq
--  排班已过期！                                              usp_yy_lockno usp_yy_yysq
--  未找到锁号记录！                                          usp_yy_unlockno
--  该号已转预约，不能解锁！                                  usp_yy_unlockno
--  预约单号已被使用！                                        usp_yy_lockno usp_yy_yysq
--  锁号已失效，请重新选号！                                  usp_yy_yysq
--  该患者已经取消预约                                        usp_yy_lockno usp_yy_yysq usp_yy_yyqx usp_yy_zfhx usp_gh_thtf usp_gh_thjc usp_yy_ybzfhx usp_gh_ybthtf
--  已存在预约记录,请到窗口确认！                             usp_yy_yysq
--  同一科室相同门诊当天不可重复预约！                        usp_yy_yysq (GH030 是)
--  爽约两次锁定，请到窗口挂号！                              usp_yy_yysq
--  患者欠费【x】元，请到窗口处理！                           usp_yy_yysq
--  该卡号在His中未登记！                                     usp_yy_yysq
--  预约单号不能为空！                                        all with @ddh
--  未找到预约记录！                                          usp_yy_yyqx usp_yy_zfhx usp_gh_thtf usp_gh_thjc usp_yy_ybzfhx
--  请在挂号处退号！                                          usp_yy_yyqx
--  请在就诊日期之前取消预约！                                usp_yy_yyqx
--  您所预约的医生已停诊，无法完成支付，请到窗口确认！        usp_yy_zfhx usp_yy_ybzfhx
--  HIS结算金额【x】与支付金额【y】不符!                      usp_yy_zfhx usp_yy_ybzfhx
--  该预约已支付，请勿重复支付！                              usp_yy_zfhx usp_yy_ybzfhx
--  交易金额大于0时交易流水号必传！                           usp_yy_zfhx usp_yy_ybzfhx
--  支付流水号已被其他订单使用！                              usp_yy_zfhx usp_yy_ybzfhx
--  未缴费不能退号！                                          usp_gh_thtf usp_gh_thjc usp_gh_ybthtf
--  该号已退号！                                              usp_gh_thtf usp_gh_thjc usp_gh_ybthtf
--  该号已经看诊,不能作废                                     usp_gh_thtf usp_gh_thjc usp_gh_ybthtf
--  健康160支付订单不支持部分退费                             usp_gh_thtf usp_gh_thjc
--  该号已日结，不能退号，请到窗口办理！                      usp_gh_thtf usp_gh_thjc (GH021 否)
--  该号为医疗保险号已经有交费记录,不能退费!                  usp_gh_thtf
--  存在已结处方请先退处方再退挂号                            usp_gh_thtf usp_gh_thjc usp_gh_ybthtf
--  退款单号已被其他订单使用！                                usp_gh_thtf usp_gh_ybthtf
--  支付单号与预约不符！                                      usp_gh_thtf usp_gh_thjc
--  该号已取号，不能退号，请到窗口办理！                      usp_gh_thtf usp_gh_thjc (GH022 否)
--  医保各部分之和与总金额不符！                              usp_yy_ybzfhx
--  医保结算号、就诊号和人员编号不能为空！                    usp_yy_ybzfhx
--  未找到医保结算记录！                                      usp_gh_ybthtf
--  退现金额与结算现金不符！                                  usp_gh_ybthtf
--  证件号码已存在但姓名不一致，请到窗口核实！                usp_gh_jbxxdj
--  姓名、证件类型和证件号码不能为空！                        usp_gh_jbxxdj
--  系统忙，请稍后再试！                                      all (the application lock was not given in 3 s)
--
-- Lock order of every routine and of the window: order number (sp_getapplock) -> GH_YY_PBZBMX row (UPDLOCK) -> the rest.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
CREATE FUNCTION dbo.fn_config(@id varchar(8), @default varchar(255)) RETURNS varchar(255) AS
BEGIN
    RETURN ISNULL((SELECT config FROM dbo.YY_CONFIG WHERE id = @id), @default);
END
GO
-- 当前时间; SJPY days apart in a sample made for another day. The server's clock is the hospital's.
CREATE FUNCTION dbo.fn_dqsj() RETURNS datetime AS
BEGIN
    RETURN DATEADD(day, CONVERT(int, dbo.fn_config('SJPY', '0')), GETDATE());
END
GO
CREATE FUNCTION dbo.fn_rq16(@sj datetime) RETURNS char(16) AS
BEGIN
    RETURN CONVERT(char(8), @sj, 112) + CONVERT(char(8), @sj, 108);
END
GO
-- 号序 -> 就诊日期时间 char(16)
CREATE FUNCTION dbo.fn_yysj(@zbrq char(8), @kssj char(5), @jssj char(5), @jgfz int, @hx int) RETURNS char(16) AS
BEGIN
    DECLARE @sj datetime, @js datetime;
    SET @js = CONVERT(datetime, @zbrq + ' ' + @jssj);
    SET @sj = DATEADD(minute, (@hx - 1) * @jgfz, CONVERT(datetime, @zbrq + ' ' + @kssj));
    IF @sj > @js SET @sj = @js;
    RETURN dbo.fn_rq16(@sj);
END
GO
-- 剩余号数 of each schedule; expired locks count as free. syhs is never negative.
CREATE VIEW dbo.VW_YY_HYSL AS
SELECT p.pbmxid, p.zgh, p.ygh - s.gqs AS ygh, CASE WHEN p.zgh - p.ygh + s.gqs > 0 THEN p.zgh - p.ygh + s.gqs ELSE 0 END AS syhs
  FROM dbo.GH_YY_PBZBMX p
 CROSS APPLY (SELECT COUNT(*) AS gqs FROM dbo.GH_YY_SDK k WHERE k.pbmxid = p.pbmxid AND k.zt = 0 AND k.sxsj <= dbo.fn_rq16(dbo.fn_dqsj())) s;
GO
-- 订单串行化; @ok 0 = not given
CREATE PROCEDURE dbo.usp_yy_ddsd @ddh varchar(64), @ok int OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @key nvarchar(255), @rc int;
    SET @key = N'YYDD' + @ddh;
    EXEC @rc = sp_getapplock @Resource = @key, @LockMode = 'Exclusive', @LockOwner = 'Transaction', @LockTimeout = 3000;
    SET @ok = CASE WHEN @rc >= 0 THEN 1 ELSE 0 END;
END
GO
-- 取号: the one place where a number is taken. A conditional update; @text is empty when it was taken.
CREATE PROCEDURE dbo.usp_yy_qh @pbmxid numeric(12,0), @hx int OUTPUT, @text varchar(200) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @i int, @n int, @jlzt smallint, @tzbz smallint, @zbrq char(8), @today char(8);
    SELECT @i = 0, @hx = NULL, @text = '', @today = CONVERT(char(8), dbo.fn_dqsj(), 112);
    WHILE @i < 2
    BEGIN
        UPDATE dbo.GH_YY_PBZBMX SET ygh = ygh + 1, @hx = yyxh_max = yyxh_max + 1
         WHERE pbmxid = @pbmxid AND ygh < zgh AND tzbz = 0 AND jlzt = 0 AND zbrq >= @today;
        IF @@ROWCOUNT = 1 RETURN;
        SELECT @n = COUNT(*) FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pbmxid;
        UPDATE dbo.GH_YY_SDK SET zt = 3 WHERE pbmxid = @pbmxid AND zt = 0 AND sxsj <= dbo.fn_rq16(dbo.fn_dqsj());
        SET @n = @@ROWCOUNT;
        IF @n = 0 BREAK;
        UPDATE dbo.GH_YY_PBZBMX SET ygh = CASE WHEN ygh > @n THEN ygh - @n ELSE 0 END WHERE pbmxid = @pbmxid;
        SET @i = @i + 1;
    END
    SELECT @jlzt = jlzt, @tzbz = tzbz, @zbrq = zbrq FROM dbo.GH_YY_PBZBMX WHERE pbmxid = @pbmxid;
    SET @text = CASE WHEN @jlzt IS NULL OR @jlzt <> 0 THEN '排班不存在或已停用！' WHEN @tzbz <> 0 THEN '该排班已停诊或作废！'
                     WHEN @zbrq < @today THEN '排班已过期！' ELSE '该排班已无号源！' END;
END
GO
-- 锁号: 'T', sdxh, hx, yysj char(16), sxsj char(16), je 元
CREATE PROCEDURE dbo.usp_yy_lockno @ddh varchar(64), @pbmxid numeric(12,0), @czyh varchar(10) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @text varchar(200), @jlzt smallint, @sdxh int, @hx int, @pb numeric(12,0), @now char(16);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @jlzt = jlzt FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
    IF @jlzt IS NOT NULL BEGIN SELECT 'F', '预约单号已被使用！'; RETURN; END
    SET @now = dbo.fn_rq16(dbo.fn_dqsj());
    SELECT TOP 1 @sdxh = sdxh, @hx = hx, @pb = pbmxid FROM dbo.GH_YY_SDK WHERE ddh = @ddh AND zt = 0 AND sxsj > @now ORDER BY sdxh DESC;
    IF @sdxh IS NOT NULL AND @pb <> @pbmxid BEGIN SELECT 'F', '预约单号已被使用！'; RETURN; END
    IF @sdxh IS NULL
    BEGIN
        EXEC dbo.usp_yy_qh @pbmxid, @hx OUTPUT, @text OUTPUT;
        IF @text <> '' BEGIN SELECT 'F', @text; RETURN; END
        INSERT INTO dbo.GH_YY_SDK (ddh, pbmxid, hx, sdrq, sxsj, zt, czyh)
        VALUES (@ddh, @pbmxid, @hx, @now, dbo.fn_rq16(DATEADD(minute, CONVERT(int, dbo.fn_config('GH001', '10')), dbo.fn_dqsj())), 0, @czyh);
        SET @sdxh = SCOPE_IDENTITY();
    END
    SELECT 'T', k.sdxh, k.hx, dbo.fn_yysj(p.zbrq, p.kssj, p.jssj, p.jgfz, k.hx), k.sxsj, p.ghf + p.zlf
      FROM dbo.GH_YY_SDK k JOIN dbo.GH_YY_PBZBMX p ON p.pbmxid = k.pbmxid WHERE k.sdxh = @sdxh;
END
GO
-- 解锁: 'T'. A lock that is already released or expired answers 'T' again.
CREATE PROCEDURE dbo.usp_yy_unlockno @ddh varchar(64), @czyh varchar(10) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @sdxh int, @zt smallint, @pb numeric(12,0), @n int;
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @sdxh = sdxh, @zt = zt, @pb = pbmxid FROM dbo.GH_YY_SDK WHERE ddh = @ddh ORDER BY sdxh DESC;
    IF @sdxh IS NULL BEGIN SELECT 'F', '未找到锁号记录！'; RETURN; END
    IF @zt = 1 BEGIN SELECT 'F', '该号已转预约，不能解锁！'; RETURN; END
    SELECT @n = COUNT(*) FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    UPDATE dbo.GH_YY_SDK SET zt = 2 WHERE sdxh = @sdxh AND zt = 0;
    IF @@ROWCOUNT = 1 UPDATE dbo.GH_YY_PBZBMX SET ygh = CASE WHEN ygh > 0 THEN ygh - 1 ELSE 0 END WHERE pbmxid = @pb;
    SELECT 'T';
END
GO
-- 预约规则: why this patient may not book this schedule; @text is empty when he may
CREATE PROCEDURE dbo.usp_yy_yygz @pbmxid numeric(12,0), @patid numeric(12,0), @text varchar(200) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @lx smallint, @je numeric(12,2), @ksdm varchar(12), @zbrq char(8);
    SET @text = '';
    IF NOT EXISTS (SELECT 1 FROM dbo.SF_BRXXK WHERE patid = @patid AND jlzt = 0) BEGIN SET @text = '该卡号在His中未登记！'; RETURN; END
    SELECT TOP 1 @lx = lx, @je = je FROM dbo.GH_YY_HMD WHERE patid = @patid AND jlzt = 0
       AND (ISNULL(jsrq, '') = '' OR jsrq > dbo.fn_rq16(dbo.fn_dqsj())) ORDER BY xh;
    IF @lx = 2 BEGIN SET @text = '爽约两次锁定，请到窗口挂号！'; RETURN; END
    IF @lx = 3 BEGIN SET @text = '患者欠费【' + CONVERT(varchar(20), @je) + '】元，请到窗口处理！'; RETURN; END
    SELECT @ksdm = ksdm, @zbrq = zbrq FROM dbo.GH_YY_PBZBMX WHERE pbmxid = @pbmxid;
    IF EXISTS (SELECT 1 FROM dbo.GH_GHYYK y WHERE y.patid = @patid AND y.pbmxid = @pbmxid AND (y.jlzt = 0 OR (y.jlzt = 1
               AND EXISTS (SELECT 1 FROM dbo.GH_GHZDK z WHERE z.yyxh = y.xh AND z.txh IS NULL AND z.jlzt = 0))))
    BEGIN SET @text = '已存在预约记录,请到窗口确认！'; RETURN; END
    IF dbo.fn_config('GH030', '否') = '是' AND EXISTS (SELECT 1 FROM dbo.GH_GHYYK y WHERE y.patid = @patid AND y.ksdm = @ksdm
               AND LEFT(y.yyrq, 8) = @zbrq AND y.jlzt = 0)
        SET @text = '同一科室相同门诊当天不可重复预约！';
END
GO
-- 挂号登记 of a booking: the GH_GHZDK row (@jlzt 9 until it is settled, 0 at once where 预约即挂号) and its lines. A row that is there is taken.
CREATE PROCEDURE dbo.usp_gh_dj @xh numeric(12,0), @czyh varchar(10), @jlzt smallint, @ghxh numeric(12,0) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @pb numeric(12,0);
    SET @ghxh = NULL;
    SELECT @ghxh = xh FROM dbo.GH_GHZDK WHERE yyxh = @xh AND txh IS NULL AND jlzt = 0;
    IF @ghxh IS NOT NULL RETURN;
    INSERT INTO dbo.GH_GHZDK (patid, blh, ybdm, cardno, yyxh, hzxm, py, czyh, czrq, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, lybz, ghlb, pbmxid,
                              appjkdm, jlzt)
    SELECT b.patid, b.blh, b.ybdm, b.cardno, y.xh, b.hzxm, b.py, @czyh, dbo.fn_rq16(dbo.fn_dqsj()), y.yyrq, p.ksdm, k.name, p.ysdm, g.name,
           y.yyhx, 1, p.ghlb, y.pbmxid, y.kfsdm, @jlzt
      FROM dbo.GH_GHYYK y JOIN dbo.SF_BRXXK b ON b.patid = y.patid JOIN dbo.GH_YY_PBZBMX p ON p.pbmxid = y.pbmxid
      LEFT JOIN dbo.YY_KSBMK k ON k.id = p.ksdm LEFT JOIN dbo.YY_ZGBMK g ON g.id = p.ysdm WHERE y.xh = @xh;
    SELECT @ghxh = SCOPE_IDENTITY(), @pb = pbmxid FROM dbo.GH_GHYYK WHERE xh = @xh;
    INSERT INTO dbo.GH_GHMXK (ghxh, xmdm, xmmc, xmdj, xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf)
    SELECT @ghxh, 'GHF', '挂号费', ghf, 1, '01', '挂号诊疗', ghf, 0, 1 FROM dbo.GH_YY_PBZBMX WHERE pbmxid = @pb AND ghf > 0
    UNION ALL
    SELECT @ghxh, 'ZLF', '诊疗费', zlf, 1, '01', '挂号诊疗', zlf, 0, 2 FROM dbo.GH_YY_PBZBMX WHERE pbmxid = @pb AND zlf > 0;
END
GO
-- 结算 of a booking: registers it if it is not yet, one SF_BRJSK row, GH_GHYYK 0 -> 1. @ybje 医保记账, the rest is paid by @zffs.
CREATE PROCEDURE dbo.usp_gh_js @xh numeric(12,0), @czyh varchar(10), @zffs varchar(2), @zph varchar(64), @lsh varchar(64), @zje numeric(12,2),
    @ybje numeric(12,2), @zxlsh varchar(64), @jslsh varchar(64), @ghxh numeric(12,0) OUTPUT, @sjh varchar(32) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now char(16);
    SET @now = dbo.fn_rq16(dbo.fn_dqsj());
    EXEC dbo.usp_gh_dj @xh, @czyh, 9, @ghxh OUTPUT;
    SET @sjh = SUBSTRING(@now, 3, 6) + RIGHT('000000000' + CONVERT(varchar(12), @ghxh), 9);
    INSERT INTO dbo.SF_BRJSK (sjh, patid, ghxh, czyh, sfrq, ksdm, hzxm, blh, ybdm, zje, zfje, ybje, zpje, zffs, zph, jylsh, wbddh, zxlsh, jslsh,
                              ybjszt, appjkdm, gxrq, jlzt)
    SELECT @sjh, z.patid, z.xh, @czyh, @now, z.ksdm, z.hzxm, z.blh, z.ybdm, @zje, @zje - @ybje, @ybje, @zje - @ybje, @zffs, NULLIF(@zph, ''),
           NULLIF(@lsh, ''), y.wbddh, NULLIF(@zxlsh, ''), NULLIF(@jslsh, ''), CASE WHEN @ybje > 0 THEN 1 ELSE 0 END, y.kfsdm, @now, 0
      FROM dbo.GH_GHZDK z JOIN dbo.GH_GHYYK y ON y.xh = z.yyxh WHERE z.xh = @ghxh;
    UPDATE dbo.GH_GHYYK SET jlzt = 1, djbz = 1 WHERE xh = @xh;
    UPDATE dbo.GH_GHZDK SET jlzt = 0, jssjh = @sjh WHERE xh = @ghxh;
END
GO
-- 预约提交: 'T', yyxh, hx, yysj char(16), je 元. With a lock of this order: turns it into the booking. Without any lock: takes a number itself.
CREATE PROCEDURE dbo.usp_yy_yysq @ddh varchar(64), @pbmxid numeric(12,0), @patid numeric(12,0), @kfsdm varchar(4), @czyh varchar(10) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @text varchar(200), @xh numeric(12,0), @jlzt smallint, @pb numeric(12,0), @pat numeric(12,0), @tzbz smallint;
    DECLARE @sdxh int, @zt smallint, @hx int, @now char(16), @ghxh numeric(12,0);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @jlzt = jlzt, @pb = pbmxid, @pat = patid FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @xh IS NOT NULL
    BEGIN
        IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
        IF @pb <> @pbmxid OR @pat <> @patid BEGIN SELECT 'F', '预约单号已被使用！'; RETURN; END
        SELECT 'T', xh, yyhx, yyrq, djje FROM dbo.GH_GHYYK WHERE xh = @xh;
        RETURN;
    END
    SELECT @jlzt = NULL, @now = dbo.fn_rq16(dbo.fn_dqsj());
    SELECT @jlzt = jlzt, @tzbz = tzbz FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pbmxid;
    IF @jlzt IS NULL OR @jlzt <> 0 BEGIN SELECT 'F', '排班不存在或已停用！'; RETURN; END
    IF @tzbz <> 0 BEGIN SELECT 'F', '该排班已停诊或作废！'; RETURN; END
    EXEC dbo.usp_yy_yygz @pbmxid, @patid, @text OUTPUT;
    IF @text <> '' BEGIN SELECT 'F', @text; RETURN; END
    SELECT TOP 1 @sdxh = sdxh, @zt = zt, @hx = hx, @pb = pbmxid FROM dbo.GH_YY_SDK WHERE ddh = @ddh ORDER BY sdxh DESC;
    IF @sdxh IS NOT NULL AND @zt IN (0, 3)
    BEGIN
        IF @pb <> @pbmxid BEGIN SELECT 'F', '预约单号已被使用！'; RETURN; END
        UPDATE dbo.GH_YY_SDK SET zt = 1 WHERE sdxh = @sdxh AND zt = 0 AND sxsj > @now;
        IF @@ROWCOUNT = 0 BEGIN SELECT 'F', '锁号已失效，请重新选号！'; RETURN; END
    END
    ELSE
    BEGIN
        EXEC dbo.usp_yy_qh @pbmxid, @hx OUTPUT, @text OUTPUT;
        IF @text <> '' BEGIN SELECT 'F', @text; RETURN; END
    END
    INSERT INTO dbo.GH_GHYYK (patid, hzxm, sfzh, lxdh, yyrq, djrq, ksdm, ysdm, pbmxid, yyhx, djje, kfsdm, wbddh, czyh, jlzt)
    SELECT b.patid, b.hzxm, b.sfzh, b.lxdh, dbo.fn_yysj(p.zbrq, p.kssj, p.jssj, p.jgfz, @hx), @now, p.ksdm, p.ysdm, p.pbmxid, @hx,
           p.ghf + p.zlf, @kfsdm, @ddh, @czyh, 0
      FROM dbo.SF_BRXXK b CROSS JOIN dbo.GH_YY_PBZBMX p WHERE b.patid = @patid AND p.pbmxid = @pbmxid;
    SET @xh = SCOPE_IDENTITY();
    IF dbo.fn_config('GH031', '否') = '是' EXEC dbo.usp_gh_dj @xh, @czyh, 0, @ghxh OUTPUT;
    SELECT 'T', xh, yyhx, yyrq, djje FROM dbo.GH_GHYYK WHERE xh = @xh;
END
GO
-- 取消预约 (未缴费): 'T'. Cancelled before by the same operator: 'T' again.
CREATE PROCEDURE dbo.usp_yy_yyqx @ddh varchar(64), @czyh varchar(10), @yy varchar(60) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @xh numeric(12,0), @jlzt smallint, @pb numeric(12,0), @qxczyh varchar(10), @yyrq char(16), @n int;
    DECLARE @ghxh numeric(12,0), @sjh varchar(32);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @pb = pbmxid FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @xh IS NULL BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    SELECT @n = COUNT(*) FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    SELECT @jlzt = jlzt, @qxczyh = qxczyh, @yyrq = yyrq FROM dbo.GH_GHYYK WITH (UPDLOCK, ROWLOCK) WHERE xh = @xh;
    IF @jlzt = 1 BEGIN SELECT 'F', '请在挂号处退号！'; RETURN; END
    IF @jlzt = 2 AND @qxczyh = @czyh BEGIN SELECT 'T'; RETURN; END
    IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
    IF LEFT(@yyrq, 8) < CONVERT(char(8), dbo.fn_dqsj(), 112) BEGIN SELECT 'F', '请在就诊日期之前取消预约！'; RETURN; END
    UPDATE dbo.GH_GHYYK SET jlzt = 2, qxczyh = @czyh, qxrq = dbo.fn_rq16(dbo.fn_dqsj()), qxyy = @yy WHERE xh = @xh;
    SELECT @ghxh = xh FROM dbo.GH_GHZDK WHERE yyxh = @xh AND txh IS NULL AND jlzt = 0;
    IF @ghxh IS NOT NULL EXEC dbo.usp_gh_hc @ghxh, @czyh, NULL, @yy, @sjh OUTPUT;       -- 预约即挂号: 红冲 gives the number back
    ELSE UPDATE dbo.GH_YY_PBZBMX SET ygh = CASE WHEN ygh > 0 THEN ygh - 1 ELSE 0 END WHERE pbmxid = @pb;
    SELECT 'T';
END
GO
-- 支付回写 = 挂号: 'T', ghxh, sjh, hx, yysj char(16), je 元. @zph 商户订单号, @lsh 交易流水号, @je 元, @ybje 医保记账 (0 = 自费), @zxlsh 医保结算流水.
CREATE PROCEDURE dbo.usp_yy_zfhx @ddh varchar(64), @zph varchar(64), @lsh varchar(64), @je numeric(12,2), @zffs varchar(2), @czyh varchar(10),
    @ybje numeric(12,2), @zxlsh varchar(64) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @xh numeric(12,0), @jlzt smallint, @pb numeric(12,0), @djje numeric(12,2), @tzbz smallint, @pjlzt smallint;
    DECLARE @sjh varchar(32), @ghxh numeric(12,0), @zph1 varchar(64), @lsh1 varchar(64);
    SET @ybje = ISNULL(@ybje, 0);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    IF ISNULL(@je, 0) > 0 AND (ISNULL(@lsh, '') = '' OR ISNULL(@zph, '') = '') BEGIN SELECT 'F', '交易金额大于0时交易流水号必传！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @pb = pbmxid FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @xh IS NULL BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    SELECT @tzbz = tzbz, @pjlzt = jlzt FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    SELECT @jlzt = jlzt, @djje = djje FROM dbo.GH_GHYYK WITH (UPDLOCK, ROWLOCK) WHERE xh = @xh;
    IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
    IF @jlzt = 1
    BEGIN
        SELECT TOP 1 @ghxh = ghxh, @sjh = sjh, @zph1 = zph, @lsh1 = jylsh FROM dbo.VW_BRJSK WHERE wbddh = @ddh AND tsjh IS NULL ORDER BY sfrq DESC;
        IF @zph1 = @zph AND @lsh1 = @lsh SELECT 'T', @ghxh, @sjh, yyhx, yyrq, djje FROM dbo.GH_GHYYK WHERE xh = @xh;
        ELSE SELECT 'F', '该预约已支付，请勿重复支付！';
        RETURN;
    END
    IF EXISTS (SELECT 1 FROM dbo.VW_BRJSK WHERE zph = @zph) BEGIN SELECT 'F', '支付流水号已被其他订单使用！'; RETURN; END
    IF @tzbz <> 0 OR @pjlzt <> 0 BEGIN SELECT 'F', '您所预约的医生已停诊，无法完成支付，请到窗口确认！'; RETURN; END
    IF @djje <> ISNULL(@je, -1)
    BEGIN
        SELECT 'F', 'HIS结算金额【' + CONVERT(varchar(20), @djje) + '】与支付金额【' + CONVERT(varchar(20), ISNULL(@je, 0)) + '】不符!';
        RETURN;
    END
    EXEC dbo.usp_gh_js @xh, @czyh, @zffs, @zph, @lsh, @je, @ybje, @zxlsh, NULL, @ghxh OUTPUT, @sjh OUTPUT;
    SELECT 'T', @ghxh, @sjh, yyhx, yyrq, djje FROM dbo.GH_GHYYK WHERE xh = @xh;
END
GO
-- 红冲: original 0 -> 1, red row jlzt 2 with txh, negative lines and settlement with tsjh, number back. The caller holds the schedule's row.
-- @sjh is NULL when the registration is not valid (any more), '' when it had no settlement yet.
CREATE PROCEDURE dbo.usp_gh_hc @ghxh numeric(12,0), @czyh varchar(10), @tkdh varchar(64), @yy varchar(60), @sjh varchar(32) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now char(16), @xh numeric(12,0), @pb numeric(12,0);
    SELECT @sjh = NULL, @now = dbo.fn_rq16(dbo.fn_dqsj());
    UPDATE dbo.GH_GHZDK SET jlzt = 1, @pb = pbmxid WHERE xh = @ghxh AND jlzt = 0 AND txh IS NULL;
    IF @@ROWCOUNT = 0 RETURN;
    INSERT INTO dbo.GH_GHZDK (patid, blh, ybdm, cardno, yyxh, hzxm, py, czyh, czrq, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, cfzbz, lybz, ghlb, sfcs,
                              txh, memo, pbmxid, appjkdm, jlzt)
    SELECT patid, blh, ybdm, cardno, yyxh, hzxm, py, @czyh, @now, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, cfzbz, lybz, ghlb, sfcs, xh, @yy, pbmxid,
           appjkdm, 2 FROM dbo.GH_GHZDK WHERE xh = @ghxh;
    SET @xh = SCOPE_IDENTITY();
    SET @sjh = CASE WHEN EXISTS (SELECT 1 FROM dbo.SF_BRJSK WHERE ghxh = @ghxh AND tsjh IS NULL)
                    THEN SUBSTRING(@now, 3, 6) + RIGHT('000000000' + CONVERT(varchar(12), @xh), 9) ELSE '' END;
    UPDATE dbo.GH_GHZDK SET jssjh = NULLIF(@sjh, '') WHERE xh = @xh;
    INSERT INTO dbo.GH_GHMXK (ghxh, xmdm, xmmc, xmdj, xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf)
    SELECT @xh, xmdm, xmmc, xmdj, -xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf FROM dbo.GH_GHMXK WHERE ghxh = @ghxh;
    INSERT INTO dbo.SF_BRJSK (sjh, patid, ghxh, czyh, sfrq, ksdm, hzxm, blh, ybdm, zje, zfje, ybje, yhje, xjje, zpje, srje, zffs, zph, jylsh, tkdh,
                              wbddh, zxlsh, jslsh, ybjszt, tsjh, appjkdm, gxrq, jlzt)
    SELECT @sjh, patid, @xh, @czyh, @now, ksdm, hzxm, blh, ybdm, -zje, -zfje, -ybje, -yhje, -xjje, -zpje, -srje, zffs, zph, jylsh, NULLIF(@tkdh, ''),
           wbddh, zxlsh, jslsh, ybjszt, sjh, appjkdm, @now, 2 FROM dbo.SF_BRJSK WHERE ghxh = @ghxh AND tsjh IS NULL;
    UPDATE dbo.SF_BRJSK SET jlzt = 1, gxrq = @now WHERE ghxh = @ghxh AND tsjh IS NULL;
    UPDATE dbo.GH_YY_PBZBMX SET ygh = CASE WHEN ygh > 0 THEN ygh - 1 ELSE 0 END WHERE pbmxid = @pb;
END
GO
-- 退号规则: @text says why a booking may not be given back ('' = may). Reads only. @zph may be empty (then any payment). @yb 1 = 医保 is undone first:
-- what it has paid stands not in the way, and the amount is its business.
CREATE PROCEDURE dbo.usp_gh_thgz @xh numeric(12,0), @zph varchar(64), @je numeric(12,2), @yb int, @ghxh numeric(12,0) OUTPUT,
    @text varchar(200) OUTPUT AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @jlzt smallint, @zjlzt smallint, @jsbz smallint, @cfbz smallint, @fzbz smallint, @zje numeric(12,2), @ybje numeric(12,2);
    DECLARE @ybjszt smallint, @rjxh numeric(12,0), @zph1 varchar(64), @ybh int;
    SELECT @text = '', @ghxh = NULL;
    SELECT @jlzt = jlzt FROM dbo.GH_GHYYK WHERE xh = @xh;
    IF @jlzt = 2 BEGIN SET @text = '该患者已经取消预约'; RETURN; END
    IF @jlzt = 0 BEGIN SET @text = '未缴费不能退号！'; RETURN; END
    SELECT TOP 1 @ghxh = xh, @zjlzt = jlzt, @jsbz = jsbz, @cfbz = cfbz, @fzbz = fzbz FROM dbo.GH_GHZDK
     WHERE yyxh = @xh AND txh IS NULL AND jlzt IN (0, 1) ORDER BY xh DESC;
    IF @ghxh IS NULL BEGIN SET @text = '该号已经看诊,不能作废'; RETURN; END        -- moved to the N tables
    IF @zjlzt = 1 BEGIN SET @text = '该号已退号！'; RETURN; END
    IF @jsbz > 0 BEGIN SET @text = '该号已经看诊,不能作废'; RETURN; END
    IF @cfbz > 0 BEGIN SET @text = '存在已结处方请先退处方再退挂号'; RETURN; END
    SELECT @zje = zje, @ybje = ybje, @ybjszt = ybjszt, @rjxh = rjxh, @zph1 = zph FROM dbo.SF_BRJSK WHERE ghxh = @ghxh AND tsjh IS NULL;
    SET @ybh = CASE WHEN @ybjszt = 1 AND @ybje > 0 THEN 1 ELSE 0 END;
    IF @fzbz = 1 AND dbo.fn_config('GH022', '是') <> '是' BEGIN SET @text = '该号已取号，不能退号，请到窗口办理！'; RETURN; END
    IF @ybh = 1 AND @yb <> 1 BEGIN SET @text = '该号为医疗保险号已经有交费记录,不能退费!'; RETURN; END
    IF ISNULL(@zph, '') <> '' AND @zph <> ISNULL(@zph1, '') BEGIN SET @text = '支付单号与预约不符！'; RETURN; END
    IF @ybh = 0 AND @zje <> ISNULL(@je, -1) BEGIN SET @text = '健康160支付订单不支持部分退费'; RETURN; END
    IF @rjxh IS NOT NULL AND dbo.fn_config('GH021', '是') <> '是' SET @text = '该号已日结，不能退号，请到窗口办理！';
END
GO
-- 退号检查: 'T', xh of the booking: whether 退号退费, or 医保撤销 and 医保退号红冲, would give the order back now. Locks and changes nothing.
CREATE PROCEDURE dbo.usp_gh_thjc @ddh varchar(64), @zph varchar(64), @je numeric(12,2) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @xh numeric(12,0), @ghxh numeric(12,0), @text varchar(200);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    SELECT @xh = MAX(xh) FROM dbo.GH_GHYYK WHERE wbddh = @ddh;
    IF @xh IS NULL BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    EXEC dbo.usp_gh_thgz @xh, @zph, @je, 1, @ghxh OUTPUT, @text OUTPUT;
    IF @text <> '' BEGIN SELECT 'F', @text; RETURN; END
    SELECT 'T', CONVERT(varchar(12), @xh);
END
GO
-- 退号退费: 'T', tsjh 红冲收据号, tkje 元 (positive). @sjh may be empty (then the receipt of the order), @zph too (then any payment).
CREATE PROCEDURE dbo.usp_gh_thtf @ddh varchar(64), @sjh varchar(32), @zph varchar(64), @tkdh varchar(64), @je numeric(12,2), @czyh varchar(10),
    @yy varchar(60) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @xh numeric(12,0), @pb numeric(12,0), @n int, @tsjh varchar(32), @ddh1 varchar(64), @tkje numeric(12,2);
    DECLARE @ghxh numeric(12,0), @sjh1 varchar(32), @zje numeric(12,2), @text varchar(200);
    IF ISNULL(@ddh, '') = '' OR ISNULL(@tkdh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @pb = pbmxid FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @xh IS NULL BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    SELECT @n = COUNT(*) FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    SELECT TOP 1 @tsjh = sjh, @ddh1 = wbddh, @tkje = -zje FROM dbo.VW_BRJSK WHERE tkdh = @tkdh;
    IF @tsjh IS NOT NULL
    BEGIN
        IF @ddh1 = @ddh SELECT 'T', @tsjh, @tkje; ELSE SELECT 'F', '退款单号已被其他订单使用！';
        RETURN;
    END
    SELECT @n = COUNT(*) FROM dbo.GH_GHZDK WITH (UPDLOCK, ROWLOCK) WHERE yyxh = @xh AND txh IS NULL AND jlzt = 0;
    EXEC dbo.usp_gh_thgz @xh, @zph, @je, 0, @ghxh OUTPUT, @text OUTPUT;
    IF @text <> '' BEGIN SELECT 'F', @text; RETURN; END
    SELECT @sjh1 = sjh, @zje = zje FROM dbo.SF_BRJSK WHERE ghxh = @ghxh AND tsjh IS NULL;
    IF ISNULL(@sjh, '') <> '' AND @sjh <> @sjh1 BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    EXEC dbo.usp_gh_hc @ghxh, @czyh, @tkdh, @yy, @tsjh OUTPUT;
    SELECT 'T', @tsjh, @zje;
END
GO
-- 医保支付回写 = 医保挂号, after 2207A: 'T', ghxh, sjh. Amounts 元: @jjzf 基金, @zhzf 个账 (@gjzf 其中共济), @xjzf 现金, @yyfd 医院负担.
-- @zph, @lsh: the cash part. @jzlsh 就诊号 as told to 医保 ('' = not checked). The same settlement of the same order again: 'T' again.
CREATE PROCEDURE dbo.usp_yy_ybzfhx @ddh varchar(64), @zph varchar(64), @lsh varchar(64), @czyh varchar(10), @rybh varchar(30), @xzlx varchar(6),
    @cbdq varchar(6), @jzid varchar(30), @jzlsh varchar(30), @sfpch varchar(30), @jsid varchar(30), @msgidgh varchar(30), @msgidmx varchar(30),
    @msgidjs varchar(30), @qdbh varchar(30), @jssj char(16), @qslb varchar(6), @qsfs varchar(6), @qsjg varchar(6), @yllb varchar(6),
    @zje numeric(12,2), @jjzf numeric(12,2), @zhzf numeric(12,2), @gjzf numeric(12,2), @xjzf numeric(12,2), @yyfd numeric(12,2),
    @qzf numeric(12,2), @cxj numeric(12,2), @xxzf numeric(12,2), @fhfw numeric(12,2), @qfx numeric(12,2), @tczf numeric(12,2), @gwy numeric(12,2),
    @qybc numeric(12,2), @dbzf numeric(12,2), @dezf numeric(12,2), @yljz numeric(12,2), @qtzf numeric(12,2), @grfd numeric(12,2),
    @ye numeric(12,2) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @xh numeric(12,0), @jlzt smallint, @pb numeric(12,0), @djje numeric(12,2), @tzbz smallint, @pjlzt smallint, @zffs varchar(2);
    DECLARE @sjh varchar(32), @ghxh numeric(12,0), @yyxh numeric(12,0), @sjh1 varchar(32), @ghxh1 numeric(12,0), @used int, @ybje numeric(12,2);
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    IF ISNULL(@jsid, '') = '' OR ISNULL(@jzid, '') = '' OR ISNULL(@rybh, '') = ''
    BEGIN SELECT 'F', '医保结算号、就诊号和人员编号不能为空！'; RETURN; END
    IF @xjzf > 0 AND (ISNULL(@lsh, '') = '' OR ISNULL(@zph, '') = '') BEGIN SELECT 'F', '交易金额大于0时交易流水号必传！'; RETURN; END
    IF @zje <> @jjzf + @zhzf + @xjzf + @yyfd BEGIN SELECT 'F', '医保各部分之和与总金额不符！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @pb = pbmxid FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @xh IS NULL OR (ISNULL(@jzlsh, '') <> '' AND @jzlsh <> CONVERT(varchar(12), @xh)) BEGIN SELECT 'F', '未找到预约记录！'; RETURN; END
    SELECT @tzbz = tzbz, @pjlzt = jlzt FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    SELECT @jlzt = jlzt, @djje = djje FROM dbo.GH_GHYYK WITH (UPDLOCK, ROWLOCK) WHERE xh = @xh;
    IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
    SELECT TOP 1 @used = 1, @yyxh = yyxh, @ghxh1 = ghxh, @sjh1 = sjh FROM dbo.YB_GBJSK WHERE jsid = @jsid;
    IF @jlzt = 1
    BEGIN
        IF @yyxh = @xh SELECT 'T', @ghxh1, @sjh1; ELSE SELECT 'F', '该预约已支付，请勿重复支付！';
        RETURN;
    END
    IF @used = 1 OR EXISTS (SELECT 1 FROM dbo.VW_BRJSK WHERE zph = NULLIF(@zph, '')) BEGIN SELECT 'F', '支付流水号已被其他订单使用！'; RETURN; END
    IF @tzbz <> 0 OR @pjlzt <> 0 BEGIN SELECT 'F', '您所预约的医生已停诊，无法完成支付，请到窗口确认！'; RETURN; END
    IF @djje <> @zje
    BEGIN
        SELECT 'F', 'HIS结算金额【' + CONVERT(varchar(20), @djje) + '】与支付金额【' + CONVERT(varchar(20), @zje) + '】不符!';
        RETURN;
    END
    SELECT @zffs = CASE WHEN @xjzf > 0 THEN '15' ELSE '09' END, @ybje = @zje - @xjzf;
    EXEC dbo.usp_gh_js @xh, @czyh, @zffs, @zph, @lsh, @zje, @ybje, @jzid, @jsid, @ghxh OUTPUT, @sjh OUTPUT;
    INSERT INTO dbo.YB_GBJSK (sjh, ghxh, yyxh, rybh, xzlx, cbdq, jzid, jzlsh, sfpch, jsid, msgidgh, msgidmx, msgidjs, qdbh, jssj, qslb, qsfs, qsjg,
                              yllb, zje, qzf, cxj, xxzf, fhfw, qfx, tczf, gwy, qybc, dbzf, dezf, yljz, qtzf, jjzf, grfd, zhzf, xjzf, yyfd, gjzf, ye)
    VALUES (@sjh, @ghxh, @xh, @rybh, @xzlx, @cbdq, @jzid, CONVERT(varchar(12), @xh), @sfpch, @jsid, @msgidgh, @msgidmx, @msgidjs, @qdbh, @jssj,
            @qslb, @qsfs, @qsjg, @yllb, @zje, @qzf, @cxj, @xxzf, @fhfw, @qfx, @tczf, @gwy, @qybc, @dbzf, @dezf, @yljz, @qtzf, @jjzf, @grfd,
            @zhzf, @xjzf, @yyfd, @gjzf, @ye);
    SELECT 'T', @ghxh, @sjh;
END
GO
-- 医保退号红冲, after 2208 and after the cash has gone back: 'T', tsjh. 日结 and 取号 do not stop it. @cxjsid 结算ID of 2208, @tkdh 退款单号 of the cash.
CREATE PROCEDURE dbo.usp_gh_ybthtf @ddh varchar(64), @jsid varchar(30), @cxjsid varchar(30), @tkdh varchar(64), @xjje numeric(12,2),
    @czyh varchar(10), @yy varchar(60) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @xh numeric(12,0), @jlzt smallint, @pb numeric(12,0), @n int, @jsxh int, @ghxh numeric(12,0), @ybzt smallint;
    DECLARE @xjzf numeric(12,2), @cx1 varchar(30), @sjh varchar(32), @tsjh varchar(32), @tk1 varchar(64), @cz1 varchar(10), @jsbz smallint;
    DECLARE @cfbz smallint;
    IF ISNULL(@ddh, '') = '' BEGIN SELECT 'F', '预约单号不能为空！'; RETURN; END
    EXEC dbo.usp_yy_ddsd @ddh, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    SELECT TOP 1 @xh = xh, @pb = pbmxid, @jlzt = jlzt FROM dbo.GH_GHYYK WHERE wbddh = @ddh ORDER BY xh DESC;
    IF @jlzt = 2 BEGIN SELECT 'F', '该患者已经取消预约'; RETURN; END
    IF @jlzt = 0 BEGIN SELECT 'F', '未缴费不能退号！'; RETURN; END
    SELECT @n = COUNT(*) FROM dbo.GH_YY_PBZBMX WITH (UPDLOCK, ROWLOCK) WHERE pbmxid = @pb;
    SELECT TOP 1 @jsxh = jsxh, @ghxh = ghxh, @ybzt = jlzt, @xjzf = xjzf, @cx1 = cxjsid, @sjh = sjh
      FROM dbo.YB_GBJSK WITH (UPDLOCK, ROWLOCK) WHERE jsid = @jsid AND yyxh = @xh;
    IF @jsxh IS NULL BEGIN SELECT 'F', '未找到医保结算记录！'; RETURN; END
    IF @ybzt = 1
    BEGIN
        SELECT @tsjh = sjh, @tk1 = tkdh, @cz1 = czyh FROM dbo.VW_BRJSK WHERE tsjh = @sjh AND jlzt = 2;
        IF ISNULL(@cx1, '') = ISNULL(@cxjsid, '') AND ISNULL(@tk1, '') = ISNULL(@tkdh, '') AND @cz1 = @czyh SELECT 'T', @tsjh;
        ELSE SELECT 'F', '该号已退号！';
        RETURN;
    END
    IF @xjzf <> ISNULL(@xjje, -1) BEGIN SELECT 'F', '退现金额与结算现金不符！'; RETURN; END
    IF EXISTS (SELECT 1 FROM dbo.VW_BRJSK WHERE tkdh = NULLIF(@tkdh, '')) BEGIN SELECT 'F', '退款单号已被其他订单使用！'; RETURN; END
    SELECT @jsbz = jsbz, @cfbz = cfbz FROM dbo.GH_GHZDK WITH (UPDLOCK, ROWLOCK) WHERE xh = @ghxh;
    IF @jsbz IS NULL OR @jsbz > 0 BEGIN SELECT 'F', '该号已经看诊,不能作废'; RETURN; END
    IF @cfbz > 0 BEGIN SELECT 'F', '存在已结处方请先退处方再退挂号'; RETURN; END
    EXEC dbo.usp_gh_hc @ghxh, @czyh, @tkdh, @yy, @tsjh OUTPUT;
    IF @tsjh IS NULL BEGIN SELECT 'F', '该号已退号！'; RETURN; END
    UPDATE dbo.YB_GBJSK SET jlzt = 1, cxjsid = NULLIF(@cxjsid, ''), cxrq = dbo.fn_rq16(dbo.fn_dqsj()) WHERE jsxh = @jsxh;
    SELECT 'T', @tsjh;
END
GO
-- 建档, find or create: 'T', patid, blh, isnew. Finds by (zjlx, sfzh), newest visit first; a minor without number by name + phone.
-- The collation ignores case: 'x' and 'X' are one.
CREATE PROCEDURE dbo.usp_gh_jbxxdj @hzxm varchar(64), @zjlx varchar(2), @sfzh varchar(18), @sex varchar(4), @birth char(8), @lxdh varchar(32),
    @lxdz varchar(128), @jhrxm varchar(64), @jhrsfzh varchar(18), @jhrgx varchar(8), @czyh varchar(10) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @ok int, @key varchar(64), @no varchar(18), @patid numeric(12,0), @name varchar(64), @now char(16), @new smallint;
    SELECT @no = UPPER(LTRIM(RTRIM(ISNULL(@sfzh, '')))), @hzxm = LTRIM(RTRIM(ISNULL(@hzxm, ''))), @new = 0;
    IF @hzxm = '' OR (@no = '' AND ISNULL(@jhrxm, '') = '') BEGIN SELECT 'F', '姓名、证件类型和证件号码不能为空！'; RETURN; END
    SET @key = 'JD' + CASE WHEN @no <> '' THEN @no ELSE LEFT(@hzxm + ISNULL(@lxdh, ''), 60) END;
    EXEC dbo.usp_yy_ddsd @key, @ok OUTPUT;
    IF @ok = 0 BEGIN SELECT 'F', '系统忙，请稍后再试！'; RETURN; END
    IF @no <> ''
    BEGIN
        SELECT TOP 1 @patid = patid, @name = LTRIM(RTRIM(hzxm)) FROM dbo.SF_BRXXK WHERE sfzh = @no AND zjlx = @zjlx AND jlzt = 0
         ORDER BY CASE WHEN LTRIM(RTRIM(hzxm)) = @hzxm THEN 0 ELSE 1 END, zjjzrq DESC, patid DESC;
        IF @patid IS NOT NULL AND @name <> @hzxm BEGIN SELECT 'F', '证件号码已存在但姓名不一致，请到窗口核实！'; RETURN; END
    END
    ELSE
        SELECT TOP 1 @patid = patid FROM dbo.SF_BRXXK
         WHERE LTRIM(RTRIM(hzxm)) = @hzxm AND lxdh = @lxdh AND ISNULL(sfzh, '') = '' AND jlzt = 0 ORDER BY patid DESC;
    IF @patid IS NULL
    BEGIN
        SET @now = dbo.fn_rq16(dbo.fn_dqsj());
        INSERT INTO dbo.SF_BRXXK (hzxm, sex, birth, zjlx, sfzh, lxdh, lxdz, ybdm, jhrxm, jhrsfzh, jhrgx, lrczyh, lrrq, gxrq, jlzt)
        VALUES (@hzxm, @sex, @birth, @zjlx, @no, @lxdh, @lxdz, '01', @jhrxm, @jhrsfzh, @jhrgx, @czyh, @now, @now, 0);
        SELECT @patid = SCOPE_IDENTITY(), @new = 1;
        UPDATE dbo.SF_BRXXK SET blh = 'M' + CONVERT(varchar(12), @patid) WHERE patid = @patid;
    END
    SELECT 'T', patid, blh, @new FROM dbo.SF_BRXXK WHERE patid = @patid;
END
GO
