"""SHA-512-crypt as JackTrip has it: always 5000 rounds, 256 bytes of password, 16 of salt."""

from __future__ import annotations

import re
import secrets

from passlib.handlers.sha2_crypt import sha512_crypt

PREFIX = "$6$"
ROUNDS = 5000
PASSWORD_BYTES = 256
SALT_CHARS = 16
DIGEST_CHARS = 86

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SALT = re.compile(r"[./0-9A-Za-z]*", re.ASCII)
_DIGEST = re.compile(rf"[./0-9A-Za-z]{{{DIGEST_CHARS}}}", re.ASCII)


class HashRefused(ValueError):
    """A text is no hash that a password can be compared with: it continues 'the hash ...'."""


def password_digest(password: bytes, salt: str) -> str:
    """The last 86 characters of a hash.

    Args:
        password: UTF-8; it ends at the first zero byte, as a text in C does, or after 256.
        salt: 0..16 characters of ``./0-9A-Za-z``.
    """
    password = password.partition(b"\0")[0][:PASSWORD_BYTES]
    text: str = sha512_crypt.using(salt=salt, rounds=ROUNDS).hash(password)
    return text[-DIGEST_CHARS:]


def new_hash(password: bytes) -> str:
    """A hash with a salt of its own, for a credentials file."""
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(SALT_CHARS))
    return f"{PREFIX}{salt}${password_digest(password, salt)}"


def split_hash(text: str) -> tuple[str, str]:
    """Salt (cut to 16 characters) and digest of what stands in a credentials file.

    Raises:
        HashRefused: it is no SHA-512-crypt.
    """
    if not text.startswith(PREFIX):
        raise HashRefused("is no SHA-512-crypt, which begins with $6$")
    salt, separator, digest = text.removeprefix(PREFIX).partition("$")
    if salt.startswith("rounds="):
        raise HashRefused(f"has a number of rounds; there are always {ROUNDS}")
    if not separator or not _DIGEST.fullmatch(digest):
        raise HashRefused(f"has no {DIGEST_CHARS} characters of ./0-9A-Za-z after its salt")
    if not salt:
        raise HashRefused("has no salt")
    if not _SALT.fullmatch(salt):
        raise HashRefused("has a salt with other characters than ./0-9A-Za-z")
    return salt[:SALT_CHARS], digest
