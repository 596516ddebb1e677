"""Where results stand in Markdown files: between `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path


def write_between_marks(path: Path, text: str, mark: str) -> None:
    """Replace what stands between `<!-- mark -->` and `<!-- /mark -->` in a file; both must be there once."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    page, count = pattern.subn(lambda found: found[1] + text + found[2], path.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{path} needs the marks <!-- {mark} --> and <!-- /{mark} --> once, found {count}")
    path.write_text(page, encoding="utf-8")
