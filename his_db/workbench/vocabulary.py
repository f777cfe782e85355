"""What HIS vendors call things: the scoring table of `discover`, as data.

Pinyin initials (`ghxh` = 挂号序号), Chinese words of comments and English words of names, for each subject and field of
the contract. A field that begins with `~` is none of the contract; it only helps to know the table. Sources: the
vendors' published schemas (domain facts §5) and the sample HIS. To teach discover a new word, add it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Terms:
    """Names of one field. `pinyin`: whole column names; `english`: words that must all be in the name, `a+b`;
    `chinese`: in the comment of the column. `weight`: how much it says about a table."""

    pinyin: str
    english: str
    chinese: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of record. `tables`: pieces of table names, pinyin or English; `chinese`: in comments of tables;
    `not_tables`: pieces that speak against it; `operations`: where it is mapped; `message`: of the contract."""

    message: str
    operations: tuple[str, ...]
    tables: str
    chinese: str
    not_tables: str
    fields: Mapping[str, Terms]


_DEPARTMENT: Final = {
    "department_id": Terms("ksdm ksid ks_id ksbm bmdm id", "dept+pk dept+id dept+code unit+sn", "科室代码 科室编码", 2),
    "name": Terms("ksmc name mc", "name+dept", "科室名称", 2),
    "pinyin": Terms("py pydm pym srm1", "py+code pinyin", "拼音码"),
    "location": Terms("lxwz wz ddxx ksdz jzdd", "place location", "位置 地点"),
    "introduction": Terms("jj ksjj ksjs", "dept+desc intro", "科室简介 科室介绍", 2),
    "parent_id": Terms("sjks fks fjks", "father parent", "上级科室"),
    "~display_order": Terms("pxh xssx pxxh", "sortno sort+no", "排序"),
}
_DOCTOR: Final = {
    "doctor_id": Terms(
        "ysdm ysgh ygdm zgdm zggh ysid ysbm gh id", "emp+pk emp+sn emp+code doctor+id doctor+code", "医生代码 工号", 2
    ),
    "name": Terms("ysxm ysmc ygxm zgxm name xm", "name+emp doctor+name", "医生姓名 职工姓名", 2),
    "department_id": Terms("ksdm ks_id ksid", "dept unit+sn", "科室代码 所属科室"),
    "title": Terms("zcmc zc zcdm yszc ysjb ygjb", "title srvtype emp+tit", "职称", 3),
    "specialty": Terms("sc zc_sc jj ysjj ygjj", "spec specialty", "擅长 专长", 2),
    "~introduction": Terms("jj jsjj ysjj ygjj", "intro", "医生简介"),
    "~sex": Terms("xb sex ysxb", "sex gender", "性别"),
    "pinyin": Terms("py pydm pym", "py+code pinyin", "拼音码"),
}
_SCHEDULE: Final = {
    "schedule_id": Terms("pbmxid pbid pbxh pbmxxh hyid", "sch+pk schedu+id record+sn", "排班序号 排班明细", 3),
    "visit_date": Terms(
        "zbrq pbrq czrq gzrq cbrq jzrq",
        "date+work visit+date work+date out+date request+date",
        "出诊日期 值班日期 排班日期",
        3,
    ),
    "period": Terms("zzlx zblb sjd swbz wb sxw", "dateslot noon period ampm", "午别 值班类别", 2),
    "department_id": Terms("ksdm ghks ksid ks_id czks ks", "dept unit+sn", "科室代码"),
    "doctor_id": Terms("ysdm ysid ysgh ys", "emp doctor schres", "医生代码"),
    "begin_time": Terms("kssj yykssj kssjd", "time+begin start+time period+start", "开始时间"),
    "end_time": Terms("jssj yyjssj", "time+end period+end", "结束时间"),
    "fee_fen": Terms("ghf zlf ghfy zfy", "price fee", "挂号费"),
    "total_count": Terms(
        "zgh ghxe zhs xhs yyxe zs xe", "cnt+total total+num total+count reg+lmt end+no", "总号数 限号", 3
    ),
    "free_count": Terms("syhs yhs kyhs", "cnt+free", "余号 剩余号", 3),
    # What is used up is not what is free: it tells the table, and never fills a field.
    "~used_count": Terms("ygh yyhs ygrs yyrs yghs yynum", "cnt+used reged current+no", "已挂号数 已用", 3),
    "state": Terms("tzbz tgbz istz tz pbzt", "flag+stop open+flag", "停诊", 3),
    "suspend_reason": Terms("tzyy", "stop+reason", "停诊原因"),
}
_SLOT: Final = {
    "slot_id": Terms("hyid hyxh hxid", "schticket+pk ticket+id slot+id", "号源", 3),
    "schedule_id": Terms("pbmxid pbid pbxh", "sch+pk schedu+id record+sn", "排班"),
    "queue_no": Terms("hx ghhx yyhx xh jzxh hyxh", "ticketno req+no queue+no", "号序", 3),
    "begin_time": Terms("kssj jzsj yysj", "begin+time start+time", "开始时间"),
    "end_time": Terms("jssj", "end+time", "结束时间"),
    "state": Terms("zt hyzt sybz", "flag+used flag+lock isout+flag", "状态", 3),
    "~lock_expire_time": Terms("sxsj sdsj", "lockend", "锁定 失效时间", 2),
}
_PATIENT: Final = {
    "patient_id": Terms("patid brid hzid brxh patientid", "pi+pk patient+id", "病人ID 患者ID", 2),
    "record_no": Terms("blh mzhm bah", "code+pi record+no", "病历号", 2),
    "name": Terms("hzxm brxm xm", "name+pi patient+name", "患者姓名 病人姓名", 2),
    "sex": Terms("xb sex brxb", "sex gender", "性别", 2),
    "birthday": Terms("csrq birth csny", "birth", "出生日期", 4),
    "document_type": Terms("zjlx", "idtype", "证件类型", 2),
    "document_no": Terms("sfzh zjhm sfzhm zjh", "id+no idno", "身份证 证件号码", 3),
    "mobile": Terms("lxdh sjhm dhhm lxdhh sjh", "mobile phone tel", "联系电话 手机", 2),
    "address": Terms("lxdz jtdz dz hkdz", "address", "联系地址 家庭住址", 3),
    "card_no": Terms("cardno jzkh kh ylkh", "card+no", "就诊卡号 卡号", 2),
    "guardian_name": Terms("jhrxm lxrxm lxr", "name+rel guardian", "监护人 联系人", 3),
    "guardian_document_no": Terms("jhrsfzh", "idno+rel", "监护人身份证", 2),
}
_APPOINTMENT: Final = {
    "appointment_id": Terms("yyxh xh yyid yyjlid ghyyid", "schappt+pk appt+id appointment+id book+id", "预约序号", 2),
    "order_no": Terms("wbddh ddh ptddh dsfddh wbdd", "orderid order+no order+ext", "平台订单号 外部订单", 4),
    "state": Terms("jlzt yyzt zt ghzt", "eu+status state visit+flag", "预约状态"),
    "patient_id": Terms("patid brid hzid", "pi+pk patient+id", "病人ID"),
    "patient_name": Terms("hzxm brxm xm", "name+pi", "患者姓名"),
    "schedule_id": Terms("pbmxid pbid pbxh", "sch+pk schedu+id", "排班"),
    "queue_no": Terms("yyhx ghhx hx jzxh yyxh", "ticketno queue+no gh+sequence", "号序", 2),
    "department_id": Terms("ksdm ghks ksid ks", "dept", "科室"),
    "doctor_id": Terms("ysdm ysid ys", "emp+phy doctor", "医生"),
    "visit_date": Terms("yyrq jzrq yysj", "date+appt visit+date out+date", "预约日期 就诊日期", 3),
    "channel": Terms("kfsdm yylx ghfs yyly lyqd", "apptype channel app+id", "预约渠道 来源", 3),
    "operator_id": Terms("qxczyh czyh qxgh czgh", "emp+cancel operator gh+opera", "操作员", 1),
    "book_time": Terms("djrq djsj ghrq ghsj", "date+reg book+time gh+date", "登记日期 预约时间", 2),
    "cancel_time": Terms("qxrq qxsj", "date+cancel cancel+time", "取消日期 取消时间", 4),
    "note": Terms("qxyy", "reason", "取消原因", 2),
    "visit_no": Terms("ghxh mzxh mzh ghnm", "pv+pk visit+no", "就诊号 挂号序号"),
}
_PAYMENT: Final = {
    "receipt_no": Terms("sjh fph jssjh mzfp sjhm jsnm", "receipt+no code+st settle+pk ledger+sn", "收据号 发票号", 3),
    "amount_fen": Terms("zje hjje ze zfy je zj", "amount charge", "总金额 金额", 3),
    "out_trade_no": Terms("zph shddh", "out+trade", "商户订单号", 4),
    "transaction_id": Terms("jylsh lsh zflsh dsflsh", "trade+no", "交易流水号", 3),
    "method": Terms("zffs fkfs fkfsdm skfs", "paymode paytype pay+type cheque+type", "支付方式", 3),
    "pay_time": Terms("sfrq jsrq sfsj", "date+st date+pay price+date receipt+date", "收费日期 结算日期", 3),
    "~insurance_fen": Terms("ybje ybzf jzje", "amount+insu", "医保", 2),
    "~self_fen": Terms("zfje xjje zf", "amount+pi", "自付 自费", 2),
    "~out_refund_no": Terms("tkdh", "refund+no", "退款单号", 3),
    "~refund_receipt_no": Terms("tsjh", "settle+canc", "退费", 2),
    "~visit_no": Terms("ghxh mzxh", "pv+pk", "就诊号"),
    "order_no": Terms("wbddh ddh", "serial+no order", "平台订单号", 2),
}

