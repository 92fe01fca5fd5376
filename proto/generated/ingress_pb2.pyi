from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("service", "handler", "key")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    service: str
    handler: str
    key: str
    def __init__(self, service: _Optional[str] = ..., handler: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class InvocationRequest(_message.Message):
    __slots__ = ("target", "body", "headers", "idempotency_key", "invocation_id")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    target: Target
    body: bytes
    headers: _containers.ScalarMap[str, str]
    idempotency_key: str
    invocation_id: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., body: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ..., idempotency_key: _Optional[str] = ..., invocation_id: _Optional[str] = ...) -> None: ...

class CallRequest(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationRequest
    def __init__(self, invocation: _Optional[_Union[InvocationRequest, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CallResponse(_message.Message):
    __slots__ = ("invocation_id", "value", "failure")
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    value: bytes
    failure: Failure
    def __init__(self, invocation_id: _Optional[str] = ..., value: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class SendRequest(_message.Message):
    __slots__ = ("invocation", "delay_ms")
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationRequest
    delay_ms: int
    def __init__(self, invocation: _Optional[_Union[InvocationRequest, _Mapping]] = ..., delay_ms: _Optional[int] = ...) -> None: ...

class SendResponse(_message.Message):
    __slots__ = ("invocation_id", "status", "execution_time_ms")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[SendResponse.Status]
        ACCEPTED: _ClassVar[SendResponse.Status]
        PREVIOUSLY_ACCEPTED: _ClassVar[SendResponse.Status]
    STATUS_UNSPECIFIED: SendResponse.Status
    ACCEPTED: SendResponse.Status
    PREVIOUSLY_ACCEPTED: SendResponse.Status
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    status: SendResponse.Status
    execution_time_ms: int
    def __init__(self, invocation_id: _Optional[str] = ..., status: _Optional[_Union[SendResponse.Status, str]] = ..., execution_time_ms: _Optional[int] = ...) -> None: ...

class InvocationReference(_message.Message):
    __slots__ = ("invocation_id", "idempotent_request", "workflow")
    class IdempotentRequest(_message.Message):
        __slots__ = ("target", "idempotency_key")
        TARGET_FIELD_NUMBER: _ClassVar[int]
        IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
        target: Target
        idempotency_key: str
        def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...
    class Workflow(_message.Message):
        __slots__ = ("name", "key")
        NAME_FIELD_NUMBER: _ClassVar[int]
        KEY_FIELD_NUMBER: _ClassVar[int]
        name: str
        key: str
        def __init__(self, name: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    idempotent_request: InvocationReference.IdempotentRequest
    workflow: InvocationReference.Workflow
    def __init__(self, invocation_id: _Optional[str] = ..., idempotent_request: _Optional[_Union[InvocationReference.IdempotentRequest, _Mapping]] = ..., workflow: _Optional[_Union[InvocationReference.Workflow, _Mapping]] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationReference
    def __init__(self, invocation: _Optional[_Union[InvocationReference, _Mapping]] = ...) -> None: ...

class GetOutputRequest(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationReference
    def __init__(self, invocation: _Optional[_Union[InvocationReference, _Mapping]] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationReference
    def __init__(self, invocation: _Optional[_Union[InvocationReference, _Mapping]] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("invocation_id",)
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    def __init__(self, invocation_id: _Optional[str] = ...) -> None: ...

class CompleteAwakeableRequest(_message.Message):
    __slots__ = ("awakeable_id", "value", "failure")
    AWAKEABLE_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    awakeable_id: str
    value: bytes
    failure: Failure
    def __init__(self, awakeable_id: _Optional[str] = ..., value: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class CompleteAwakeableResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SendSignalRequest(_message.Message):
    __slots__ = ("invocation_id", "name", "value", "failure")
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    name: str
    value: bytes
    failure: Failure
    def __init__(self, invocation_id: _Optional[str] = ..., name: _Optional[str] = ..., value: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class SendSignalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("invocation_id",)
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    invocation_id: str
    def __init__(self, invocation_id: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SessionRequests(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SessionRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SessionRequest, _Mapping]]] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("id", "call", "send", "attach", "get_output", "lookup", "complete_awakeable", "send_signal", "cancel")
    ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    GET_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_AWAKEABLE_FIELD_NUMBER: _ClassVar[int]
    SEND_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    id: int
    call: CallRequest
    send: SendRequest
    attach: AttachRequest
    get_output: GetOutputRequest
    lookup: LookupRequest
    complete_awakeable: CompleteAwakeableRequest
    send_signal: SendSignalRequest
    cancel: CancelRequest
    def __init__(self, id: _Optional[int] = ..., call: _Optional[_Union[CallRequest, _Mapping]] = ..., send: _Optional[_Union[SendRequest, _Mapping]] = ..., attach: _Optional[_Union[AttachRequest, _Mapping]] = ..., get_output: _Optional[_Union[GetOutputRequest, _Mapping]] = ..., lookup: _Optional[_Union[LookupRequest, _Mapping]] = ..., complete_awakeable: _Optional[_Union[CompleteAwakeableRequest, _Mapping]] = ..., send_signal: _Optional[_Union[SendSignalRequest, _Mapping]] = ..., cancel: _Optional[_Union[CancelRequest, _Mapping]] = ...) -> None: ...

class SessionResponses(_message.Message):
    __slots__ = ("responses", "opened", "front_doors")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    FRONT_DOORS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[SessionResponse]
    opened: Opened
    front_doors: FrontDoors
    def __init__(self, responses: _Optional[_Iterable[_Union[SessionResponse, _Mapping]]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., front_doors: _Optional[_Union[FrontDoors, _Mapping]] = ...) -> None: ...

class FrontDoors(_message.Message):
    __slots__ = ("cluster", "addresses")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("in_flight_max",)
    IN_FLIGHT_MAX_FIELD_NUMBER: _ClassVar[int]
    in_flight_max: int
    def __init__(self, in_flight_max: _Optional[int] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("id", "call", "send", "attach", "get_output", "lookup", "complete_awakeable", "send_signal", "cancel", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    GET_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_AWAKEABLE_FIELD_NUMBER: _ClassVar[int]
    SEND_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    call: CallResponse
    send: SendResponse
    attach: CallResponse
    get_output: CallResponse
    lookup: LookupResponse
    complete_awakeable: CompleteAwakeableResponse
    send_signal: SendSignalResponse
    cancel: CancelResponse
    error: Error
    def __init__(self, id: _Optional[int] = ..., call: _Optional[_Union[CallResponse, _Mapping]] = ..., send: _Optional[_Union[SendResponse, _Mapping]] = ..., attach: _Optional[_Union[CallResponse, _Mapping]] = ..., get_output: _Optional[_Union[CallResponse, _Mapping]] = ..., lookup: _Optional[_Union[LookupResponse, _Mapping]] = ..., complete_awakeable: _Optional[_Union[CompleteAwakeableResponse, _Mapping]] = ..., send_signal: _Optional[_Union[SendSignalResponse, _Mapping]] = ..., cancel: _Optional[_Union[CancelResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("status", "code", "message", "retryable")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    status: str
    code: str
    message: str
    retryable: bool
    def __init__(self, status: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...
