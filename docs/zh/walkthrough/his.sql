-- 教学用 HIS："某某医院信息系统"，为《从零映射一个 HIS》虚构，不是任何厂商的产品。
-- 常见的陷阱都有：CHAR 补空格、停用标志、日期是文本 yyyyMMdd、金额是文本（元）、性别写男/女。
-- 日期从建库那天算起：排班在第二天。SQLite 语法；datetime('now', '+8 hours') 是北京时间。

CREATE TABLE T_KS (          -- 科室
  KSDM CHAR(8) PRIMARY KEY,  -- 科室代码，右边补空格
  KSMC VARCHAR(40),          -- 科室名称
  PYDM VARCHAR(20),          -- 拼音码
  SJKS CHAR(8),              -- 上级科室
  KSDZ VARCHAR(60),          -- 位置
  TYBZ CHAR(1)               -- 停用标志 1=停用
);
INSERT INTO T_KS VALUES
  ('0101    ', '心血管内科', 'XXGNK', NULL, '门诊楼 3 楼东', '0'),
  ('0102    ', '消化内科', 'XHNK', NULL, '门诊楼 3 楼西', '0'),
  ('0201    ', '普通外科', 'PTWK', NULL, '门诊楼 4 楼', '0'),
  ('0901    ', '旧体检科', 'JTJK', NULL, NULL, '1');

CREATE TABLE T_YS (          -- 医生
  YSDM CHAR(6) PRIMARY KEY,  -- 工号
  YSXM CHAR(20),             -- 姓名，右边补空格
  KSDM CHAR(8),
  ZC VARCHAR(20),            -- 职称
  SC VARCHAR(200),           -- 擅长
  TYBZ CHAR(1)
);
INSERT INTO T_YS VALUES
  ('1001  ', '张建国              ', '0101    ', '主任医师', '冠心病、高血压', '0'),
  ('1002  ', '李秀英              ', '0101    ', '主治医师', '心律失常', '0'),
  ('1003  ', '王志强              ', '0102    ', '副主任医师', '胃肠疾病', '0'),
  ('1004  ', '赵敏                ', '0201    ', '主任医师', NULL, '0'),
  ('1099  ', '离职人员            ', '0101    ', NULL, NULL, '1');

CREATE TABLE T_PB (          -- 排班
  PBID INTEGER PRIMARY KEY,
  CZRQ CHAR(8),              -- 出诊日期 yyyyMMdd
  WB CHAR(1),                -- 午别 1=上午 2=下午
  KSDM CHAR(8),
  YSDM CHAR(6),
  GHF VARCHAR(10),           -- 挂号费，元，文本
  TZBZ CHAR(1),              -- 停诊标志 1=停诊
  TZYY VARCHAR(60)           -- 停诊原因
);
INSERT INTO T_PB
SELECT column1, strftime('%Y%m%d', 'now', '+8 hours', '+1 day'), column2, column3, column4, column5, column6, column7 FROM (VALUES
  (501, '1', '0101    ', '1001  ', '25.00', '0', NULL),
  (502, '2', '0101    ', '1002  ', '12.5', '0', NULL),
  (503, '1', '0102    ', '1003  ', '18.00', '1', '外出会诊'));

CREATE TABLE T_HY (          -- 号源，一个号一行
  HYID INTEGER PRIMARY KEY,
  PBID INTEGER,
  HX INTEGER,                -- 号序
  KSSJ CHAR(5),              -- 开始时间 HH:MM
  JSSJ CHAR(5),              -- 结束时间 HH:MM
  ZT CHAR(1),                -- 状态 0=空 1=锁 2=已约
  SDDH VARCHAR(40),          -- 锁号的订单
  SXSJ CHAR(14)              -- 锁号失效时间 yyyyMMddHHmmss
);
CREATE INDEX I_HY_PB ON T_HY (PBID);
INSERT INTO T_HY VALUES
  (9001, 501, 1, '08:00', '08:15', '2', NULL, NULL),
  (9002, 501, 2, '08:15', '08:30', '0', NULL, NULL),
  (9003, 501, 3, '08:30', '08:45', '0', NULL, NULL),
  (9004, 501, 4, '08:45', '09:00', '0', NULL, NULL),
  (9011, 502, 1, '14:30', '14:45', '0', NULL, NULL),
  (9012, 502, 2, '14:45', '15:00', '0', NULL, NULL),
  (9021, 503, 1, '08:00', '08:30', '0', NULL, NULL);

CREATE TABLE T_BR (          -- 病人
  BRID INTEGER PRIMARY KEY,
  BRXM CHAR(20),             -- 姓名，右边补空格
  XB VARCHAR(2),             -- 性别 男/女
  CSRQ CHAR(8),              -- 出生日期 yyyyMMdd
  SFZH VARCHAR(18),          -- 身份证号
  LXDH VARCHAR(20)           -- 联系电话
);
CREATE INDEX I_BR_SFZH ON T_BR (SFZH);
INSERT INTO T_BR VALUES
  (7001, '陈小明              ', '男', '19850312', '440305198503120015', '13800000001'),
  (7002, '林美华              ', '女', '19900725', '440305199007250022', '13800000002'),
  (7003, '周老先生            ', '男', '19480101', '440305194801010019', NULL);

CREATE TABLE T_YY (          -- 预约
  YYXH INTEGER PRIMARY KEY,  -- 预约序号
  PTDDH VARCHAR(40),         -- 平台订单号；窗口预约为空
  HYID INTEGER,
  PBID INTEGER,
  BRID INTEGER,
  JE VARCHAR(10),            -- 金额，元，文本
  ZT CHAR(1),                -- 1=已约 2=已付 9=已取消
  CZYH VARCHAR(10),          -- 最后操作员
  DJSJ CHAR(14),             -- 登记时间 yyyyMMddHHmmss
  QXSJ CHAR(14),             -- 取消时间
  QXYY VARCHAR(60)           -- 取消原因
);
CREATE INDEX I_YY_PTDDH ON T_YY (PTDDH);
CREATE INDEX I_YY_PB ON T_YY (PBID);
INSERT INTO T_YY VALUES
  (30001, NULL, 9001, 501, 7003, '25.00', '1', '0931', strftime('%Y%m%d%H%M%S', 'now', '+8 hours'), NULL, NULL);

CREATE TABLE T_SF (          -- 收费；本文不映射
  SJH VARCHAR(20) PRIMARY KEY,
  YYXH INTEGER,
  ZJE VARCHAR(10),
  ZFFS CHAR(1),
  SFSJ CHAR(14)
);
INSERT INTO T_SF VALUES ('R0000001', 29999, '25.00', '1', strftime('%Y%m%d%H%M%S', 'now', '+8 hours', '-3 days'));
