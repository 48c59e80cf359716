"""Reads the instructions of our Dockerfile."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field


@dataclass
class Stage:
    """A FROM instruction and the instructions after it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word):
        return [text for instruction, text in self.instructions if instruction == word]

    @property
    def variables(self):
        """Variables of ENV and of LABEL."""

        def pairs(word):
            return dict(pair.split("=", 1) for text in self.all(word) for pair in shlex.split(text))

        return pairs("ENV"), pairs("LABEL")

    @property
    def commands(self):
        """Commands of RUN, without mounts."""
        return [re.sub(r"--mount=\S+\s+", "", text) for text in self.all("RUN")]


def read(path):
    """Return the arguments before the first stage, and the stages."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    arguments, stages = {}, []
    for line in filter(str.strip, text.splitlines()):
        word, rest = line.split(None, 1)
        rest = " ".join(rest.split()) if word != "ENV" else rest
        if word == "FROM":
            image, *name = re.split(r"\s+AS\s+", rest)
            stages.append(Stage(image, *(name or [""])))
        elif word == "ARG" and not stages:
            name, value = rest.split("=", 1)
            arguments[name] = value
        else:
            stages[-1].instructions.append((word, rest))
    return arguments, stages
