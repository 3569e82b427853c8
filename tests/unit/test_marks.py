from __future__ import annotations

from dataclasses import fields

from agent.domain.marks import Mark, Marks
from fakes.samples import NEW, OLD, OTHER, SPECIAL


def test_there_is_a_field_for_each_mark():
    names = [mark.replace("-", "_") for mark in Mark]
    assert [*names, "unreadable"] == [field.name for field in fields(Marks)]


def test_a_mark_s_name_is_the_name_of_a_link():
    assert all(mark.replace("-", "").isalpha() for mark in Mark)


def test_a_host_without_marks_is_not_known():
    assert Marks().known == frozenset()


def test_what_the_agent_may_have_left_on_the_host_is_known():
    marks = Marks(confirmed=OLD, pending=NEW, staged=NEW, tested=SPECIAL, rolling_back=OTHER)
    assert marks.known == {OLD, NEW, SPECIAL, OTHER}


def test_what_was_rolled_back_from_is_not_known_any_more():
    assert Marks(confirmed=OLD, rolled_back=NEW).known == {OLD}
