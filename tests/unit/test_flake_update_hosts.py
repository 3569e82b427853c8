from __future__ import annotations

import pytest

from agent.domain.errors import FlakeError, Kind
from agent.domain.flake_update.hosts import HostPatterns

NAMES = ("web-1", "web-2", "db", "iso-minimal")


def test_all_hosts_are_chosen_but_minimal_ones():
    assert HostPatterns().choose(NAMES) == ("db", "web-1", "web-2")


def test_patterns_match_whole_names():
    assert HostPatterns(include=("web",), exclude=()).choose(["web", "web-1"]) == ("web",)
    assert HostPatterns(exclude=("web",)).choose(["web", "web-1"]) == ("web-1",)


def test_excluded_hosts_are_not_chosen_even_if_they_are_included():
    patterns = HostPatterns(include=("web-.*", "db"), exclude=("web-2",))
    assert patterns.choose(NAMES) == ("db", "web-1")


def test_a_required_host_is_required_by_its_whole_name():
    patterns = HostPatterns(require=("web",))
    assert patterns.choose(["web", "web-1"]) == ("web", "web-1")
    assert (patterns.requires("web"), patterns.requires("web-1")) == (True, False)
    assert not HostPatterns().requires("web")


@pytest.mark.parametrize(
    ("patterns", "names", "told"),
    [
        (HostPatterns(), (), "no nixosConfigurations"),
        (HostPatterns(include=("web-1", "wbe-2")), NAMES, "'wbe-2'"),
        (HostPatterns(exclude=(".*",)), NAMES, "all 4 hosts"),
        (HostPatterns(require=("db", "wbe-2")), NAMES, "'wbe-2'"),
        (HostPatterns(exclude=("db",), require=("db",)), NAMES, "'db'"),
    ],
)
def test_nothing_to_look_at_is_a_fault_that_says_why(patterns, names, told):
    with pytest.raises(FlakeError, match=told) as caught:
        patterns.choose(names)
    assert caught.value.kind is Kind.HOSTS_MISSING
    assert caught.value.hint
