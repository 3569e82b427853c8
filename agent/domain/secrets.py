"""Hides credentials in what is logged, stored or shown, and limits the length of untrusted text.

A credential is recognised by its name in a URL, JSON, a header, an assignment or a netrc file, by
its place in the user part of a URL, or by a form that only tokens have. Public data such as store
paths, hashes and revisions has none of these.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

LONGEST: Final = 16 * 1024
"""Characters that `bounded` keeps of a text."""
_WINDOW: Final = 64 * 1024
"""Characters at each end of a long text that are searched for credentials."""
_LONGEST_NAME: Final = 80
_MOST_ITEMS: Final = 1000
_HIDDEN: Final = "***"

_TELLING: Final = (
    *("token", "secret", "passw", "passphrase", "credential", "authorization", "cookie"),
    *("signature", "apikey", "accesskey", "privatekey", "sharedkey", "jsessionid"),
    *("encryptionkey", "decryptionkey", "subscriptionkey", "secretkey"),
)
_TELLING_PARTS: Final = frozenset(
    {
        *("auth", "sig", "pwd", "pass", "session", "sessionid", "sid", "jwt", "bearer", "psk"),
        *("hmac", "otp"),
    }
)
_PLAINLY_TELLING: Final = re.compile(
    r"(?:tokens?|secrets?|passwords?|passwd|passphrase|credentials?|authorization|cookie"
    r"|(?:api|access|private|secret|shared|encryption|decryption|subscription)key)$"
)
# The names of files and the kinds of faults may be shown, and so may what is public.
_HARMLESS: Final = re.compile(
    r"(?:files?|path|dir(?:ectory)?|missing|exposed|unusable|errors?|exception|kind|count|limit)$"
    r"|public"
)
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Repetitions are bounded, so that the output of any program is searched in linear time.
_WORDS: Final = (
    r"(?:token|secret|passw|passphrase|credential|auth|cookie|signature|sig|session|sid|pwd|pass"
    r"|jwt|bearer|psk|hmac|otp"
    r"|(?:api|access|private|shared|encryption|decryption|subscription)(?:[._-]|%5F|%2D)?key)"
)
_NAME: Final = (
    rf"(?<![\w.%-])(?P<name>[\w.%-]{{0,200}}?{_WORDS}[\w.%-]{{0,60}})(?P<quote>\\{{0,3}}[\"']?)"
)
_ASSIGNED: Final = re.compile(
    _NAME + r"""(?P<between>[ \t]{0,8}(?:=>|[=:])\s{0,80})"""
    r"""(?P<value>\\{1,3}"(?:(?!\\{1,3}").){0,8000}(?:\\{1,3}")?"""  # JSON within JSON
    r"""|"(?:[^"\\]|\\.){0,8000}"?|'[^']{0,8000}'?)""",
    re.IGNORECASE | re.DOTALL,
)
_ASSIGNED_BARE: Final = re.compile(
    _NAME + r"""(?P<between>[ \t]{0,8}(?:=>|[=:])[ \t]{0,8})(?P<value>[^\s,;&"'<>)\]}\\]+)""",
    re.IGNORECASE,
)
# As it appears in JSON, HTML and URLs that quote each other.
_ASSIGNED_ENCODED: Final = re.compile(
    rf"(?:(?<![\w.%-])(?<!%[0-9A-F])|(?<=%[0-9A-F][0-9A-F]))(?P<name>[\w.-]{{0,200}}?{_WORDS}[\w.-]{{0,60}})"
    r"""(?P<between>(?:&(?:quot|\#34|\#39|\#x27|apos);|%22|%27)?[ \t]{0,8}"""
    r"""(?:[=:][ \t]{0,8}(?=&|%2[27])|%3D|%3A)(?:%20|\+)?"""
    r"""(?P<mark>&(?:quot|\#34|\#39|\#x27|apos);|%22|%27)?)"""
    r"""(?P<value>(?(mark)(?:(?!(?P=mark))[^\r\n]){1,2000}|(?:(?!%26)[^\s&"'<>]){1,2000}))""",
    re.IGNORECASE,
)
_WITHIN: Final = re.compile(
    _NAME + r"""(?P<between>\s{0,80}:\s{0,80})(?P<value>"""
    r"""\{(?:[^{}]|\{[^{}]{0,8000}\}?){0,8000}\}?|\[(?:[^\[\]]|\[[^\[\]]{0,8000}\]?){0,8000}\]?)""",
    re.IGNORECASE,
)
_ELEMENT: Final = re.compile(
    r"(?P<before><(?P<name>[\w.:-]{1,80})(?:\s[^<>]{0,200})?>)[^<]{1,2000}(?=</(?P=name)>)",
)
_PROSE: Final = re.compile(r"[a-z]+,? [a-z]|(?:∅|ε|[0-9][\w.+-]*)(?:, [\w.+-]+)* →")
"""Harmless text that may follow a name and a colon: a sentence, or a package's versions."""
_STORE_PATH: Final = re.compile(r"/nix/store/[0-9a-z]{32}-")
_QUERY: Final = re.compile(
    r"(?P<before>[?&;]|(?<!\S))(?P<name>[^=&?;\s]{1,80})=(?P<value>[^&\s\"'<>]+)"
)
_FLAG: Final = re.compile(
    r"(?P<before>(?<!\S)--?(?P<name>[a-z][\w-]{0,60})[ \t]{1,8})(?!-)[^\s\"']+"
)
_HEADER: Final = re.compile(
    r"(?P<before>(?P<open>[\"'])?\b(?:proxy-)?(?:authorization|(?:set-)?cookie)"
    r"[ \t]{0,8}:[ \t]{0,8})"
    r"(?(open)[^\r\n\"']+|[^\r\n]+)",
    re.IGNORECASE,
)
_ACCESS_TOKENS: Final = re.compile(
    r"(?P<before>access-tokens[\s=:\"']{1,8})[^\s=]{1,200}=\S+(?:[ \t]+[^\s=]{1,200}=\S+)*",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(
    r"(?P<before>\b(?i:Bearer)[ \t]{1,8})"
    r"(?!(?i:tokens?|auth\w*|realm|scheme|error|credentials?)\b)[^\s,;\"'<>]+"
    r"|(?P<before2>\b(?i:Basic)[ \t]{1,8})(?![A-Za-z][a-z]*\b(?![=+/]))[A-Za-z0-9+/_=-]+"
)
_NETRC: Final = re.compile(
    r"(?P<before>(?:\bmachine\s{1,8}\S{1,255}|\bdefault|\blogin\s{1,8}\S{1,255})"
    r"(?:\s{1,8}(?:login|account)\s{1,8}\S{1,255}){0,2}\s{1,8}(?:password|passwd)\s{1,8})\S+"
    r"|(?P<before2>(?:^|\n)[ \t]{0,8}(?:password|passwd)[ \t]{1,8})\S+(?=[ \t]*(?:\n|\Z))"
    r"|(?P<before3>\b(?:password|passwd|passphrase)[ \t]{1,8})"
    r"(?:(?=[^\s]{0,200}[A-Z0-9_!$%&*+^#~])(?![\"'(/=:])[^\s,;]+|([\"'])[^\"'/@:\s]{1,200}\4)"
    r"|(?P<before4>\b[Tt]oken[ \t]{1,8})(?=\S{0,200}[0-9])[A-Za-z0-9_.~+=-]{8,}"
)
_USER: Final = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,30}:)?(?P<slashes>\\{0,3}/\\{0,3}/)"
    r"(?P<user>[^/\s:@\"'<>]{0,300}:(?![0-9]{1,5}(?:[/?#]|$))[^\s\"'<>]{0,2000}|[^/\s\"'<>]{1,2000})@"
)
_ENCODED_USER: Final = re.compile(
    r"(?P<before>%2F%2F)(?:(?!%2F)[^\s/&@]){1,2000}?(?P<after>%40)", re.IGNORECASE
)
_FORMS: Final = re.compile(
    r"\b(?:AGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{30,2000}"
    r"|sk_(?:live|test)_[A-Za-z0-9]{16,255}|(?:npm|hf)_[A-Za-z0-9]{30,255}|ya29\.[\w-]{20,2000}"
    r"|gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_\w{16,255}|glpat-[\w-]{16,255}"
    r"|xox[abprs]-[\w-]{10,255}|AKIA[0-9A-Z]{16}|tk_[a-z0-9]{29}"
    r"|eyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]{0,4000})"
    r"|(?<=:)[A-Za-z0-9+/]{86}=="  # the secret half of nix's own signing keys
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.{0,16000}?(?:-----END [A-Z ]{0,40}KEY-----|\Z)"
    r"|^(?=[^\n]*[g-z+/])(?=[^\n]*[A-Z])(?=[^\n]*[0-9])[A-Za-z0-9+/]{64,76}={0,2}$",  # its lines
    re.DOTALL | re.MULTILINE,
)


