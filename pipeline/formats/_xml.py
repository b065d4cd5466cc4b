"""XML from strangers: no document types, no entities, nothing fetched, and limits on size and depth.

Source: https://docs.python.org/3/library/xml.html#xml-vulnerabilities
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES = 16_000_000
"""Of one file; an annotation has a few thousand."""
MAX_DEPTH = 32
"""Elements within each other; an annotation has four."""


def parsed(data: bytes) -> Element:
    """The root of a document.

    Raises:
        ValueError: it is no XML, or holds what is refused; the text says which and where.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data):,} bytes of XML; the limit is {MAX_BYTES:,}")
    parser = expat.ParserCreate()
    builder, depth = TreeBuilder(), 0

    def refuse(*_: object) -> None:
        raise ValueError(
            f"it declares a document type or entities (line {parser.CurrentLineNumber}); these are not read"
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} elements within each other (line {parser.CurrentLineNumber})")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:  # an encoding that nobody knows
        raise ValueError(f"it is no XML: {error}") from None
    return builder.close()
