"""Which set of mappings a tool looks at, the folder or what was published, and which others there are."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

from agent.commands.mapping_options import read_site
from agent.config import MappingUse, load_settings
from agent.console import both
from agent.mapping_origin import revision_of
from agent.mapping_shelf import MappingShelf
from his_db.workbench.revisions import RevisionRefused, Revisions
from his_db.workbench.site import Site

_LIVE = "live"


@dataclass(frozen=True, slots=True)
class View:
    """`site`: its folder is the one that is looked at, `edited` the one that people edit. Revisions are empty where
    there is none: `revision` of what is looked at, `folder`, `published`, and `running` as the agent noted it last.
    `use`: what the agent runs, as configured."""

    site: Site
    edited: Path
    is_published: bool
    use: MappingUse
    revision: str
    folder: str
    published: str
    running: str

    def text(self) -> str:
        """One line for people, without a line break; what is looked at has a star."""
        sets = [
            ("文件夹 folder", self.folder, not self.is_published),
            ("正式 published", self.published, self.is_published and self.revision == self.published),
            ("运行 running", self.running, False),
        ]
        if not any(is_looked_at for _, _, is_looked_at in sets):
            sets.append(("存档 archived", self.revision, True))
        line = "，".join(f"{'*' if is_looked_at else ''}{name} {it or '-'}" for name, it, is_looked_at in sets)
        if self.use == "published" and not self.is_published and self.published not in ("", self.revision):
            line += "；" + both("实际运行的是正式版本，加 --published 查看", "the published one runs, see --published")
        return f"映射 mappings: {line}"

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "looked_at": "published" if self.is_published else "folder",
            "path": str(self.site.folder),
            "revision": self.revision,
            "folder": self.folder,
            "published": self.published,
            "running": self.running,
        }


def add_published(parser: argparse.ArgumentParser) -> None:
    """``--published [REVISION]``."""
    parser.add_argument(
        "--published",
        nargs="?",
        const=_LIVE,
        metavar="REVISION",
        help="查看已发布的版本（默认当前正式版本），而不是文件夹 / look at what was published, not at the folder",
    )


def read_view(parser: argparse.ArgumentParser, options: argparse.Namespace) -> View:
    """The set of parsed options; a revision that is not there ends the program with a usage error."""
    site = read_site(parser, options)
    view = view_of(site, options)
    wanted: str | None = options.published
    if wanted is None:
        return view
    if site.state is None:
        parser.error("--published 需要 --state / --published needs --state without a configuration file")
    revisions = Revisions(site.state)
    revision = view.published if wanted == _LIVE else wanted
    if not revision:
        parser.error("还没有发布过任何版本，请先执行 publish / nothing was published yet: his160 mapping publish")
    try:
        folder = revisions.folder(revision)
    except RevisionRefused as error:
        parser.error(f"{error.zh}，用 history 查看 / {error.en}: see history")
    return replace(view, site=replace(site, folder=folder), is_published=True, revision=revision)


def view_of(site: Site, options: argparse.Namespace) -> View:
    """The folder, and which other sets there are."""
    use: MappingUse = "folder"
    if options.source_url is None:
        use = load_settings(options.config, os.environ, require_files=False, secrets=False).mapping.use
    folder = revision_of(site.folder)
    published = running = ""
    if site.state is not None:
        revisions = Revisions(site.state)
        try:
            published = revisions.live()
        except RevisionRefused:
            published = "?"
        running = MappingShelf(revisions.root).last_revision()
    return View(site, site.folder, False, use, folder, folder, published, running)
