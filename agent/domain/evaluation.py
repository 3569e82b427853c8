"""Why Hydra's evaluation of a jobset failed, and which job each error belongs to.

Hydra keeps one text for a whole evaluation (`errormsg` of `/jobset/P/J/errors`): what the evaluator
printed if it failed as a whole, or one section for each job that fails to evaluate, below
`in job ‘NAME’:`, or both (hydra-eval-jobset). An aggregate may also have a single line, `aggregate
job ‘NAME’ failed with the error: …`.
"""

# ruff: noqa: RUF001, RUF002 - Hydra's and nix's own quotation marks

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 500
"""Characters of an error that are shown."""
_ESCAPE: Final = re.compile(
    r"(?:\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?)|(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~])|\x1b[ -~]?"
)
_HEADER: Final = re.compile(
    r"""\s{0,2}(?:in\ (?:aggregate\ )?job|aggregate\ job)\s+
    (?:‘(.+?)’|'(.+?)'|"(.+?)"|“(.+?)”|[`´](.+?)['`´]|([^\s:]+))
    \s*(?:failed\ with\ the\ error)?\s*:\s*(.*)""",
    re.VERBOSE,
)
_TOP_LEVEL: Final = re.compile(r"\s{0,2}at top-level:\s*(.*)", re.IGNORECASE)
_ERROR: Final = re.compile(r"\s*error:\s*(.*)")
_TRACE: Final = re.compile(r"\s*(?:…|\.\.\. |at \S+:\d+|\d+\||\||\(stack trace truncated|warning:)")
_ATTRIBUTE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)')


@dataclass(frozen=True, slots=True)
class EvaluationErrors:
    """The errors of one evaluation, each as one line; `by_job` has those of each job, in order."""

    general: str = ""
    by_job: tuple[tuple[str, str], ...] = ()

    def of_job(self, name: str) -> str:
        """Return the error of a job or of an attribute set that contains it; empty without one."""
        path = _path(name)
        return next((error for job, error in self.by_job if _covers(_path(job), path)), "")

    def concerning(self, name: str) -> str:
        """Return why a job cannot be evaluated: its own error, or that of the whole evaluation."""
        return self.of_job(name) or self.general

    @property
    def first(self) -> str:
        """The error to show if no particular job is concerned, with the name of its job."""
        return self.general or next((f"{job}: {error}" for job, error in self.by_job), "")


def parse_evaluation_errors(text: str, fetching: str = "") -> EvaluationErrors:
    """Return the errors in Hydra's text of an evaluation, and in that of `fetching` the flake.

    If the flake cannot be fetched, nothing is evaluated, and the jobs' errors are older.
    """
    if fetched := innermost(_lines(fetching)):
        return EvaluationErrors(fetched)
    general: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    here = general
    for line in _lines(text):
        if header := _HEADER.fullmatch(line):
            *names, rest = header.groups()
            name = next(name for name in names if name)
            if sections and sections[-1][0] == name and not any(map(str.strip, here)):
                sections.pop()  # an aggregate's error, which repeats the job's name
            here = [rest]
            sections.append((name, here))
        elif header := _TOP_LEVEL.fullmatch(line):
            here = general
            here.append(header[1])
        else:
            here.append(line)
    return EvaluationErrors(
        innermost(general), tuple((job, innermost(said) or "error") for job, said in sections)
    )


def innermost(lines: Sequence[str]) -> str:
    """Return the last `error:`, which all traces lead to; empty without text.

    If no line is marked as an error, it is the first line that is not a headline.
    """
    said = [line for line in lines if line.strip()]
    for number in range(len(said) - 1, -1, -1):
        found = _ERROR.fullmatch(said[number])
        if found is None:
            continue
        following = [line.strip() for line in said[number + 1 :] if not _TRACE.match(line)]
        words = [found[1].strip()] if found[1].strip() else following[:1]
        if not words:
            continue
        if words[0].endswith(":"):
            rest = following if found[1].strip() else following[1:]
            words += rest[:1]
        return f"error: {' '.join(words)}"[:_LONGEST]
    plain = [line.strip() for line in said if not _TRACE.match(line)] or [
        one.strip() for one in said
    ]
    telling = [line for line in plain if not line.endswith(":")] or plain
    return telling[0][:_LONGEST] if telling else ""


def _lines(text: str) -> list[str]:
    return _ESCAPE.sub("", text).splitlines()


def _path(name: str) -> tuple[str, ...]:
    """Return the attributes of a path; a quoted name with dots is one attribute."""
    return tuple(found[1] or found[2] or "" for found in _ATTRIBUTE.finditer(name))


def _covers(section: tuple[str, ...], job: tuple[str, ...]) -> bool:
    """Whether a section is of the job, or of a set above it, with or without Hydra's quotes."""
    if not section:
        return False
    return section == job[: len(section)] or ".".join(section) == ".".join(job)
