"""What one version of the agent has left, the other one goes on with, wherever it was killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ARCHIVE = HERE.parent / "fixtures" / "agent-0.1.0" / "agent-693bb00.tar.xz"
DRIVER = HERE / "agent_version.py"
CONDITIONS = {"well": {}, "broken": {"is_broken": True}, "unknown": {"is_unknown": True}}
ENDS = {"well": "confirmed", "broken": "rolled-back", "unknown": "pending"}
SOME = 12
"""Of so many steps one is looked at; the long tests look at each."""
WAYS = pytest.mark.parametrize("way", [("older", "this"), ("this", "older")], ids=" then ".join)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The trees of the two versions, by name."""
    older = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        # Debian 12's Python knows no filters; the archive is our own.
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(older, **filters)  # noqa: S202 - see above
    return {"older": older, "this": HERE.parents[1]}


@pytest.fixture
def take(trees):
    def take(version, turns):
        """Let a version have its turn on several hosts; return what each is like then."""
        for turn in turns:
            Path(turn["directory"]).mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-P", str(DRIVER), str(trees[version])],
            input=json.dumps(turns),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return take


def end_of(seen):
    """Return what is to be the same, whoever has gone on."""
    return {name: seen[name] for name in ("host", "marks", "denied", "is_open", "exit_code")}


@pytest.mark.parametrize(
    ("condition", "each"),
    [
        ("broken", SOME),
        *(pytest.param(condition, 1, marks=pytest.mark.long) for condition in CONDITIONS),
    ],
)
@WAYS
def test_what_one_agent_has_left_in_any_step_the_other_ends_as_the_first_would(
    take, tmp_path, condition, each, way
):
    (first, then), facts = way, CONDITIONS[condition]

    def turns(what, number, killed, name=""):
        places = [str(tmp_path / f"{name}{at}") for at in killed]
        return [{"directory": one, "what": what, "number": number, **facts} for one in places]

    (whole,) = take(first, turns("upgrade", 1, ["whole"]))
    numbers = range(1, len(whole["steps"]) + 1)[::each]
    at_each = zip(turns("upgrade", 1, numbers), numbers, strict=True)
    left = take(first, [turn | {"at": at} for turn, at in at_each])
    assert {seen["outcome"] for seen in left} == {"killed"}
    for number in numbers:
        shutil.copytree(tmp_path / str(number), tmp_path / f"other-{number}", symlinks=True)
    wanted = take(first, turns("look", 2, numbers) + turns("upgrade", 3, numbers))
    ends = take(then, turns("look", 2, numbers, "other-") + turns("upgrade", 3, numbers, "other-"))
    # The first agent finds in order what the other has left.
    backs = take(first, turns("look", 4, numbers, "other-"))
    count = len(numbers)
    for end, want, seen in zip(ends[:count], wanted[:count], left, strict=True):
        assert end["reasons"] == want["reasons"], seen["steps"]
    for end, want, seen in zip(ends[count:], wanted[count:], left, strict=True):
        assert end_of(end) == end_of(want), seen["steps"]
    for back, end in zip(backs, ends[count:], strict=True):
        assert back["reasons"] == [["next", "confirm" if end["is_open"] else "nothing"]]
        assert (back["row"], back["denied"]) == (end["row"], end["denied"])


@WAYS
def test_what_one_agent_has_activated_the_other_one_judges(take, tmp_path, way):
    """The agent that is rolled back to, or the one that comes with the upgrade."""
    first, then = way

    def turns(what, number, facts):
        places = [str(tmp_path / condition) for condition in CONDITIONS]
        return [
            {"directory": one, "what": what, "number": number, **more}
            for one, more in zip(places, facts, strict=True)
        ]

    facts = list(CONDITIONS.values())
    for left in take(first, turns("upgrade", 1, [CONDITIONS["unknown"]] * len(facts))):
        assert (left["outcome"], left["row"][0][0]) == ("pending", "pending")
    judged = take(then, turns("confirm", 2, facts))
    assert [seen["outcome"] for seen in judged] == list(ENDS.values())
    assert [seen["row"][0][0] for seen in judged] == list(ENDS.values())
    backs = take(first, turns("look", 3, facts))
    for back, seen in zip(backs, judged, strict=True):
        assert back["reasons"] == [["next", "confirm" if seen["is_open"] else "nothing"]]
        assert (back["row"], back["denied"]) == (seen["row"], seen["denied"])
