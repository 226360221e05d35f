"""The policy service: what may talk to what, resolved once for the cluster."""

import time
from typing import NoReturn

from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.lifecycle import run_service
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import parse_policies, put_in_shadow
from cilia.telemetry import traceparent
from services.policy import service
from services.policy.config import Config
from services.policy.decoded import Decoded
from services.policy.resolver import EngineResolver
from services.policy.store import prefixes_of


def read(request: ApplyPolicies, decoded: Decoded) -> list[PolicyObject]:
    """Read all policies of a request.

    Args:
        decoded: Is told what was read.

    Raises:
        Refused: One is wrong; names document, field and value.
    """
    try:
        parsed = parse_policies(
            request.text,
            source=request.source,
            namespace=request.namespace,
            allow_unenforced=request.allow_unenforced,
        )
    except BadPolicy as error:
        raise Refused(Problem(ProblemCode.INVALID, str(error), error.path, error.value)) from error
    if not parsed:
        raise Refused(Problem(ProblemCode.INVALID, f"{request.source or 'the text'} holds no policy", "text"))
    if request.shadow:
        parsed = [put_in_shadow(each, True) for each in parsed]
    now, cause = time.time_ns(), traceparent()
    rows = []
    for each in parsed:
        named = prefixes_of(each.policy)
        row = PolicyObject(
            each.kind, each.namespace, each.name, each.document, request.author, now, cause, prefixes=named
        )
        decoded.put(row, each)
        rows.append(row)
    return rows


async def run(config: Config) -> None:
    """Serve until told to stop."""
    decoded = Decoded()
    await service.run(config, EngineResolver(decoded=decoded), lambda request: read(request, decoded))


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("policy", Config, run)


if __name__ == "__main__":
    main()