def bounded(text: str, longest: int = LONGEST) -> str:
    """Return a text shortened to about `longest` characters: beginning, end, and what is left out.

    Untrusted text may be of any length; log lines, rows and messages must not be.
    """
    if len(text) <= longest:
        return text
    kept = longest // 2
    return f"{text[:kept]} … ({len(text) - 2 * kept} characters) … {text[-kept:]}"


def presentable(value: object, longest: int = LONGEST) -> object:
    """Return `value` (JSON's types) for logs, storage or display: see `hide_secrets`, `bounded`.

    It is shortened before credentials are searched for, since that takes time, and again
    afterwards, since a credential that is cut in two is not recognised. Long lists lose their end.
    """
    return _bounded_within(hide_secrets(_bounded_within(value, _WINDOW)), longest)


def _bounded_within(value: object, longest: int) -> object:
    match value:
        case str():
            return bounded(value, longest)
        case dict():
            return {key: _bounded_within(item, longest) for key, item in value.items()}
        case list() | tuple() if len(value) > _MOST_ITEMS:
            return [*_bounded_within(list(value[:_MOST_ITEMS]), longest), "…"]  # type: ignore[misc]
        case list() | tuple():
            return [_bounded_within(item, longest) for item in value]
        case _:
            return value


def is_secret_name(name: str) -> bool:
    """Return whether a value of this name is a credential."""
    plain = unquote(name)
    low = plain.lower()
    if _HARMLESS.search(low):
        return False
    parts = [part.lower() for part in _PARTS.findall(plain)]
    joined = "".join(parts)
    last = {*parts[-1:], "".join(parts[-2:])}
    return any(word in joined for word in _TELLING) or bool(_TELLING_PARTS & last)


