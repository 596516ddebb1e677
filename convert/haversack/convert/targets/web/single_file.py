"""One `.html` that holds the whole folder and works from `file://`, where a page may fetch nothing.

Every file that the page reads is gzipped, in base64, in a `<script>` of a type that no browser executes; haversack.js
unpacks them with DecompressionStream. The two scripts become one inline module, which the Content-Security-Policy
admits by its hash; `connect-src 'none'` then holds for everything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from pathlib import Path

from haversack.convert.targets.web import folder

EMBEDDED = "application/gzip"
"""The type of the elements that hold files; haversack.js looks for it."""

_POLICY = re.compile(r'(http-equiv="Content-Security-Policy"\s+content=")[^"]*(")')
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./haversack\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async function|function|class|const) )", re.MULTILINE)


def write(where: Path, path: Path) -> None:
    """Pack the folder `where` into the page `path`."""
    manifest = json.loads((where / folder.MANIFEST).read_text(encoding="utf-8"))
    names = [folder.MANIFEST, folder.MODEL, *([folder.GOLDEN] if manifest["golden"]["file"] else [])]
    names += [f"{folder.ENGINE}/{file.name}" for file in sorted((where / folder.ENGINE).iterdir())]
    embedded = "\n".join(_embedded(name, (where / name).read_bytes()) for name in names)
    style = (where / "app.css").read_text(encoding="utf-8")
    script = _module(where)
    icon = "data:image/svg+xml;base64," + base64.b64encode((where / "icon.svg").read_bytes()).decode()
    policy = (
        "default-src 'none'; "
        f"script-src '{_hash(script)}' blob: 'wasm-unsafe-eval'; style-src '{_hash(style)}'; "
        "img-src data: blob:; worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    page = (where / "index.html").read_text(encoding="utf-8")
    page = _POLICY.sub(lambda found: found[1] + policy + found[2], page)
    page = _replaced(page, '<link rel="stylesheet" href="app.css">', f"<style>{style}</style>")
    page = _replaced(page, '<link rel="manifest" href="manifest.webmanifest">', "")
    page = _replaced(page, '<link rel="icon" href="icon.svg">', f'<link rel="icon" href="{html.escape(icon)}">')
    page = _replaced(
        page,
        '<script type="module" src="app.js"></script>',
        f'{embedded}\n<script type="module">{script}</script>',
    )
    path.write_bytes(page.encode())


def _module(where: Path) -> str:
    """haversack.js and app.js as one module: the import between them goes, and so do the exports."""
    library = _EXPORT.sub("", (where / "haversack.js").read_text(encoding="utf-8"))
    page, imports = _IMPORT.subn("", (where / "app.js").read_text(encoding="utf-8"))
    assert imports == 1, "app.js imports haversack.js in one line"
    script = f"\n{library}\n{page}"
    assert not re.search(r"</script|<!--", script), "would end the element"
    return script


def _embedded(name: str, content: bytes) -> str:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = base64.b64encode(compressor.compress(content) + compressor.flush()).decode()
    return f'<script type="{EMBEDDED}" data-file="{html.escape(name)}">{packed}</script>'


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _replaced(page: str, old: str, new: str) -> str:
    assert page.count(old) == 1, f"index.html holds {old!r} once"
    return page.replace(old, new)
