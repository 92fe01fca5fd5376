"""The two front doors and the client agree on what each error is."""

import pytest

from perdure.core.errors import PerdureError
from perdure.ingress.errors import GRPC_STATUS_NAME, HTTP_STATUS, MethodNotAllowedError
from perdure.sdk.client_types import refusal_of


@pytest.mark.parametrize(
    "kind", [kind for kind in HTTP_STATUS if kind is not MethodNotAllowedError]
)
def test_client_raises_the_same_status_whatever_door_it_came_through(
    kind: type[PerdureError],
) -> None:
    error = refusal_of(GRPC_STATUS_NAME[kind], kind.code, "sentence")

    assert error.status_code == HTTP_STATUS[kind]


def test_every_error_of_grpc_is_one_of_http() -> None:
    assert set(GRPC_STATUS_NAME) == set(HTTP_STATUS) - {MethodNotAllowedError}
