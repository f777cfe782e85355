"""What `tomllib` says of a faulty text -> a problem that a DBA understands, with the fix for the usual mistakes.

Each `_..._fault` below looks at one kind of mistake and answers None when it is not that; the first answer wins, so
the order in `_FAULTS` goes from the certain to the guessed. Names are quoted in the messages, values are not: the value
of a faulty line may be a password, and these messages go to logs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from his_db.document.positions import TRIPLE_QUOTES, Lines, Offset, Survey, survey
from his_db.document.problem import Place, Problem

_WHERE: Final = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
# What `tomllib` says -> the same in Chinese, the fix, the fix in Chinese.
_OTHERS: Final[dict[str, tuple[str, str, str]]] = {
    "Invalid statement": (
        "这里不是有效的语句",
        'a line is name = "value", [table], [[table]] or # comment',
        '每一行应是 名称 = "值"、[表]、[[表]] 或 # 注释',
    ),
    "Expected newline or end of document after a statement": (
        "一个设置写完后应当换行，这里多出了内容",
        "write one setting on a line",
        "一行只写一个设置，多余的内容另起一行或删除",
    ),
    "Invalid value": ("这里不是有效的值", "put text in quotes", "文本请加英文引号"),
    "Invalid initial character for a key part": (
        "这里应当是一个名称",
        "a name is letters, digits, _ and -; any other name stands in quotes",
        "名称只能用字母、数字、_ 和 -，其他名称要加英文引号",
    ),
    "Expected ']' at the end of a table declaration": ("表头缺少右方括号 ]", "write the missing ]", "补上 ]"),
    "Expected ']]' at the end of an array declaration": ("表头缺少右方括号 ]]", "write the missing ]]", "补上 ]]"),
    "Unclosed array": (
        "列表没有用 ] 结束，或者两项之间缺少逗号",
        "put a comma between two items, and ] at the end",
        "两项之间用英文逗号隔开，最后补上 ]",
    ),
    "Unclosed inline table": (
        "大括号 { 没有用 } 结束，或者两项之间缺少逗号",
        "put a comma between two items, and } at the end",
        "两项之间用英文逗号隔开，最后补上 }",
    ),
}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_QUOTES: Final = {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "「": '"', "」": '"', "『": '"', "』": '"'}
_MARKS: Final = {"、": ",", "。": ".", "【": "[", "】": "]", "〔": "[", "〕": "]", "－": "-", "—": "-", "–": "-"}
ASCII_OF: Final = {**_QUOTES, **_MARKS}
"""What is meant by a quote or mark of a Chinese input method."""
_HEADER: Final = re.compile(r"[ \t]*\[\[?[ \t]*[^\s\[\],={}]+[ \t]*\]\]?[ \t]*(?:#.*)?")
_SETTING: Final = re.compile(r"[ \t]*[A-Za-z0-9_.\"'-]+[ \t]*=")
BOOLEANS: Final = {"true": "true", "false": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
NULLS: Final = frozenset({"none", "null", "nil"})


@dataclass(frozen=True, slots=True)
class _Fault:
    """A refused text: what `tomllib` said, and where."""

    what: str
    text: str
    offset: Offset
    file: str
    lines: Lines
    seen: Survey

    @property
    def char(self) -> str:
        """The character at the fault; empty at the end."""
        return self.text[self.offset : self.offset + 1]

    @property
    def line(self) -> str:
        """The whole line of the fault."""
        start = self.text.rfind("\n", 0, self.offset) + 1
        end = self.text.find("\n", self.offset)
        return self.text[start : end if end >= 0 else len(self.text)]

    @property
    def before(self) -> str:
        """The line up to the fault."""
        return self.text[self.text.rfind("\n", 0, self.offset) + 1 : self.offset]

    @property
    def after(self) -> str:
        """The line from the fault on."""
        return self.text[self.offset :].split("\n", 1)[0]

    def says(self, *starts: str) -> bool:
        return self.what.startswith(starts)

    def line_of(self, offset: Offset) -> int:
        return self.lines.at(offset)[0]

    def problem(
        self, code: str, message: str, message_zh: str, fix: str, fix_zh: str, *, at: Offset | None = None
    ) -> Problem:
        line, column = self.lines.at(self.offset if at is None else at)
        return Problem(Place(self.file, line, column), code, message, message_zh, fix, fix_zh)


def explain(error: str, text: str, file: str) -> Problem:
    """The problem for the message `error` of a `tomllib.TOMLDecodeError` about `text` (line ends `\\n`)."""
    lines = Lines(text)
    match = _WHERE.fullmatch(error)
    what = match["what"] if match else error
    offset = lines.offset(int(match["line"]), int(match["column"])) if match and match["line"] else len(text)
    fault = _Fault(what, text, offset, file, lines, survey(text))
    for explanation in _FAULTS:
        problem = explanation(fault)
        if problem is not None:
            return problem
    zh, fix, fix_zh = _OTHERS.get(what, (what, "", ""))
    return fault.problem("H101", f"not valid TOML: {what}", f"不是有效的 TOML：{zh}", fix, fix_zh)


def line_of(error: str, last: int) -> int:
    """The line, from 1, that the message of a `tomllib.TOMLDecodeError` names; `last` for the end of the text."""
    match = _WHERE.fullmatch(error)
    return int(match["line"]) if match and match["line"] else last


def too_deep(file: str, text: str, at: int | None = None) -> Problem:
    """For a text whose arrays, inline tables or dotted keys exhaust the stack; `at`: where, if that is known."""
    if at is None:
        deep = re.search(r"(?:[\[{][^\[\]{}]*){50}", text)
        at = deep.start() if deep else 0
    return Problem(
        Place(file, *Lines(text).at(at)),
        "H112",
        "lists, inline tables or the parts of a key are nested too deeply",
        "列表、大括号或名称嵌套层数过多",
        "check for a [, { or name. that is repeated by mistake",
        "请检查是否误重复了很多 [、{ 或“名称.”",
    )


def too_long_number(text: str, file: str) -> Problem:
    """For a text with an integer that Python does not convert."""
    digits = re.search(r"[0-9_]{4300,}", text)
    return Problem(
        Place(file, *Lines(text).at(digits.start() if digits else 0)),
        "H113",
        "a number has too many digits",
        "数字位数过多",
        "write it as text, in quotes",
        "请加引号写成文本",
    )


def _repeat_fault(fault: _Fault) -> Problem | None:
    if not fault.says("Cannot ", "Duplicate "):
        return None
    repeat = fault.seen.repeat
    if repeat is None:
        return fault.problem(
            "H106",
            f"a key or table is written twice: {fault.what}",
            "同一个名称或表写了两次（或者先写成了值，后面又当作表）",
            "keep one of them; for several of the same kind write [[name]]",
            "只保留一处；如果要写多个同类的表，请用 [[名称]]",
        )
    is_header = fault.text[fault.text.rfind("\n", 0, repeat.second) + 1 :].lstrip().startswith("[")
    name = ".".join(str(part) for part in repeat.path if isinstance(part, str))
    first = fault.line_of(repeat.first)
    return fault.problem(
        "H106",
        f"{name} is written twice: first on line {first}",
        f"{name} 写了两次：第一次在第 {first} 行",
        "keep one of them" + (f"; for several tables of the same kind write [[{name}]] each time" if is_header else ""),
        "只保留一处" + (f"；如果要写多个同类的表，每个都用 [[{name}]]" if is_header else ""),
        at=repeat.second,
    )


def _backslash_fault(fault: _Fault) -> Problem | None:
    if not fault.says("Unescaped '\\\\'", "Unescaped '\\'", "Invalid hex value", "Escaped character"):
        return None
    # tomllib stops after the escape; the reader looks for its backslash.
    at = fault.text.rfind("\\", 0, fault.offset + 1)
    return fault.problem(
        "H111",
        "a single backslash in double quotes starts an escape such as \\n; this one is not an escape",
        "双引号里的反斜杠 \\ 是转义符号（如 \\n），这里的写法无效",
        r"for a Windows path use single quotes: 'C:\his\data' (or write \\ for each backslash)",
        r"Windows 路径请用单引号：'C:\his\data'（或者把每个 \ 写成 \\）",
        at=at if at >= 0 else None,
    )


def _open_bracket_fault(fault: _Fault) -> Problem | None:
    """A list or brace that goes on into what is plainly the next header or setting, or to the end of the file."""
    containers = [at for at in fault.seen.open if fault.text[at] in "[{"]
    if not containers or fault.says("Illegal", "Unterminated", "Found"):
        return None
    opened = containers[-1]
    is_later = fault.line_of(fault.offset) > fault.line_of(opened)
    is_end = not fault.text[fault.offset :].strip()
    if _HEADER.fullmatch(fault.line) and is_later:
        # The header itself was read as a list in the list, so it is the one before that is open.
        opened = next((at for at in reversed(containers) if fault.line_of(at) < fault.line_of(fault.offset)), opened)
    elif not (is_end or (is_later and fault.text[opened] == "[" and _SETTING.match(fault.line))):
        return None
    if fault.text[opened] == "{" and is_later and not is_end:
        return None
    bracket = fault.text[opened]
    closing = {"[": "]", "{": "}"}[bracket]
    line = fault.line_of(opened)
    return fault.problem(
        "H110",
        f"the {bracket} on line {line} is not closed before this place",
        f"第 {line} 行的 {bracket} 到这里还没有结束",
        f"write the missing {closing}",
        f"补上缺少的 {closing}",
    )


def _open_quote_fault(fault: _Fault) -> Problem | None:
    if not (
        fault.says("Unterminated string", "Expected \"'", "Expected '\"") or re.search(r"character '\\n'", fault.what)
    ):
        return None
    strings = [at for at in fault.seen.open if fault.text[at] in "\"'"]
    at = strings[-1] if strings else fault.offset
    end = fault.text.find("\n", at)
    content = fault.text[at + 1 : end if end >= 0 else len(fault.text)]
    wide = next((char for char in content if char in _QUOTES), "")
    triple = fault.text[at : at + 3] in TRIPLE_QUOTES
    quote = fault.text[at : at + (3 if triple else 1)] if strings else '"'
    if wide and not triple:
        return fault.problem(
            "H107",
            f"the text that begins here is closed with a full-width quote: {wide}",
            f"从这里开始的文本用了中文引号 {wide} 结尾",
            f"type {quote} with the input method switched to English",
            f"切换到英文输入法，改为半角引号 {quote}",
            at=at,
        )
    return fault.problem(
        "H110",
        "the text that begins here has no closing quote",
        "从这里开始的文本缺少结尾的引号",
        f"put {quote} at the end" + ("" if triple else '; text of several lines goes between """ and """'),
        f"在结尾补上 {quote}" + ("" if triple else '；多行文本请写在 """ 与 """ 之间'),
        at=at,
    )


def _wide_character_fault(fault: _Fault) -> Problem | None:
    rest = fault.after.lstrip(" \t")
    if not rest:
        return None
    char, at = rest[0], fault.offset + len(fault.after) - len(rest)
    name = f"U+{ord(char):04X}"
    if unicodedata.category(char) in {"Zs", "Cf"} and not char.isascii():
        return fault.problem(
            "H107",
            f"an invisible or full-width blank ({name}) where TOML allows only ordinary blanks",
            f"这里有一个全角空格或不可见字符（{name}），TOML 只允许普通空格",
            "delete it and type an ordinary blank",
            "删除它，改用英文输入法输入空格",
            at=at,
        )
    folded = unicodedata.normalize("NFKC", char) if "\uff01" <= char <= "\uff5e" else ""
    is_equals = fault.says("Expected '='") and char == "："
    wanted = "=" if is_equals else _QUOTES.get(char) or _MARKS.get(char) or folded
    if not wanted:
        return None
    return fault.problem(
        "H107",
        f"the full-width character {char} ({name}) where TOML wants {wanted}",
        f"这里用了中文（全角）字符“{char}”，TOML 只认英文（半角）的 {wanted}",
        f"type {wanted} with the input method switched to English",
        f"切换到英文输入法，改为 {wanted}",
        at=at,
    )


def _inline_table_fault(fault: _Fault) -> Problem | None:
    """TOML 1.0 wants an inline table on one line, without a comma at its end."""
    in_braces = any(fault.text[at] == "{" for at in fault.seen.open) or "{" in fault.before
    if not in_braces or not fault.says("Invalid initial character", "Unclosed inline table"):
        return None
    if fault.char == "}":
        return fault.problem(
            "H109",
            "a comma before } is not allowed in an inline table",
            "大括号里最后一项后面不能有逗号",
            "delete the comma before }",
            "删除 } 前面的逗号",
        )
    if fault.char not in {"\n", "#", ""}:
        return None
    return fault.problem(
        "H109",
        "an inline table { ... } must stand on one line",
        "大括号 { ... } 必须写在同一行内，不能换行",
        "put it on one line, or write it as a table of its own: [name] (a list of tables: [[name]])",
        "写成一行；或者改成单独的表 [名称]（多个同类的表用 [[名称]]）",
    )


def _bare_text_fault(fault: _Fault) -> Problem | None:
    """Text, a name in Chinese, a duration or an address without quotes."""
    is_name = fault.says("Invalid statement", "Invalid initial character", "Expected '=' after")
    if is_name and fault.char.isalpha() and not fault.char.isascii():
        start = re.split(r"[\s=.,\[{]", fault.before)[-1]
        word = start + re.split(r"[\s=.\]},:＝：]", fault.after)[0]
        return fault.problem(
            "H108",
            f"a name with Chinese characters must stand in quotes: {word}",
            f"含中文的名称必须加英文引号：{word}",
            f'write "{word}"',
            f'写成 "{word}"',
        )
    match = re.match(r"[^\s,\]}#\"'=]+", fault.after)
    if match is None or not fault.says("Invalid value"):
        return None
    word = match.group()
    if word.lower() in BOOLEANS:
        right = BOOLEANS[word.lower()]
        return fault.problem(
            "H108",
            f"{word} is not a TOML value; yes and no are written true and false, in lower case",
            f"{word} 不是 TOML 的值；是与否要写成小写的 true 和 false",
            f'write {right} (or "{word}" if it is meant as text)',
            f'写成 {right}（如果是文本则写成 "{word}"）',
        )
    if word.lower() in NULLS:
        return fault.problem(
            "H108",
            f"TOML has no {word}",
            f"TOML 没有 {word} 这种空值",
            'leave the setting out, or write "" for an empty text',
            '删掉这一项；如果要空文本，写成 ""',
        )
    return _unquoted(fault)


def _leftover_fault(fault: _Fault) -> Problem | None:
    """Something follows a complete value on its line."""
    if not fault.says("Expected newline or end of document", "Unclosed array", "Unclosed inline table"):
        return None
    value = re.split(r"[=,\[{]", fault.before)[-1].strip()
    if fault.says("Unclosed inline table") and _SETTING.match(fault.after):
        return _missing_comma(fault)
    if value[-1:] in {'"', "'"} and fault.char and fault.char not in "\"'[{)]}>":
        return fault.problem(
            "H110",
            "the text ends at the quote before this place, but more follows",
            "文本在前一个引号处已经结束，但后面还有内容",
            'for quotes inside a text, put the whole text in single quotes: \'say "hi"\' (or write \\" for each)',
            '文本里含有双引号时，整个文本改用单引号括起：\'如 "这样"\'（或者把里面的写成 \\"）',
        )
    if fault.char and fault.char in "\"'[{" and not fault.says("Expected newline"):
        return _missing_comma(fault)
    word = re.match(r"[^\s,\]}#]*", fault.after)
    if not value or not value[0].isdigit() or _ends_apart(fault) or word is None or not word.group():
        return None
    whole = value + word.group()
    if whole.isdecimal():
        return fault.problem(
            "H113",
            "a number must not begin with 0",
            "数字不能以 0 开头",
            "put a code in quotes; write a number without the 0 before it",
            "如果是代码请加英文引号；如果是数值请去掉前面的 0",
        )
    return _impossible_date(fault) if _DATE.match(whole) else _unquoted(fault)


def _missing_comma(fault: _Fault) -> Problem:
    return fault.problem(
        "H101",
        "a comma is missing before this item",
        "这一项前面缺少逗号",
        "write a comma between two items",
        "两项之间用英文逗号 , 隔开",
    )


def _unquoted(fault: _Fault) -> Problem:
    return fault.problem(
        "H108",
        "text must stand in quotes; without them only numbers, dates, true and false are values",
        "文本必须加英文引号；只有数字、日期和 true/false 可以不加引号",
        'put the whole value between two ", also durations ("3s"), codes and addresses ("10.1.1.1")',
        '给整个值加上英文双引号 "…"，时长（"3s"）、代码、IP 地址（"10.1.1.1"）也要加',
    )


def _impossible_date(fault: _Fault) -> Problem:
    return fault.problem(
        "H113",
        "this date or time does not exist in the calendar",
        "这个日期或时间不存在",
        "correct it, or put it in quotes if it is meant as text",
        "请改正；如果是文本请加引号",
    )


def _ends_apart(fault: _Fault) -> bool:
    """Whether a blank separates the value from what follows it."""
    return fault.before[-1:] in {" ", "\t"}


def _statement_fault(fault: _Fault) -> Problem | None:
    """Ways of other languages: `name: value`, `-- comment`, `// comment`, a name without a value."""
    if re.match(r"[ \t]*(?:--|//|;|/\*)", fault.line) and fault.says("Invalid statement", "Expected '='"):
        return fault.problem(
            "H101", "a comment begins with #", "注释要以 # 开头", "write # before the comment", "把注释改为以 # 开头"
        )
    if fault.says("Expected '=' after"):
        return fault.problem(
            "H101",
            "a name must be followed by = and its value",
            "名称后面应当是等号 = 和它的值",
            'write name = "value"',
            '写成 名称 = "值"',
        )
    if fault.says("Invalid value") and fault.char in {"", "\n", "#"}:
        return fault.problem(
            "H101",
            "the value after = is missing",
            "等号 = 后面缺少值",
            'write the value, or "" for an empty text, or delete the line',
            '补上值；空文本写成 ""；不需要则删除这一行',
        )
    return _impossible_date(fault) if fault.says("Invalid date or datetime") else None


_FAULTS: Final[tuple[Callable[[_Fault], Problem | None], ...]] = (
    _repeat_fault,
    _backslash_fault,
    _open_quote_fault,
    _wide_character_fault,
    _open_bracket_fault,
    _inline_table_fault,
    _bare_text_fault,
    _leftover_fault,
    _statement_fault,
)
