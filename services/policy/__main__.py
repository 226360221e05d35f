"""The policy service: what may talk to what, resolved once for the cluster."""

from typing import NoReturn

from cilia.lifecycle import run_service
from cilia.policy.engine.options import Options
from services.policy import service
from services.policy.changes.reading import PolicyReader
from services.policy.config import Config
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.resolver import EngineResolver


async def run(config: Config) -> None:
    """Serve until told to stop."""
    cache = ParseCache()
    await service.run(config, EngineResolver(cache, Options(dual_stack=True)), PolicyReader(cache).read)


def main() -> NoReturn:
    """Run the service as a process."""
    run_service("policy", Config, run)


if __name__ == "__main__":
    main()
