"""YAML from strangers, as text: every value is a string as it stands there, `no` and `1e3` too; no aliases."""

from __future__ import annotations

from typing import Any

MAX_BYTES = 1_000_000
"""Of one file; a list of classes has a few thousand."""


def parsed(data: bytes) -> Any:
    """Strings, and lists and mappings of them.

    Raises:
        ValueError: it is no YAML, or holds what is refused; the text says which and where.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
                raise yaml.YAMLError(f"line {line}: aliases (*name) are not read")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(node.value):
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a key stands twice, or is no text")
            return super().construct_mapping(node, deep)

    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data):,} bytes of YAML; the limit is {MAX_BYTES:,}")
    try:
        return Loader(data.decode("utf-8-sig")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        told = f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())
        raise ValueError(f"it is no YAML that is read: {told}") from None
