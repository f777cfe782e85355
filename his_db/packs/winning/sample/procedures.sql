-- The HIS's own interface, as the vendor would open it to a channel. Every procedure answers o_code / o_msg, never commits,
-- and raises nothing for a business refusal. p_ddh = 平台订单号; the same order number again gives the same answer.
--
--  code  meaning                        text                                            raised by
--     0  成功                           成功                                            all
--     1  重复提交, earlier answer again  ...请勿重复推送                                 yyqx zfhx thtf ybzfhx ybthtf (lock/yysq answer 0)
--    -1  排班不存在或已停用             排班不存在或已停用！                            lockno yysq
--    -2  已无号                         该排班已无号源！                                lockno yysq
--    -3  停诊                           该排班已停诊或作废！                            lockno yysq
--    -4  过期                           排班已过期！                                    lockno yysq
--    -5  锁号不存在                     未找到锁号记录！                                unlockno
--    -6  锁号已转预约                   该号已转预约，不能解锁！                        unlockno
--    -7  订单号被其他预约占用           预约单号已被使用！                              lockno yysq
--    -8  锁号已失效                     锁号已失效，请重新选号！                        yysq
--    -9  已取消 (by the window)         该患者已经取消预约                              yyqx zfhx thtf thjc lockno yysq ybzfhx ybthtf
--   -10  同一排班重复预约               已存在预约记录,请到窗口确认！                   yysq
--   -11  同科同日重复预约 (GH030 是)    同一科室相同门诊当天不可重复预约！              yysq
--   -12  爽约锁定                       爽约两次锁定，请到窗口挂号！                    yysq
--   -13  欠费                           患者欠费【x】元，请到窗口处理！                 yysq
--   -14  患者不存在                     该卡号在His中未登记！                           yysq
--   -15  单号为空                       预约单号不能为空！                              all with p_ddh
--   -20  预约不存在                     未找到预约记录！                                yyqx zfhx thtf thjc ybzfhx
--   -21  已挂号, use refund             请在挂号处退号！                                yyqx
--   -22  过了就诊日期                   请在就诊日期之前取消预约！                      yyqx
--   -30  停诊无法支付                   您所预约的医生已停诊，无法完成支付，请到窗口确认！ zfhx ybzfhx
--   -31  金额不符                       HIS结算金额【x】与支付金额【y】不符!            zfhx ybzfhx
--   -32  已用其他流水支付               该预约已支付，请勿重复支付！                    zfhx ybzfhx
--   -33  流水号为空                     交易金额大于0时交易流水号必传！                 zfhx ybzfhx
--   -34  流水号属于其他订单             支付流水号已被其他订单使用！                    zfhx ybzfhx
--   -35  医保各部分之和不等于总额       医保各部分之和与总金额不符！                    ybzfhx
--   -36  医保结算信息不全               医保结算号、就诊号和人员编号不能为空！          ybzfhx
--   -40  未缴费                         未缴费不能退号！                                thtf thjc ybthtf
--   -41  已退号                         该号已退号！                                    thtf thjc ybthtf
--   -42  已看诊                         该号已经看诊,不能作废                           thtf thjc ybthtf
--   -43  部分退费                       健康160支付订单不支持部分退费                   thtf thjc
--   -44  已日结 (GH021 否)              该号已日结，不能退号，请到窗口办理！            thtf thjc
--   -45  医保已结                       该号为医疗保险号已经有交费记录,不能退费!        thtf
--   -46  存在处方                       存在已结处方请先退处方再退挂号                  thtf thjc ybthtf
--   -47  退款单号属于其他订单           退款单号已被其他订单使用！                      thtf ybthtf
--   -48  支付单号不是这张单的           支付单号与预约不符！                            thtf thjc
--   -49  已取号 (GH022 否)              该号已取号，不能退号，请到窗口办理！            thtf thjc
--   -60  没有这次医保结算               未找到医保结算记录！                            ybthtf
--   -61  退的现金与结算的不同           退现金额与结算现金不符！                        ybthtf
--   -50  证件号与姓名不一致             证件号码已存在但姓名不一致，请到窗口核实！      jbxxdj
--   -51  必填为空                       姓名、证件类型和证件号码不能为空！              jbxxdj
--
-- Lock order of every routine and of the window: order number (advisory) -> gh_yy_pbzbmx row -> the rest.

-- 当前时间 char(16), hospital wall clock (UTC+8), shifted by yy_config SJPY days for samples made for another day
CREATE FUNCTION his.fn_dqsj() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
    SELECT (clock_timestamp() AT TIME ZONE 'UTC') + interval '8 hours'
         + make_interval(days => COALESCE((SELECT config::int FROM his.yy_config WHERE id = 'SJPY'), 0))
$$;
CREATE FUNCTION his.fn_rq16(p_sj timestamp) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(p_sj, 'YYYYMMDDHH24:MI:SS') $$;
CREATE FUNCTION his.fn_rq8(p_sj timestamp) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(p_sj, 'YYYYMMDD') $$;
-- 号序 -> 就诊时间 'HH:mm'
CREATE FUNCTION his.fn_hxsj(p_kssj varchar, p_jssj varchar, p_jgfz int, p_hx int) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(LEAST(p_kssj::time + make_interval(mins => (p_hx - 1) * p_jgfz), p_jssj::time), 'HH24:MI')
$$;
-- 号序 -> 就诊日期时间 char(16)
CREATE FUNCTION his.fn_yysj(p_zbrq varchar, p_kssj varchar, p_jssj varchar, p_jgfz int, p_hx int) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
    SELECT p_zbrq || his.fn_hxsj(p_kssj, p_jssj, p_jgfz, p_hx) || ':00'
$$;
CREATE FUNCTION his.fn_config(p_id varchar, p_default varchar) RETURNS varchar LANGUAGE sql STABLE AS $$
    SELECT COALESCE((SELECT config FROM his.yy_config WHERE id = p_id), p_default)
