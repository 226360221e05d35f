"""The one mechanism that distributes a table from its owner to everyone who needs it
(cilia.contracts.tables).

==================  =============================================================================================
history             the owner's side, pure: rows by shard, a log of recent changes, what a delta or beacon says
answers             the owner's side, pure: snapshots and changes as chunks, encoded once and kept
publisher           the owner's loops: answer snapshots (every replica), publish deltas and beacons (the leader)
mirror              the subscriber's side, pure: one shard; deltas, beacons and answers in, changes out
mirrors             the subscriber's side, pure: all shards that it is interested in
asking              when to ask for which snapshot: jitter, backoff, a bound on requests under way
subscriber          the subscriber's loop
==================  =============================================================================================
"""
