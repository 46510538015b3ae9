"""Records that several experiments share: made once on a stage, and looked up there again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from farfield.errors import InputError
from farfield.files import put
from farfield.reproduce.base import Record, plain, read
from farfield.reproduce.stage import Stage

SETTINGS = ("scale", "seed", "limit", "model", "preprocess", "random_weights", "smoke")


def once(stage: Stage, where: str, make: Callable[[], Iterable[Record]]) -> list[Record]:
    """The records under a name on a stage: those in its folder, or those that are made now, and kept.

    Args:
        stage: whose folder.
        where: the name, such as `pool/glyphs-200-vit`.
        make: gives them.

    Raises:
        InputError: when what is kept cannot be read, is of other settings, or cannot be written.
    """
    path, settings = stage.place / f"{where}.json", {name: getattr(stage, name) for name in SETTINGS}
    if path.exists():
        try:
            told = json.loads(path.read_text("utf-8"))
            same, records = told["about"] == settings, [read(one) for one in told["records"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). Delete it, and it is made again.") from error
        if not same:
            raise InputError(f"{path} is of other settings: {told['about']}. Give another folder with --out, or delete it.")
        return records
    made = [Record(record.of, record.values, record.intervals, stage.seed) for record in make()]
    text = json.dumps({"about": settings, "records": [plain(record) for record in made]}, indent=1, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(text, "utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Make room, and run the same command again.") from error
    return [read(plain(record)) for record in made]  # rounded, as they will be the next time
