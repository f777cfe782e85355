"""The agent's own store: whether it opens, its schema, every page of it, and the chain of its audit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from agent.config import StateSettings
from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from agent.state_store import has_state, open_state, revision_of_shared
from sync.audit import Audit
from sync.clock import utc_now
from sync.money_book import RefundProgress
from sync.store import CommandState, Store, StoreCorrupt, StoreError, StoreTooNew, Transaction
from sync.store_backup import examine
from sync.store_revision import head

_LIMIT: Final = timedelta(minutes=2)
_WHERE: Final = "[state]"


def checks(context: Context) -> Sequence[Check]:
    """One."""
    return [Check("state", look, limit=_LIMIT)]


def look(context: Context) -> Findings:
    """A store that is not there yet is made by the first start. Nothing is upgraded here."""
    findings = Findings()
    state = context.settings.state
    if state.url and not context.has_password("state"):
        findings.good("状态库没有密码，未尝试连接", "the store was not tried: its password cannot be read")
        return findings
    if not has_state(state):
        findings.good("状态库尚未建立，首次启动时自动建立", "there is no store yet: the first start makes it")
        return findings
    try:
        if not (_shared_is_good(state, findings) if state.url else _file_is_good(state, findings)):
            return findings
        asyncio.run(_content(state, context, findings))
    except StoreTooNew as error:
        findings.wrong(
            "H737",
            _WHERE,
            f"状态库由更新的版本建立：{error}",
            f"the store was made by a newer program: {error}",
            "请安装新版本；要回退，用升级前的备份 his160 state restore",
            "install the newer program, or restore the copy from before the upgrade",
        )
    except StoreCorrupt as error:
        _damaged(str(error), findings)
    except StoreError as error:
        findings.wrong(
            "H737",
            _WHERE,
            f"状态库打不开：{error}",
            f"the store cannot be opened: {error}",
            "检查文件权限、磁盘；PostgreSQL 检查 url、密码、网络",
            "look at the rights of the file and the disk; of PostgreSQL at url, password, network",
        )
    return findings


def _file_is_good(state: StateSettings, findings: Findings) -> bool:
    """False: not to be opened by this program now."""
    health = examine(state.path)
    if health.damage:
        _damaged(health.damage, findings)
        return False
    if health.revision != head():
        _older(health.revision, "先自动备份", "with a copy first", findings)
        return False
    size = state.path.stat().st_size // 1024 // 1024
    findings.good(f"状态库完好，{size} MB，结构版本 {health.revision}", f"the store is whole, {size} MB")
    return True


def _shared_is_good(state: StateSettings, findings: Findings) -> bool:
    """As above, of a store in PostgreSQL."""
    revision = revision_of_shared(state)
    if revision is None:
        findings.good("状态库尚未建立，首次启动时自动建立", "there are no tables yet: the first start makes them")
    elif revision != head():
        _older(revision, "请先备份数据库并停止全部代理", "back it up and stop every agent before", findings)
    else:
        findings.good(f"状态库（PostgreSQL）可用，结构版本 {revision}", f"the PostgreSQL store is there, {revision}")
    return revision == head()


def _older(revision: str, zh: str, en: str, findings: Findings) -> None:
    findings.good(
        f"状态库结构版本 {revision}，启动时升级到 {head()}（{zh}）",
        f"the store has revision {revision}: the next start upgrades it to {head()}, {en}",
    )


async def _content(state: StateSettings, context: Context, findings: Findings) -> None:
    store: Store = open_state(state)
    try:
        verified = await Audit(store, utc_now).verify()
        commands, events = await store.read(lambda work: (work.commands.counts(), work.events.backlog()))
        abnormal, unconfirmed = await store.read(_money)
    finally:
        await store.close()
    if verified.broken is not None:
        findings.wrong(
            "H738",
            _WHERE,
            f"审计链在第 {verified.broken.sequence} 条断裂：{verified.broken.what_zh}",
            f"the audit chain is broken at {verified.broken.sequence}: {verified.broken.what}",
            "有人或磁盘改动了审计表：保留现场，用 his160 audit export 导出并与留存的锚点核对",
            "somebody, or the disk, has changed the audit: keep it, export it, compare it with anchors noted before",
        )
    else:
        findings.good(f"审计链完好，{verified.rows} 条", f"the audit chain holds, {verified.rows} rows")
    unknown = commands[CommandState.UNKNOWN]
    if unknown and not context.agent_runs():
        findings.warn(
            "H739",
            _WHERE,
            f"{unknown} 个操作结果未知，代理没有在运行",
            f"{unknown} outcomes are unknown and no agent runs",
            "启动代理，它会去 HIS 核实；见 his160 unknown list",
            "start the agent, which asks the HIS; see his160 unknown list",
        )
    if events.dead:
        findings.warn(
            "H739",
            _WHERE,
            f"{events.dead} 个事件被中继拒收，需人工处理",
            f"{events.dead} events were refused and wait for a person",
            "his160 outbox list 查看，改正后 his160 outbox retry",
            "his160 outbox list, then retry",
        )

    _money_waits(abnormal, unconfirmed, findings)


def _money(work: Transaction) -> tuple[int, int]:
    return work.refunds.counts().get(RefundProgress.ABNORMAL, 0), work.trades.unconfirmed()


def _money_waits(abnormal: int, unconfirmed: int, findings: Findings) -> None:
    if abnormal:
        findings.warn(
            "H739",
            _WHERE,
            f"{abnormal} 笔退款支付平台付不出去",
            f"{abnormal} refunds cannot be paid out",
            "his160 unknown list 查看，请财务在商户平台处理",
            "his160 unknown list; put them right at the merchant platform",
        )
    if unconfirmed:
        findings.warn(
            "H739",
            _WHERE,
            f"{unconfirmed} 笔支付平台一直没有确认，钱还没有退",
            f"{unconfirmed} payments were never confirmed and are not back",
            "his160 unknown list 查看，与平台核对订单",
            "his160 unknown list; ask the platform for the orders",
        )


def _damaged(what: str, findings: Findings) -> None:
    findings.wrong(
        "H737",
        _WHERE,
        f"状态库已损坏：{what}",
        f"the store is damaged: {what}",
        "停止代理，his160 state restore 用最近的备份恢复；没有备份请先保留文件并联系 160",
        "stop the agent and restore the last copy: his160 state restore; keep the file",
    )
