"""The environment that nix evaluates flakes in, and what it may fetch meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.nix_options import split_flags
from agent.domain.origin import origin_of_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.domain.origin import UrlPrefix

_IMPURE: Final = "--impure"
_GIT_PROTOCOLS: Final = ("https", "ssh")
_SECURE_URIS: Final = (
    *("https://", "tarball+https://", "file+https://", "git+https://", "git+ssh://"),
    *("hg+https://", "hg+ssh://", "ssh://", "github:", "gitlab:", "sourcehut:", "path:."),
)


def confinement(
    environment: Mapping[str, str], flags: Sequence[str], allow_insecure: Sequence[UrlPrefix]
) -> dict[str, str]:
    """Return the variables that keep nix, and its git, from fetching what may not be fetched.

    Options among the flags that hold a credential are in them, too.

    The inputs of a flake are judged before; this is for what its code fetches when it is evaluated,
    and for what git fetches besides, such as submodules. Hydra itself evaluates flakes in nix's
    restricted mode; with `--impure` there is none. Of what the settings allow nix compares only
    whole directories (`isAllowedURI` in src/libexpr/eval.cc).
    """
    origins = [origin_of_prefix(prefix) for prefix in allow_insecure]
    transports = {origin.scheme.rsplit("+", 1)[-1] for origin in origins}
    protocols = [*_GIT_PROTOCOLS, *sorted(transports & {"file", "http", "git"})]
    found = {"GIT_ALLOW_PROTOCOL": ":".join(protocols)}
    lines = list(split_flags(flags).lines)
    if _IMPURE not in flags:
        uris = [*_SECURE_URIS, *map(_directory_uri, allow_insecure)]
        # Older nix compares a repository's own URL, without its type.
        uris += [uri.split("+", 1)[1] for uri in uris if "+" in uri.split(":", 1)[0]]
        lines += ["restrict-eval = true", f"extra-allowed-uris = {' '.join(uris)}"]
    if lines:
        found["NIX_CONFIG"] = with_nix_config(environment, *lines)
    return found


def _directory_uri(prefix: UrlPrefix) -> str:
    """Return the directory that a prefix is in; of one that is a host alone the host itself.

    Never one that has what is private to this host beside the prefix: what a flake's code names
    nix copies into the store before it finds out that a hash is wrong.
    """
    origin = origin_of_prefix(prefix)
    if origin.host:
        return f"{prefix.rpartition('/')[0] if origin.path else prefix.rstrip('/')}/"
    whole = prefix.rstrip("/")
    return whole if origin.is_beside_private else f"{whole.rpartition('/')[0]}/"


def with_nix_config(environment: Mapping[str, str], *lines: str) -> str:
    """Return NIX_CONFIG with `lines` added: settings are for everybody to read in an argv."""
    return "\n".join(line for line in (environment.get("NIX_CONFIG", ""), *lines) if line)
