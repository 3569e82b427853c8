"""Where nix would fetch a source from, and whether it may.

A locked reference is not harmless: nix copies a `path:` into the world-readable store before it
compares the hash, and a URL of this host makes root send requests to the host's own services.
So only remote sources over TLS or ssh are fetched; exceptions are named in the settings.

The forms are those of nix: flake references (src/libflake/flakeref.cc), the attributes of a lock
file (src/libfetchers/{git,mercurial,tarball,path,github,indirect}.cc).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NewType
from urllib.parse import parse_qs, unquote

from typing_extensions import override

from agent.domain.this_host import address_of, looks_numeric

if TYPE_CHECKING:
    from collections.abc import Mapping

SECURE: Final = frozenset(
    {"https", "file+https", "git+https", "git+ssh", "hg+https", "hg+ssh"},
)
PLAIN: Final = frozenset({"http", "file+http", "git", "git+http", "hg+http"})
LOCAL: Final = frozenset({"path", "file", "file+file", "git+file", "hg+file"})
_TARBALL: Final = "tarball+"
"""A URL that nix recognises as a tarball's is one with or without this."""
_FORGES: Final = {"github": "github.com", "gitlab": "gitlab.com", "sourcehut": "git.sr.ht"}
_PRIVATE: Final = frozenset({"boot", "etc", "home", "proc", "root", "run", "sys", "var"})
"""Directories in which allowing one path must not allow its siblings."""
_REPOSITORIES: Final = frozenset({"git", "hg"})
_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}

_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?"
)
_AUTHORITY: Final = re.compile(
    r"(?:(?P<user>[^@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"(?::(?P<port>[0-9]{1,5})?)?"
)
_SCP: Final = re.compile(r"(?P<user>[\w.-]+)@(?P<host>[\w.-]+):(?P<path>[^:]+)", re.ASCII)
_ID: Final = re.compile(r"(?:flake:)?[A-Za-z][A-Za-z0-9_-]*(?:/[\w.@/-]+)?(?:\?.*)?", re.ASCII)
_LONGEST: Final = 300

UrlPrefix = NewType("UrlPrefix", str)
"""A URL in the settings, which stands for itself and everything below it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a source comes from: `scheme` has nix's type and the transport, as in `git+https`.

    `host` is in lower case, and empty for a local source; `path` has the decoded parts of the path,
    or is None if no prefix can match it, since it leads elsewhere (`..`) or its target is unknown.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    path: tuple[str, ...] | None = ()
    has_user: bool = False

    @property
    def is_secure(self) -> bool:
        """Whether it is remote and reached over TLS or ssh, whatever its host's addresses are."""
        return self.scheme in SECURE

    @property
    def is_beside_private(self) -> bool:
        """Whether it is on this host, next to files that may be private."""
        above = (self.path or ())[:-1]
        return not self.host and (not above or above[0] in _PRIVATE)

    @override
    def __str__(self) -> str:
        """Return the URL, without user name and query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        path = "".join(f"/{part}" for part in self.path or ())
        slashes = "" if self.scheme == "path" else "//"
        return f"{self.scheme}:{slashes}{host}{port}{path}"

    def is_below(self, prefix: Origin) -> bool:
        """Return whether `prefix` is this origin, or one above it."""
        if self.path is None or prefix.path is None:
            return False
        ours = (self.scheme, self.host, self.port)
        is_named = not self.has_user or self.scheme.endswith("+ssh")
        return (
            is_named
            and ours == (prefix.scheme, prefix.host, prefix.port)
            and self.path[: len(prefix.path)] == prefix.path
        )


@dataclass(frozen=True, slots=True)
class Within:
    """A path in the flake's own tree, relative to the directory of the flake that names it."""

    path: str

    def leaves(self, directory: str) -> bool:
        """Return whether it leads out of the tree, relative to a directory of the tree."""
        whole = posixpath.normpath(posixpath.join(directory, self.path))
        return whole.startswith("/") or whole.split("/", 1)[0] == ".."


@dataclass(frozen=True, slots=True)
class ByName:
    """A name that this host's flake registry resolves, such as `nixpkgs`."""

    name: str


Source = Origin | Within | ByName


def parse_url_prefix(text: str) -> UrlPrefix:
    """Return a prefix of the settings as it stands.

    Raises:
        ValueError: it is not a prefix, or it stands for everything.
    """
    origin = _origin(text)
    found = _URL.fullmatch(text)
    if "?" in text or origin.has_user or found is None:
        raise ValueError(f"{text[:100]!r}: a prefix has no user name, no '?' and no '#'")
    if origin.path is None:
        raise ValueError(f"{text[:100]!r}: a prefix has no '..' and no empty part in its path")
    if origin.scheme in LOCAL and not origin.path:
        raise ValueError(f"{text[:100]!r} stands for all of this host: name a directory")
    return UrlPrefix(text)


