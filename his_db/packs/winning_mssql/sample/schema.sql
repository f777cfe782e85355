-- Sample HIS "winning_mssql": 卫宁 THIS4/5 style on SQL Server (2008 R2 or newer), owner dbo. The same tables as the pack "winning" (its PostgreSQL
-- port), with the product's user types. Never run here: see README.md. Database: CREATE DATABASE THIS4 COLLATE Chinese_PRC_CI_AS.
-- varchar holds CP936 (GBK) bytes: 㛃 䶮 become '?'; "=" ignores case and trailing blanks; dates are char(8) 'yyyyMMdd' or char(16)
-- 'yyyyMMddHH:mm:ss' without a separator; money is 元 ut_money; sex is text 男/女; jlzt is the record state of each table.
-- No table but those with gxrq has a last-modified column. No filtered indexes: the vendor's procedures are made with QUOTED_IDENTIFIER OFF,
-- and DML of such a procedure on a table with a filtered index fails (error 1934).
SET ANSI_NULLS ON;
GO
CREATE TYPE dbo.ut_xh12 FROM numeric(12,0);
CREATE TYPE dbo.ut_rq16 FROM char(16);
CREATE TYPE dbo.ut_rq8 FROM char(8);
CREATE TYPE dbo.ut_bz FROM smallint;
CREATE TYPE dbo.ut_money FROM numeric(12,2);
CREATE TYPE dbo.ut_czyh FROM varchar(10);
CREATE TYPE dbo.ut_ksdm FROM varchar(12);
CREATE TYPE dbo.ut_sjh FROM varchar(32);
GO
-- 系统参数, config '是'/'否' or a value.
-- GH001 锁号分钟数 · GH021 日结后是否允许退号 · GH022 取号后是否允许退号 · GH030 同一科室当天限约一次 · GH031 预约即挂号 · SJPY 样例时间偏移(天)
CREATE TABLE dbo.YY_CONFIG (id varchar(8) PRIMARY KEY, name varchar(64), config varchar(255));

