"""Reading of requests: users' texts become policy objects, or are refused by field."""

import time
from dataclasses import dataclass

from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.policies import ApplyPolicies
from cilia.contracts.tables import PolicyObject
from cilia.errors import Refused
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import parse_policies, put_in_shadow
from cilia.telemetry import traceparent
from services.policy.changes.plan import prefixes_of
from services.policy.resolution.parse_cache import ParseCache


@dataclass(frozen=True, slots=True)
class PolicyReader:
    """Reader of policies; what it reads is kept, so that it isn't read again from etcd."""

    cache: ParseCache

    def read(self, request: ApplyPolicies) -> list[PolicyObject]:
        """Read all policies of a request.

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
        now, cause = time.time_ns(), traceparent()
        rows = []
        for each in parsed:
            if request.shadow:
                each = put_in_shadow(each, True)
            row = PolicyObject(
                each.kind,
                each.namespace,
                each.name,
                each.document,
                request.author,
                now,
                cause,
                prefixes=prefixes_of(each.policy),
            )
            self.cache.put(row, each)
            rows.append(row)
        return rows
