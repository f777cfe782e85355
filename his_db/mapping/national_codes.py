"""Code maps that every mapping set has without writing them: between national code sets. A map of the same name wins.

Sources: GB/T 2261.1 (sex), WS 364 CV02.01.101 (identity documents, which the contract uses), 国家医保 psn_cert_type.
"""

from __future__ import annotations

from typing import Final

TEXTS: Final = (
    """
schema = 1
codes = "gb_sex"
note = "性别名称 -> GB/T 2261.1"
map = [
  { his = "男", is = "1" },
  { his = "女", is = "2" },
  { his = "未知", is = "0" },
  { his = "未说明", is = "9" },
  { his = "男性", is = "1", back = false },
  { his = "女性", is = "2", back = false },
  { his = "未知的性别", is = "0", back = false },
  { his = "未说明的性别", is = "9", back = false },
]
""",
    """
schema = 1
codes = "insurance_document_type"
note = "国家医保 psn_cert_type -> CV02.01.101"
map = [
  { his = "01", is = "01" },
  { his = "02", is = "04" },
  { his = "03", is = "04", back = false },
  { his = "04", is = "06" },
  { his = "05", is = "06", back = false },
  { his = "06", is = "07" },
  { his = "08", is = "03" },
  { his = "99", is = "99" },
]
otherwise = "99"
otherwise_back = "99"
""",
)
