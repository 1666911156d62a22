"""The certificate of a server that speaks TLS, checked before anything is served with it.

A browser says of a certificate that cannot work only that the page is not safe. So everything that
can be known beforehand is an error at the start: files, passphrase, pair, dates and purpose.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ConfigError

__all__ = ["Certificate", "load_certificate"]

_MAX_BYTES = 1 << 20
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED of OpenSSL
_NO_NAME = "facestage.invalid"
_FLIGHTS = 4
"""Turns of each side in a handshake, at most: TLS 1.3 takes one and a half, 1.2 two."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, ready to serve.

    Attributes:
        context: TLS 1.2 and newer, with the certificate loaded.
        names: DNS names that it is for, those with ``*`` left out.
        not_after: when it expires, seconds since 1970.
    """

    context: ssl.SSLContext
    names: tuple[str, ...]
    not_after: float


def load_certificate(cert: Path, key: Path) -> Certificate:
    """Return a certificate that clients can be served with now.

    Args:
        cert: PEM file with the certificate, then those that lead to its authority.
        key: PEM file with its private key, without a passphrase. It may be the same file.

    Raises:
        ConfigError: a file cannot be read or is not PEM, the key has a passphrase, is open to
            everybody or belongs to another certificate, or the certificate is not valid now.
    """
    text, _ = _read(cert, "--cert")
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(
            f"--cert {cert} holds no certificate in PEM (-----BEGIN CERTIFICATE-----); give the "
            "fullchain.pem of your authority"
        )
    secret, is_open = _read(key, "--key")
    if "PRIVATE KEY-----" not in secret:
        raise ConfigError(
            f"--key {key} holds no private key in PEM (-----BEGIN PRIVATE KEY-----); give the "
            "privkey.pem that belongs to --cert"
        )
    if is_open:
        raise ConfigError(
            f"--key {key} is open to every user of this machine; close it with: chmod o= {key}"
        )
    if "ENCRYPTED" in secret:
        raise ConfigError(
            f"--key {key} has a passphrase, which nobody is there to type; write it without one: "
            f"openssl pkey -in {key} -out key.pem"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The empty passphrase is for what the words above missed: OpenSSL would ask the terminal.
        context.load_cert_chain(os.path.expanduser(cert), os.path.expanduser(key), password="")
    except ssl.SSLError as error:
        raise _loading_error(error, cert, key) from error
    facts = _rehearse(context, text, cert)
    return Certificate(
        context,
        tuple(
            value
            for kind, value in facts.get("subjectAltName", ())
            if kind == "DNS" and "*" not in value
        ),
        float(ssl.cert_time_to_seconds(facts["notAfter"])),
    )


def _read(path: Path, option: str) -> tuple[str, bool]:
    """Return the text of a file, and whether every user of the machine may open it."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{option} {path} cannot be read: {error.strerror or error}; give a PEM file that this "
            "user may read"
        ) from error
    # What is not ASCII is no PEM. Windows has access lists, which the mode says nothing about.
    return data.decode("ascii", errors="replace"), os.name != "nt" and bool(mode & stat.S_IRWXO)


def _loading_error(error: ssl.SSLError, cert: Path, key: Path) -> ConfigError:
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return ConfigError(
            f"--key {key} does not belong to --cert {cert}; give the key that the certificate was "
            "made for (in a chain, the server's own certificate comes first)"
        )
    return ConfigError(
        f"--cert {cert} with --key {key} cannot be used ({error.reason or error}); look at them "
        f"with: openssl x509 -text -noout -in {cert}"
    )


def _rehearse(server: ssl.SSLContext, chain: str, cert: Path) -> dict:  # type: ignore[type-arg]
    """Return what a client learns of the certificate, from a handshake in memory.

    The client trusts this certificate and no authority: whose word counts is for the real clients
    to judge, what is judged here is what none of them would accept.
    """
    end = "-----END CERTIFICATE-----"
    begin = chain.index("-----BEGIN CERTIFICATE-----")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain[begin : chain.index(end, begin) + len(end)] + "\n")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname=_NO_NAME)
    far = server.wrap_bio(up, down, server_side=True)
    try:
        for side in (near, far) * _FLIGHTS:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise _validity_error(error, cert) from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"--cert {cert} cannot be used ({error.reason or error}); ask for a certificate for "
            "TLS servers"
        ) from error
    return near.getpeercert() or {}


def _validity_error(error: ssl.SSLCertVerificationError, cert: Path) -> ConfigError:
    show = f"openssl x509 -dates -noout -in {cert}"
    if error.verify_code == _EXPIRED:
        return ConfigError(f"--cert {cert} has expired (see: {show}); renew it")
    if error.verify_code == _NOT_YET_VALID:
        return ConfigError(
            f"--cert {cert} is not valid yet (see: {show}); set this machine's clock, or wait"
        )
    return ConfigError(
        f"no client would accept --cert {cert} ({error.verify_message}); ask for a certificate for "
        "TLS servers"
    )
