"""Where people reach the console, and registers the server."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from server.settings import Settings

_ANY = "localhost"


def console_url(settings: Settings, port: int | None = None) -> str:
    """Return `admin_url`, or what follows from address and port: good enough for whoever sits at this machine.

    `port` is the one that is bound, where the setting says that any may be.
    """
    if settings.admin_url is not None:
        return settings.admin_url.rstrip("/")
    scheme = "http" if settings.admin_tls_cert_file is None else "https"
    return f"{scheme}://{_reachable(settings.admin_host)}:{port or settings.admin_port}"


def registers_at(settings: Settings) -> str:
    """Return host and port that registers connect to; where they may on any address, the host is the console's.

    Nothing if a free port is taken, which nobody can know beforehand.
    """
    host = _reachable(settings.listen_host)
    if host == _ANY:
        host = urlsplit(console_url(settings)).hostname or host
    return f"{host}:{settings.listen_port}" if settings.listen_port else ""


def _reachable(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return _ANY
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