$$;
-- 订单串行化 (the vendor's sp_getapplock)
CREATE FUNCTION his.fn_ddsd(p_ddh varchar) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(91160, hashtext(p_ddh))
$$;
-- 剩余号数 of each published schedule; expired locks count as free. syhs is never negative.
CREATE VIEW his.vw_yy_hysl AS
    SELECT p.pbmxid, p.zgh, p.ygh - s.gqs AS ygh, GREATEST(p.zgh - p.ygh + s.gqs, 0) AS syhs
    FROM his.gh_yy_pbzbmx p,
    LATERAL (SELECT count(*)::int AS gqs FROM his.gh_yy_sdk k
             WHERE k.pbmxid = p.pbmxid AND k.zt = 0 AND k.sxsj <= his.fn_rq16(his.fn_dqsj())) s;

-- 清理过期锁 of one schedule; returns how many numbers came back. Takes the schedule row first.
CREATE FUNCTION his.fn_qlgqsd(p_pbmxid numeric) RETURNS int LANGUAGE plpgsql AS $$
DECLARE v_n int;
BEGIN
    PERFORM 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = p_pbmxid FOR UPDATE;
    UPDATE his.gh_yy_sdk SET zt = 3 WHERE pbmxid = p_pbmxid AND zt = 0 AND sxsj <= his.fn_rq16(his.fn_dqsj());
    GET DIAGNOSTICS v_n = ROW_COUNT;
    IF v_n > 0 THEN UPDATE his.gh_yy_pbzbmx SET ygh = GREATEST(ygh - v_n, 0) WHERE pbmxid = p_pbmxid; END IF;
    RETURN v_n;
END $$;

-- 取号: the one place where a number is taken. A conditional update; null hx and a code when there is none.
CREATE FUNCTION his.fn_qh(p_pbmxid numeric, OUT o_hx int, OUT o_code int, OUT o_msg varchar) LANGUAGE plpgsql AS $$
DECLARE v_p his.gh_yy_pbzbmx; v_n int;
BEGIN
    FOR i IN 1..2 LOOP
        UPDATE his.gh_yy_pbzbmx SET ygh = ygh + 1, yyxh_max = yyxh_max + 1
         WHERE pbmxid = p_pbmxid AND ygh < zgh AND tzbz = 0 AND jlzt = 0 AND zbrq >= his.fn_rq8(his.fn_dqsj())
        RETURNING yyxh_max INTO o_hx;
        IF FOUND THEN o_code := 0; o_msg := '成功'; RETURN; END IF;
        EXIT WHEN his.fn_qlgqsd(p_pbmxid) = 0;
    END LOOP;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = p_pbmxid;
    IF NOT FOUND OR v_p.jlzt <> 0 THEN o_code := -1; o_msg := '排班不存在或已停用！';
    ELSIF v_p.tzbz <> 0 THEN o_code := -3; o_msg := '该排班已停诊或作废！';
    ELSIF v_p.zbrq < his.fn_rq8(his.fn_dqsj()) THEN o_code := -4; o_msg := '排班已过期！';
    ELSE o_code := -2; o_msg := '该排班已无号源！';
    END IF;
END $$;

-- 锁号
CREATE PROCEDURE his.usp_yy_lockno(
    p_ddh varchar, p_pbmxid numeric, p_czyh varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_sdxh int, OUT o_hx int, OUT o_yysj varchar, OUT o_sxsj varchar, OUT o_je numeric)
LANGUAGE plpgsql AS $$
DECLARE v_s his.gh_yy_sdk; v_y his.gh_ghyyk; v_p his.gh_yy_pbzbmx;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF FOUND THEN
        IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; ELSE o_code := -7; o_msg := '预约单号已被使用！'; END IF;
        RETURN;
    END IF;
    SELECT * INTO v_s FROM his.gh_yy_sdk
     WHERE ddh = p_ddh AND zt = 0 AND sxsj > his.fn_rq16(his.fn_dqsj()) ORDER BY sdxh DESC LIMIT 1;
    IF FOUND THEN
        IF v_s.pbmxid <> p_pbmxid THEN o_code := -7; o_msg := '预约单号已被使用！'; RETURN; END IF;
    ELSE
        SELECT q.o_hx, q.o_code, q.o_msg INTO o_hx, o_code, o_msg FROM his.fn_qh(p_pbmxid) q;
        IF o_code <> 0 THEN RETURN; END IF;
        INSERT INTO his.gh_yy_sdk (ddh, pbmxid, hx, sdrq, sxsj, zt, czyh)
        VALUES (p_ddh, p_pbmxid, o_hx, his.fn_rq16(his.fn_dqsj()),
                his.fn_rq16(his.fn_dqsj() + make_interval(mins => his.fn_config('GH001', '10')::int)), 0, p_czyh)
        RETURNING * INTO v_s;
    END IF;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = p_pbmxid;
    o_code := 0; o_msg := '成功'; o_sdxh := v_s.sdxh; o_hx := v_s.hx; o_sxsj := v_s.sxsj; o_je := v_p.ghf + v_p.zlf;
    o_yysj := his.fn_yysj(v_p.zbrq, v_p.kssj, v_p.jssj, v_p.jgfz, v_s.hx);
END $$;

-- 解锁. A lock that is already released or expired answers 0 again.
CREATE PROCEDURE his.usp_yy_unlockno(p_ddh varchar, p_czyh varchar, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE v_s his.gh_yy_sdk;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_s FROM his.gh_yy_sdk WHERE ddh = p_ddh ORDER BY sdxh DESC LIMIT 1;
    IF NOT FOUND THEN o_code := -5; o_msg := '未找到锁号记录！'; RETURN; END IF;
    IF v_s.zt = 1 THEN o_code := -6; o_msg := '该号已转预约，不能解锁！'; RETURN; END IF;
    PERFORM 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = v_s.pbmxid FOR UPDATE;
    UPDATE his.gh_yy_sdk SET zt = 2 WHERE sdxh = v_s.sdxh AND zt = 0;
    IF FOUND THEN UPDATE his.gh_yy_pbzbmx SET ygh = GREATEST(ygh - 1, 0) WHERE pbmxid = v_s.pbmxid; END IF;
    o_code := 0; o_msg := '成功';
END $$;

-- 预约规则: why this patient may not book this schedule (0 = may)
CREATE FUNCTION his.fn_yygz(p_pbmxid numeric, p_patid numeric, OUT o_code int, OUT o_msg varchar) LANGUAGE plpgsql AS $$
DECLARE v_h his.gh_yy_hmd; v_p his.gh_yy_pbzbmx;
BEGIN
    o_code := 0; o_msg := '成功';
    PERFORM 1 FROM his.sf_brxxk WHERE patid = p_patid AND jlzt = 0;
    IF NOT FOUND THEN o_code := -14; o_msg := '该卡号在His中未登记！'; RETURN; END IF;
    SELECT * INTO v_h FROM his.gh_yy_hmd WHERE patid = p_patid AND jlzt = 0
       AND (COALESCE(jsrq, '') = '' OR jsrq > his.fn_rq16(his.fn_dqsj())) ORDER BY xh LIMIT 1;
    IF FOUND AND v_h.lx = 2 THEN o_code := -12; o_msg := '爽约两次锁定，请到窗口挂号！'; RETURN; END IF;
    IF FOUND AND v_h.lx = 3 THEN o_code := -13; o_msg := '患者欠费【' || v_h.je || '】元，请到窗口处理！'; RETURN; END IF;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = p_pbmxid;
    PERFORM 1 FROM his.gh_ghyyk y WHERE y.patid = p_patid AND y.pbmxid = p_pbmxid AND (y.jlzt = 0 OR (y.jlzt = 1
       AND EXISTS (SELECT 1 FROM his.gh_ghzdk z WHERE z.yyxh = y.xh AND z.txh IS NULL AND z.jlzt = 0)));
    IF FOUND THEN o_code := -10; o_msg := '已存在预约记录,请到窗口确认！'; RETURN; END IF;
    IF his.fn_config('GH030', '否') = '是' THEN
        PERFORM 1 FROM his.gh_ghyyk y WHERE y.patid = p_patid AND y.ksdm = v_p.ksdm AND left(y.yyrq, 8) = v_p.zbrq AND y.jlzt = 0;
        IF FOUND THEN o_code := -11; o_msg := '同一科室相同门诊当天不可重复预约！'; END IF;
    END IF;
END $$;

-- 挂号登记 of a booking: the gh_ghzdk row (p_jlzt 9 until it is settled, 0 at once where 预约即挂号) and its lines. A row that is there is taken.
CREATE FUNCTION his.fn_gh_dj(p_xh numeric, p_czyh varchar, p_jlzt int) RETURNS his.gh_ghzdk LANGUAGE plpgsql AS $$
DECLARE v_z his.gh_ghzdk;
BEGIN
    SELECT * INTO v_z FROM his.gh_ghzdk WHERE yyxh = p_xh AND txh IS NULL AND jlzt = 0;
    IF FOUND THEN RETURN v_z; END IF;
    INSERT INTO his.gh_ghzdk (patid, blh, ybdm, cardno, yyxh, hzxm, py, czyh, czrq, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, lybz, ghlb, pbmxid,
                              appjkdm, jlzt)
    SELECT b.patid, b.blh, b.ybdm, b.cardno, y.xh, b.hzxm, b.py, p_czyh, his.fn_rq16(his.fn_dqsj()), y.yyrq, p.ksdm,
           (SELECT name FROM his.yy_ksbmk WHERE id = p.ksdm), p.ysdm, (SELECT name FROM his.yy_zgbmk WHERE id = p.ysdm), y.yyhx, 1, p.ghlb,
           y.pbmxid, y.kfsdm, p_jlzt
      FROM his.gh_ghyyk y JOIN his.sf_brxxk b ON b.patid = y.patid JOIN his.gh_yy_pbzbmx p ON p.pbmxid = y.pbmxid
     WHERE y.xh = p_xh RETURNING * INTO v_z;
    INSERT INTO his.gh_ghmxk (ghxh, xmdm, xmmc, xmdj, xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf)
    SELECT v_z.xh, d, m, j, 1, '01', '挂号诊疗', j, 0, f FROM his.gh_yy_pbzbmx p,
           LATERAL (VALUES ('GHF', '挂号费', p.ghf, 1), ('ZLF', '诊疗费', p.zlf, 2)) AS t (d, m, j, f) WHERE p.pbmxid = v_z.pbmxid AND j > 0;
    RETURN v_z;
END $$;
-- 结算 of a booking: registers it if it is not yet, one sf_brjsk row, gh_ghyyk 0 -> 1. p_ybje 医保记账, the rest is paid by p_zffs.
CREATE FUNCTION his.fn_gh_js(
    p_xh numeric, p_czyh varchar, p_zffs varchar, p_zph varchar, p_lsh varchar, p_zje numeric, p_ybje numeric, p_zxlsh varchar, p_jslsh varchar,
    OUT o_ghxh numeric, OUT o_sjh varchar)
LANGUAGE plpgsql AS $$
DECLARE v_z his.gh_ghzdk := his.fn_gh_dj(p_xh, p_czyh, 9); v_sj varchar := his.fn_rq16(his.fn_dqsj());
BEGIN
    o_ghxh := v_z.xh;
    o_sjh := to_char(his.fn_dqsj(), 'YYMMDD') || lpad(nextval('his.seq_sjh')::text, 8, '0');
    INSERT INTO his.sf_brjsk (sjh, patid, ghxh, czyh, sfrq, ksdm, hzxm, blh, ybdm, zje, zfje, ybje, zpje, zffs, zph, jylsh, wbddh, zxlsh, jslsh,
                              ybjszt, appjkdm, gxrq, jlzt)
    SELECT o_sjh, v_z.patid, v_z.xh, p_czyh, v_sj, v_z.ksdm, v_z.hzxm, v_z.blh, v_z.ybdm, p_zje, p_zje - p_ybje, p_ybje, p_zje - p_ybje,
           p_zffs, NULLIF(p_zph, ''), NULLIF(p_lsh, ''), y.wbddh, NULLIF(p_zxlsh, ''), NULLIF(p_jslsh, ''), CASE WHEN p_ybje > 0 THEN 1 ELSE 0 END,
           y.kfsdm, v_sj, 0 FROM his.gh_ghyyk y WHERE y.xh = p_xh;
    UPDATE his.gh_ghyyk SET jlzt = 1, djbz = 1 WHERE xh = p_xh;
    UPDATE his.gh_ghzdk SET jlzt = 0, jssjh = o_sjh WHERE xh = v_z.xh;
END $$;

-- 预约提交. With a lock of this order: turns it into the booking. Without any lock: takes a number itself.
CREATE PROCEDURE his.usp_yy_yysq(
    p_ddh varchar, p_pbmxid numeric, p_patid numeric, p_kfsdm varchar, p_czyh varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_yyxh numeric, OUT o_hx int, OUT o_yysj varchar, OUT o_je numeric)
LANGUAGE plpgsql AS $$
DECLARE v_s his.gh_yy_sdk; v_y his.gh_ghyyk; v_p his.gh_yy_pbzbmx; v_lock boolean;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF FOUND THEN
        IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; RETURN; END IF;
        IF v_y.pbmxid <> p_pbmxid OR v_y.patid <> p_patid THEN o_code := -7; o_msg := '预约单号已被使用！'; RETURN; END IF;
        o_code := 0; o_msg := '成功'; o_yyxh := v_y.xh; o_hx := v_y.yyhx; o_yysj := v_y.yyrq; o_je := v_y.djje; RETURN;
    END IF;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = p_pbmxid FOR UPDATE;
    IF NOT FOUND OR v_p.jlzt <> 0 THEN o_code := -1; o_msg := '排班不存在或已停用！'; RETURN; END IF;
    IF v_p.tzbz <> 0 THEN o_code := -3; o_msg := '该排班已停诊或作废！'; RETURN; END IF;
    SELECT g.o_code, g.o_msg INTO o_code, o_msg FROM his.fn_yygz(p_pbmxid, p_patid) g;
    IF o_code <> 0 THEN RETURN; END IF;
    SELECT * INTO v_s FROM his.gh_yy_sdk WHERE ddh = p_ddh ORDER BY sdxh DESC LIMIT 1;
    v_lock := FOUND AND v_s.zt IN (0, 3);
    IF v_lock THEN
        IF v_s.pbmxid <> p_pbmxid THEN o_code := -7; o_msg := '预约单号已被使用！'; RETURN; END IF;
        UPDATE his.gh_yy_sdk SET zt = 1 WHERE sdxh = v_s.sdxh AND zt = 0 AND sxsj > his.fn_rq16(his.fn_dqsj());
        IF NOT FOUND THEN o_code := -8; o_msg := '锁号已失效，请重新选号！'; RETURN; END IF;
        o_hx := v_s.hx;
    ELSE
        SELECT q.o_hx, q.o_code, q.o_msg INTO o_hx, o_code, o_msg FROM his.fn_qh(p_pbmxid) q;
        IF o_code <> 0 THEN RETURN; END IF;
    END IF;
    o_yysj := his.fn_yysj(v_p.zbrq, v_p.kssj, v_p.jssj, v_p.jgfz, o_hx);
    o_je := v_p.ghf + v_p.zlf;
    INSERT INTO his.gh_ghyyk (patid, hzxm, sfzh, lxdh, yyrq, djrq, ksdm, ysdm, pbmxid, yyhx, djje, kfsdm, wbddh, czyh, jlzt)
    SELECT b.patid, b.hzxm, b.sfzh, b.lxdh, o_yysj, his.fn_rq16(his.fn_dqsj()), v_p.ksdm, v_p.ysdm, p_pbmxid, o_hx, o_je,
           p_kfsdm, p_ddh, p_czyh, 0
      FROM his.sf_brxxk b WHERE b.patid = p_patid RETURNING xh INTO o_yyxh;
    IF his.fn_config('GH031', '否') = '是' THEN PERFORM his.fn_gh_dj(o_yyxh, p_czyh, 0); END IF;
    o_code := 0; o_msg := '成功';
END $$;

-- 取消预约 (未缴费)
CREATE PROCEDURE his.usp_yy_yyqx(p_ddh varchar, p_czyh varchar, p_yy varchar, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$
DECLARE v_y his.gh_ghyyk;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF NOT FOUND THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    PERFORM 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = v_y.pbmxid FOR UPDATE;
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE xh = v_y.xh FOR UPDATE;
    IF v_y.jlzt = 1 THEN o_code := -21; o_msg := '请在挂号处退号！'; RETURN; END IF;
    IF v_y.jlzt = 2 THEN
        IF v_y.qxczyh = p_czyh THEN o_code := 1; o_msg := '已取消登记，请勿重复推送';
        ELSE o_code := -9; o_msg := '该患者已经取消预约'; END IF;
        RETURN;
    END IF;
    IF left(v_y.yyrq, 8) < his.fn_rq8(his.fn_dqsj()) THEN o_code := -22; o_msg := '请在就诊日期之前取消预约！'; RETURN; END IF;
    UPDATE his.gh_ghyyk SET jlzt = 2, qxczyh = p_czyh, qxrq = his.fn_rq16(his.fn_dqsj()), qxyy = p_yy WHERE xh = v_y.xh;
    IF his.fn_hc((SELECT xh FROM his.gh_ghzdk WHERE yyxh = v_y.xh AND txh IS NULL AND jlzt = 0), p_czyh, NULL, p_yy) IS NULL THEN
        UPDATE his.gh_yy_pbzbmx SET ygh = GREATEST(ygh - 1, 0) WHERE pbmxid = v_y.pbmxid; END IF;       -- else 红冲 has given it back
    o_code := 0; o_msg := '成功';
END $$;

-- 支付回写 = 挂号. p_zph 商户订单号 (out_trade_no), p_lsh 交易流水号, p_je 元, p_zffs 15 微信 16 支付宝 03 银行卡 09 医保 99 其他.
-- 医保: p_ybje 医保记账 (0 = 自费), p_zxlsh 医保结算流水.
CREATE PROCEDURE his.usp_yy_zfhx(
    p_ddh varchar, p_zph varchar, p_lsh varchar, p_je numeric, p_zffs varchar, p_czyh varchar, p_ybje numeric, p_zxlsh varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_ghxh numeric, OUT o_sjh varchar, OUT o_hx int, OUT o_yysj varchar, OUT o_je numeric)
LANGUAGE plpgsql AS $$
DECLARE v_y his.gh_ghyyk; v_p his.gh_yy_pbzbmx; v_j his.sf_brjsk; v_ybje numeric := COALESCE(p_ybje, 0);
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    IF COALESCE(p_je, 0) > 0 AND (COALESCE(p_lsh, '') = '' OR COALESCE(p_zph, '') = '') THEN
        o_code := -33; o_msg := '交易金额大于0时交易流水号必传！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF NOT FOUND THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = v_y.pbmxid FOR UPDATE;
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE xh = v_y.xh FOR UPDATE;
    o_hx := v_y.yyhx; o_yysj := v_y.yyrq; o_je := v_y.djje;
    IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; RETURN; END IF;
    IF v_y.jlzt = 1 THEN
        SELECT * INTO v_j FROM his.vw_brjsk WHERE wbddh = p_ddh AND tsjh IS NULL ORDER BY sfrq DESC LIMIT 1;
        IF v_j.zph = p_zph AND v_j.jylsh = p_lsh THEN
            o_code := 1; o_msg := '已支付，请勿重复推送'; o_ghxh := v_j.ghxh; o_sjh := v_j.sjh;
        ELSE o_code := -32; o_msg := '该预约已支付，请勿重复支付！'; END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM his.vw_brjsk WHERE zph = p_zph;
    IF FOUND THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    IF v_p.tzbz <> 0 OR v_p.jlzt <> 0 THEN o_code := -30; o_msg := '您所预约的医生已停诊，无法完成支付，请到窗口确认！'; RETURN; END IF;
    IF v_y.djje <> p_je THEN
        o_code := -31; o_msg := 'HIS结算金额【' || v_y.djje || '】与支付金额【' || COALESCE(p_je, 0)::numeric(12,2) || '】不符!'; RETURN; END IF;
    SELECT j.o_ghxh, j.o_sjh INTO o_ghxh, o_sjh FROM his.fn_gh_js(v_y.xh, p_czyh, p_zffs, p_zph, p_lsh, p_je, v_ybje, p_zxlsh, NULL) j;
    o_code := 0; o_msg := '成功';
END $$;

-- 红冲: original 0 -> 1, red row jlzt 2 with txh, negative lines and settlement with tsjh, number back. The caller holds the schedule row.
-- NULL when the registration is not valid (any more); '' when it had no settlement yet.
CREATE FUNCTION his.fn_hc(p_ghxh numeric, p_czyh varchar, p_tkdh varchar, p_yy varchar) RETURNS varchar LANGUAGE plpgsql AS $$
DECLARE v_sj varchar := his.fn_rq16(his.fn_dqsj()); v_xh numeric; v_sjh varchar; v_pb numeric;
BEGIN
    UPDATE his.gh_ghzdk SET jlzt = 1 WHERE xh = p_ghxh AND jlzt = 0 AND txh IS NULL RETURNING pbmxid INTO v_pb;
    IF NOT FOUND THEN RETURN NULL; END IF;
    v_sjh := '';
    IF EXISTS (SELECT 1 FROM his.sf_brjsk WHERE ghxh = p_ghxh AND tsjh IS NULL) THEN
        v_sjh := to_char(his.fn_dqsj(), 'YYMMDD') || lpad(nextval('his.seq_sjh')::text, 8, '0'); END IF;
    INSERT INTO his.gh_ghzdk (jssjh, patid, blh, ybdm, cardno, yyxh, hzxm, py, czyh, czrq, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, cfzbz,
                              lybz, ghlb, sfcs, txh, memo, pbmxid, appjkdm, jlzt)
    SELECT NULLIF(v_sjh, ''), patid, blh, ybdm, cardno, yyxh, hzxm, py, p_czyh, v_sj, ghrq, ksdm, ksmc, ysdm, ysmc, ghhx, cfzbz,
           lybz, ghlb, sfcs, xh, p_yy, pbmxid, appjkdm, 2
      FROM his.gh_ghzdk WHERE xh = p_ghxh RETURNING xh INTO v_xh;
    INSERT INTO his.gh_ghmxk (ghxh, xmdm, xmmc, xmdj, xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf)
    SELECT v_xh, xmdm, xmmc, xmdj, -xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf FROM his.gh_ghmxk WHERE ghxh = p_ghxh;
    INSERT INTO his.sf_brjsk (sjh, patid, ghxh, czyh, sfrq, ksdm, hzxm, blh, ybdm, zje, zfje, ybje, yhje, xjje, zpje, srje, zffs, zph,
                              jylsh, tkdh, wbddh, zxlsh, jslsh, ybjszt, tsjh, appjkdm, gxrq, jlzt)
    SELECT v_sjh, patid, v_xh, p_czyh, v_sj, ksdm, hzxm, blh, ybdm, -zje, -zfje, -ybje, -yhje, -xjje, -zpje, -srje, zffs, zph,
           jylsh, NULLIF(p_tkdh, ''), wbddh, zxlsh, jslsh, ybjszt, sjh, appjkdm, v_sj, 2
      FROM his.sf_brjsk WHERE ghxh = p_ghxh AND tsjh IS NULL;
    UPDATE his.sf_brjsk SET jlzt = 1, gxrq = v_sj WHERE ghxh = p_ghxh AND tsjh IS NULL;
    UPDATE his.gh_yy_pbzbmx SET ygh = GREATEST(ygh - 1, 0) WHERE pbmxid = v_pb;
    RETURN v_sjh;
END $$;

-- 退号规则: why a booking may not be given back (0 = may). Reads only. p_zph may be empty (then any payment). p_yb 1 = 医保 is undone first: what
-- it has paid stands not in the way, and the amount is its business.
CREATE FUNCTION his.fn_thgz(p_xh numeric, p_zph varchar, p_je numeric, p_yb int, OUT o_code int, OUT o_msg varchar, OUT o_ghxh numeric)
LANGUAGE plpgsql STABLE AS $$
DECLARE v_y his.gh_ghyyk; v_z his.gh_ghzdk; v_j his.sf_brjsk; v_yb boolean;
BEGIN
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE xh = p_xh;
    IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; RETURN; END IF;
    IF v_y.jlzt = 0 THEN o_code := -40; o_msg := '未缴费不能退号！'; RETURN; END IF;
    SELECT * INTO v_z FROM his.gh_ghzdk WHERE yyxh = p_xh AND txh IS NULL AND jlzt IN (0, 1) ORDER BY xh DESC LIMIT 1;
    IF NOT FOUND THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;        -- moved to the N tables
    IF v_z.jlzt = 1 THEN o_code := -41; o_msg := '该号已退号！'; RETURN; END IF;
    IF v_z.jsbz > 0 THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF v_z.cfbz > 0 THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    SELECT * INTO v_j FROM his.sf_brjsk WHERE ghxh = v_z.xh AND tsjh IS NULL;
    v_yb := v_j.ybjszt = 1 AND v_j.ybje > 0;
    IF v_z.fzbz = 1 AND his.fn_config('GH022', '是') <> '是' THEN
        o_code := -49; o_msg := '该号已取号，不能退号，请到窗口办理！'; RETURN; END IF;
    IF v_yb AND p_yb <> 1 THEN o_code := -45; o_msg := '该号为医疗保险号已经有交费记录,不能退费!'; RETURN; END IF;
    IF COALESCE(p_zph, '') <> '' AND p_zph <> COALESCE(v_j.zph, '') THEN o_code := -48; o_msg := '支付单号与预约不符！'; RETURN; END IF;
    IF NOT v_yb AND v_j.zje <> COALESCE(p_je, -1) THEN o_code := -43; o_msg := '健康160支付订单不支持部分退费'; RETURN; END IF;
    IF v_j.rjxh IS NOT NULL AND his.fn_config('GH021', '是') <> '是' THEN
        o_code := -44; o_msg := '该号已日结，不能退号，请到窗口办理！'; RETURN; END IF;
    o_code := 0; o_msg := '成功'; o_ghxh := v_z.xh;
END $$;
-- 退号检查: whether 退号退费, or 医保撤销 and 医保退号红冲, would give the order back now. Locks and changes nothing.
CREATE PROCEDURE his.usp_gh_thjc(p_ddh varchar, p_zph varchar, p_je numeric, OUT o_code int, OUT o_msg varchar, OUT o_yyxh numeric)
LANGUAGE plpgsql AS $$
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    SELECT max(xh) INTO o_yyxh FROM his.gh_ghyyk WHERE wbddh = p_ddh;
    IF o_yyxh IS NULL THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    SELECT g.o_code, g.o_msg INTO o_code, o_msg FROM his.fn_thgz(o_yyxh, p_zph, p_je, 1) g;
END $$;

-- 退号退费. p_sjh may be empty (then the receipt of the order), p_zph too (then any payment). o_tsjh = 红冲收据号, o_tkje 元 (positive).
CREATE PROCEDURE his.usp_gh_thtf(
    p_ddh varchar, p_sjh varchar, p_zph varchar, p_tkdh varchar, p_je numeric, p_czyh varchar, p_yy varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_tsjh varchar, OUT o_tkje numeric)
LANGUAGE plpgsql AS $$
DECLARE v_y his.gh_ghyyk; v_ghxh numeric; v_j his.sf_brjsk; v_h his.sf_brjsk;
BEGIN
    IF COALESCE(p_ddh, '') = '' OR COALESCE(p_tkdh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF NOT FOUND THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    PERFORM 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = v_y.pbmxid FOR UPDATE;
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE xh = v_y.xh;
    SELECT * INTO v_h FROM his.vw_brjsk WHERE tkdh = p_tkdh LIMIT 1;
    IF FOUND THEN
        IF v_h.wbddh = p_ddh THEN o_code := 1; o_msg := '已取消就诊，请勿重复推送'; o_tsjh := v_h.sjh; o_tkje := -v_h.zje;
        ELSE o_code := -47; o_msg := '退款单号已被其他订单使用！'; END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM his.gh_ghzdk WHERE yyxh = v_y.xh AND txh IS NULL AND jlzt = 0 FOR UPDATE;
    SELECT g.o_code, g.o_msg, g.o_ghxh INTO o_code, o_msg, v_ghxh FROM his.fn_thgz(v_y.xh, p_zph, p_je, 0) g;
    IF o_code <> 0 THEN RETURN; END IF;
    SELECT * INTO v_j FROM his.sf_brjsk WHERE ghxh = v_ghxh AND tsjh IS NULL;
    IF COALESCE(p_sjh, '') <> '' AND p_sjh <> v_j.sjh THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    o_tsjh := his.fn_hc(v_ghxh, p_czyh, p_tkdh, p_yy);
    o_code := 0; o_msg := '成功'; o_tkje := v_j.zje;
END $$;

-- 医保支付回写 = 医保挂号, after 2207A. Amounts 元: p_jjzf 基金, p_zhzf 个账 (p_gjzf 其中共济), p_xjzf 现金, p_yyfd 医院负担. p_zph, p_lsh: the cash part.
-- p_jzlsh 就诊号 as told to 医保 ('' = not checked). The same settlement of the same order again: the same answer.
CREATE PROCEDURE his.usp_yy_ybzfhx(
    p_ddh varchar, p_zph varchar, p_lsh varchar, p_czyh varchar, p_rybh varchar, p_xzlx varchar, p_cbdq varchar, p_jzid varchar, p_jzlsh varchar,
    p_sfpch varchar, p_jsid varchar, p_msgidgh varchar, p_msgidmx varchar, p_msgidjs varchar, p_qdbh varchar, p_jssj varchar, p_qslb varchar,
    p_qsfs varchar, p_qsjg varchar, p_yllb varchar, p_zje numeric, p_jjzf numeric, p_zhzf numeric, p_gjzf numeric, p_xjzf numeric, p_yyfd numeric,
    p_qzf numeric, p_cxj numeric, p_xxzf numeric, p_fhfw numeric, p_qfx numeric, p_tczf numeric, p_gwy numeric, p_qybc numeric, p_dbzf numeric,
    p_dezf numeric, p_yljz numeric, p_qtzf numeric, p_grfd numeric, p_ye numeric,
    OUT o_code int, OUT o_msg varchar, OUT o_ghxh numeric, OUT o_sjh varchar)
LANGUAGE plpgsql AS $$
DECLARE v_y his.gh_ghyyk; v_p his.gh_yy_pbzbmx; v_b his.yb_gbjsk;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    IF COALESCE(p_jsid, '') = '' OR COALESCE(p_jzid, '') = '' OR COALESCE(p_rybh, '') = '' THEN
        o_code := -36; o_msg := '医保结算号、就诊号和人员编号不能为空！'; RETURN; END IF;
    IF p_xjzf > 0 AND (COALESCE(p_lsh, '') = '' OR COALESCE(p_zph, '') = '') THEN
        o_code := -33; o_msg := '交易金额大于0时交易流水号必传！'; RETURN; END IF;
    IF p_zje <> p_jjzf + p_zhzf + p_xjzf + p_yyfd THEN o_code := -35; o_msg := '医保各部分之和与总金额不符！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF NOT FOUND OR (COALESCE(p_jzlsh, '') <> '' AND p_jzlsh <> v_y.xh::text) THEN o_code := -20; o_msg := '未找到预约记录！'; RETURN; END IF;
    SELECT * INTO v_p FROM his.gh_yy_pbzbmx WHERE pbmxid = v_y.pbmxid FOR UPDATE;
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE xh = v_y.xh FOR UPDATE;
    IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; RETURN; END IF;
    SELECT * INTO v_b FROM his.yb_gbjsk WHERE jsid = p_jsid LIMIT 1;
    IF v_y.jlzt = 1 THEN
        IF v_b.yyxh = v_y.xh THEN o_code := 1; o_msg := '已支付，请勿重复推送'; o_ghxh := v_b.ghxh; o_sjh := v_b.sjh;
        ELSE o_code := -32; o_msg := '该预约已支付，请勿重复支付！'; END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM his.vw_brjsk WHERE zph = NULLIF(p_zph, '');
    IF FOUND OR v_b.jsid IS NOT NULL THEN o_code := -34; o_msg := '支付流水号已被其他订单使用！'; RETURN; END IF;
    IF v_p.tzbz <> 0 OR v_p.jlzt <> 0 THEN o_code := -30; o_msg := '您所预约的医生已停诊，无法完成支付，请到窗口确认！'; RETURN; END IF;
    IF v_y.djje <> p_zje THEN o_code := -31; o_msg := 'HIS结算金额【' || v_y.djje || '】与支付金额【' || p_zje::numeric(12,2) || '】不符!'; RETURN; END IF;
    SELECT j.o_ghxh, j.o_sjh INTO o_ghxh, o_sjh
      FROM his.fn_gh_js(v_y.xh, p_czyh, CASE WHEN p_xjzf > 0 THEN '15' ELSE '09' END, p_zph, p_lsh, p_zje, p_zje - p_xjzf, p_jzid, p_jsid) j;
    INSERT INTO his.yb_gbjsk (sjh, ghxh, yyxh, rybh, xzlx, cbdq, jzid, jzlsh, sfpch, jsid, msgidgh, msgidmx, msgidjs, qdbh, jssj, qslb, qsfs, qsjg,
                              yllb, zje, qzf, cxj, xxzf, fhfw, qfx, tczf, gwy, qybc, dbzf, dezf, yljz, qtzf, jjzf, grfd, zhzf, xjzf, yyfd, gjzf, ye)
    VALUES (o_sjh, o_ghxh, v_y.xh, p_rybh, p_xzlx, p_cbdq, p_jzid, v_y.xh::text, p_sfpch, p_jsid, p_msgidgh, p_msgidmx, p_msgidjs, p_qdbh, p_jssj,
            p_qslb, p_qsfs, p_qsjg, p_yllb, p_zje, p_qzf, p_cxj, p_xxzf, p_fhfw, p_qfx, p_tczf, p_gwy, p_qybc, p_dbzf, p_dezf, p_yljz, p_qtzf,
            p_jjzf, p_grfd, p_zhzf, p_xjzf, p_yyfd, p_gjzf, p_ye);
    o_code := 0; o_msg := '成功';
END $$;

-- 医保退号红冲, after 2208 and after the cash has gone back: 日结 and 取号 do not stop it. p_cxjsid 结算ID of 2208, p_tkdh 退款单号 of the cash.
CREATE PROCEDURE his.usp_gh_ybthtf(
    p_ddh varchar, p_jsid varchar, p_cxjsid varchar, p_tkdh varchar, p_xjje numeric, p_czyh varchar, p_yy varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_tsjh varchar)
LANGUAGE plpgsql AS $$
DECLARE v_y his.gh_ghyyk; v_z his.gh_ghzdk; v_b his.yb_gbjsk; v_h his.sf_brjsk;
BEGIN
    IF COALESCE(p_ddh, '') = '' THEN o_code := -15; o_msg := '预约单号不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd(p_ddh);
    SELECT * INTO v_y FROM his.gh_ghyyk WHERE wbddh = p_ddh ORDER BY xh DESC LIMIT 1;
    IF v_y.jlzt = 2 THEN o_code := -9; o_msg := '该患者已经取消预约'; RETURN; END IF;
    IF v_y.jlzt = 0 THEN o_code := -40; o_msg := '未缴费不能退号！'; RETURN; END IF;
    PERFORM 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = v_y.pbmxid FOR UPDATE;
    SELECT * INTO v_b FROM his.yb_gbjsk WHERE jsid = p_jsid AND yyxh = v_y.xh LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN o_code := -60; o_msg := '未找到医保结算记录！'; RETURN; END IF;
    SELECT * INTO v_h FROM his.vw_brjsk WHERE tsjh = v_b.sjh AND jlzt = 2;
    IF v_b.jlzt = 1 THEN
        IF COALESCE(v_b.cxjsid, '') = COALESCE(p_cxjsid, '') AND COALESCE(v_h.tkdh, '') = COALESCE(p_tkdh, '') AND v_h.czyh = p_czyh THEN
            o_code := 1; o_msg := '已取消就诊，请勿重复推送'; o_tsjh := v_h.sjh;
        ELSE o_code := -41; o_msg := '该号已退号！'; END IF;
        RETURN;
    END IF;
    IF v_b.xjzf <> p_xjje THEN o_code := -61; o_msg := '退现金额与结算现金不符！'; RETURN; END IF;
    PERFORM 1 FROM his.vw_brjsk WHERE tkdh = NULLIF(p_tkdh, '');
    IF FOUND THEN o_code := -47; o_msg := '退款单号已被其他订单使用！'; RETURN; END IF;
    SELECT * INTO v_z FROM his.gh_ghzdk WHERE xh = v_b.ghxh FOR UPDATE;
    IF NOT FOUND OR v_z.jsbz > 0 THEN o_code := -42; o_msg := '该号已经看诊,不能作废'; RETURN; END IF;
    IF v_z.cfbz > 0 THEN o_code := -46; o_msg := '存在已结处方请先退处方再退挂号'; RETURN; END IF;
    o_tsjh := his.fn_hc(v_z.xh, p_czyh, p_tkdh, p_yy);
    IF o_tsjh IS NULL THEN o_code := -41; o_msg := '该号已退号！'; RETURN; END IF;
    UPDATE his.yb_gbjsk SET jlzt = 1, cxjsid = NULLIF(p_cxjsid, ''), cxrq = his.fn_rq16(his.fn_dqsj()) WHERE jsxh = v_b.jsxh;
    o_code := 0; o_msg := '成功';
END $$;

-- 建档, find or create. Finds by (zjlx, sfzh) in any case of X, newest visit first; a minor without number by name + phone.
CREATE PROCEDURE his.usp_gh_jbxxdj(
    p_hzxm varchar, p_zjlx varchar, p_sfzh varchar, p_sex varchar, p_birth varchar, p_lxdh varchar, p_lxdz varchar,
    p_jhrxm varchar, p_jhrsfzh varchar, p_jhrgx varchar, p_czyh varchar,
    OUT o_code int, OUT o_msg varchar, OUT o_patid numeric, OUT o_blh varchar, OUT o_isnew smallint)
LANGUAGE plpgsql AS $$
DECLARE v_b his.sf_brxxk; v_found boolean; v_no varchar := upper(trim(COALESCE(p_sfzh, ''))); v_sj varchar;
BEGIN
    IF COALESCE(trim(p_hzxm), '') = '' OR (v_no = '' AND COALESCE(p_jhrxm, '') = '') THEN
        o_code := -51; o_msg := '姓名、证件类型和证件号码不能为空！'; RETURN; END IF;
    PERFORM his.fn_ddsd('JD' || CASE WHEN v_no <> '' THEN v_no ELSE p_hzxm || p_lxdh END);
    IF v_no <> '' THEN
        SELECT * INTO v_b FROM his.sf_brxxk WHERE sfzh IN (v_no, lower(v_no)) AND zjlx = p_zjlx AND jlzt = 0
         ORDER BY (trim(hzxm) = trim(p_hzxm)) DESC, zjjzrq DESC NULLS LAST, patid DESC LIMIT 1;
        v_found := FOUND;
        IF v_found AND trim(v_b.hzxm) <> trim(p_hzxm) THEN
            o_code := -50; o_msg := '证件号码已存在但姓名不一致，请到窗口核实！'; RETURN; END IF;
    ELSE
        SELECT * INTO v_b FROM his.sf_brxxk WHERE trim(hzxm) = trim(p_hzxm) AND lxdh = p_lxdh AND COALESCE(sfzh, '') = '' AND jlzt = 0
         ORDER BY patid DESC LIMIT 1;
        v_found := FOUND;
    END IF;
    IF NOT v_found THEN
        v_sj := his.fn_rq16(his.fn_dqsj());
        INSERT INTO his.sf_brxxk (patid, hzxm, sex, birth, zjlx, sfzh, blh, lxdh, lxdz, ybdm, jhrxm, jhrsfzh, jhrgx, lrczyh, lrrq, gxrq, jlzt)
        VALUES (nextval('his.seq_patid'), trim(p_hzxm), p_sex, p_birth, p_zjlx, v_no, 'M' || nextval('his.seq_blh'), p_lxdh, p_lxdz, '01',
                p_jhrxm, p_jhrsfzh, p_jhrgx, p_czyh, v_sj, v_sj, 0)
        RETURNING * INTO v_b;
    END IF;
    o_code := 0; o_msg := '成功'; o_patid := v_b.patid; o_blh := v_b.blh; o_isnew := CASE WHEN v_found THEN 0 ELSE 1 END;
END $$;
