"""Cuts out of GitHub's published description what the tests need: 13 MB become a few hundred KB.

    python excerpt.py PACKAGE.tgz OUT.json

The package is npm's `@octokit/openapi`; what it holds is kept in the cache and never committed.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

DOCUMENT = "package/generated/api.github.com.json"
PULLS = "/repos/{owner}/{repo}/pulls"
ISSUES = "/repos/{owner}/{repo}/issues/{issue_number}"
PATHS = (
    PULLS,
    f"{PULLS}/{{pull_number}}",
    f"{ISSUES}/labels",
    f"{ISSUES}/assignees",
    f"{ISSUES}/comments",
)


def excerpt(document: dict[str, Any]) -> dict[str, Any]:
    """Return the paths above with all that they refer to, without examples."""
    kept: dict[str, Any] = {
        "openapi": document["openapi"],
        "info": {"version": document["info"]["version"]},
        "paths": {path: _bare(document["paths"][path]) for path in PATHS},
        "components": {},
    }
    waiting = list(_references(kept["paths"]))
    while waiting:
        _, _, group, name = waiting.pop().split("/")
        known = kept["components"].setdefault(group, {})
        if name not in known:
            known[name] = _bare(document["components"][group][name])
            waiting += _references(known[name])
    return kept


def _bare(part: Any) -> Any:
    if isinstance(part, dict):
        # A property may have one of these names, and is then a schema.
        return {
            name: _bare(value)
            for name, value in part.items()
            if name not in ("examples", "example", "description")
            or (isinstance(value, dict) and "type" in value)
        }
    return [_bare(item) for item in part] if isinstance(part, list) else part


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        found = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return found + [ref for value in part.values() for ref in _references(value)]
    return [ref for item in part for ref in _references(item)] if isinstance(part, list) else []


def main() -> None:
    package, out = sys.argv[1:]
    with tarfile.open(package) as archive:
        stream = archive.extractfile(DOCUMENT)
        assert stream is not None, f"{package} has no {DOCUMENT}"
        document = json.load(stream)
    part = Path(f"{out}.part")
    part.write_text(json.dumps(excerpt(document)))
    part.rename(out)


if __name__ == "__main__":
    main()
