"""Footprints are counted once, and say whether a CUDA graph leaves room for samples."""

import pytest

from studio import config as configs
from studio.config import fields
from studio.devices import footprint_store, measure, memory
from studio.devices.footprint_store import load_or_measure
from tests.tiny import FAMILY, footprint, tiny_base  # noqa: F401 - a fixture


@pytest.fixture
def config(tiny_base):  # noqa: F811
    chosen = {"device": "cpu", "dtype": "float32", "gradient_checkpointing": False, "quantisation": "none", "offload": False}
    return configs.build({"model": {"base_model": str(tiny_base.path)}, "dataset": {"resolution": 64}, "lora": {"rank": 4}, "runtime": chosen})


def test_a_footprint_is_counted_once(config, tiny_base, tmp_path, monkeypatch):  # noqa: F811
    first = load_or_measure(tmp_path / "f", config, FAMILY, tiny_base)
    assert first == measure.measure(config, FAMILY, tiny_base)
    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure", lambda *arguments: pytest.fail("counted again"))
        # What has no influence on it, or was filled in meanwhile.
        same = fields.replace(config, {"training.max_train_steps": 9, "runtime.attention": "fused", "training.train_batch_size": 2})
        assert load_or_measure(tmp_path / "f", same, FAMILY, tiny_base) == first
    other = load_or_measure(tmp_path / "f", fields.replace(config, {"lora.rank": 8, "lora.alpha": None}), FAMILY, tiny_base)
    assert other.adapter_parameters == 2 * first.adapter_parameters
    monkeypatch.setattr(footprint_store.packages, "installed", lambda name: "other")
    load_or_measure(tmp_path / "f", config, FAMILY, tiny_base)
    assert len(list((tmp_path / "f").iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"base_parameters": 1, "unknown": 2}'])
def test_a_damaged_file_is_replaced(damage, config, tiny_base, tmp_path):  # noqa: F811
    first = load_or_measure(tmp_path, config, FAMILY, tiny_base)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert load_or_measure(tmp_path, config, FAMILY, tiny_base) == first
    assert load_or_measure(tmp_path, config, FAMILY, tiny_base) == first and [file] == list(tmp_path.iterdir())


def test_a_graph_that_leaves_no_room_for_samples_does_not_fit(config, tiny_base, tmp_path, monkeypatch):  # noqa: F811
    large = footprint(base_parameters=10**9, step_bytes=5 * 10**9, sample_bytes=2 * 10**9, tile_bytes=2 * 10**9)
    monkeypatch.setattr(memory, "load_or_measure", lambda *arguments: large)
    for gigabytes, fits in ((20, True), (16, False)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, gigabytes=gigabytes: gigabytes * 10**9)
        with_samples = fields.replace(config, {"samples.prompts": ["a cat"]})
        assert memory.graph_fits(with_samples, tiny_base, FAMILY, tmp_path) is fits
        assert memory.graph_fits(fields.replace(config, {"samples.prompts": []}), tiny_base, FAMILY, tmp_path)
