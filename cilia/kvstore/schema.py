"""The messages of etcd's v3 API that we speak, built at import in a descriptor pool of their own.

Written as a table instead of generated code: generated modules demand one protobuf runtime each and
register global names, so two etcd packages can't share a process; a private pool does with every
protobuf from 5 on. Field numbers are those of etcd's api/etcdserverpb/rpc.proto,
api/mvccpb/kv.proto and api/authpb (release 3.4; unchanged in 3.5 and 3.6).
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS: Final = {
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,  # enums travel as int32
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}

# message -> fields: "[*]type name number [of oneof]"; * is repeated.
_MESSAGES: Final = {
    "ResponseHeader": "uint64 cluster_id 1, uint64 member_id 2, int64 revision 3, uint64 raft_term 4",
    "KeyValue": "bytes key 1, int64 create_revision 2, int64 mod_revision 3, int64 version 4, bytes value 5, int64 lease 6",
    "Event": "int32 type 1, KeyValue kv 2, KeyValue prev_kv 3",
    "RangeRequest": "bytes key 1, bytes range_end 2, int64 limit 3, int64 revision 4, bool keys_only 8, bool count_only 9",
    "RangeResponse": "ResponseHeader header 1, *KeyValue kvs 2, bool more 3, int64 count 4",
    "PutRequest": "bytes key 1, bytes value 2, int64 lease 3, bool ignore_value 5, bool ignore_lease 6",
    "PutResponse": "ResponseHeader header 1",
    "DeleteRangeRequest": "bytes key 1, bytes range_end 2",
    "DeleteRangeResponse": "ResponseHeader header 1, int64 deleted 2",
    "RequestOp": (
        "RangeRequest request_range 1 of request, PutRequest request_put 2 of request, "
        "DeleteRangeRequest request_delete_range 3 of request, TxnRequest request_txn 4 of request"
    ),
    "ResponseOp": (
        "RangeResponse response_range 1 of response, PutResponse response_put 2 of response, "
        "DeleteRangeResponse response_delete_range 3 of response, TxnResponse response_txn 4 of response"
    ),
    "Compare": (
        "int32 result 1, int32 target 2, bytes key 3, int64 version 4 of union, int64 create_revision 5 of union, "
        "int64 mod_revision 6 of union, bytes value 7 of union, int64 lease 8 of union, bytes range_end 64"
    ),
    "TxnRequest": "*Compare compare 1, *RequestOp success 2, *RequestOp failure 3",
    "TxnResponse": "ResponseHeader header 1, bool succeeded 2, *ResponseOp responses 3",
    "CompactionRequest": "int64 revision 1, bool physical 2",
    "CompactionResponse": "ResponseHeader header 1",
    "WatchCreateRequest": (
        "bytes key 1, bytes range_end 2, int64 start_revision 3, bool progress_notify 4, int64 watch_id 7, bool fragment 8"
    ),
    "WatchCancelRequest": "int64 watch_id 1",
    "WatchProgressRequest": "",
    "WatchRequest": (
        "WatchCreateRequest create_request 1 of request_union, WatchCancelRequest cancel_request 2 of request_union, "
        "WatchProgressRequest progress_request 3 of request_union"
    ),
    "WatchResponse": (
        "ResponseHeader header 1, int64 watch_id 2, bool created 3, bool canceled 4, int64 compact_revision 5, "
        "string cancel_reason 6, bool fragment 7, *Event events 11"
    ),
    "LeaseGrantRequest": "int64 TTL 1, int64 ID 2",
    "LeaseGrantResponse": "ResponseHeader header 1, int64 ID 2, int64 TTL 3, string error 4",
    "LeaseRevokeRequest": "int64 ID 1",
    "LeaseRevokeResponse": "ResponseHeader header 1",
    "LeaseKeepAliveRequest": "int64 ID 1",
    "LeaseKeepAliveResponse": "ResponseHeader header 1, int64 ID 2, int64 TTL 3",
    "LeaseTimeToLiveRequest": "int64 ID 1, bool keys 2",
    "LeaseTimeToLiveResponse": "ResponseHeader header 1, int64 ID 2, int64 TTL 3, int64 grantedTTL 4, *bytes keys 5",
    "StatusRequest": "",
    "StatusResponse": "ResponseHeader header 1, string version 2, int64 dbSize 3, uint64 leader 4",
    "AuthenticateRequest": "string name 1, string password 2",
    "AuthenticateResponse": "ResponseHeader header 1, string token 2",
}


def _field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    kind, name, number, *oneof = text.split()
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".cilia.etcd.{kind}"
    if oneof:
        names = [declared.name for declared in message.oneof_decl]
        if oneof[1] not in names:
            message.oneof_decl.add(name=oneof[1])
            names.append(oneof[1])
        field.oneof_index = names.index(oneof[1])


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="cilia/etcd.proto", package="cilia.etcd", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(", ")):
            _field(message, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"cilia.etcd.{name}")) for name in _MESSAGES
    }


_CLASSES: Final = _build()


def message(name: str) -> Any:
    """Return the class of an etcd message, such as ``RangeRequest``."""
    return _CLASSES[name]
