"""Parts of a service that owns tables whose truth is in etcd.

=============  ==================================================================================
config         settings that every such service has
resources      the connections that it opens first and closes last
epoch          the name of etcd's history, which its tables carry
cache          keys of etcd folded into rows of tables: the words that caches and informer share
informer       the loop that follows etcd: folds keys into the service's cache and its tables
leadership     work of the elected replica only: publishing, and loops
service        all loops of a replica, joined under the supervisor
=============  ==================================================================================
"""