def origin_of_prefix(prefix: UrlPrefix) -> Origin:
    """Return the origin that a prefix of the settings stands for."""
    return _origin(prefix)


def source_of_reference(text: str) -> Source:
    """Return the origin of a flake reference as people and Hydra write it.

    Raises:
        ValueError: it has an unknown form.
    """
    if text.startswith("/"):
        return _local("path", text.partition("?")[0])
    if ":" not in text.partition("?")[0].partition("/")[0] or text.startswith("flake:"):
        if not text.startswith(".") and _ID.fullmatch(text):
            return ByName(text[:_LONGEST])
        return Within(unquote(text.partition("?")[0]))
    if text.startswith("path:") and not text.startswith("path:/"):
        return Within(unquote(text.removeprefix("path:").partition("?")[0]))
    return _origin(text)


def source_of_attributes(attributes: Mapping[str, Any]) -> Source:
    """Return the origin of a locked or declared input, given its attributes.

    Raises:
        ValueError: they have an unknown form.
    """
    kind = _text(attributes, "type")
    if kind == "path":
        path = _text(attributes, "path")
        return _local("path", path) if path.startswith("/") else Within(path)
    if kind == "indirect":
        return ByName(_text(attributes, "id"))
    if kind in _FORGES:
        host = _text(attributes, "host") if "host" in attributes else _FORGES[kind]
        owner, repository = _text(attributes, "owner"), _text(attributes, "repo")
        return _remote("https", host, f"/{owner}/{repository}")
    url = _text(attributes, "url")
    if kind in _REPOSITORIES:
        return _repository(kind, url)
    if kind in ("tarball", "file"):
        return _origin(url if kind == "tarball" else f"file+{url}", is_bare=True)
    raise ValueError(f"the type {kind[:_LONGEST]!r} is not known")


def _repository(kind: str, url: str) -> Origin:
    if url.startswith("/"):
        return _local(f"{kind}+file", url)
    if found := _SCP.fullmatch(url):
        return _remote(f"{kind}+ssh", f"{found['user']}@{found['host']}", f"/{found['path']}")
    if url.startswith("git:"):
        return _origin(url)
    return _origin(f"{kind}+{url}", is_bare=True)


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    if not isinstance(value, str):
        raise ValueError(f"it has no {name}")
    return value


def _origin(text: str, *, is_bare: bool = False) -> Origin:
    """Return the origin that a URL names; `is_bare`: its type was prepended here."""
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shortened(text)} is not a URL")
    scheme, authority, path = found["scheme"], found["authority"], found["path"]
    if scheme in _FORGES and not is_bare:
        hosts = parse_qs(found["query"] or "").get("host", [_FORGES[scheme]])
        if len(hosts) > 1:
            raise ValueError(f"{_shortened(text)} names several hosts")
        owner, _, rest = path.partition("/")
        return _remote("https", hosts[0], f"/{owner}/{rest.partition('/')[0]}")
    if not is_bare:
        scheme = scheme.removeprefix(_TARBALL)
    if scheme in LOCAL:
        if authority:
            raise ValueError(f"{_shortened(text)} is local and names a host")
        return _local(scheme, unquote(path))
    if scheme not in SECURE | PLAIN:
        raise ValueError(f"the type {scheme!r} is not known")
    if authority is None:
        raise ValueError(f"{_shortened(text)} names no host")
    return _remote(scheme, authority, path)


def _local(scheme: str, path: str) -> Origin:
    return Origin(scheme, path=_parts(path) if path.startswith("/") else None)


def _remote(scheme: str, authority: str, path: str) -> Origin:
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise ValueError(f"the host of {scheme}: is neither a host name nor an address")
    host = found["host"].strip("[]").lower().rstrip(".")
    if not host or (address_of(host) is None and looks_numeric(host)):
        raise ValueError(f"{host[:_LONGEST]!r} is neither a host name nor an address")
    port = int(found["port"]) if found["port"] else None
    if port == _PORTS[scheme.rsplit("+", 1)[-1]]:
        port = None
    return Origin(scheme, host, port, _parts(unquote(path)), found["user"] is not None)


def _parts(path: str) -> tuple[str, ...] | None:
    """Return a path's parts; None if it is unclear where the path leads."""
    if not path.strip("/"):
        return ()
    parts = tuple(path.removeprefix("/").removesuffix("/").split("/"))
    is_plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    return parts if is_plain else None


def _shortened(text: str) -> str:
    """Return a URL without query and user name, for a message."""
    return repr(re.sub(r"//[^/]*@", "//", text.partition("?")[0])[:_LONGEST])
