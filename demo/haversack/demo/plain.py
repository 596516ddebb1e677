"""Text from a bundle, made safe to show.

A bundle may come from anywhere. Streamlit reads most text as Markdown, in which a name could fetch a picture from
another host, and `st.html` reads HTML.
"""

from __future__ import annotations

import html
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&\"'^=/@])")


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def element(text: str) -> str:
    """Text that HTML shows as it is, in an element or an attribute."""
    return html.escape(text)


def size(count: int) -> str:
    """Bytes for people: 812 B, 21.9 kB, 3.4 MB."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:,.1f} kB"
    return f"{count / 1_000_000:,.1f} MB"
