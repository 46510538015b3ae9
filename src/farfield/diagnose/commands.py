"""What a person types next: commands with the model and the data that are known."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farfield import recipes


@dataclass(frozen=True)
class Trial:
    """What trying the remedies that train needs.

    Args:
        names: which to try, of `TRIED`.
        source: what the classifier was built from, see `classifier.sources.source_of`.
        data: what it is trained on.
        model: what a person calls it.
        given: the options that say which data these are, for the commands.
        options: how the classifier and its data were read, such as `--preprocess`, for the commands too.
    """

    names: Sequence[str]
    source: str
    data: recipes.TrainingData
    model: str
    given: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def detecting(self, detector: str, calibrates: bool = False) -> str:
        """The command that gives a person this detector; of the data held out where it calibrates, which `fit` refuses of others."""
        if "--suite" in self.given:
            words = ["bench", *_words(self.given), "--model", self.model, "--detector", detector]
        else:
            mine = {"--id-train" if option == "--id-train" else "--id-cal": value for option, value in self.given.items()}
            data = _words({option: value for option, value in mine.items() if option == "--id-train" or calibrates})
            words = ["fit", "--model", self.model, *data, "--detector", detector, "--out", f"{slug(detector)}.safetensors"]
        return shlex.join(["farfield", *words, *_words(self.options)])

    def filled(self, command: str) -> str:
        """A command of a check with what is known put in for its capitals: MODEL, TRAIN and HELD_OUT."""
        suite = self.given.get("--suite")
        held = next((value for option, value in self.given.items() if option in ("--id-test", "--id-cal")), None)
        train = self.given.get("--id-train") or suite
        if suite is not None and command.startswith(("farfield recommend", "farfield diagnose")):
            command = re.sub("--id-train TRAIN --id-(cal|test) HELD_OUT", f"--suite {suite}", command)
        known = {"MODEL": self.model, "TRAIN": None if suite and "--id-train TRAIN" in command else train, "HELD_OUT": held}
        words = [shlex.quote(value) if (value := known.get(word)) else word for word in command.split(" ")]
        return " ".join([*words, *(shlex.join(pair) for pair in self.options.items() if pair[0] not in words)]) if command else ""

    def training(self, *words: str) -> str:
        """The command that trains this classifier, by the words that say how."""
        data = self.data.told.get("data")
        options = {option: value for option, value in self.options.items() if option != "--weights" or words[0] != "train"}
        return shlex.join(["farfield", *words, "--data", str(data or "DIR"), "--out", "NEW", *_words(options)])


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]


def slug(text: str) -> str:
    """A text as the name of a file.

    >>> slug("react:q=90+energy")
    'react-q-90-energy'
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
