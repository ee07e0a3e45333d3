"""Features in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssft_bench import frame_store


def test_the_store_by_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    store = frame_store.FrameStore(tmp_path, memory_gib=1000 / 2**30)
    arrays = {
        (place, f"u{n}"): rng.standard_normal((int(rng.integers(1, 9)), 5)).astype(np.float32)
        for n in range(30)
        for place in range(3)
    }
    for (place, name), array in arrays.items():
        store.add(place, name, array[:, ::-1][:, ::-1])
    for (place, name), array in arrays.items():
        np.testing.assert_array_equal(store.frames(place, name), array)
    assert (1, "u3") in store
    assert (1, "u30") not in store
    assert sum(f.stat().st_size for f in store.folder.iterdir()) > 5000
    with pytest.raises(ValueError, match="read-only"):
        store.frames(0, "u0")[0, 0] = 1
    store.keep_only(1)
    assert (0, "u3") not in store
    np.testing.assert_array_equal(store.frames(1, "u29"), arrays[1, "u29"])
    assert [f.name for f in store.folder.iterdir()] == ["1.f32"]
    store.close()
    assert not store.folder.exists()
