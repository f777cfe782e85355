"""Write requirements.lock: the resolved versions of everything the project installs, names and versions only.

Run inside the environment that `make` made. No index address, no path of this machine ever gets into the file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """# Resolved versions, used as constraints by the Makefile (`make lock` writes this file).
# Versions that only Windows needs (pywin32, tzdata) are not listed; pyproject.toml gives their ranges.
"""


def main() -> int:
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze", "--exclude-editable", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    lines = sorted(
        line
        for line in frozen.splitlines()
        if "==" in line
        and " @ " not in line
        and not line.lower().startswith(("pip==", "setuptools==", "wheel==", "his160=="))
    )
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"requirements.lock: {len(lines)} versions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
