"""Reads JSON that may come from an attacker: exactly the expected fields, of the right types."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn, TypeVar

from agent.domain.store_path import StorePath, parse_store_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")
_LARGEST_NUMBER = 2**63 - 1


class MalformedError(ValueError):
    """The text is malformed; the message says how."""


def write_object(fields: Mapping[str, object]) -> str:
    """Return an object as one line of JSON; characters that texts may not contain are escaped."""
    return json.dumps(_legible(fields), allow_nan=False)


def _legible(value: object) -> object:
    match value:
        case str():
            return value.replace("\0", "\\0").encode(errors="backslashreplace").decode()
        case dict():
            return {name: _legible(item) for name, item in value.items()}
        case list() | tuple():
            return [_legible(item) for item in value]
        case _:
            return value


def read_object(text: str) -> Fields:
    """Return the fields of the object that `text` is.

    Raises:
        MalformedError: it is not an object, or has a duplicate field.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {type(error).__name__}") from error
    return Fields(value)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedError("a field is named twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not a number")


class Fields:
    """The fields of one object; each is read once, and `end` refuses any others."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise MalformedError("not an object")
        self._left = dict(value)

    def end(self) -> None:
        """Refuse fields that were not read.

        Raises:
            MalformedError: there are some.
        """
        if self._left:
            raise MalformedError(f"unknown fields: {', '.join(sorted(self._left))[:200]}")

    def _take(self, name: str, kind: type[_T]) -> _T | None:
        if name not in self._left:
            raise MalformedError(f"{name} is missing")
        value = self._left.pop(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise MalformedError(f"{name} is not {kind.__name__}")
        return value

    def _required(self, name: str, kind: type[_T]) -> _T:
        value = self._take(name, kind)
        if value is None:
            raise MalformedError(f"{name} is null")
        return value

    def text(self, name: str) -> str:
        """Return a text without NUL."""
        return _clean(name, self._required(name, str))

    def text_or_none(self, name: str) -> str | None:
        """Return a text, or None for null."""
        value = self._take(name, str)
        return None if value is None else _clean(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(_text_in(name, value) for value in self._required(name, list))

    def rows(self, name: str, length: int) -> tuple[tuple[str, ...], ...]:
        """Return a list of lists of `length` texts each."""
        rows = []
        for row in self._required(name, list):
            if not isinstance(row, list) or len(row) != length:
                raise MalformedError(f"{name} has a row that is not {length} texts")
            rows.append(tuple(_text_in(name, value) for value in row))
        return tuple(rows)

    def truth(self, name: str) -> bool:
        """Return true or false."""
        return self._required(name, bool)

    def number(self, name: str) -> int:
        """Return a non-negative number that fits into a database column."""
        return _natural(name, self._required(name, int))

    def number_or_none(self, name: str) -> int | None:
        """Return a number as `number` does, or None for null."""
        value = self._take(name, int)
        return None if value is None else _natural(name, value)

    def instant(self, name: str) -> datetime:
        """Return an instant with its offset from UTC."""
        return _instant(name, self.text(name))

    def instant_or_none(self, name: str) -> datetime | None:
        """Return an instant as `instant` does, or None for null."""
        value = self.text_or_none(name)
        return None if value is None else _instant(name, value)

    def store_path(self, name: str, store_dir: str) -> StorePath:
        """Return a path directly below the store directory."""
        return _path(name, self.text(name), store_dir)

    def store_path_or_none(self, name: str, store_dir: str) -> StorePath | None:
        """Return a path as `store_path` does, or None for null."""
        value = self.text_or_none(name)
        return None if value is None else _path(name, value, store_dir)

    def object_or_none(self, name: str) -> Fields | None:
        """Return the fields of an object, or None for null."""
        value = self._take(name, dict)
        return None if value is None else Fields(value)

    def objects(self, name: str) -> tuple[Fields, ...]:
        """Return the fields of each object in a list."""
        return tuple(Fields(value) for value in self._required(name, list))

    def object(self, name: str) -> Fields:
        """Return the fields of an object."""
        return Fields(self._required(name, dict))


def _text_in(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{name} is not a list of texts")
    return _clean(name, value)


def _clean(name: str, value: str) -> str:
    if "\0" in value:
        raise MalformedError(f"{name} has a NUL in it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"{name} has half a character in it") from error
    return value


def _natural(name: str, value: int) -> int:
    if not 0 <= value <= _LARGEST_NUMBER:
        raise MalformedError(f"{name} is out of range")
    return value


def _instant(name: str, value: str) -> datetime:
    try:
        instant = datetime.fromisoformat(value)
    except ValueError as error:
        raise MalformedError(f"{name} is not an instant") from error
    if instant.utcoffset() is None:
        raise MalformedError(f"{name} has no offset from UTC")
    return instant


def _path(name: str, value: str, store_dir: str) -> StorePath:
    path = parse_store_path(value, store_dir)
    if path is None:
        raise MalformedError(f"{name} is not a path in {store_dir}")
    return path
