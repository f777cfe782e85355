"""Words the population is made of: departments, surnames, given names, each character with its pinyin initial. No
real persons."""

from __future__ import annotations


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Splits "王w李l" into (character, initial) pairs."""
    return tuple((text[i], text[i + 1]) for i in range(0, len(text), 2))


DEPARTMENTS: tuple[tuple[str, str, str], ...] = (
    ("心血管内科", "xxgnk", "门诊楼3层A区"),
    ("儿科", "ek", "门诊楼2层C区"),
    ("发热门诊", "frmz", "感染楼1层"),
    ("呼吸与危重症医学科", "hxywzzyxk", "门诊楼3层B区"),
    ("消化内科", "xhnk", "门诊楼3层C区"),
    ("神经内科", "sjnk", "门诊楼4层A区"),
    ("内分泌科", "nfmk", "门诊楼4层B区"),
    ("肾内科", "snk", "门诊楼4层C区"),
    ("普外科", "pwk", "门诊楼5层A区"),
    ("骨科", "gk", "门诊楼5层B区"),
    ("泌尿外科", "mnwk", "门诊楼5层C区"),
    ("神经外科", "sjwk", "门诊楼5层D区"),
    ("妇科", "fk", "门诊楼2层A区"),
    ("产科", "ck", "门诊楼2层B区"),
    ("眼科", "yk", "门诊楼6层A区"),
    ("耳鼻咽喉科", "ebyhk", "门诊楼6层B区"),
    ("口腔科", "kqk", "门诊楼6层C区"),
    ("皮肤科", "pfk", "门诊楼7层A区"),
    ("中医科", "zyk", "门诊楼7层B区"),
    ("康复医学科", "kfyxk", "康复楼1层"),
    ("肿瘤科", "zlk", "门诊楼7层C区"),
    ("血液内科", "xynk", "门诊楼4层D区"),
    ("风湿免疫科", "fsmyk", "门诊楼3层D区"),
    ("疼痛科", "ttk", "门诊楼7层D区"),
)
SPECIALTY_CODES: dict[str, str] = {
    "心血管内科": "A03.04", "儿科": "A07", "呼吸与危重症医学科": "A03.01", "消化内科": "A03.02", "神经内科": "A03.03",
    "内分泌科": "A03.07", "肾内科": "A03.06", "普外科": "A04.01", "骨科": "A04.03", "泌尿外科": "A04.04",
    "神经外科": "A04.02", "妇科": "A05.01", "产科": "A05.02", "眼科": "A10", "耳鼻咽喉科": "A11", "口腔科": "A12",
    "皮肤科": "A13", "中医科": "A50", "康复医学科": "A21", "肿瘤科": "A19", "血液内科": "A03.05",
    "风湿免疫科": "A03.08", "疼痛科": "A27",
}  # fmt: skip
"""科别 (诊疗科目) of the departments that are registered with 医保. 发热门诊 is not: self-pay only."""
RETIRED_DEPARTMENT = ("结核病门诊(停用)", "jhbmz", "旧门诊楼")

SURNAMES = _pairs(
    "王w李l张z刘l陈c杨y黄h赵z吴w周z徐x孙s马m朱z胡h郭g何h林l高g罗l郑z梁l谢x宋s唐t许x韩h冯f邓d曹c彭p曾z萧x田t董d潘p袁y蔡c蒋j余y"
    "于y杜d叶y程c魏w苏s吕l丁d任r卢l姚y沈s钟z姜j崔c谭t陆l汪w范f金j石s廖l贾j韦w夏x付f方f邹z熊x白b孟m秦q邱q侯h江j尹y薛x闫y"
)
COMPOUND_SURNAMES = (("欧阳", "oy"), ("司马", "sm"), ("上官", "sg"), ("诸葛", "zg"))
GIVEN_MALE = _pairs("伟w强q磊l军j洋y勇y杰j涛t明m超c辉h刚g鹏p波b斌b宇y浩h凯k建j国g志z文w海h林l俊j峰f健j博b嘉j诚c远y恒h")
GIVEN_FEMALE = _pairs(
    "芳f娜n敏m静j丽l艳y娟j霞x燕y玲l桂g婷t雪x慧h莹y洁j佳j琳l欣x怡y梅m兰l颖y倩q岚l萍p蕾l薇w晴q瑶y诗s雅y"
)
RARE_GIVEN: tuple[tuple[str, str], ...] = (("㛃", "j"), ("䶮", "y"), ("𠅤", "q"), ("喆", "z"))
ODD_NAMES: tuple[tuple[str, str], ...] = (
    ("O'Brien Mary", "obm"),
    ("D'Souza John", "dsj"),
    ("阿依古丽·买买提", "ayglmmt"),
    ("李 明", "lm"),
    ("Smith  Anna", "sa"),
)
SPECIALTIES = ("常见病、多发病诊治", "疑难重症诊治", "慢病长期管理", "微创介入治疗", "术后随访与康复")
STREETS = ("样例路", "测试街", "示范大道", "虚构巷", "演示新村")
AREA_CODES = ("440305", "440304", "440306", "440303", "440307")
STOP_REASONS = ("医生临时会诊", "医生病假", "设备检修", "参加学术会议")
