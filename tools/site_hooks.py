"""What mkdocs asks while it builds the site of ``mkdocs.yml``: links that leave docs/, and assets from elsewhere.

On GitHub a page may link to any file of the checkout; the site has the pages of docs/ alone, so there such a link becomes its
text with the file's name. A warning of this module ends ``mkdocs build --strict``, as one of mkdocs's own does.
"""

import logging
import os
import posixpath
import re
from typing import Any

_LOG = logging.getLogger("mkdocs.hooks.site")
_CODE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[^\n]*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)\s]*)?\)")
_LIST = re.compile(r"<p>(?:(?!</p>).)*\n(?:[-*] |\d+\. )(?:(?!</p>).)*</p>", re.DOTALL)
#: What a browser would fetch by itself when it shows the page; a link that somebody has to click is none of it.
_FETCHED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def without_outer_links(text: str, page: str) -> str:
    """Return a page's Markdown in which links to files outside of docs/ are their text and the file's name.

    Args:
        text: The page's Markdown.
        page: Its path below docs/, with slashes.
    """

    def named(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[2]))
        if target.split("/")[0] == "docs":
            return link[0]
        return link[1] if target.split("/")[-1] in link[1] else f"{link[1]} (`{target}`)"

    pieces, at = [], 0
    for code in _CODE.finditer(text):
        # the text of a link may be code itself, which then stays as it is
        inside = text[: code.start()].endswith("[") and text[code.end() :].startswith("](")
        if not inside:
            pieces += [_LINK.sub(named, text[at : code.start()]), code[0]]
            at = code.end()
    return "".join([*pieces, _LINK.sub(named, text[at:])])


def faults(html: str) -> list[str]:
    """Return what is wrong with a page as it is shown: assets from elsewhere, lists that did not become lists."""
    found = [f"it would fetch {url} from elsewhere" for url in _FETCHED.findall(html)]
    return found + [f"a list needs an empty line before it: {part[0][:80]!r}" for part in _LIST.finditer(html)]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Take out the links that lead out of the site."""
    return without_outer_links(markdown, page.file.src_uri.replace(os.sep, "/"))


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Warn of what is wrong with a page that was built."""
    for fault in faults(output):
        _LOG.warning("%s: %s", page.file.src_uri, fault)
