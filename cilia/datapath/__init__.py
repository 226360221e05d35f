"""The one place that calls the kernel's bpf(2), over the system's libbpf.

Objects are compiled at build time (tools/build.py) and loaded here; maps and links are pinned so
that they outlive the process. Every call is synchronous and releases the GIL; those that wait for
RCU or RTNL say so, and belong in a worker thread.
"""
