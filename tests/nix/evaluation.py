"""Evaluates configurations with `module.nix` in them, and writes down what NixOS would make of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
NIXPKGS_LIB = os.environ.get("NIXPKGS_LIB")
"""nixpkgs' `lib`, where it is at hand."""


class EvaluationError(Exception):
    """Nix's own words."""


def expression(
    cases: Mapping[str, str], *, nixpkgs_lib: str | None = None, packages: Path | None = None
) -> str:
    """Return the Nix expression of `evaluate.nix` for modules by name, each a Nix expression.

    `packages` is the directory in which packages are said to be, by their names.
    """
    written = "".join(f"{json.dumps(name)} = ({module});\n" for name, module in cases.items())
    given = [f"cases = {{\n{written}}};"]
    given += [f"nixpkgsLib = {nixpkgs_lib};"] if nixpkgs_lib else []
    given += [f'packages = "{packages}";'] if packages else []
    return f"import {HERE}/evaluate.nix {{ {' '.join(given)} }}"


def evaluate(
    cases: Mapping[str, str],
    what: str = "results",
    *,
    nixpkgs_lib: str | None = None,
    packages: Path | None = None,
) -> Any:
    """Return an attribute of `evaluate.nix`, all cases in one evaluation.

    Raises:
        EvaluationError: nix does not come to its end.
    """
    return _told(f"({expression(cases, nixpkgs_lib=nixpkgs_lib, packages=packages)}).{what}")


def _told(asked: str) -> Any:
    # With a dummy for a store nothing is written anywhere.
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://"]
    argv += ["--expr", asked]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise EvaluationError(done.stderr)
    return json.loads(done.stdout)


def unit_files(system: Mapping[str, Any], *, path: str | None = None) -> dict[str, str]:
    """Return the files of the units of one of `evaluate`'s results, by name.

    `path` stands in place of the units' own PATH, which leads to packages that are not there.
    """
    files = {}
    for name, service in system["services"].items():
        searched = path or ":".join(
            f"{package}/{part}" for part in ("bin", "sbin") for package in service["path"]
        )
        environment = {**service["environment"], "PATH": searched}
        assigned = [json.dumps(f"{key}={value}") for key, value in sorted(environment.items())]
        # Where nixpkgs' systemd-lib.nix has it.
        switched = {} if service["restartIfChanged"] else {"X-RestartIfChanged": False}
        files[f"{name}.service"] = _unit_section(service, service["unitConfig"]) + _section(
            "Service", {"Environment": assigned, **switched, **service["serviceConfig"]}
        )
    for name, timer in system["timers"].items():
        files[f"{name}.timer"] = _unit_section(timer, timer["unitConfig"]) + _section(
            "Timer", timer["timerConfig"]
        )
    return files


def home_expression(cases: Mapping[str, str], *, packages: Path | None = None) -> str:
    """Return the Nix expression of `evaluate-home.nix` for homes by name, as `expression` does."""
    written = "".join(f"{json.dumps(name)} = ({module});\n" for name, module in cases.items())
    given = f'packages = "{packages}";' if packages else ""
    return f"import {HERE}/evaluate-home.nix {{ cases = {{\n{written}}}; {given} }}"


def evaluate_homes(cases: Mapping[str, str], what: str = "results") -> Any:
    """Return an attribute of `evaluate-home.nix`, all cases in one evaluation.

    Raises:
        EvaluationError: nix does not come to its end.
    """
    return _told(f"({home_expression(cases)}).{what}")


def without_null(value: Any) -> Any:
    """Return what a module has as settings as it writes them: without what is not set."""
    match value:
        case dict():
            pruned = {name: without_null(item) for name, item in value.items() if item is not None}
            return {name: item for name, item in pruned.items() if item != {}}
        case list():
            return [without_null(item) for item in value]
        case _:
            return value


def home_unit_files(home: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of the user's units of one of `evaluate_homes`' results, by name."""
    return {
        f"{name}.{kind}": "".join(
            _section(section, unit[section])
            for section in ("Unit", "Service", "Timer", "Install")
            if unit.get(section)
        )
        for kind in ("service", "timer")
        for name, unit in home[f"{kind}s"].items()
    }


def wanted_units(system: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of units by the target that wants or requires them."""
    wanted: dict[str, list[str]] = {}
    for kind in ("service", "timer"):
        for name, unit in system[f"{kind}s"].items():
            for target in (*unit["wantedBy"], *unit["requiredBy"]):
                wanted.setdefault(target, []).append(f"{name}.{kind}")
    return wanted


def _unit_section(unit: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    names = ("description", "after", "before", "wants")
    said = {name.capitalize(): unit[name] for name in names if unit[name]}
    return _section("Unit", {**said, **more})


def _section(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"[{name}]"]
    for key, value in values.items():
        lines += [f"{key}={_word(one)}" for one in (value if isinstance(value, list) else [value])]
    return "\n".join([*lines, "", ""])


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