def has_secret(url: str) -> bool:
    """Return whether a URL has a password or a token, or a user name that may be one."""
    return hide_secrets(url) != url


def hide_secrets(value: object) -> object:
    """Return `value` (JSON's types) without what looks like a credential.

    In an object the name of a credential hides its value, in a list the next item, as in
    `--option access-tokens …`.
    """
    match value:
        case dict():
            return {
                key: _HIDDEN if _hides(key, item) else hide_secrets(item)
                for key, item in value.items()
            }
        case list() | tuple():
            before = ["", *value]
            return [
                _HIDDEN if _announces(last) else hide_secrets(item)
                for last, item in zip(before, value, strict=False)
            ]
        case str():
            return _without_secrets(value)
        case _:
            return value


def _hides(name: object, value: object) -> bool:
    return isinstance(name, str) and value not in (None, "", [], {}) and is_secret_name(name)


def _announces(item: object) -> bool:
    """Whether a credential follows it in a list, which may also have names of checks (`auth`)."""
    if not isinstance(item, str) or len(item) > _LONGEST_NAME or not is_secret_name(item):
        return False
    return item.startswith("-") or (item.isascii() and bool(_PLAINLY_TELLING.search(_joined(item))))


def _joined(name: str) -> str:
    return "".join(part.lower() for part in _PARTS.findall(unquote(name)))


def _without_secrets(text: str) -> str:
    text = _FORMS.sub(_HIDDEN, text)
    text = _ACCESS_TOKENS.sub(rf"\g<before>{_HIDDEN}", text)
    text = _HEADER.sub(rf"\g<before>{_HIDDEN}", text)
    text = _SCHEME.sub(_hide_value, text)
    text = _NETRC.sub(_hide_value, text)
    text = _ENCODED_USER.sub(rf"\g<before>{_HIDDEN}\g<after>", text)
    text = _USER.sub(_without_user, text)
    text = _QUERY.sub(_without_parameter, text)
    text = _FLAG.sub(_without_named, text)
    text = _ELEMENT.sub(_without_named, text)
    text = _WITHIN.sub(_without_members, text)
    text = _ASSIGNED_ENCODED.sub(_without_encoded, text)
    text = _ASSIGNED.sub(_without_quoted, text)
    return _ASSIGNED_BARE.sub(_without_bare, text)


def _hide_value(found: re.Match[str]) -> str:
    return "".join(text for text in found.groupdict().values() if text) + _HIDDEN


def _without_user(found: re.Match[str]) -> str:
    """Hide the user part of a URL; the user name alone of an ssh URL is not a credential."""
    scheme = found["scheme"] or ""
    if "ssh" in scheme and ":" not in unquote(found["user"]):
        return found[0]
    return f"{scheme}{found['slashes']}{_HIDDEN}@"


def _without_parameter(found: re.Match[str]) -> str:
    name = unquote(found["name"])
    parts = [part.lower() for part in _PARTS.findall(name)]
    is_key = bool(found["before"]) and "key" in parts and "public" not in parts
    if is_secret_name(name) or is_key:
        return f"{found['before']}{found['name']}={_HIDDEN}"
    return found[0]


def _without_named(found: re.Match[str]) -> str:
    return f"{found['before']}{_HIDDEN}" if is_secret_name(found["name"]) else found[0]


def _without_members(found: re.Match[str]) -> str:
    """Hide an object or a list named like a secret; a name without quotes is code or prose."""
    if not found["quote"] or not is_secret_name(found["name"]):
        return found[0]
    return f"{found['name']}{found['quote']}{found['between']}{_HIDDEN}"


def _without_encoded(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]):
        return found[0]
    return f"{found['name']}{found['between']}{_HIDDEN}"


def _without_quoted(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]):
        return found[0]
    value = found["value"]
    mark = value[: len(value) - len(value.lstrip("\\"))] + value.lstrip("\\")[:1]
    return f"{found['name']}{found['quote']}{found['between']}{mark}{_HIDDEN}{mark}"


def _without_bare(found: re.Match[str]) -> str:
    name, between, value = found["name"], found["between"], found["value"]
    if not is_secret_name(name) or _STORE_PATH.match(value):
        return found[0]
    if "=" not in between and not found["quote"]:
        # Prose may follow a colon, too, such as a package's versions.
        is_plain = _PLAINLY_TELLING.search(_joined(name))
        if not is_plain or _PROSE.match(found.string, found.start("value")):
            return found[0]
    return f"{name}{found['quote']}{between}{_HIDDEN}"
