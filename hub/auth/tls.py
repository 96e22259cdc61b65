"""Certificate and key, and what TLS offers with them: 1.2 and 1.3, no client certificates.

JackTrip's clients verify nothing, so that a self-signed certificate serves them as well as
any; their key must be an RSA one.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.setting import ConfigError

CERT_OPTION, KEY_OPTION = "--certfile", "--keyfile"
MAX_PEM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What the hub shows of itself.

    Attributes:
        context: for new connections; those under way keep theirs.
        expires_s: end of the certificate's time, seconds since 1970.
    """

    context: ssl.SSLContext
    expires_s: float


def load_identity(cert_file: Path, key_file: Path) -> Identity:
    """Read and check both files.

    Raises:
        ConfigError: names the option, the path, and what is wrong.
    """
    certificates = _certificates(cert_file)
    key = _rsa_key(key_file)
    if certificates[0].public_key() != key.public_key():
        raise ConfigError(
            KEY_OPTION, str(key_file), f"does not belong to the certificate in {cert_file}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # nobody resumes: a session is one message
    try:
        # a passphrase is never asked for, even if the file has changed under our hands
        context.load_cert_chain(cert_file, key_file, password="")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(
            CERT_OPTION, str(cert_file), f"and {key_file} are not accepted by TLS: {reason}"
        ) from None
    return Identity(context, certificates[0].not_valid_after_utc.timestamp())


def _certificates(path: Path) -> list[x509.Certificate]:
    data = _read(CERT_OPTION, path)
    try:
        certificates: list[x509.Certificate] = x509.load_pem_x509_certificates(data)
        certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise ConfigError(
            CERT_OPTION, str(path), "begins with no certificate in PEM form (BEGIN CERTIFICATE)"
        ) from None
    return certificates


def _rsa_key(path: Path) -> RSAPrivateKey:
    data = _read(KEY_OPTION, path)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise ConfigError(
            KEY_OPTION, str(path), "is protected by a passphrase, which nobody can give to a hub"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            KEY_OPTION, str(path), "holds no private key in PEM form (BEGIN PRIVATE KEY)"
        ) from None
    if not isinstance(key, RSAPrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise ConfigError(KEY_OPTION, str(path), f"is no RSA key (but {kind}); JackTrip needs RSA")
    return key


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigError(option, str(path), f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_PEM_BYTES:
        raise ConfigError(option, str(path), f"is larger than {MAX_PEM_BYTES >> 20} MiB")
    return data
