"""What is known of a published classifier, as data."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET = "mean=0.485/0.456/0.406,std=0.229/0.224/0.225"


@dataclass(frozen=True)
class Entry:
    """A classifier of a paper.

    Args:
        what: what it is, in a line.
        paper: who evaluates it.
        source: what builds it: `torchvision:NAME:WEIGHTS`, or a name in `farfield.models.zoo.BUILDERS`.
        classes: how many its published weights tell apart.
        preprocess: what the paper does with a picture in evaluation; see `Preprocess.parse`.
        millions: of parameters as published; T2T-ViT's fixed positions and directions are among them.
        file: the name of the published file, below `$FARFIELD_WEIGHTS`; `None` where none was published.
        address: where that is had.
        licence: of the weights, or of the code that they came with.
        blocks: the names of its stages where the paper's are not those that are found.
        note: what else must be known.
    """

    what: str
    paper: str
    source: str
    classes: int
    preprocess: str
    millions: float
    file: str | None = None
    address: str | None = None
    licence: str | None = None
    blocks: tuple[str, ...] | None = None
    note: str = ""

    @property
    def fetched(self) -> bool:
        """Whether the package that builds it also fetches its weights."""
        return self.source.startswith("torchvision:")
