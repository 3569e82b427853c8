"""Ways in which a history can be damaged, and still be a file that SQLite opens, or not even that."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE: Final[dict[str, Any]] = {
    "nothing": None,
    "empty": "",
    "half-closed": "[]}",
    "no-time": "yesterday",
    "naive-time": "2026-11-21T04:40:00",
    "last-time": "9999-12-31T23:59:59+00:00",
    "nul": "a\0b",
    "other-json": '{"a": [1, null]}',
    "other-pairs": '[["a", 1], ["b"]]',
    "deep": "[" * 10_000,
    "number": 7,
    "negative": -5,
    "huge": 2**63 - 1,
    "fraction": 1.5,
    "bytes": b"\xff\xfe\0\x80",
    "no-path": "../../etc/passwd",
}
"""What may be in a column, by a name for it."""
NOT_UTF_8: Final = "CAST(x'ff80fe41' AS TEXT)"


def loosen(file: Path) -> None:
    """Take from the tables what keeps SQLite from writing anything anywhere."""
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        for words in ("STRICT", "NOT NULL", "UNIQUE"):
            db.execute("UPDATE sqlite_master SET sql = replace(sql, ?, '')", (words,))
        # The index of UNIQUE would be one without an origin.
        db.execute("DELETE FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_runs%'")


def put(file: Path, table: str, column: str, value: Any) -> bool:
    """Write a value into every row of a table; False where SQLite does not take it."""
    try:
        with closing(sqlite3.connect(file)) as db, db:
            db.execute(f"UPDATE {table} SET {column} = ?", (value,))  # noqa: S608 - our own
    except (sqlite3.IntegrityError, sqlite3.OperationalError):
        return False
    return True


def put_bytes(file: Path, table: str, column: str) -> None:
    """Write a text that is no UTF-8 into every row of a table."""
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE {table} SET {column} = {NOT_UTF_8}")  # noqa: S608 - our own


def flip(file: Path, seed: int) -> None:
    """Change some bytes of a file, all of them in one place or anywhere."""
    dice = random.Random(seed)
    content = bytearray(file.read_bytes())
    start = dice.randrange(len(content))
    for _ in range(dice.choice((1, 4, 64, 2048))):
        place = dice.randrange(len(content)) if seed % 2 else min(start, len(content) - 1)
        content[place] = dice.randrange(256)
        start += 1
    if seed % 7 == 0:
        del content[dice.randrange(len(content)) :]
    file.write_bytes(content)
