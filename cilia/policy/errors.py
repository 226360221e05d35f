"""Errors of policies and of what is asked about them.

``PolicyError``
    ``BadPolicy``       the text breaks the language; names document, line, field and value
        ``NotEnforced``  the text is right, but the data plane can't hold to it yet
"""


class PolicyError(Exception):
    """Root of this package's errors."""


class BadPolicy(PolicyError):
    """A document can't be accepted.

    Attributes:
        where: Source and document, such as ``web.yaml, document 2 (CiliumNetworkPolicy shop/web)``.
        path: The field, such as ``spec.ingress[0].toPorts[0].ports[0].port``; empty for the
            document as a whole.
        value: What stands there, shortened.
        reason: What is wrong with it.
        line: Where it stands in the text, from 1; 0 if unknown.
    """

    def __init__(self, *, where: str, path: str, value: object, reason: str, line: int = 0) -> None:
        self.where, self.path, self.reason, self.line = where, path, reason, line
        self.value = _shorten(value)
        place = f"{where}, line {line}" if line else where
        field = f"{path}: {self.value}: " if path else ""
        super().__init__(f"{place}: {field}{reason}")


class NotEnforced(BadPolicy):
    """A field is valid but has no effect yet; accepting it silently would promise what nobody
    keeps.
    """


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
