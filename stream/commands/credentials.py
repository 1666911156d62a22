"""Secrets that need not stand on a command line, where every user of the machine can read them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import ConfigError
from ..server.certificate import Certificate, load_certificate
from ..sources.base import redact

__all__ = ["certificate_notes", "read_certificate", "read_sources", "read_token", "visible_secrets"]

_SOON_DAYS = 14
_MAX_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_token(token: str | None, file: Path | None) -> str | None:
    """Return the secret of the server, from wherever it was given; None: nowhere.

    Args:
        token: the secret itself.
        file: file whose first line it is.

    Raises:
        ConfigError: both are given, or the file cannot be read, is empty, or is open to others.
    """
    if file is None:
        return token
    if token is not None:
        raise ConfigError(
            "--token and --token-file (or their environment variables) are both set; leave one out"
        )
    text, is_private = _read(file, "--token-file")
    if not is_private:
        raise _open_to_others(file, "--token-file")
    secret = text.partition("\n")[0].strip()
    if not secret:
        raise ConfigError(
            f"--token-file {file}: its first line is empty; write the secret there, for instance "
            f"with: openssl rand -hex 16 > {file}"
        )
    return secret


def read_certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    """Return the certificate of the server; None: plain HTTP was asked for.

    Args:
        cert: file with the certificate.
        key: file with its private key.

    Raises:
        ConfigError: one is missing, or they cannot be used.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, other = ("--cert", "--key") if key is None else ("--key", "--cert")
        raise ConfigError(
            f"{given} needs {other}: TLS takes a certificate and its private key "
            "(one file may hold both; name it twice)"
        )
    return load_certificate(cert, key)


def certificate_notes(certificate: Certificate | None, now: float) -> list[str]:
    """Return a sentence if the certificate expires soon.

    Args:
        certificate: of the server; None: plain HTTP.
        now: seconds since 1970.
    """
    if certificate is None:
        return []
    days = (certificate.not_after - now) / 86400
    if days > _SOON_DAYS:
        return []
    return [f"the certificate expires in {days:.1f} days; renew it, then start again"]


def read_sources(sources: Sequence[str], file: Path | None) -> list[str]:
    """Return the sources given one by one, then those of a file.

    Args:
        sources: sources.
        file: text file with a source per line. Empty lines, and those that begin with ``#``, are
            left out.

    Raises:
        ConfigError: the file cannot be read or names no source, or others may read it although it
            holds a password.
    """
    if file is None:
        return list(sources)
    text, is_private = _read(file, "--source-file")
    lines = [line.strip() for line in text.splitlines()]
    listed = [line for line in lines if line and not line.startswith("#")]
    if not is_private and any(redact(spec) != spec for spec in listed):
        raise _open_to_others(file, "--source-file")
    if not listed and not sources:
        raise ConfigError(f"--source-file {file} names no source; write one per line")
    return [*sources, *listed]


def visible_secrets(token: str | None, sources: Sequence[str]) -> list[str]:
    """Return a sentence for each kind of secret that stands on this process's command line.

    Args:
        token: secret of the server; None: none.
        sources: sources, with their passwords.
    """
    arguments = sys.argv[1:]
    notes: list[str] = []
    if token is not None and any(argument in (token, f"--token={token}") for argument in arguments):
        notes.append(
            "the token can be seen in the process list; give it by --token-file or environment"
        )
    if any(redact(spec) != spec and spec in arguments for spec in sources):
        notes.append(
            "the password of a source can be seen in the process list; give it by --source-file "
            "or environment"
        )
    return notes


def _read(file: Path, option: str) -> tuple[str, bool]:
    """Return the text of a file, and whether only its owner may open it."""
    try:
        with open(os.path.expanduser(file), "rb") as stream:
            # Of the open file: its name may mean another one by now.
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{option} {file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{option} {file} is not text in UTF-8; save it as UTF-8") from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{option} {file} is larger than 1 MiB; give a text file")
    # Windows has access lists, which the mode says nothing about.
    return text, os.name == "nt" or not mode & _OTHERS


def _open_to_others(file: Path, option: str) -> ConfigError:
    return ConfigError(
        f"{option} {file} holds a secret and is open to other users; close it with: "
        f"chmod 600 {file}"
    )
