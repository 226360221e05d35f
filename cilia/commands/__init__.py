"""Short-lived clients: the ``cilia`` command, one module a noun.

Results go to stdout, everything else to stderr. Exit codes: 0 done; 1 refused or failed; 2 wrong
usage, setting or input file; 3 something doesn't answer, or not in time.
"""
