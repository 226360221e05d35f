"""The language of policies and the engine that resolves them: pure, without bus, kvstore or kernel.

The policy service feeds it from etcd; the command line evaluates descriptions of clusters with it.
"""
