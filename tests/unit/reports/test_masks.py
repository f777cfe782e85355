"""What is starred, and that nothing short slips through."""

from __future__ import annotations

import pytest

from his_db.masks import MASKS


@pytest.mark.parametrize(
    ("mask", "text", "shown"),
    [
        ("name", "张三", "张*"),
        ("name", "欧阳某某", "欧**某"),
        ("name", "李", "李*"),
        ("name", "𠅤某", "𠅤*"),
        ("document", "440305199001011234", "4403**********1234"),
        ("document", "E12345678", "*********"),
        ("phone", "13812345678", "138****5678"),
        ("phone", "1234567", "*******"),
    ],
)
def test_masks(mask: str, text: str, shown: str) -> None:
    assert MASKS[mask](text) == shown
