"""The documents for people: their code blocks, headings and links, as a Markdown parser sees them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "app/client/README.md")
RUN = ("sh", "python")
"""Languages whose blocks are run"""
SHOWN = ("text", "json", "yaml", "sql", "mermaid")
"""Languages whose blocks are only shown"""
_NOT_RUN = re.compile(r"<!-- not run:? ?(.*?) ?-->\s*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A code block. language is empty if the block names none, or is indented instead of fenced."""

    document: Path
    line: int
    language: str
    text: str
    not_run: str | None = None
    """Why a block of a language that is run is not run"""
    output: Block | None = None
    """What the block prints, as the document says: the text or json block that follows at once"""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    """The code blocks of a document from top to bottom. Outputs of other blocks are part of those."""
    blocks: list[Block] = []
    before: Token | None = None
    for token in _tokens(document):
        if token.type in ("fence", "code_block"):
            comment = before.content if before is not None and before.type == "html_block" else ""
            reason = _NOT_RUN.fullmatch(comment)
            block = Block(
                document=document,
                line=(token.map or [0])[0] + 1,
                language=token.info.strip(),
                text=token.content,
                not_run=reason and reason[1],
            )
            follows_code = before is not None and before.type == "fence" and blocks[-1].language in RUN
            if follows_code and block.language in ("text", "json"):
                blocks[-1] = dataclasses.replace(blocks[-1], output=block)
            else:
                blocks.append(block)
        before = token
    return blocks


def links_of(document: Path) -> Iterator[str]:
    """The addresses of the links and pictures of a document."""
    for token in _tokens(document):
        for part in token.children or ():
            address = part.attrGet("href") or part.attrGet("src")
            if address is not None:
                yield str(address)
        if token.type == "html_block":
            yield from re.findall(r'(?:src|srcset|href)="([^"]+)"', token.content)


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub and similar sites give to the headings of a document."""
    pairs = itertools.pairwise(_tokens(document))
    titles = [text.content for start, text in pairs if start.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def prints_as_documented(printed: str, documented: Block) -> bool:
    """Whether a text is the documented output.

    In a text block `...` stands for anything, and all white space is equal. A json block needs the same
    members, and may have other values and fewer items in its lists.
    """
    if documented.language == "json":
        return _same_members(json.loads(printed), json.loads(documented.text))
    pattern = re.escape(" ".join(documented.text.split())).replace(r"\.\.\.", ".*?")
    return re.fullmatch(pattern, " ".join(printed.split())) is not None


def _same_members(value: object, documented: object) -> bool:
    if isinstance(value, dict) and isinstance(documented, dict):
        return value.keys() == documented.keys() and all(
            _same_members(value[name], documented[name]) for name in value
        )
    if isinstance(value, list) and isinstance(documented, list):
        return bool(documented) == bool(value) and all(map(_same_members, value, documented))
    return not isinstance(value, dict | list) and not isinstance(documented, dict | list)


def _tokens(document: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(document.read_text())
