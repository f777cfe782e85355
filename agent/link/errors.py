"""What can go wrong with a link, by what it means for the next dial."""

from __future__ import annotations

from typing import Literal

LinkFault = Literal["unreachable", "refused", "silent", "protocol", "closed", "credentials"]
"""Class of a fault, shown in the status and counted.

unreachable: no connection could be made, or it broke. refused: the relay does not let this site in.
silent: nothing was heard for ``dead_after``. protocol: the peer does not keep to the frames.
closed: the relay hung up without a word. credentials: certificate files cannot be read.
"""


class LinkBroken(Exception):
    """The link is gone. ``fault`` is its class; the text is English, without payload or personal data."""

    def __init__(self, fault: LinkFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault: LinkFault = fault
        self.detail = detail
