"""RCU grace periods: after one, no program can still hold what was removed before."""

from cilia.datapath.descriptor import checked, lib


def synchronize_rcu() -> None:
    """Return once every program that was running at the call has ended (an RCU grace period, some
    10 ms).

    Entries that a switched word no longer refers to may be deleted, or their place reused, after
    that: membarrier(2) with MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c).

    Raises:
        KernelError: EINVAL on kernels run with nohz_full.
    """
    checked(lib.cilia_synchronize_rcu(), "wait for an RCU grace period")
