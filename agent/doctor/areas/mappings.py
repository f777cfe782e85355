"""The mappings that would run: their own check, then held against the databases: objects, rights, Chinese, codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.config import Settings
from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from agent.mapping_origin import MappingOrigin
from agent.workbench_site import workbench_site
from his_db.document.located import Path as DocumentPath
from his_db.document.located import load_document
from his_db.document.problem import DocumentError, Problem, Severity
from his_db.mapping.load import MappingSet
from his_db.secret_reference import SecretUnreadable, is_reference, read_secret
from his_db.workbench.check_online import OnlineCheck, check_online
from his_db.workbench.revisions import Revisions
from his_db.workbench.site import Site

_LIMIT: Final = timedelta(minutes=3)  # the catalogue of a large Oracle HIS, and the census of its codes
_ALIKE: Final = 5  # findings of one sort that are told one by one
_RIGHTS: Final = frozenset({"H508", "H509", "H511"})


def checks(context: Context) -> Sequence[Check]:
    """One."""
    return [Check("mappings", look, limit=_LIMIT)]


def look(context: Context) -> Findings:
    """What would run at a start: the folder, or what was published."""
    findings = Findings()
    settings = context.settings
    try:
        folder = _folder(settings)
        site = workbench_site(settings, folder)
        mapping_set = site.load()
    except DocumentError as error:
        findings.take(error.problems, is_configuration=True)
        return findings
    findings.take(mapping_set.warnings)
    _secrets(folder, findings)
    findings.good(
        f"映射 {folder} 检查通过，版本 {mapping_set.revision[:12]}",
        f"mappings are right: {mapping_set.revision[:12]}",
    )
    _online(site, mapping_set, context, findings)
    return findings


def _folder(settings: Settings) -> Path:
    mapping = settings.mapping
    revisions = Revisions(settings.state.path.parent)
    return MappingOrigin(mapping.folder, revisions, use=mapping.use).taken().folder


def _secrets(folder: Path, findings: Findings) -> None:
    """Keys of payment houses and 医保 stand in the mappings as references; they are read when a call needs them."""
    names = [path for path in sorted(folder.rglob("*.toml")) if not path.name.startswith((".", "_"))]
    found = 0
    for file in names:
        document = load_document(file, name=file.relative_to(folder).as_posix())
        for place, reference in references(document.data, ()):
            found += 1
            try:
                read_secret(reference)
            except SecretUnreadable:
                findings.wrong(
                    "H703",
                    str(document.value_place(place)),
                    f"密钥读不出来：{reference.partition(':')[0]}:…",
                    f"the secret behind {reference.partition(':')[0]}:… cannot be read",
                    "核对路径、变量名，以及运行代理的账号是否有读取权限",
                    "check the path or name, and that the account of the agent may read it",
                )
    if found and not findings.found:
        findings.good(f"映射引用的 {found} 个密钥都能读出", f"all {found} secrets of the mappings can be read")


def references(value: object, path: DocumentPath) -> Iterator[tuple[DocumentPath, str]]:
    """Every reference to a secret, with its place."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from references(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from references(item, (*path, index))
    elif isinstance(value, str) and is_reference(value):
        yield path, value


def _shortened(problems: Iterable[Problem]) -> Iterator[Problem]:
    """A few of each sort: a login that may read everything is one fact, not nine thousand."""
    seen: Counter[tuple[str, Severity]] = Counter()
    first: dict[tuple[str, Severity], Problem] = {}
    for problem in problems:
        sort = (problem.code, problem.severity)
        first.setdefault(sort, problem)
        seen[sort] += 1
        if seen[sort] <= _ALIKE:
            yield problem
    for sort, number in seen.items():
        if number > _ALIKE:
            yield replace(
                first[sort],
                message=f"and {number - _ALIKE} more of this sort",
                message_zh=f"还有 {number - _ALIKE} 个同类问题",
                fix="all of them: his160 mapping check --online",
                fix_zh="全部列出：his160 mapping check --online",
            )


def _online(site: Site, mapping_set: MappingSet, context: Context, findings: Findings) -> None:
    without = [name for name in site.sources if not context.has_password("source", name)]
    online: OnlineCheck = check_online(site, mapping_set, without=without)
    findings.take(_shortened(online.problems))
    codes = {problem.code for problem in online.problems}
    for source in online.sources:
        if not source.version:
            continue
        findings.good(
            f"[source.{source.name}] 已与数据库核对：{source.objects} 张表，账号 {source.login or '-'}，"
            f"字符集 {source.charset or '-'}",
            f"[source.{source.name}] held against the database: {source.objects} tables, login {source.login or '-'}",
        )
        seen = [column for column in source.chinese if column.chinese and column.damage is None]
        if seen:
            findings.good(
                f"中文列读取正确，共 {len(seen)} 列，例如 {seen[0].where}（{seen[0].chinese} 个中文值）",
                f"Chinese columns are read well: {len(seen)}, for example {seen[0].where}",
            )
        if not codes & _RIGHTS and source.login:
            findings.good("账号权限不多不少", "the rights of the login are exactly those needed")
