"""Interpreter for the text scripts beside it: a command, and indented below what it prints.

::

    table KEY=VALUE ...   what a former process left; first of all
    want KEY=VALUE ...    desired objects; KEY= removes one
    complete              desired state is known whole
    refuse KEY REASON     the kernel refuses an object, until ``accept KEY``
    capacity N            the table holds so many objects
    kernel KEY=VALUE ...  somebody else changes the table; KEY= removes
    write [KEY ...]       one batch, of pending or of urgent objects: prints what was written
    take, finish          a batch in two steps, during which other things may happen
    look, compare         a look at the table in two steps: prints the differences
    wait SECONDS          time passes
    retry                 prints in how many seconds something is due again
    status                prints each object that is desired, applied or pending
    batch N               most objects of one batch
"""

from cilia.reconcile.plan import WriteResult
from tests.unit.reconcile.kernel import Bench


class Script:
    """State of one script that runs."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.limit = 100
        self.batch: dict[str, str | None] = {}
        self.found: dict[str, str] = {}

    def run(self, text: str) -> str:
        """Return the script with what its commands print now."""
        out: list[str] = []
        for line in text.splitlines():
            if line.startswith(" "):
                continue
            out.append(line)
            if line and not line.startswith("#"):
                command, *words = line.split()
                out += [f"    {said}" for said in getattr(self, f"do_{command}")(*words) or ()]
        return "\n".join(out) + "\n"

    def do_table(self, *pairs: str) -> None:
        self.bench = Bench({key: value for key, value in _parse(pairs).items() if value})

    def do_batch(self, limit: str) -> None:
        self.limit = int(limit)

    def do_want(self, *pairs: str) -> None:
        for key, value in _parse(pairs).items():
            self.bench.want(key, value)

    def do_complete(self) -> list[str]:
        self.bench.reconciler.take_changes()
        return [f"{sum(self.bench.plan.complete())} to prune"]

    def do_refuse(self, key: str, *reason: str) -> None:
        self.bench.kernel.refusals[key] = " ".join(reason)

    def do_accept(self, key: str) -> None:
        del self.bench.kernel.refusals[key]

    def do_capacity(self, entries: str) -> None:
        self.bench.kernel.capacity = int(entries)

    def do_kernel(self, *pairs: str) -> None:
        for key, value in _parse(pairs).items():
            if value is None:
                self.bench.kernel.held.pop(key, None)
            else:
                self.bench.kernel.held[key] = value

    def do_wait(self, seconds: str) -> None:
        self.bench.now += float(seconds)

    def do_write(self, *urgent: str) -> list[str]:
        said = self.do_take(*urgent)
        return [*said, *self.do_finish()] if self.batch else said

    def do_take(self, *urgent: str) -> list[str]:
        self.bench.reconciler.take_changes()
        self.batch = self.bench.plan.take(self.bench.now, self.limit, urgent or None)
        written = [f"write {key}={value}" for key, value in self.batch.items() if value is not None]
        removed = [f"remove {key}" for key, value in self.batch.items() if value is None]
        return [*written, *removed] or ["nothing"]

    def do_finish(self) -> list[str]:
        result = self.bench.kernel.write(self.batch) if self.batch else WriteResult[str]()
        self.bench.plan.finish(self.batch, result, self.bench.now)
        self.batch = {}
        refused = [f"refused {key}: {reason}" for key, reason in result.refused.items()]
        full = [f"full: {', '.join(sorted(result.left))} left"] if result.full else []
        return [*refused, *full]

    def do_look(self) -> None:
        self.bench.plan.begin_look()
        self.found = self.bench.kernel.read()

    def do_compare(self) -> list[str]:
        slices = self.bench.plan.compare(self.found)
        differences = {key: values for some in slices for key, values in some.items()}
        return [
            f"{key} was {found or 'missing'}, not {applied or 'missing'}"
            for key, (found, applied) in sorted(differences.items())
        ] or ["no difference"]

    def do_retry(self) -> list[str]:
        at = self.bench.plan.next_retry()
        return ["never" if at is None else f"in {at - self.bench.now:g} s"]

    def do_status(self) -> list[str]:
        plan = self.bench.plan
        keys = sorted(self.bench.desired.keys() | plan.applied.keys() | plan.refused.keys())
        lines = [f"{key} {plan.status(key)}" for key in keys]
        return [*lines, *([f"full: {plan.full}"] if plan.full else [])]


def _parse(pairs: tuple[str, ...]) -> dict[str, str | None]:
    split = (pair.partition("=") for pair in pairs)
    return {key: value or None for key, _, value in split}
