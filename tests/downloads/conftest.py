"""A web server of the test's own, and no waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ssft_bench.downloads import fetch
from tests.downloads.server import Site, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(Site()) as running:
        yield running
