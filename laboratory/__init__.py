"""A real cluster on one machine: etcd, NATS and the services in one network namespace, an agent in
each node's.

::

    cilia-<name>-hub                     cilia-<name>-<node>            cilia-<name>-<node>
      etcd, nats-server, services          agent, pods' veth pairs        agent, pods' veth pairs
      br0 172.31.0.1 ---------------------- eth0 172.31.0.11 ------------- eth0 172.31.0.12

All of it is made by this package, named after the cluster, recorded in /run/cilia/<name>, and
removed with it.
"""