SUBJECTS: Final[Mapping[str, Subject]] = {
    "department": Subject(
        "Department",
        ("CatalogService.ListDepartments",),
        "ksbm ksdm ghks ksxx ksk dept department unit_code",
        "科室 部门",
        "pb gh_gh brxx sch appt",
        _DEPARTMENT,
    ),
    "doctor": Subject(
        "Doctor",
        ("CatalogService.ListDoctors",),
        "zgbm ysdm ygdm ysxx rydm zgxx ryk employee doctor staff",
        "医生 职工 员工 人员",
        "pb brxx sch appt",
        _DOCTOR,
    ),
    "schedule": Subject(
        "Schedule",
        ("CatalogService.ListSchedules",),
        "pbzb pbmx yspb kspb pb zbb sch_sch schedule gh_request",
        "排班 出诊",
        "brxx appt ticket request_list",
        _SCHEDULE,
    ),
    "slot": Subject(
        "Slot", ("CatalogService.ListSlots",), "hyk hyb hymx ticket slot request_list", "号源", "brxx appt", _SLOT
    ),
    "patient": Subject(
        "Patient",
        ("PatientService.FindPatients",),
        "brxx brda brjb hzxx hzjb patient pi_master",
        "病人 患者 主索引",
        "pb appt sch",
        _PATIENT,
    ),
    "appointment": Subject(
        "Appointment",
        ("AppointmentService.GetAppointment", "AppointmentService.ListAppointments"),
        "ghyy yygh yyk yyjl yydj appt appointment ghmx ghxh ghjl ghxx gh_book visit_table",
        "预约 挂号",
        "pb hmd",
        _APPOINTMENT,
    ),
    "payment": Subject(
        "Payment",
        ("PaymentService.GetPayment",),
        "brjs jsk jszd mzxx sfjl mz_js settle pay deposit fkxx",
        "结算 收费 支付",
        "pb",
        _PAYMENT,
    ),
}
