"""Settings of the connection to the bus."""

import ssl

from msgspec import Struct


class BusConfig(Struct, frozen=True, kw_only=True):
    """Servers of the bus, and the credentials to show them."""

    urls: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    ca_file: str = ""
    """PEM of the authority that signed the server; turns TLS on."""
    certificate_file: str = ""
    key_file: str = ""
    """PEM of this client's certificate and key, for mutual TLS."""
    nkey_seed_file: str = ""
    credentials_file: str = ""
    """A NATS ``.creds`` file (JWT and seed)."""
    connect_seconds: float = 30.0
    """Time for the first connection; who doesn't wait for it tries for ever."""
    ping_seconds: float = 2.0
    """Pause between pings of the server; after two without an answer it is taken to be gone.

    The server's own ``ping_interval`` should be as short: a replica that hangs is asked until then.
    """


def authentication(config: BusConfig) -> dict[str, object]:
    """Return the options of nats-py that show who connects."""
    options: dict[str, object] = {}
    if config.ca_file:
        options["tls"] = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file:
            options["tls"].load_cert_chain(config.certificate_file, config.key_file)  # type: ignore[attr-defined]
    if config.nkey_seed_file:
        options["nkeys_seed"] = config.nkey_seed_file
    if config.credentials_file:
        options["user_credentials"] = config.credentials_file
    return options
