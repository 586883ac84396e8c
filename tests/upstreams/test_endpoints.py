"""Where a model is served, as it is printed."""

import pytest
from rich.pretty import pretty_repr

from millrace.upstreams.embeddings import EmbeddingsEndpoint
from millrace.upstreams.endpoint import UpstreamEndpoint

URL, KEY = "http://127.0.0.1:9/v1", "sk-secret"
FOR_ANSWERS = UpstreamEndpoint(
    base_url=URL, api_key=KEY, connect_timeout_s=1, first_token_timeout_s=1, stall_timeout_s=1
)
FOR_VECTORS = EmbeddingsEndpoint(base_url=URL, model="vectors", api_key=KEY, connect_timeout_s=1, timeout_s=1)


@pytest.mark.parametrize("endpoint", [FOR_ANSWERS, FOR_VECTORS])
def test_its_key_is_not_printed(endpoint: object) -> None:
    for printed in (repr(endpoint), pretty_repr(endpoint)):
        assert URL in printed
        assert KEY not in printed
