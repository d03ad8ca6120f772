"""Who may connect to the DIMSE receiver: addresses and AE titles from the settings."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from llmcxr_service.errors import CallersError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ANYBODY = "*"


@dataclass(frozen=True)
class Callers:
    """Who may send.

    Attributes:
        ae_titles: calling AE titles; empty: everybody.
        networks: addresses; empty: everywhere.
    """

    ae_titles: tuple[str, ...]
    networks: tuple[Network, ...]

    def may_connect(self, address: str) -> bool:
        """Whether a connection from this address is accepted."""
        if not self.networks:
            return True
        found = ipaddress.ip_address(address.split("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self.networks)


def parse_callers(ae_titles: str | None, networks: str | None) -> Callers:
    """From the two settings, both separated by commas.

    Raises:
        CallersError: nobody is named, or a network is none.
    """
    if ae_titles is None:
        raise CallersError(
            "LLMCXR_DICOM_CALLING_AE_TITLES must name the AE titles that may send, or be *."
        )
    titles = () if ae_titles.strip() == ANYBODY else tuple(t.strip() for t in ae_titles.split(","))
    try:
        parsed = tuple(ipaddress.ip_network(n.strip()) for n in (networks or "").split(",") if n)
    except ValueError:
        raise CallersError("LLMCXR_DICOM_NETWORKS has something that is no network.") from None
    return Callers(titles, parsed)
