"""No variation: the network sees every picture the same way each time."""

from __future__ import annotations

from pipeline.contracts import PolicyConfig, Transform


class Config(PolicyConfig):
    """Pictures as they are, at the network's size."""

    @property
    def packed(self) -> int:
        """S: there is nothing to crop."""
        return self.size

    def transforms(self, located: bool) -> list[Transform]:
        """None."""
        return []
