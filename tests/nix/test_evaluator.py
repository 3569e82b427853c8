"""The tests' own module system does what nixpkgs' does, and is strict."""

from __future__ import annotations

import json
import subprocess

import pytest

from nix.evaluation import HERE, NIXPKGS_LIB

# name: (an option's declaration, modules that define `it`, its value or what is wrong)
CASES = {
    "a default": ("type = types.int'; default = 1;", "", 1),
    "a definition": ("type = types.int'; default = 1;", "{ it = 2; }", 2),
    "the same twice": ("type = types.int';", "{ it = 2; } { it = 2; }", 2),
    "two at odds": ("type = types.int';", "{ it = 2; } { it = 3; }", "conflicting definition"),
    "mkForce": ("type = types.int';", "{ it = 2; } { it = lib.mkForce 3; }", 3),
    "mkDefault": ("type = types.int'; default = 1;", "{ it = lib.mkDefault 2; } { it = 3; }", 3),
    "mkDefault alone": ("type = types.int'; default = 1;", "{ it = lib.mkDefault 2; }", 2),
    "mkIf": ("type = types.int'; default = 1;", "{ it = lib.mkIf false 2; }", 1),
    "mkIf around": (
        "type = types.int'; default = 1;",
        "{ config = lib.mkIf true { it = 2; }; }",
        2,
    ),
    "a condition on another option": (
        "type = types.int'; default = 1;",
        "({ config, ... }: { config = lib.mkIf config.other { it = 2; }; })",
        2,
    ),
    "mkMerge": (
        "type = types.listOf types.str;",
        '{ config = lib.mkMerge [ { it = [ "a" ]; } { } ]; }',
        ["a"],
    ),
    "sets": (
        "type = types.attrsOf types.str;",
        '{ it.a = "a"; } { it.b = "b"; }',
        {"a": "a", "b": "b"},
    ),
    "a part that is not": ("type = types.attrsOf types.str;", '{ it.a = lib.mkIf false "a"; }', {}),
    "a part by default": (
        "type = types.attrsOf types.str;",
        '{ it.a = lib.mkDefault "a"; } { it.a = "b"; }',
        {"a": "b"},
    ),
    "null": ("type = types.nullOr types.str;", "{ it = null; }", None),
    "either": ("type = types.either types.str types.bool;", "{ it = true; }", True),
    "a submodule": ("type = types.submodule inner;", "{ it.a = 2; }", {"a": 2, "b": 3}),
    "a submodule's default": (
        "type = types.submodule inner;",
        "{ it.a = lib.mkDefault 2; } { it.a = 4; }",
        {"a": 4, "b": 3},
    ),
    "no value": ("type = types.int';", "", "was accessed but has no value defined"),
    "no value within": ("type = types.submodule inner;", "{ it = { }; }", "it.a' was accessed but"),
    "an unknown option": (
        "type = types.int'; default = 1;",
        "{ that = 2; }",
        "that' does not exist",
    ),
    "an unknown option within": (
        "type = types.submodule inner;",
        "{ it = { a = 1; c = 2; }; }",
        "it.c' does not exist",
    ),
    "a wrong type": ("type = types.int';", '{ it = "a"; }', "it' is not of type"),
    "a wrong default": ("type = types.int'; default = null;", "", "it' is not of type"),
    "a wrong type within": (
        "type = types.submodule inner;",
        '{ it.a = "a"; }',
        "it.a' is not of type",
    ),
    "a wrong element": ("type = types.listOf types.str;", "{ it = [ 1 ]; }", "' is not of type"),
    "a wrong part": ("type = types.attrsOf types.str;", "{ it.a = 1; }", "it.a' is not of type"),
    "no choice": ('type = types.enum [ "a" "b" ];', '{ it = "c"; }', "it' is not of type"),
    "no match": ('type = types.strMatching "a+";', '{ it = "aab"; }', "it' is not of type"),
    "neither": ("type = types.either types.str types.bool;", "{ it = 1; }", "it' is not of type"),
    "out of bounds": ("type = types.ints.between 1 5;", "{ it = 6; }", "it' is not of type"),
    "nothing": ("type = types.ints.unsigned;", "{ it = 0; }", 0),
    "less than nothing": ("type = types.ints.unsigned;", "{ it = -1; }", "it' is not of type"),
    "a check that is added": (
        'type = types.addCheck types.str (text: text != "");',
        '{ it = ""; }',
        "it' is not of type",
    ),
    "something beside config": (
        "type = types.int'; default = 1;",
        "{ config.it = 2; that = 3; }",
        "that",
    ),
}
DECLARED_TWICE = "{ options.it = lib.mkOption { type = types.int'; }; }"
LIBRARIES = {"our own": f"{HERE}/evaluator"} | ({"nixpkgs": NIXPKGS_LIB} if NIXPKGS_LIB else {})


def expression(library, declaration, modules):
    return f"""
      let
        lib = import {library};
        types = lib.types // {{ int' = lib.types.ints.between 0 9; }};
        inner.options = {{
          a = lib.mkOption {{ type = types.int'; }};
          b = lib.mkOption {{ type = types.int'; default = 3; }};
        }};
        made = lib.evalModules {{
          modules = [
            {{
              options.it = lib.mkOption {{ {declaration} }};
              options.other = lib.mkOption {{ type = types.bool; default = true; }};
            }}
            {modules}
          ];
        }};
        problems = made.problems or [ ];
      in
      if problems == [ ] then made.config.it else throw (builtins.head problems)
    """


def evaluated(library, declaration, modules):
    """Return the value of `it`, or nix's words."""
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", "--expr"]
    argv.append(expression(library, declaration, modules))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else json.loads(done.stdout)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("name", CASES)
def test_the_module_system_does(library, name):
    declaration, modules, expected = CASES[name]
    found = evaluated(library, declaration, modules)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    elif isinstance(expected, list):  # nixpkgs begins with the last module
        assert sorted(found) == expected
    else:
        assert found == expected


def test_ours_does_not_let_two_declare_one_option():
    found = evaluated(LIBRARIES["our own"], "type = types.int'; default = 1;", DECLARED_TWICE)
    assert "declared more than once" in found
