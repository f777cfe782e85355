-- bsoft: 创业 PHIS style on MySQL 5.7+ / MariaDB 10.3+. Column names and types follow the published Hibernate mappings
-- (domain facts 5.5); what had to be invented for the sample is marked [样例]. Money is DOUBLE, as the vendor has it.
-- No foreign keys, no triggers, no last-modified column: this is how the product is.

CREATE TABLE GY_XTCS (                 -- 系统参数 [样例: names and values]
  CSMC VARCHAR(20) NOT NULL PRIMARY KEY,
  CSZ  VARCHAR(60) NOT NULL,
  BZ   VARCHAR(100)
);

CREATE TABLE GY_XHB (                  -- 序号表 [样例]: the next key is drawn by UPDATE, the row lock serialises
  BM  VARCHAR(20) NOT NULL PRIMARY KEY,
  DQZ BIGINT NOT NULL
);

CREATE TABLE GY_YGDM (                 -- 员工代码 [样例: not in the published part]
  YGDM VARCHAR(18) NOT NULL PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  YGXM VARCHAR(40) NOT NULL,
  KSDM BIGINT,                         -- 所在门诊科室
  YGJB INT,                            -- 1 住院医师 2 主治医师 3 副主任医师 4 主任医师
  YGLB INT NOT NULL,                   -- 1 医生 2 收费员 9 虚拟操作员
  PYDM VARCHAR(6),                     -- pinyin initials, cut to six
  YGJJ VARCHAR(200),
  YBBM VARCHAR(30),                    -- 医保医师编码; NULL = not registered with 医保: self-pay only
  ZFPB INT NOT NULL DEFAULT 0          -- 1 停用
);

CREATE TABLE GY_YLSF (                 -- 医疗收费项目 [样例: the columns used]
  FYXH BIGINT NOT NULL PRIMARY KEY,
  FYMC VARCHAR(60) NOT NULL,
  FYDJ DOUBLE NOT NULL,
  YBBM VARCHAR(40),                    -- 国家目录编码; NULL = not in the catalogue
  ZFPB INT NOT NULL DEFAULT 0
);

CREATE TABLE MS_GHKS (                 -- 挂号科室: several of one 门诊科室 (MZKS), one per 号别
  KSDM BIGINT NOT NULL PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  KSMC VARCHAR(40) NOT NULL,
  GHLB INT NOT NULL,                   -- 1 普通 2 急诊 3 专家 4 特需 [样例: 3 and 4]
  PYDM VARCHAR(6),
  WBDM VARCHAR(6),
  GHF  DOUBLE NOT NULL DEFAULT 0,
  ZLF  DOUBLE NOT NULL DEFAULT 0,
  ZJMZ INT NOT NULL DEFAULT 0,         -- 1 专家门诊
  MZKS BIGINT NOT NULL,                -- 门诊科室: the MS_GHKS row of the 普通号
  TJPB INT NOT NULL DEFAULT 0,
  DDXX VARCHAR(200),                   -- 地点
  GHXM BIGINT,                         -- GY_YLSF.FYXH of the 挂号费 [样例]
  ZLXM BIGINT,                         -- of the 诊疗费 [样例]
  YBKS VARCHAR(30),                    -- 医保科室编码; NULL = not registered [样例]
  YBKB VARCHAR(10),                    -- 医保科别 A03.04 [样例]
  ZFPB INT NOT NULL DEFAULT 0          -- 1 停用 [样例]
);

CREATE TABLE MS_KSPB (                 -- 科室排班: weekly. GHRQ is a weekday, 1 = Sunday
  GHRQ INT NOT NULL,
  ZBLB INT NOT NULL,
  GHKS BIGINT NOT NULL,
  JGID VARCHAR(8) NOT NULL,
  JZXH INT NOT NULL DEFAULT 0,
  GHXE INT NOT NULL,
  YGRS INT NOT NULL DEFAULT 0,
  YYRS INT NOT NULL DEFAULT 0,
  YYXE INT NOT NULL,
  TGBZ INT NOT NULL DEFAULT 0,
  YYKSSJ VARCHAR(5),
  YYJSSJ VARCHAR(5),
  YYJG VARCHAR(2),
  PRIMARY KEY (GHRQ, ZBLB, GHKS)
);

