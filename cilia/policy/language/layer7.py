"""Fields that are valid in the language and have no effect yet: layer 7, names, services, groups,
TLS, authentication.

They are checked as far as their mistakes would be refused later anyway, then marked; none is passed
over in silence.
"""

import re
from typing import Final

from cilia.policy.language.documents import Field, Mapping
from cilia.policy.language.selectors import cilium_key, read_selector

FIELDS: Final = ("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener")
_FQDN_NAME: Final = re.compile(r"[-_a-zA-Z0-9.]{1,255}")
_FQDN_PATTERN: Final = re.compile(r"[-_a-zA-Z0-9.*]{1,255}")
_MISMATCHES: Final = ("LOG", "ADD", "DELETE", "REPLACE")


def check_fqdn(at: Field) -> None:
    """Check an element of ``toFQDNs`` or ``rules.dns``: one name or one pattern."""
    body = at.mapping().only("matchName", "matchPattern")
    name, pattern = body.get("matchName"), body.get("matchPattern")
    if (name is None) == (pattern is None):
        at.refuse("needs exactly one of matchName and matchPattern")
    if name is not None and not _FQDN_NAME.fullmatch(name.text()):
        name.refuse("is no DNS name")
    if pattern is not None and not _FQDN_PATTERN.fullmatch(pattern.text()):
        pattern.refuse("is no pattern of DNS names")


def check_service(at: Field) -> None:
    """Check an element of ``toServices``: by name or by selector."""
    body = at.mapping().only("k8sService", "k8sServiceSelector")
    by_name, by_label = body.get("k8sService"), body.get("k8sServiceSelector")
    if (by_name is None) == (by_label is None):
        at.refuse("needs exactly one of k8sService and k8sServiceSelector")
    if by_name is not None:
        by_name.mapping().only("serviceName", "namespace").require("serviceName").text()
    if by_label is not None:
        fields = by_label.mapping().only("selector", "namespace")
        read_selector(fields.require("selector"), cilium_key)


def check_group(at: Field) -> None:
    """Check an element of ``fromGroups`` or ``toGroups``."""
    aws = at.mapping().only("aws").require("aws")
    aws.mapping().only("labels", "securityGroupsIds", "securityGroupsNames", "region")


def check_authentication(at: Field) -> None:
    """Check ``authentication``; only ``disabled`` has nothing to enforce."""
    mode = at.mapping().only("mode").require("mode").one_of(("disabled", "required", "test-always-fail"))
    if mode != "disabled":
        at.mark_unenforced()


def check_port_rule(body: Mapping, *, egress: bool) -> None:
    """Check what an element of ``toPorts`` says beyond its ports."""
    present = [item for name in FIELDS if (item := body.get(name)) is not None]
    rules, listener, names = body.get("rules"), body.get("listener"), body.get("serverNames")
    if rules is not None:
        _check_rules(body, rules, egress=egress)
    if listener is not None:
        _check_listener(listener, has_rules=rules is not None)
    if names is not None:
        _check_server_names(names, has_rules=rules is not None, terminated="terminatingTLS" in body)
    for name in ("terminatingTLS", "originatingTLS"):
        if (tls := body.get(name)) is not None:
            _check_tls(tls)
    for item in present:
        item.mark_unenforced()


def _check_rules(body: Mapping, rules: Field, *, egress: bool) -> None:
    kinds = rules.mapping().only("http", "dns", "kafka", "l7proto", "l7")
    for name in ("kafka", "l7proto", "l7"):
        if (item := kinds.get(name)) is not None:
            item.refuse("was removed from the language")
    http, dns = kinds.get("http"), kinds.get("dns")
    if http is not None and dns is not None:
        dns.refuse("can't stand beside http on the same ports")
    if http is not None:
        for item in http.items():
            _check_http(item)
    if dns is not None:
        if not egress:
            dns.refuse("DNS rules are for egress only")
        for item in dns.items():
            check_fqdn(item)
    ports = body.get("ports")
    for item in ports.items() if ports is not None else ():
        _check_l7_port(item.mapping(), is_dns=dns is not None)


def _check_l7_port(port: Mapping, *, is_dns: bool) -> None:
    number, end, protocol = port.require("port"), port.get("endPort"), port.get("protocol")
    if number.text() in ("", "0"):
        number.refuse("rules of layer 7 need a port")
    name = protocol.text().upper() if protocol is not None else "ANY"
    if not is_dns and name != "TCP":
        (protocol or number).refuse(f"HTTP rules apply to TCP only, not {name}")
    if is_dns and end is not None and end.integer(0, 65_535):
        end.refuse("DNS rules have no port ranges")


def _check_http(at: Field) -> None:
    body = at.mapping().only("path", "method", "host", "headers", "headerMatches")
    for name in ("path", "method", "host"):
        if (item := body.get(name)) is not None:
            _check_regex(item)
    headers, matches = body.get("headers"), body.get("headerMatches")
    for item in headers.items() if headers is not None else ():
        item.text()
    for item in matches.items() if matches is not None else ():
        fields = item.mapping().only("name", "value", "secret", "mismatch")
        fields.require("name").text()
        if (mismatch := fields.get("mismatch")) is not None:
            mismatch.one_of(_MISMATCHES)


def _check_regex(at: Field) -> None:
    try:
        re.compile(at.text())
    except re.error as error:
        at.refuse(f"is no regular expression: {error}")


def _check_listener(at: Field, *, has_rules: bool) -> None:
    if has_rules:
        at.refuse("can't stand beside rules of layer 7")
    body = at.mapping().only("envoyConfig", "name", "priority")
    body.require("name").text()
    config = body.require("envoyConfig").mapping().only("kind", "name")
    config.require("name").text()
    if (kind := config.get("kind")) is not None:
        kind.one_of(("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"))
    if (priority := body.get("priority")) is not None:
        priority.integer(1, 100)


def _check_server_names(at: Field, *, has_rules: bool, terminated: bool) -> None:
    for item in at.items():
        if not item.text():
            item.refuse("must not be empty")
    if at.items() and has_rules and not terminated:
        at.refuse("can't stand beside rules of layer 7 without terminatingTLS")


def _check_tls(at: Field) -> None:
    body = at.mapping().only("secret", "trustedCA", "certificate", "privateKey")
    secret = body.require("secret").mapping().only("name", "namespace")
    secret.require("name").text()
