"""What the errors of SQL Server mean, through pyodbc with Microsoft's driver or FreeTDS, and through mssql-python.

Native numbers first (sys.messages), because SQLSTATEs differ by driver: a deadlock is 40001 with Microsoft's and 42000
with FreeTDS. mssql-python gives texts only, so these are recognised too, in English and in simplified Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from his_db.engine import Fault


def _table(**faults: str) -> dict[int, Fault]:
    return {int(number): Fault[name] for name, numbers in faults.items() for number in numbers.split()}


_NATIVES: Final[Mapping[int, Fault]] = _table(
    DEADLOCK="1205 3960 41302 41305 41325",
    LOCK_TIMEOUT="1222 1204 1211",
    CONSTRAINT="2627 2601 547 515 548 550 334",
    RIGHTS="229 230 262 297 300 916 3704 15151 15247 15562",
    # Login refused, database not to be opened; FreeTDS: 20002 no answer, 20009 nobody listens, 20012 no such host.
    CONNECT="4060 4062 4064 17142 18452 18456 18470 18486 18487 18488 976 983 10928 10929 20002 20009 20012 20013",
    # Session killed, server going down; FreeTDS: unexpected end, read or write failed, connection dead.
    LOST="596 6005 10053 10054 10060 20003 20004 20006 20017 20047 40197 40501 40613",
    SCHEMA="""
        110 109 120 121 128 137 174 189 195 201 206 207 208 209 213 214 257 266 306 313 321 339 349 402 409 444 468
        544 911 1087 1088 2715 2809 2812 3701 3915 3916 4104 4121 4145 8101 8116 8117 8120 8143 8144 8145 8146 8155
        8162 8178 11501 11503 11529
    """,
    SYNTAX="102 103 105 111 141 156 170 178 319 1018 2705 102",
    # Wrong values; 3902, 3930 and 3998: the transaction was rolled back before COMMIT.
    DATA="220 232 241 242 245 248 295 296 512 517 529 535 2628 3902 3930 3931 3998 8114 8115 8134 8152 8169 9803 9420",
    READ_ONLY="3906 3908 10637",
)
_STATES: Final[Mapping[str, Fault]] = {
    "08001": Fault.CONNECT,
    "08003": Fault.CONNECT,
    "08004": Fault.CONNECT,
    "28000": Fault.CONNECT,
    "01000": Fault.OTHER,
    "40001": Fault.DEADLOCK,
    "HYT00": Fault.TIMEOUT,
    "HYT01": Fault.TIMEOUT,
    "HY008": Fault.TIMEOUT,  # cancelled by us
    "57014": Fault.TIMEOUT,
    "42S01": Fault.SCHEMA,
    "42S02": Fault.SCHEMA,
    "42S22": Fault.SCHEMA,
    "07002": Fault.SCHEMA,
    "07006": Fault.SCHEMA,
    "HY090": Fault.DATA,
    "HY104": Fault.DATA,
    "HYC00": Fault.SCHEMA,
    "IM002": Fault.CONNECT,
    "IM003": Fault.CONNECT,
}
_CLASSES: Final[Mapping[str, Fault]] = {"08": Fault.LOST, "22": Fault.DATA, "23": Fault.CONSTRAINT}
_PHRASES: Final[Mapping[str, str]] = {  # mssql-python tells the SQLSTATE in words
    "Serialization failure": "40001",
    "Timeout expired": "HYT00",
    "Connection timeout expired": "HYT01",
    "Operation canceled": "HY008",
    "Integrity constraint violation": "23000",
    "Communication link failure": "08S01",
    "Client unable to establish connection": "08001",
    "Connection not open": "08003",
    "Invalid authorization specification": "28000",
    "Base table or view not found": "42S02",
    "Column not found": "42S22",
    "String data, right-truncated": "22001",
    "Invalid datetime format": "22007",
    "Datetime field overflow": "22008",
    "Division by zero": "22012",
    "COUNT field incorrect": "07002",
    "Connection failure during transaction": "08007",
    "Numeric value out of range": "22003",
    "Invalid character value for cast specification": "22018",
    "Syntax error or access violation": "42000",
}
_TEXTS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), fault)
    for pattern, fault in (
        (r"deadlock(?:ed)? |chosen as the deadlock victim|死锁", Fault.DEADLOCK),
        (r"lock request time ?out|锁请求超时|请求锁超时|请求超时时段", Fault.LOCK_TIMEOUT),
        (r"(?:query )?timeout expired|超时已过期", Fault.TIMEOUT),
        (r"login failed|cannot open database|登录失败|无法打开登录所请求的数据库", Fault.CONNECT),
        (r"communication link failure|connection (?:is broken|was forcibly|has been closed|reset)|physical connection"
         r"|broken pipe|session is in the kill state|server connection|通信链接失败", Fault.LOST),
        (r"violation of |cannot insert duplicate key|conflicted with the |cannot insert the value NULL"
         r"|违反了|不能在.*插入重复|冲突|不能将值 NULL", Fault.CONSTRAINT),
        (r"permission (?:was )?denied|does not have permission|拒绝了对|权限", Fault.RIGHTS),
        (r"invalid (?:object|column) name|could not find stored procedure|not a recognized built-in function"
         r"|expects parameter|too many arguments specified|is not a parameter for procedure"
         r"|cannot find either column|must declare the scalar variable|column name or number of supplied values"
         r"|(?:对象|列)名.*无效|找不到存储过程|不可识别的.*函数|需要参数|参数太多", Fault.SCHEMA),
        (r"incorrect syntax near|unclosed quotation mark|附近有语法错误|语法不正确|未闭合", Fault.SYNTAX),
        (r"would be truncated|conversion failed|error converting|arithmetic overflow|divide by zero"
         r"|out-of-range value|截断|转换.*(?:失败|出错)|溢出|以零作除数|被零除", Fault.DATA),
        (r"no corresponding BEGIN TRAN|cannot be committed|没有对应的 BEGIN TRAN|无法提交", Fault.DATA),
        (r"database is read-only|数据库是只读的|数据库为只读", Fault.READ_ONLY),
    )
)  # fmt: skip
_NATIVE: Final = re.compile(r"\((-?\d+)\) \(SQL\w+\)")
_PREFIX: Final = re.compile(r"^(?:\[[^\]]*\]\s*)+")
_SUFFIX: Final = re.compile(r"\s*\(-?\d+\) \(SQL\w+\)$")
_MORE: Final = re.compile(r"\s*\(-?\d+\) \(SQL\w+\);? \[.*|\s*\(-?\d+\); \[.*", re.DOTALL)
_RAISED: Final = 50_000  # RAISERROR with text or number of its own, THROW
# Names of objects, never values: what follows "value" or "near" is data.
_OBJECT: Final = re.compile(
    r"(?:object name|column name|stored procedure|constraint|in object|for procedure|with unique index|function"
    r"|on the object|column|parameter|Procedure or function|对象名|列名|存储过程|约束|对象)\s*"
    r"""[‘'"“](?P<name>[\w$.#@]+)[’'"”]"""
)
_FUNCTION: Final = re.compile(r"'(?P<name>[\w$.#]+)' (?:is not a recognized|不是可以识别)")
REMEDIES: Final = (
    ("unsupported protocol", "the server offers only TLS 1.0/1.1, which OpenSSL 3 refuses: see docs/engines.md"),
    ("certificate verify failed", "the server's certificate is not trusted: trust_server_certificate, or install it"),
    ("self-signed certificate", "the server's certificate is not trusted: trust_server_certificate, or install it"),
    ("Can't open lib", "the ODBC driver is not installed"),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver said: SQLSTATE and native number where it gave them, and the text without the drivers' names."""

    state: str
    native: int
    text: str
    worded: bool  # mssql-python: texts only


def told(error: BaseException) -> Told:
    """Read an exception of any of the drivers."""
    driver_error = getattr(error, "driver_error", None)
    if isinstance(driver_error, str):
        state = next((s for phrase, s in _PHRASES.items() if driver_error.startswith(phrase)), "")
        text = getattr(error, "ddbc_error", "") or driver_error
        return Told(state, 0, _PREFIX.sub("", text).strip(), worded=True)
    args = error.args
    if len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str) and len(args[0]) == 5:
        natives = [int(number) for number in _NATIVE.findall(args[1])]
        text = _SUFFIX.sub("", _MORE.sub("", _PREFIX.sub("", args[1]))).strip()
        return Told(args[0], next((n for n in natives if n), 0), text, worded=False)
    return Told("", 0, str(args[0]) if args else "", worded=False)


def raised(what: Told) -> bool:
    """Whether the HIS itself said it (RAISERROR, THROW). mssql-python gives no number: then, whatever is unknown."""
    if what.worded:
        return what.state == "42000" and not any(pattern.search(what.text) for pattern, _ in _TEXTS)
    return what.native >= _RAISED


def fault_of(what: Told) -> Fault:
    """The fault of an error that came after connecting."""
    if raised(what):
        return Fault.CONSTRAINT
    fault = _NATIVES.get(what.native)
    if fault is not None:
        return fault
    fault = _STATES.get(what.state) or _CLASSES.get(what.state[:2])
    if fault is not None and fault is not Fault.OTHER:
        return fault
    for pattern, meaning in _TEXTS:
        if pattern.search(what.text):
            return meaning
    return Fault.SCHEMA if what.state.startswith("42") else Fault.OTHER


def object_in(text: str) -> str:
    """The object that a message names, or empty."""
    match = _OBJECT.search(text) or _FUNCTION.search(text)
    return match["name"] if match else ""