CREATE TABLE MS_YSPB (                 -- 医生排班, one row a day. YSDM '0' = 普通号 without a doctor [样例]
  GZRQ DATE NOT NULL,
  KSDM BIGINT NOT NULL,
  YSDM VARCHAR(18) NOT NULL,
  ZBLB INT NOT NULL,                   -- 1 上午 2 下午 3 晚上 [样例: 3]
  JGID VARCHAR(8) NOT NULL,
  GHXE INT NOT NULL,                   -- 挂号限额: all numbers
  YGRS INT NOT NULL DEFAULT 0,         -- 现场已挂 [样例: on-site only]
  YYRS INT NOT NULL DEFAULT 0,         -- 已预约, locks included
  JZXH INT NOT NULL DEFAULT 0,         -- last 就诊序号 given; only grows
  YYXE INT NOT NULL,                   -- 预约限额: numbers open to booking; 0 = not open
  TGBZ INT NOT NULL DEFAULT 0,         -- 停挂: no operator, no time, no reason
  YYKSSJ VARCHAR(5),                   -- 'HH:mm'; blank: as in MS_KSPB of that weekday
  YYJSSJ VARCHAR(5),
  YYJG VARCHAR(2),                     -- minutes between two numbers
  YPYS VARCHAR(18),                    -- 原排医生 when replaced, else NULL [样例: a site's addition]
  PRIMARY KEY (GZRQ, KSDM, YSDM, ZBLB)
);

CREATE TABLE MS_BRDA (                 -- 病人档案
  BRID BIGINT NOT NULL PRIMARY KEY,
  MZHM VARCHAR(32) NOT NULL,           -- 门诊号码
  EMPIID VARCHAR(32),
  BRXM VARCHAR(40) NOT NULL,
  ZJLX VARCHAR(2),                     -- 证件类型 CV02.01.101 [样例]
  SFZH VARCHAR(20),
  BRXZ INT NOT NULL DEFAULT 1,         -- 病人性质 1 自费 2 医保
  BRXB INT,                            -- 性别 GB/T 2261.1
  CSNY DATE,                           -- 出生; '0000-00-00' in old rows
  JZKH VARCHAR(40),                    -- 就诊卡号
  LXDH VARCHAR(20),
  LXDZ VARCHAR(100),
  LXRM VARCHAR(40),                    -- 联系人 (guardian)
  YBKH VARCHAR(20),
  JZRQ DATETIME,                       -- last visit
  JDSJ DATETIME NOT NULL,
  JDR  VARCHAR(10),
  ZXBZ INT NOT NULL DEFAULT 0,         -- 1 注销
  KEY IX_BRDA_SFZH (SFZH),
  KEY IX_BRDA_JZKH (JZKH)
);

CREATE TABLE MS_YYXZ (                 -- 预约限制名单 [样例]
  BRID BIGINT NOT NULL,
  XZLX INT NOT NULL,                   -- 1 爽约 2 欠费
  KSRQ DATE NOT NULL,
  JSRQ DATE,                           -- NULL or '0000-00-00': no end
  BZ   VARCHAR(100),
  PRIMARY KEY (BRID, XZLX)
);

CREATE TABLE MS_YYGHHY (               -- 号源: the lock, then the order of a channel
  HYXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  HYKS BIGINT NOT NULL,
  HYJG VARCHAR(20),
  HYYS VARCHAR(20) NOT NULL,           -- doctor of the schedule as planned; 替诊 leaves it
  HYSJ DATETIME NOT NULL,              -- when the number is due
  HYZT VARCHAR(1) NOT NULL,            -- 1 锁定 2 已预约 3 已释放 [样例: values]
  BRID BIGINT,
  SFZH VARCHAR(1),                     -- ONE character: a full number is refused (strict mode) or cut without a word
  TYSJ DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',  -- 退约时间
  ZBLB VARCHAR(1) NOT NULL,
  SOURCE BIGINT NOT NULL,              -- 渠道: 160 健康160, 2 微信 [样例: values]
  CARDID VARCHAR(20),
  CARDTYPE VARCHAR(2),
  PATIENTNAME VARCHAR(20),
  PATIENTGENDER BIGINT,
  PATIENTBIRTHDAY VARCHAR(20),
  TELEPHONENO VARCHAR(30),
  ADDRESS VARCHAR(30),
  SDXH VARCHAR(30),                    -- 锁定序号 = the 就诊序号 that the lock holds
  GHF DOUBLE, ZLF DOUBLE, ZFJE DOUBLE,
  DDH  VARCHAR(32) NOT NULL,           -- 订单号 of the channel
  DDSJ VARCHAR(32) NOT NULL,           -- 'yyyy-MM-dd HH:mm:ss' when locked
  KEY IX_YYGHHY_DDH (DDH),
  KEY IX_YYGHHY_HY (HYKS, HYSJ)
) AUTO_INCREMENT = 500001;

CREATE TABLE MS_YYGH (                 -- 预约挂号
  YYXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  YYMM VARCHAR(10),                    -- 预约密码
  BRID BIGINT NOT NULL,
  GHRQ DATE NOT NULL,                  -- clinic date
  KSDM BIGINT NOT NULL,
  ZBLB INT NOT NULL,
  YSDM VARCHAR(18) NOT NULL,           -- who will see the patient; changes with 替诊
  YYLB INT NOT NULL DEFAULT 1,
  GHBZ INT NOT NULL DEFAULT 0,         -- 0 未取号 1 已取号 9 已退约 [样例: 9]
  YYRQ DATETIME NOT NULL,              -- when booked
  JZXH INT NOT NULL,
  SBXH BIGINT,                         -- MS_GHMX once paid
  ZCID BIGINT,                         -- MS_YYGHHY.HYXH [样例: use]
  QXSJ VARCHAR(20),                    -- 取消时间, TEXT: 'yyyy/M/d H:mm:ss' of the window, 'yyyy-MM-dd HH:mm:ss' of interfaces [样例]
  DJGH VARCHAR(10) NOT NULL,           -- 登记工号; 退约 overwrites it with who cancelled [样例]
  KEY IX_YYGH_RQ (GHRQ, KSDM),
  KEY IX_YYGH_HY (ZCID),
  KEY IX_YYGH_BR (BRID)
) AUTO_INCREMENT = 300001;

CREATE TABLE MS_GHMX (                 -- 挂号明细
  SBXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  BRID BIGINT NOT NULL,
  BRXZ INT NOT NULL,
  GHSJ DATETIME NOT NULL,
  GHLB INT NOT NULL,                   -- as MS_GHKS.GHLB
  GHRQ DATE NOT NULL,                  -- clinic date [样例]
  ZBLB INT NOT NULL,                   -- [样例]
  KSDM BIGINT NOT NULL,
  YSDM VARCHAR(18) NOT NULL,
  JZYS VARCHAR(18),                    -- who saw the patient
  JZXH INT NOT NULL,
  GHCS INT NOT NULL DEFAULT 1,
  GHJE DOUBLE NOT NULL DEFAULT 0,
  ZLJE DOUBLE NOT NULL DEFAULT 0,
  ZJFY DOUBLE NOT NULL DEFAULT 0,
  BLJE DOUBLE NOT NULL DEFAULT 0,
  XJJE DOUBLE NOT NULL DEFAULT 0,
  ZPJE DOUBLE NOT NULL DEFAULT 0,
  ZHJE DOUBLE NOT NULL DEFAULT 0,      -- 个人账户
  HBWC DOUBLE NOT NULL DEFAULT 0,
  QTYS DOUBLE NOT NULL DEFAULT 0,      -- 其他应收: WeChat, Alipay, 健康160
  ZHLB INT,
  THBZ INT NOT NULL DEFAULT 0,         -- 1 已退号
  CZGH VARCHAR(10) NOT NULL,
  JZRQ DATETIME,                       -- 结账日期; NULL = not day-closed
  HZRQ DATETIME,
  JZHM VARCHAR(20),
  YYBZ INT NOT NULL DEFAULT 0,         -- 1 from a booking
  JZZT INT NOT NULL DEFAULT 0,         -- 0 候诊 1 就诊中 9 就诊结束 [样例: values]
  NJJBLSH VARCHAR(40),                 -- 医保结算号 (setl_id)
  QHSJ DATETIME,                       -- 取号时间
  FFFS INT,                            -- as MS_FKXX.FKFS
  HYXH BIGINT,
  PAYTYPE VARCHAR(4),                  -- 160 / wx / zzj / ck [样例: values]
  YHJE DOUBLE NOT NULL DEFAULT 0,
  KEY IX_GHMX_BR (BRID),
  KEY IX_GHMX_SJ (GHSJ)
) AUTO_INCREMENT = 8000001;

CREATE TABLE MS_THMX (                 -- 退号明细: who and when of THBZ = 1
  SBXH BIGINT NOT NULL PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  CZGH VARCHAR(10) NOT NULL,
  JZRQ DATETIME,
  MZLB BIGINT,
  HZRQ DATETIME,
  THRQ DATETIME NOT NULL,
  KEY IX_THMX_RQ (THRQ)
);

CREATE TABLE MS_MZXX (                 -- 门诊收费
  MZXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  FPHM VARCHAR(20) NOT NULL,           -- 发票
  SFRQ DATETIME NOT NULL,
  BRID BIGINT NOT NULL,
  XJJE DOUBLE NOT NULL DEFAULT 0,
  QTYS DOUBLE NOT NULL DEFAULT 0,
  HBWC DOUBLE NOT NULL DEFAULT 0,
  ZJJE DOUBLE NOT NULL,                -- total
  ZFJE DOUBLE NOT NULL,                -- 自负: what the 基金 does not pay
  ZHJE DOUBLE NOT NULL DEFAULT 0,      -- 个人账户 [样例: as in MS_GHMX]
  JJZFJE DOUBLE NOT NULL DEFAULT 0,    -- 基金支付 (insurance)
  ZFPB INT NOT NULL DEFAULT 0,         -- 1 作废
  THPB INT NOT NULL DEFAULT 0,         -- 1 退号
  GHGL BIGINT,                         -- MS_GHMX.SBXH
  CZGH VARCHAR(10) NOT NULL,
  JZRQ DATETIME,
  HZRQ DATETIME,
  FFFS INT,
  KEY IX_MZXX_GH (GHGL)
) AUTO_INCREMENT = 900001;

CREATE TABLE MS_FKXX (                 -- 付款信息: one row per way of paying; a refund is a negative row [样例]
  JLXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  MZXH BIGINT NOT NULL,
  FKFS BIGINT NOT NULL,                -- 1 现金 3 银行卡 4 预交金 9 医保 15 微信 16 支付宝 98 交易流水(金额 0) 99 其他 [样例]
  FKJE DOUBLE NOT NULL,
  FKHM VARCHAR(40),                    -- 付款号码: order number of the payment side
  KEY IX_FKXX_MZ (MZXH),
  KEY IX_FKXX_HM (FKHM)
) AUTO_INCREMENT = 950001;

CREATE TABLE YB_GHJS (                 -- 医保挂号结算 [样例]: one row a settlement; its reversal is a row of its own, all amounts negative
  JSXH BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JSLX INT NOT NULL,                   -- 1 结算 2 撤销(红冲)
  YXSH BIGINT,                         -- of a reversal: the JSXH that it undoes
  SBXH BIGINT NOT NULL,                -- MS_GHMX
  MZXH BIGINT NOT NULL,                -- MS_MZXX
  BRID BIGINT NOT NULL,
  RYBH VARCHAR(30) NOT NULL,           -- psn_no
  XZLX VARCHAR(6),                     -- insutype
  CBDQ VARCHAR(6),                     -- insuplc_admdvs
  JZID VARCHAR(30) NOT NULL,           -- mdtrt_id
  MZLSH VARCHAR(30),                   -- ipt_otp_no: the visit number that 医保 was told
  SFPC VARCHAR(30),                    -- chrg_bchno
  JSID VARCHAR(30) NOT NULL,           -- setl_id; of a reversal the number that 2208 gave
  JZBW VARCHAR(30), FYBW VARCHAR(30), JSBW VARCHAR(30), -- msgid of 2203A, 2204, 2207A
  QDBH VARCHAR(30),                    -- sign_no
  JSSJ DATETIME NOT NULL,              -- setl_time
  QSLB VARCHAR(6), QSFS VARCHAR(6), QSJG VARCHAR(6), YLLB VARCHAR(6),
  ZFY DOUBLE NOT NULL, QZFJE DOUBLE, CXJZF DOUBLE, XXZF DOUBLE, FHZC DOUBLE, QFX DOUBLE, TCZF DOUBLE, GWYBZ DOUBLE, DBZF DOUBLE,
  DEZF DOUBLE, QYBC DOUBLE, YLJZ DOUBLE, QTZF DOUBLE, JJZE DOUBLE NOT NULL, GRFD DOUBLE, ZHZF DOUBLE NOT NULL, XJZF DOUBLE NOT NULL,
  YYFD DOUBLE, GJZF DOUBLE, ZHYE DOUBLE,
  CZGH VARCHAR(10) NOT NULL,
  KEY IX_YBGHJS_GH (SBXH),
  KEY IX_YBGHJS_JS (JSID)
) AUTO_INCREMENT = 700001;

CREATE TABLE MS_CF01 (                 -- 处方 [样例: the columns used]
  CFSB BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  JGID VARCHAR(8) NOT NULL,
  GHXH BIGINT NOT NULL,                -- MS_GHMX.SBXH
  BRID BIGINT NOT NULL,
  KSDM BIGINT NOT NULL,
  YSDM VARCHAR(18) NOT NULL,
  KFRQ DATETIME NOT NULL,
  ZFPB INT NOT NULL DEFAULT 0,         -- 1 作废
  KEY IX_CF01_GH (GHXH)
);

CREATE TABLE MS_GHRB (                 -- 挂号日报
  CZGH VARCHAR(10) NOT NULL,
  JZRQ DATETIME NOT NULL,
  JGID VARCHAR(8) NOT NULL,
  QZPJ VARCHAR(255),
  ZJJE DOUBLE NOT NULL,
  XJJE DOUBLE NOT NULL,
  QTYS DOUBLE NOT NULL,
  HZRQ DATETIME,
  FPZS INT NOT NULL,
  THFP VARCHAR(255),
  THSL INT NOT NULL,
  THJE DOUBLE NOT NULL,
  WXHJ DOUBLE NOT NULL,
  ZFBHJ DOUBLE NOT NULL,
  YBZFHJ DOUBLE NOT NULL DEFAULT 0,
  PRIMARY KEY (CZGH, JZRQ)
);

CREATE TABLE MS_GHRB_FKMX (
  CZGH VARCHAR(10) NOT NULL,
  JZRQ DATETIME NOT NULL,
  FKFS BIGINT NOT NULL,
  JGID VARCHAR(8) NOT NULL,
  FKJE DOUBLE NOT NULL,
  PRIMARY KEY (CZGH, JZRQ, FKFS)
);

DELIMITER $$
-- 建档. o_code: 0 ok (o_xj 1 = made now, 0 = was there) · -1 证件号已被他人使用 (other name) · -2 资料不全.
-- The row of GY_XHB is taken first, so that two calls with the same document wait for each other. Does not commit.
CREATE PROCEDURE SP_MS_BRJD(
  IN p_brxm VARCHAR(40), IN p_zjlx VARCHAR(2), IN p_sfzh VARCHAR(20), IN p_brxb INT, IN p_csny DATE, IN p_lxdh VARCHAR(20),
  IN p_lxdz VARCHAR(100), IN p_lxrm VARCHAR(40), IN p_jdr VARCHAR(10), IN p_jdsj DATETIME,
  OUT o_code INT, OUT o_msg VARCHAR(100), OUT o_brid BIGINT, OUT o_mzhm VARCHAR(32), OUT o_xj INT)
BEGIN
  DECLARE v_next BIGINT;
  DECLARE v_other INT DEFAULT 0;
  SET o_code = 0, o_msg = '成功', o_brid = NULL, o_mzhm = NULL, o_xj = 0;
  IF COALESCE(TRIM(p_brxm), '') = '' OR COALESCE(p_sfzh, '') = '' OR COALESCE(p_zjlx, '') = '' THEN
    SET o_code = -2, o_msg = '姓名、证件类型、证件号不能为空';
  ELSE
    UPDATE GY_XHB SET DQZ = DQZ + 1 WHERE BM = 'MS_BRDA';
    SELECT DQZ INTO v_next FROM GY_XHB WHERE BM = 'MS_BRDA';
    -- utf8mb4_bin: under general_ci every character beyond the BMP equals every other (𠅤 = 𠀀), and x = X.
    SELECT BRID, MZHM INTO o_brid, o_mzhm FROM MS_BRDA
     WHERE SFZH = p_sfzh AND ZJLX = p_zjlx AND ZXBZ = 0 AND TRIM(BRXM) COLLATE utf8mb4_bin = TRIM(p_brxm) COLLATE utf8mb4_bin
     ORDER BY JZRQ DESC, BRID LIMIT 1;
    IF o_brid IS NULL THEN
      SELECT COUNT(*) INTO v_other FROM MS_BRDA WHERE SFZH = p_sfzh AND ZJLX = p_zjlx AND ZXBZ = 0;
      IF v_other > 0 THEN
        SET o_code = -1, o_msg = '该证件号已建档，姓名不符';
      ELSE
        SET o_brid = v_next, o_mzhm = CONCAT('M', LPAD(v_next, 8, '0')), o_xj = 1;
        INSERT INTO MS_BRDA (BRID, MZHM, EMPIID, BRXM, ZJLX, SFZH, BRXZ, BRXB, CSNY, LXDH, LXDZ, LXRM, JDSJ, JDR, ZXBZ)
        VALUES (v_next, o_mzhm, MD5(CONCAT('empi', v_next)), TRIM(p_brxm), p_zjlx, p_sfzh, 1, p_brxb, p_csny, p_lxdh, p_lxdz,
                p_lxrm, p_jdsj, p_jdr, 0);
      END IF;
    END IF;
  END IF;
END$$
DELIMITER ;
