"""Your own list of Albumentations transforms, by their names there.

Source: https://explore.albumentations.ai shows them; the version here is 2.0.8.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field, model_validator

from pipeline.contracts import PolicyConfig, Transform


class Config(PolicyConfig):
    """The stage `augment` builds the transforms and tries them, so a mistake in them shows before any training."""

    model_config = ConfigDict(serialize_by_alias=True)

    listed: list[Transform] = Field(alias="transforms")  # an alias, for `transforms` is the method of every policy
    """In order, each as `{name: ..., arguments: {...}}`; the last must leave pictures with sides of `size`."""
    from_size: int | None = Field(None, ge=4, le=8192)
    """Side of the pictures that the first transform gets, `size` or more; null is `size`."""

    @model_validator(mode="after")
    def _shrinks(self) -> Config:
        if self.from_size is not None and self.from_size < self.size:
            raise ValueError(
                f"from_size is {self.from_size}, which is less than size, {self.size}; raise it or leave it out"
            )
        return self

    @property
    def packed(self) -> int:
        """As given, or S."""
        return self.from_size or self.size

    def transforms(self, located: bool) -> list[Transform]:
        """As given."""
        return self.listed
