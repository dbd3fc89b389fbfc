"""The settings of webhooks: which receivers may be called, how, and how often."""

import base64
import binascii
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self

from pydantic import Field, SecretStr, model_validator

from headrace.setting_groups import Group, comma_separated

#: The bytes of a signing secret, as the specification of Standard Webhooks wants them.
_SECRET_BYTES = range(24, 65)
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how secrets begin

Network = IPv4Network | IPv6Network


class WebhookSettings(Group):
    """Calls to the `webhook` of a run when it has ended (docs/webhooks.md).

    A setting wins over the value in `langgraph.json`.
    """

    signing_secrets: SecretStr | None = Field(
        None,
        description="Secrets that sign each call, as Standard Webhooks has it: `whsec_` and base64"
        " of 24 to 64 bytes, separated by commas. With two, a call has two signatures, so that"
        " receivers can change from one to the other.",
    )
    require_https: bool | None = Field(
        None,
        description="Whether `http://` is refused; it is unless this or `langgraph.json` says no."
        " In place of `webhooks.url.require_https`.",
    )
    allowed_domains: str | None = Field(
        None,
        description="Hosts that may be called, separated by commas; `*.example.com` is each host"
        " below `example.com`. Empty: any. In place of `webhooks.url.allowed_domains`.",
    )
    allowed_ports: str | None = Field(
        None,
        description="Ports that may be called, separated by commas; empty: any. In place of"
        " `webhooks.url.allowed_ports`.",
    )
    allowed_networks: str = Field(
        "",
        description="Networks that are not public and may be called all the same, for example"
        " `10.20.0.0/16`, separated by commas. Metadata services of clouds stay refused.",
    )
    max_url_length: int | None = Field(
        None,
        ge=1,
        description="Longer URLs are refused; 2048 unless this or `langgraph.json` says otherwise."
        " In place of `webhooks.url.max_url_length`.",
    )
    ca_file: str = Field(
        "", description="PEM file of authorities that receivers may have, besides the system's."
    )
    timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="A call without its whole answer after this long has failed.",
    )
    max_attempts: int = Field(
        12, ge=1, le=100, description="After so many failed calls a message is dead."
    )
    retry_seconds: float = Field(
        5.0,
        gt=0,
        description="The pause before the second call; each further one is twice as long, with up"
        " to 20 percent more or less.",
    )
    max_retry_seconds: float = Field(3600.0, gt=0, description="The longest pause.")
    poll_seconds: float = Field(
        2.0,
        gt=0,
        description="How often a process looks for messages that are due. Those of its own runs"
        " it sends at once.",
    )
    max_in_flight: int = Field(32, ge=1, description="Calls that one process makes at once.")
    max_in_flight_per_receiver: int = Field(
        8,
        ge=1,
        description="Calls that one process makes at once for one caller to one host and port.",
    )
    receiver_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="The part of its own and the free calls that one host and port may have, so"
        " that a receiver that hangs leaves calls to others. Receivers that have not answered their"
        " last call in time share half of all calls.",
    )
    max_payload_bytes: int = Field(
        1024 * 1024,
        ge=16 * 1024,
        description="A larger body is sent without `values`, and then without `kwargs`.",
    )
    keep_days: float = Field(
        7.0,
        gt=0,
        le=36_600,
        description="Days that messages are kept in the list, sent or dead.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self.secrets, self.networks, self.ports, self.domains  # noqa: B018 - each may refuse
        return self

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys of ``signing_secrets``.

        :raises ValueError: one of them is not of the form.
        """
        given = self.signing_secrets.get_secret_value() if self.signing_secrets else ""
        return tuple(map(_key_of, comma_separated(given)))

    @property
    def networks(self) -> tuple[Network, ...]:
        """:raises ValueError: ``allowed_networks`` has something else."""
        return tuple(ip_network(part) for part in comma_separated(self.allowed_networks))

    @property
    def ports(self) -> frozenset[int] | None:
        """The ports of ``allowed_ports``; None if it is not set.

        :raises ValueError: it has something else.
        """
        if self.allowed_ports is None:
            return None
        return frozenset(map(int, comma_separated(self.allowed_ports)))

    @property
    def domains(self) -> tuple[str, ...] | None:
        """The hosts of ``allowed_domains``; None if it is not set."""
        return None if self.allowed_domains is None else comma_separated(self.allowed_domains)


def _key_of(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) not in _SECRET_BYTES:
        raise ValueError(
            "each secret of webhooks.signing_secrets is whsec_ and base64 of 24 to 64 bytes;"
            ' echo "whsec_$(openssl rand -base64 32)" makes one'
        )
    return key
