import errno
import signal
import sys

import pytest
import safetensors.torch
import torch

from studio.core.errors import StudioError
from studio.training.checkpoints import Disk, load_newest, save

STATE = {"weight/a": torch.arange(6.0).view(2, 3)}


def test_the_newest_checkpoint_is_loaded_and_two_are_kept(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step, {"weight/a": STATE["weight/a"] + step}, {}, Disk())
    step, tensors, _ = load_newest(tmp_path)
    assert step == 6
    assert torch.equal(tensors["weight/a"], STATE["weight/a"] + 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000006"]


def test_no_checkpoint_is_none(tmp_path):
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "missing") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "no manifest", "empty manifest", "other step"])
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(tmp_path, damage):
    save(tmp_path, 2, STATE, {}, Disk())
    save(tmp_path, 4, STATE, {}, Disk())
    newest = tmp_path / "step-000004"
    data = bytearray((newest / "state.safetensors").read_bytes())
    if damage == "cut":
        (newest / "state.safetensors").write_bytes(data[:-1])
    elif damage == "flip":
        data[-1] ^= 1
        (newest / "state.safetensors").write_bytes(data)
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "empty manifest":
        (newest / "manifest.json").write_text("")
    else:
        newest.rename(tmp_path / "step-000005")
    assert load_newest(tmp_path)[0] == 2


def test_temporary_folders_of_a_killed_process_are_deleted(tmp_path):
    (tmp_path / ".aside-12").mkdir(parents=True)
    (tmp_path / ".aside-12" / "state.safetensors").write_bytes(b"half")
    save(tmp_path, 2, STATE, {}, Disk())
    assert load_newest(tmp_path)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_a_full_disk_loses_no_checkpoint(tmp_path):
    class FullDisk(Disk):
        def sync(self, folder):
            raise OSError(errno.ENOSPC, "No space left on device")

    save(tmp_path, 2, STATE, {}, Disk())
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 4, STATE, {}, FullDisk())
    assert load_newest(tmp_path)[0] == 2


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 2, STATE, {}, Disk())
    save(tmp_path, 2, {"weight/a": torch.ones(1)}, {}, Disk())
    assert load_newest(tmp_path)[1]["weight/a"].tolist() == [1.0]


def test_json_values_are_restored_with_every_digit(tmp_path):
    facts = {"numbers": {"a": {"step": 3, "d": 0.1 + 0.2}}, "groups": [{"betas": [0.9, 0.999], "lr": 1e-4}]}
    save(tmp_path, 2, STATE, facts, Disk())
    assert load_newest(tmp_path)[2] == facts


@pytest.mark.parametrize("dtype", safetensors.torch._TYPES.values(), ids=str)
def test_every_dtype_of_safetensors_is_restored_bit_for_bit(dtype, tmp_path):
    bits = torch.arange(48, dtype=torch.uint8)
    tensor = bits.view(6, 8).bool() if dtype == torch.bool else bits.view(dtype).view(3, -1)
    save(tmp_path, 2, {"matrix": tensor, "number": tensor[0, 0]}, {}, Disk())
    _, found, _ = load_newest(tmp_path)
    for name, expected in {"matrix": tensor, "number": tensor[0, 0]}.items():
        assert (found[name].dtype, found[name].shape) == (dtype, expected.shape)
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float8_e8m0fnu, torch.float4_e2m1fn_x2], ids=str)
def test_any_other_dtype_is_an_error_and_leaves_no_file(dtype, tmp_path):
    save(tmp_path, 2, STATE, {}, Disk())
    tensor = torch.zeros(16, dtype=torch.uint8).view(dtype)
    with pytest.raises(StudioError, match=f"'optimizer/a' has the dtype {dtype}; .* supports .*torch.uint8"):
        save(tmp_path, 4, {"optimizer/a": tensor}, {}, Disk())
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is open")
def test_a_reader_sees_the_old_file_or_the_new_one_while_it_is_replaced(tmp_path):
    from tests.atomic import seen_while_replaced

    assert seen_while_replaced(Disk().replace, tmp_path / "step-000002.safetensors") <= {"old", "new"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_kill_in_the_middle_of_a_replacement_leaves_the_old_file(tmp_path):
    from tests.atomic import left_by_a_kill

    assert left_by_a_kill(Disk().replace, tmp_path / "step-000002.safetensors") == ("old", signal.SIGXFSZ)
