"""Checking the feeds and the wake-up of a watch: the engine has them, and they name what they need."""

from __future__ import annotations

import re
from typing import Final

from his_db import registry
from his_db.document.finding import Words
from his_db.feed import Feed
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import FILE, WatchFeed, WatchMapping
from his_db.mapping.sql_text import binds, statements, words
from his_db.wake import Wake

_NAME: Final = re.compile(r"[A-Za-z_\u4e00-\u9fff$#\[\]\"`][\w$#.\[\]\"`]*")
_NEVER: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "EXEC", "CALL", "DROP", "ALTER", "GRANT"})


def feed_of(engine: str, rung: str) -> Feed | None:
    """The implementation of a rung on an engine; None when there is none."""
    entry = registry.rungs_of("mysql" if engine == "mariadb" else engine).get(rung)
    if entry is None:
        return None
    found: Feed = registry.load(entry)()
    return found


def check_feeds(watch: WatchMapping, report: Reporter) -> None:
    """All of them."""
    rungs = registry.rungs_of("mysql" if watch.engine == "mariadb" else watch.engine)
    for feed in watch.feeds:
        made = feed_of(watch.engine, feed.spec.rung)
        if made is None:
            message = Words(
                f'{watch.engine} has no rung "{feed.spec.rung}"', f"{watch.engine} 没有捕获方式 “{feed.spec.rung}”"
            )
            report.value("H226", (*feed.path, "rung"), message, did_you_mean(feed.spec.rung, rungs))
        elif made.needs_column and not feed.spec.column:
            message = Words(f"the rung {feed.spec.rung} needs column", f"{feed.spec.rung} 需要写 column")
            report.value("H226", feed.path, message, Words('column = "…"', 'column = "…"'))
        _check_names(feed, report)
        _check_where(feed, watch, report)


def _check_names(feed: WatchFeed, report: Reporter) -> None:
    for name, text in (("table", feed.spec.table), ("key", feed.spec.key), ("column", feed.spec.column)):
        if text and _NAME.fullmatch(text) is None:
            message = Words("not a name of a table or column", "不是表名或列名")
            report.value("H232", (*feed.path, name), message)


def _check_where(feed: WatchFeed, watch: WatchMapping, report: Reporter) -> None:
    where = feed.spec.where
    if not where:
        return
    place = (*feed.path, "where")
    if binds(where, watch.engine):
        message = Words("a feed has no values: write constants", "feed 的条件不能用参数，请写常量")
        report.value("H221", place, message)
    if len(statements(f"SELECT 1 WHERE {where}", watch.engine)) != 1 or _NEVER.intersection(words(where, watch.engine)):
        message = Words("only a condition on the table itself is allowed", "只能写该表自身的条件")
        report.value("H226", place, message)


def check_wake(watch: WatchMapping, report: Reporter) -> None:
    """The signal at which to look at once."""
    if not watch.wake or watch.engine == FILE:
        return
    entry = registry.WAKES.get(watch.engine)
    if entry is None:
        message = Words(f"{watch.engine} gives no wake-up signal", f"{watch.engine} 不支持唤醒信号")
        report.value("H226", ("wake",), message, Words("leave it out and set poll", "请删除，改设 poll"))
        return
    wake: Wake = registry.load(entry)()
    if (problem := wake.problem(watch.wake)) is not None:
        report.value("H232", ("wake",), problem)
