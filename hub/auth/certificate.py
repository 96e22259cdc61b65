"""A certificate signed by itself: enough for JackTrip's clients, which verify none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_BITS = (2048, 3072, 4096)
_PUBLIC_EXPONENT = 65537
_CLOCK_SKEW = timedelta(days=1)


def self_signed(name: str, days: int, bits: int = KEY_BITS[0]) -> tuple[bytes, bytes]:
    """Certificate and private key, both PEM.

    Args:
        name: the hub's host name or address; at most 64 characters.
        days: how long it is valid from now.
    """
    key = rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        known_as: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        # in a certificate a host name is ASCII
        known_as = x509.DNSName(name.encode("idna").decode())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([known_as]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
