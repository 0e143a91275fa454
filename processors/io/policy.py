"""Source policy: which schemes, hosts, addresses and folders media may come from."""

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from processors.errors import InputError

_SCHEMES = ("data", "file", "http", "https")
# IPv6 prefixes that carry an IPv4 address in their last 32 bits: IPv4-compatible, NAT64, and NAT64 for local use.
_EMBEDDED_TAIL = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")))


def _private_by_environment() -> bool:
    return os.environ.get("OMNI_ALLOW_PRIVATE_ADDRESSES", "") in {"1", "true", "yes"}


@dataclass(frozen=True)
class Sources:
    """Where media may come from. Bytes, arrays and images handed over as objects always may.

    Attributes:
        schemes: URL schemes that are read, of "data", "http", "https" and "file".
        hosts: hosts that are fetched from; `*.example.org` stands for every host below example.org. Any when None.
        folders: folders that files are read from, symbolic links resolved; none when empty, any when None. `file://`
            URLs are read only where folders are named.
        private: whether loopback, private, link-local and other addresses that are not on the public internet may be
            connected to. True by default only where the environment has OMNI_ALLOW_PRIVATE_ADDRESSES=1.

    Raises:
        InputError: `bad_sources`, a field cannot be used.
    """

    schemes: Iterable[str] = ("data", "http", "https")
    hosts: Iterable[str] | None = None
    folders: Iterable[str | os.PathLike[str]] | None = None
    private: bool = field(default_factory=_private_by_environment)

    def __post_init__(self) -> None:
        try:
            schemes = tuple(str(name).lower() for name in _several(self.schemes))
            hosts = None if self.hosts is None else tuple(normal_host(str(host)) for host in _several(self.hosts))
            folders = None if self.folders is None else tuple(_resolved(folder) for folder in _several(self.folders))
        except (TypeError, ValueError, OSError):
            raise InputError("bad_sources", "schemes, hosts and folders must each be a list of names") from None
        if unknown := sorted(set(schemes) - set(_SCHEMES)):
            raise InputError("bad_sources", f"unknown schemes {', '.join(unknown)!r:.80}: {', '.join(_SCHEMES)} exist")
        for name, value in (("schemes", schemes), ("hosts", hosts), ("folders", folders)):
            object.__setattr__(self, name, value)

    @classmethod
    def remote(cls, hosts: Iterable[str] | None = None) -> "Sources":
        """Return a policy for messages of strangers: the public internet and data URIs, no file of this machine."""
        return cls(hosts=hosts, folders=(), private=False)

    def check_scheme(self, scheme: str, name: str) -> None:
        """Refuse a scheme that is not read.

        Args:
            scheme: of a URL, in lower case.
            name: what the source is called in the message.

        Raises:
            InputError: `source_scheme`.
        """
        if scheme not in self.schemes:
            allowed = ", ".join(self.schemes) or "no"
            raise InputError("source_scheme", f"{name}: {scheme} URLs are not read, only {allowed}")

    def check_host(self, host: str, name: str) -> None:
        """Refuse a host that is not listed.

        Args:
            host: as `normal_host` gives it.
            name: what the source is called in the message.

        Raises:
            InputError: `source_not_allowed`.
        """
        if self.hosts is None:
            return
        for pattern in self.hosts:
            if host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])):
                return
        raise InputError("source_not_allowed", f"{name}: the host {host[:80]} is not among the allowed ones")

    def check_address(self, address: str, name: str) -> None:
        """Refuse an address that is not on the public internet, unless those are allowed.

        Args:
            address: of IPv4 or IPv6, to which a name was resolved.
            name: what the source is called in the message.

        Raises:
            InputError: `source_address`.
        """
        if not self.private and not is_public(address):
            raise InputError(
                "source_address",
                f"{name}: its address is not on the public internet; "
                "allow it with omni.Sources(private=True) or OMNI_ALLOW_PRIVATE_ADDRESSES=1",
            )

    def check_file(self, path: Path, name: str) -> None:
        """Refuse a file outside the folders, wherever its links lead.

        Args:
            path: of the file.
            name: what the source is called in the message.

        Raises:
            InputError: `source_not_allowed`.
        """
        if self.folders is None:
            return
        real = _resolved(path)
        if not any(real.is_relative_to(folder) for folder in self.folders):
            raise InputError("source_not_allowed", f"{name}: files are read from allowed folders only")


def normal_host(host: str) -> str:
    """Return a host name in lower case and ASCII, without a final dot; an address as it is.

    Raises:
        ValueError: it cannot be one.
    """
    host = host.strip().rstrip(".").lower()
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not host:
        raise ValueError("an empty host")
    return host


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, also where IPv6 carries one of IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and any(ip in network for network in _EMBEDDED_TAIL):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _several(values: object) -> Iterable:
    if isinstance(values, str | os.PathLike):
        return (values,)
    return tuple(values)  # type: ignore[arg-type]


def _resolved(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))