-- 科室; jlzt 0 正常 1 停用; sfgh 1 = 挂号科室. name carries trailing blanks in some rows.
CREATE TABLE dbo.YY_KSBMK (
    id char(6) PRIMARY KEY, name varchar(40) NOT NULL, py varchar(16), wb varchar(16), yydm char(4) NOT NULL, lxwz varchar(60),
    jj varchar(400), ghf_pt dbo.ut_money, zlf_pt dbo.ut_money, pxh int, sfgh dbo.ut_bz NOT NULL DEFAULT 1, jlzt dbo.ut_bz NOT NULL DEFAULT 0,
    ybksbm varchar(30), ybkb varchar(16)          -- 医保科室编码, 科别; null = 未备案, 只能自费
);
-- 职工 (doctors, cashiers, virtual operators); lb 1 医生 2 收费员 9 虚拟操作员. zcdm 职称: 1 住院 2 主治 3 副主任 4 主任.
-- ybysbm 医保医师编码; null = 未备案, 只能自费
CREATE TABLE dbo.YY_ZGBMK (
    id char(6) PRIMARY KEY, name varchar(20) NOT NULL, py varchar(16), wb varchar(16), sex varchar(4), ks_id dbo.ut_ksdm, zcdm char(4),
    zcmc varchar(20), ybysbm varchar(30), jj varchar(400), lb dbo.ut_bz NOT NULL DEFAULT 1, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_zgbmk_ks ON dbo.YY_ZGBMK (ks_id);

-- 病人基本信息; zjlx CV02.01.101 (01 身份证 03 护照 06 港澳通行证); jlzt 0 正常 1 注销; several rows per sfzh exist (历史重复建档)
CREATE TABLE dbo.SF_BRXXK (
    patid dbo.ut_xh12 IDENTITY(200001,1) PRIMARY KEY, hzxm varchar(64) NOT NULL, py varchar(16), wb varchar(16), sex varchar(4), birth dbo.ut_rq8, zjlx char(2),
    sfzh varchar(18), blh varchar(32), cardno varchar(30), cardtype varchar(2), ybdm varchar(6), pzh varchar(32), lxdh varchar(32),
    lxdz varchar(128), dwbm varchar(12), jhrxm varchar(64), jhrsfzh varchar(18), jhrgx varchar(8), zjjzrq dbo.ut_rq16,  -- 监护人; 最近就诊
    lrczyh dbo.ut_czyh, lrrq dbo.ut_rq16, gxrq dbo.ut_rq16, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_brxxk_sfzh ON dbo.SF_BRXXK (sfzh);
CREATE INDEX idx_brxxk_lxdh ON dbo.SF_BRXXK (lxdh);
CREATE INDEX idx_brxxk_blh ON dbo.SF_BRXXK (blh);
-- 黑名单: lx 2 爽约锁定 3 欠费; in force when jlzt 0 and jsrq blank or not yet past
CREATE TABLE dbo.GH_YY_HMD (
    xh int IDENTITY(1,1) PRIMARY KEY, patid dbo.ut_xh12 NOT NULL, lx dbo.ut_bz NOT NULL, je dbo.ut_money,
    ksrq dbo.ut_rq16, jsrq dbo.ut_rq16, memo varchar(60), jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_hmd_patid ON dbo.GH_YY_HMD (patid);
-- 小程序就诊人绑定: zhid 账号, gx 1 本人 2 父母 3 子女 4 配偶 9 其他, mrbz 1 默认
CREATE TABLE dbo.WX_JZRBD (
    bdxh int IDENTITY(1,1) PRIMARY KEY, zhid varchar(64) NOT NULL, patid dbo.ut_xh12 NOT NULL, gx dbo.ut_bz NOT NULL, mrbz dbo.ut_bz NOT NULL DEFAULT 0,
    bdrq dbo.ut_rq16, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_jzrbd_zhid ON dbo.WX_JZRBD (zhid);

-- 时段 (午别): 01 上午 02 下午 03 晚上
CREATE TABLE dbo.GH_YY_ZZLX (id char(4) PRIMARY KEY, name varchar(20), kssj char(5), jssj char(5));
-- 号别: ghlb 0 普通 1 急诊 2 专家 4 特需
CREATE TABLE dbo.GH_YY_HBK (
    ghlb dbo.ut_bz PRIMARY KEY, name varchar(20), ghf dbo.ut_money, zlf dbo.ut_money, ghfxm varchar(12), zlfxm varchar(12)   -- 收费项目 of the two fees
);
-- 收费小项目; dydm = 国家医保目录编码, null = 医保不支付
CREATE TABLE dbo.YY_SFXXMK (id varchar(12) PRIMARY KEY, name varchar(40), xmdj dbo.ut_money, dydm varchar(40), jlzt dbo.ut_bz NOT NULL DEFAULT 0);

-- 排班明细. ysdm blank = 普通门诊, no doctor. tzbz 0 正常 1 停诊 (tzczyh/tzrq/tzyy set, blanked again at 恢复).
-- tdysdm = 原医生 after a 替诊. ygh counts locks, bookings and registrations; yyxh_max = the last number allotted (never reused).
-- jlzt 0 已发布 1 作废 2 未发布. Number n starts at kssj + (n-1)*jgfz minutes (not after jssj).
CREATE TABLE dbo.GH_YY_PBZBMX (
    pbmxid dbo.ut_xh12 PRIMARY KEY, zbrq dbo.ut_rq8 NOT NULL, ksdm dbo.ut_ksdm NOT NULL, ysdm char(6) NOT NULL DEFAULT '', zzlx char(4) NOT NULL,
    kssj char(5) NOT NULL, jssj char(5) NOT NULL, jgfz int NOT NULL, ghlb dbo.ut_bz NOT NULL, ghf dbo.ut_money NOT NULL,
    zlf dbo.ut_money NOT NULL, zgh int NOT NULL, ygh int NOT NULL DEFAULT 0, yyxh_max int NOT NULL DEFAULT 0,
    tzbz dbo.ut_bz NOT NULL DEFAULT 0, tzyy varchar(60), tzczyh dbo.ut_czyh, tzrq dbo.ut_rq16, tdysdm char(6), tdczyh dbo.ut_czyh, tdrq dbo.ut_rq16,
    jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_pbzbmx_rq ON dbo.GH_YY_PBZBMX (zbrq, ksdm);
CREATE INDEX idx_pbzbmx_ys ON dbo.GH_YY_PBZBMX (ysdm, zbrq);

-- 锁定库. zt 0 锁定 1 已转预约 2 已释放 3 已过期; sxsj 失效时间. An expired row stays 0 until the next lock of that schedule sweeps it.
CREATE TABLE dbo.GH_YY_SDK (
    sdxh int IDENTITY(1,1) PRIMARY KEY, ddh varchar(64) NOT NULL, pbmxid dbo.ut_xh12 NOT NULL, hx int NOT NULL,
    sdrq dbo.ut_rq16 NOT NULL, sxsj dbo.ut_rq16 NOT NULL, zt dbo.ut_bz NOT NULL DEFAULT 0, czyh dbo.ut_czyh
);
CREATE INDEX idx_sdk_ddh ON dbo.GH_YY_SDK (ddh);
CREATE INDEX idx_sdk_pb ON dbo.GH_YY_SDK (pbmxid);

-- 预约库. jlzt 0 未用 (预约未缴) 1 已挂 (stays 1 after a refund: see red rows) 2 取消. kfsdm = channel ('160 ', 'wx  ', 'ck  ').
-- wbddh = 平台订单号, no unique key. qxczyh/qxrq/qxyy = who cancelled.
CREATE TABLE dbo.GH_GHYYK (
    xh dbo.ut_xh12 IDENTITY(1000001,1) PRIMARY KEY, patid dbo.ut_xh12 NOT NULL, hzxm varchar(64), sfzh varchar(18),
    lxdh varchar(32), yyrq dbo.ut_rq16 NOT NULL, djrq dbo.ut_rq16 NOT NULL, ksdm dbo.ut_ksdm NOT NULL, ysdm char(6) NOT NULL DEFAULT '',
    pbmxid dbo.ut_xh12 NOT NULL, yyhx int NOT NULL, djbz dbo.ut_bz NOT NULL DEFAULT 0, djje dbo.ut_money NOT NULL DEFAULT 0,
    kfsdm char(4) NOT NULL, wbddh varchar(64), czyh dbo.ut_czyh, qxczyh dbo.ut_czyh, qxrq dbo.ut_rq16, qxyy varchar(60), jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_ghyyk_ddh ON dbo.GH_GHYYK (wbddh);
CREATE INDEX idx_ghyyk_rq ON dbo.GH_GHYYK (yyrq);
CREATE INDEX idx_ghyyk_pat ON dbo.GH_GHYYK (patid);
CREATE INDEX idx_ghyyk_pb ON dbo.GH_GHYYK (pbmxid);

-- 挂号账单库. jlzt 9 写入中 (half written: ignore) 0 有效 1 已退 (the original) 2 红冲 (the red row, txh = xh of the original).
-- yyxh = gh_ghyyk.xh or null (现场号). lybz 0 窗口 1 预约 2 自助. fzbz 1 已签到/分诊 (fzrq). jsbz 0 未就诊 1 接诊 2 诊毕 (jzrq).
-- cfbz 1 = 已开处方. ghhx 号序: the same number may occur twice (known defect).
CREATE TABLE dbo.GH_GHZDK (
    xh dbo.ut_xh12 IDENTITY(500000001,1) PRIMARY KEY, jssjh dbo.ut_sjh, patid dbo.ut_xh12 NOT NULL, blh varchar(32),
    ybdm varchar(6), cardno varchar(30), yyxh dbo.ut_xh12, hzxm varchar(64), py varchar(16), wb varchar(16), czyh dbo.ut_czyh NOT NULL,
    czrq dbo.ut_rq16 NOT NULL, ghrq dbo.ut_rq16 NOT NULL, ksdm dbo.ut_ksdm NOT NULL, ksmc varchar(40), ysdm char(6) NOT NULL DEFAULT '',
    ysmc varchar(20), ghhx int, cfzbz dbo.ut_bz DEFAULT 0, lybz dbo.ut_bz DEFAULT 0, ghlb dbo.ut_bz DEFAULT 0, sfcs int DEFAULT 1,
    txh dbo.ut_xh12, fzbz dbo.ut_bz DEFAULT 0, fzrq dbo.ut_rq16, jsbz dbo.ut_bz DEFAULT 0, jzrq dbo.ut_rq16, cfbz dbo.ut_bz DEFAULT 0,
    memo varchar(60), pbmxid dbo.ut_xh12, appjkdm char(4), jlzt dbo.ut_bz NOT NULL DEFAULT 9
);
CREATE INDEX idx_ghzdk_yyxh ON dbo.GH_GHZDK (yyxh);
CREATE INDEX idx_ghzdk_txh ON dbo.GH_GHZDK (txh);
CREATE INDEX idx_ghzdk_rq ON dbo.GH_GHZDK (ghrq);
CREATE INDEX idx_ghzdk_czrq ON dbo.GH_GHZDK (czrq);
CREATE INDEX idx_ghzdk_pb ON dbo.GH_GHZDK (pbmxid);
-- 挂号明细. isghf 1 挂号费 2 诊疗费; red lines have negative xmsl
CREATE TABLE dbo.GH_GHMXK (
    mxxh int IDENTITY(1,1) PRIMARY KEY, ghxh dbo.ut_xh12 NOT NULL, xmdm varchar(12), xmmc varchar(40), xmdj dbo.ut_money,
    xmsl int, dxmdm varchar(4), dxmmc varchar(20), zfdj dbo.ut_money, yhdj dbo.ut_money, memo varchar(60), isghf dbo.ut_bz
);
CREATE INDEX idx_ghmxk_ghxh ON dbo.GH_GHMXK (ghxh);

-- 结算库. jlzt 0 有效 1 已退 2 红冲 (tsjh = 原收据号, amounts negative). rjxh null = 未日结. ybjszt 1 = 医保已结: zxlsh 就诊ID, jslsh 结算ID.
-- zje 总金额 = zfje 自付 + ybje 医保记账; xjje 现金, zpje 网络支付 (zph 商户订单号, jylsh 交易流水号); tkdh 退款单号 on the red row.
CREATE TABLE dbo.SF_BRJSK (
    sjh dbo.ut_sjh PRIMARY KEY, patid dbo.ut_xh12 NOT NULL, ghxh dbo.ut_xh12 NOT NULL, fph varchar(20), czyh dbo.ut_czyh NOT NULL,
    sfrq dbo.ut_rq16 NOT NULL, ksdm dbo.ut_ksdm, hzxm varchar(64), blh varchar(32), ybdm varchar(6), zje dbo.ut_money NOT NULL,
    zfje dbo.ut_money NOT NULL DEFAULT 0, ybje dbo.ut_money NOT NULL DEFAULT 0, yhje dbo.ut_money NOT NULL DEFAULT 0,
    xjje dbo.ut_money NOT NULL DEFAULT 0, zpje dbo.ut_money NOT NULL DEFAULT 0, srje dbo.ut_money NOT NULL DEFAULT 0,
    zffs char(2) NOT NULL, zph varchar(64), jylsh varchar(64), tkdh varchar(64), wbddh varchar(64), zxlsh varchar(64),
    jslsh varchar(64), ybjszt dbo.ut_bz NOT NULL DEFAULT 0, tsjh dbo.ut_sjh, ghsfbz dbo.ut_bz NOT NULL DEFAULT 0, rjxh dbo.ut_xh12, appjkdm char(4),
    gxrq dbo.ut_rq16, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_brjsk_ghxh ON dbo.SF_BRJSK (ghxh);
CREATE INDEX idx_brjsk_sfrq ON dbo.SF_BRJSK (sfrq);
CREATE INDEX idx_brjsk_zph ON dbo.SF_BRJSK (zph);
CREATE INDEX idx_brjsk_ddh ON dbo.SF_BRJSK (wbddh);
CREATE INDEX idx_brjsk_tsjh ON dbo.SF_BRJSK (tsjh);
CREATE INDEX idx_brjsk_tkdh ON dbo.SF_BRJSK (tkdh);
-- 国标医保结算库, one row for each 2207A; 2208 makes jlzt 0 有效 -> 1 已撤销 (cxjsid 结算ID of 2208, cxrq). jzlsh 就诊号 = gh_ghyyk.xh, of a
-- walk-in gh_ghzdk.xh. msgidgh / msgidmx / msgidjs = msgid of 2201 / 2204 / 2207A. jjzf 基金合计, tczf 统筹, zhzf 个账, gjzf 共济, xjzf 现金, yyfd 医院.
CREATE TABLE dbo.YB_GBJSK (
    jsxh int IDENTITY(1,1) PRIMARY KEY, sjh dbo.ut_sjh NOT NULL, ghxh dbo.ut_xh12 NOT NULL, yyxh dbo.ut_xh12, rybh varchar(30) NOT NULL, xzlx varchar(6), cbdq varchar(6),
    jzid varchar(30) NOT NULL, jzlsh varchar(30), sfpch varchar(30), jsid varchar(30) NOT NULL, msgidgh varchar(30), msgidmx varchar(30),
    msgidjs varchar(30), qdbh varchar(30), jssj dbo.ut_rq16, qslb varchar(6), qsfs varchar(6), qsjg varchar(6), yllb varchar(6),
    zje dbo.ut_money NOT NULL, qzf dbo.ut_money, cxj dbo.ut_money, xxzf dbo.ut_money, fhfw dbo.ut_money, qfx dbo.ut_money, tczf dbo.ut_money, gwy dbo.ut_money, qybc dbo.ut_money, dbzf dbo.ut_money, dezf dbo.ut_money, yljz dbo.ut_money, qtzf dbo.ut_money,
    jjzf dbo.ut_money NOT NULL, grfd dbo.ut_money, zhzf dbo.ut_money NOT NULL, xjzf dbo.ut_money NOT NULL, yyfd dbo.ut_money, gjzf dbo.ut_money, ye dbo.ut_money, cxjsid varchar(30), cxrq dbo.ut_rq16,
    jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_gbjsk_ghxh ON dbo.YB_GBJSK (ghxh);
CREATE INDEX idx_gbjsk_yyxh ON dbo.YB_GBJSK (yyxh);
CREATE INDEX idx_gbjsk_jsid ON dbo.YB_GBJSK (jsid);
-- 挂号日结; sf_brjsk.rjxh points here
CREATE TABLE dbo.GH_RJZ (
    rjxh dbo.ut_xh12 PRIMARY KEY, czyh dbo.ut_czyh NOT NULL, jzrq dbo.ut_rq16 NOT NULL, ghrs int, ghje dbo.ut_money, thrs int, thje dbo.ut_money,
    xjje dbo.ut_money, wxje dbo.ut_money, ybje dbo.ut_money, qtje dbo.ut_money, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);

-- Nightly move of old rows (visit more than 3 days ago, with its settlement and red rows): N tables + union views.
-- Reading gh_ghzdk alone makes yesterday's rows "vanish": always read vw_ghzdk / vw_brjsk.
CREATE TABLE dbo.GH_NGHZDK (
    xh dbo.ut_xh12 PRIMARY KEY, jssjh dbo.ut_sjh, patid dbo.ut_xh12 NOT NULL, blh varchar(32),
    ybdm varchar(6), cardno varchar(30), yyxh dbo.ut_xh12, hzxm varchar(64), py varchar(16), wb varchar(16), czyh dbo.ut_czyh NOT NULL,
    czrq dbo.ut_rq16 NOT NULL, ghrq dbo.ut_rq16 NOT NULL, ksdm dbo.ut_ksdm NOT NULL, ksmc varchar(40), ysdm char(6) NOT NULL DEFAULT '',
    ysmc varchar(20), ghhx int, cfzbz dbo.ut_bz DEFAULT 0, lybz dbo.ut_bz DEFAULT 0, ghlb dbo.ut_bz DEFAULT 0, sfcs int DEFAULT 1,
    txh dbo.ut_xh12, fzbz dbo.ut_bz DEFAULT 0, fzrq dbo.ut_rq16, jsbz dbo.ut_bz DEFAULT 0, jzrq dbo.ut_rq16, cfbz dbo.ut_bz DEFAULT 0,
    memo varchar(60), pbmxid dbo.ut_xh12, appjkdm char(4), jlzt dbo.ut_bz NOT NULL DEFAULT 9
);
CREATE INDEX idx_nghzdk_yyxh ON dbo.GH_NGHZDK (yyxh);
CREATE INDEX idx_nghzdk_txh ON dbo.GH_NGHZDK (txh);
CREATE INDEX idx_nghzdk_rq ON dbo.GH_NGHZDK (ghrq);
CREATE TABLE dbo.SF_NBRJSK (
    sjh dbo.ut_sjh PRIMARY KEY, patid dbo.ut_xh12 NOT NULL, ghxh dbo.ut_xh12 NOT NULL, fph varchar(20), czyh dbo.ut_czyh NOT NULL,
    sfrq dbo.ut_rq16 NOT NULL, ksdm dbo.ut_ksdm, hzxm varchar(64), blh varchar(32), ybdm varchar(6), zje dbo.ut_money NOT NULL,
    zfje dbo.ut_money NOT NULL DEFAULT 0, ybje dbo.ut_money NOT NULL DEFAULT 0, yhje dbo.ut_money NOT NULL DEFAULT 0,
    xjje dbo.ut_money NOT NULL DEFAULT 0, zpje dbo.ut_money NOT NULL DEFAULT 0, srje dbo.ut_money NOT NULL DEFAULT 0,
    zffs char(2) NOT NULL, zph varchar(64), jylsh varchar(64), tkdh varchar(64), wbddh varchar(64), zxlsh varchar(64),
    jslsh varchar(64), ybjszt dbo.ut_bz NOT NULL DEFAULT 0, tsjh dbo.ut_sjh, ghsfbz dbo.ut_bz NOT NULL DEFAULT 0, rjxh dbo.ut_xh12, appjkdm char(4),
    gxrq dbo.ut_rq16, jlzt dbo.ut_bz NOT NULL DEFAULT 0
);
CREATE INDEX idx_nbrjsk_ghxh ON dbo.SF_NBRJSK (ghxh);
CREATE INDEX idx_nbrjsk_zph ON dbo.SF_NBRJSK (zph);
CREATE INDEX idx_nbrjsk_ddh ON dbo.SF_NBRJSK (wbddh);
CREATE INDEX idx_nbrjsk_tsjh ON dbo.SF_NBRJSK (tsjh);
CREATE INDEX idx_nbrjsk_tkdh ON dbo.SF_NBRJSK (tkdh);
GO
CREATE VIEW dbo.VW_GHZDK AS SELECT * FROM dbo.GH_GHZDK UNION ALL SELECT * FROM dbo.GH_NGHZDK;
GO
CREATE VIEW dbo.VW_BRJSK AS SELECT * FROM dbo.SF_BRJSK UNION ALL SELECT * FROM dbo.SF_NBRJSK;
GO
