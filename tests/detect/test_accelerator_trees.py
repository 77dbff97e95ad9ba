"""AMD's, Intel's and others' devices in a generated /sys, seen by the starter and understood by `detect`."""

from pathlib import Path

import pytest
from detect.systree import SysTree
from plan.facts import node

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.detect.survey import allocation_facts
from pilotwrap.host import observe, pci
from pilotwrap.model.node import Accelerator
from pilotwrap.model.snapshot import FileSaid, Snapshot


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    return SysTree(tmp_path)


def said(tree: SysTree) -> Snapshot:
    return Snapshot.model_validate(observe.snapshot(str(tree.root)))


def found(tree: SysTree) -> tuple[Accelerator, ...]:
    return accelerators(said(tree))


def mi250x(tree: SysTree, *addresses: str) -> None:
    """Write dies of MI250X, KFD's nodes in the order given."""
    tree.kfd(0, None)
    tree.file("/dev/kfd", "")
    for number, address in enumerate(addresses):
        base = tree.device(address, "1002:7408", driver="amdgpu", unique_id=f"a0000000000000{number:02x}\n")
        tree.render(base, number)
        tree.kfd(4 + number, address, unique_id=0xA0 << 56 | number)


def test_each_die_of_an_mi250x_is_a_device(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0", "0000:c6:00.0")
    assert [(one.kind, one.model, one.memory_mib, one.uuid, one.reason) for one in found(tree)] == [
        ("gcd", "AMD Instinct MI250X", 65536, "GPU-a000000000000000", None),
        ("gcd", "AMD Instinct MI250X", 65536, "GPU-a000000000000001", None),
    ]


def test_numbers_follow_kfd_s_nodes_where_they_differ_from_the_bus(tree: SysTree) -> None:
    mi250x(tree, "0000:d1:00.0", "0000:c1:00.0")
    assert [one.pci_address for one in found(tree)] == ["0000:d1:00.0", "0000:c1:00.0"]


def test_kfd_s_decimal_serial_is_the_hexadecimal_one_of_drm(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0")
    by_drm = found(tree)[0].uuid
    (tree.root / "sys/bus/pci/devices/0000:c1:00.0/unique_id").unlink()
    assert found(tree)[0].uuid == by_drm == "GPU-a000000000000000"


def test_an_mi300a_is_a_device_of_class_12_in_any_domain(tree: SysTree) -> None:
    tree.file("/dev/kfd", "")
    base = tree.device("0002:02:00.0", "1002:74a0", "120000", "amdgpu")
    tree.render(base, 0)
    tree.kfd(4, "0002:02:00.0", memory_gib=128)
    assert [(one.kind, one.model, one.pci_address, one.memory_mib) for one in found(tree)] == [
        ("gpu", "AMD Instinct MI300A", "0002:02:00.0", 131072)
    ]


def test_the_partitions_of_an_mi300a_are_devices_of_their_own(tree: SysTree) -> None:
    tree.file("/dev/kfd", "")
    tree.device("0000:02:00.0", "1002:74a0", "120000", "amdgpu", mem_info_vram_total=f"{96 << 30}\n")
    for part in range(3):
        tree.kfd(4 + part, "0000:02:00.0", memory_gib=0, part=part)
    assert [(one.kind, one.part, one.memory_mib) for one in found(tree)] == [("gcd", n, 32768) for n in range(3)]


def test_a_processor_s_graphics_have_no_compute_part_and_are_no_accelerator(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0")
    tree.device("0000:04:00.0", "1002:164e", "30000", "amdgpu")
    tree.device("0000:05:00.0", "1002:164f", "30000", "amdgpu")
    tree.kfd(9, "0000:05:00.0", memory_gib=0)
    assert [one.pci_address for one in found(tree)] == ["0000:c1:00.0"]


def test_without_dev_kfd_no_amd_device_is_granted(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0", "0000:c6:00.0")
    (tree.root / "dev/kfd").unlink()
    assert [one.reason for one in found(tree)] == ["not-granted", "not-granted"]
    assert found(tree)[0].detail == "its device nodes may not be opened"


def test_what_the_cgroup_refuses_is_not_granted_and_has_no_number(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0", "0000:c6:00.0", "0000:c9:00.0")
    (tree.root / "dev/dri/renderD128").unlink()
    snapshot = said(tree)
    path = "/sys/class/kfd/kfd/topology/nodes/4/properties"
    refused = {path: FileSaid(error="EPERM"), path.replace("properties", "mem_banks/0/properties"): FileSaid()}
    snapshot = snapshot.model_copy(update={"files": {**snapshot.files, **refused}})
    assert [one.reason for one in accelerators(snapshot)] == [None, None, "not-granted"]
    masked = snapshot.model_copy(update={"variables": {"ROCR_VISIBLE_DEVICES": "0"}})
    assert [(one.pci_address, one.reason) for one in accelerators(masked)] == [
        ("0000:c6:00.0", None),
        ("0000:c9:00.0", "masked"),
        ("0000:c1:00.0", "not-granted"),
    ]


def test_kfd_alone_may_refuse_a_device(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0")
    snapshot = said(tree)
    path = "/sys/class/kfd/kfd/topology/nodes/4/properties"
    snapshot = snapshot.model_copy(update={"files": {**snapshot.files, path: FileSaid(error="EPERM")}})
    assert [one.reason for one in accelerators(snapshot)] == ["not-granted"]


def test_errors_of_memory_that_were_not_corrected_make_it_unusable(tree: SysTree) -> None:
    mi250x(tree, "0000:c1:00.0", "0000:c6:00.0")
    tree.file("/sys/bus/pci/devices/0000:c1:00.0/ras/umc_err_count", "ue: 2\nce: 0\n")
    tree.file("/sys/bus/pci/devices/0000:c6:00.0/ras/umc_err_count", "ue: 0\nce: 9\n")
    assert [(one.reason, one.detail[:1]) for one in found(tree)] == [("ecc", "2"), (None, "")]


def test_a_device_that_a_virtual_machine_has_is_not_granted(tree: SysTree) -> None:
    tree.device("0000:c1:00.0", "1002:74a1", "120000", "vfio-pci")
    tree.file("/dev/kfd", "")
    assert [(one.reason, "vfio-pci" in one.detail) for one in found(tree)] == [("not-granted", True)]


def pvc(tree: SysTree, number: str = "8086:0bd5", driver: str = "i915") -> str:
    base = tree.device("0000:18:00.0", number, driver=driver)
    tree.render(base, 1)
    return base


def test_a_pvc_s_tiles_are_devices_under_i915(tree: SysTree) -> None:
    base = pvc(tree)
    for gt in ("gt0", "gt1"):
        tree.folder(f"{base}/drm/card1/gt/{gt}")
    tree.file(f"{base}/drm/card1/lmem_total_bytes", f"{128 << 30}\n")
    assert [(one.kind, one.part, one.memory_mib, one.pci_address) for one in found(tree)] == [
        ("tile", 0, 65536, "0000:18:00.0"),
        ("tile", 1, 65536, "0000:18:00.0"),
    ]


def test_a_pvc_s_tiles_are_devices_under_xe_and_its_media_engines_are_none(tree: SysTree) -> None:
    base = pvc(tree, driver="xe")
    for name in ("tile0/gt0", "tile0/gt1", "tile1/gt2", "tile1/gt3"):
        tree.folder(f"{base}/{name}")
    for tile in range(2):
        tree.file(f"{base}/tile{tile}/physical_vram_size_bytes", f"{64 << 30}\n")
    assert [(one.kind, one.part, one.memory_mib) for one in found(tree)] == [("tile", 0, 65536), ("tile", 1, 65536)]


def test_a_card_of_one_tile_is_a_gpu_though_it_has_a_media_gt(tree: SysTree) -> None:
    base = pvc(tree, "8086:0bda")
    for gt in ("gt0", "gt1"):
        tree.folder(f"{base}/drm/card1/gt/{gt}")
    assert [(one.kind, one.part, one.model) for one in found(tree)] == [("gpu", None, "Intel Data Center GPU Max 1100")]


def test_a_driver_that_shows_one_tile_of_a_pvc_is_believed(tree: SysTree) -> None:
    tree.folder(f"{pvc(tree)}/drm/card1/gt/gt0")
    assert [(one.kind, one.part) for one in found(tree)] == [("gpu", None)]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("survivability_mode", "Capability Info: 0x1\n", "unknown"),
        ("health", "degraded\n", "unknown"),
        ("health", "ok\n", None),
    ],
)
def test_the_health_that_intel_s_driver_tells_counts(tree: SysTree, name: str, text: str, reason: str | None) -> None:
    tree.file(f"{pvc(tree)}/{name}", text)
    assert {one.reason for one in found(tree)} == {reason}


def test_a_node_that_may_not_be_opened_is_not_granted(tree: SysTree) -> None:
    pvc(tree)
    (tree.root / "dev/dri/renderD129").unlink()
    assert {one.reason for one in found(tree)} == {"not-granted"}


@pytest.mark.parametrize("number", ["1a03:2000", "102b:0522", "8086:9a49", "1234:1111"])
def test_a_bmc_s_or_a_processor_s_vga_is_no_accelerator(tree: SysTree, number: str) -> None:
    tree.device("0000:02:00.0", number, "30000", "ast")
    assert found(tree) == ()


def test_an_nvswitch_is_none(tree: SysTree) -> None:
    tree.device("0000:05:00.0", "10de:22a3", "68000", "nvidia-nvswitch")
    assert found(tree) == ()


def test_nvidia_s_own_node_counts_and_not_the_one_for_displays(tree: SysTree) -> None:
    tree.nvidia("0000:c1:00.0", 0)
    tree.render("/sys/bus/pci/devices/0000:c1:00.0", 0, granted=False)
    tree.nvidia("0000:c2:00.0", 1, granted=False)  # made only when first used
    assert [device.granted for device in said(tree).devices] == [True, None]
    assert [(one.reason, one.uuid, one.driver) for one in found(tree)] == [
        (None, "GPU-00000000", "550.54.15"),
        (None, "GPU-00000001", "550.54.15"),
    ]


def test_a_node_of_nvidia_s_that_refuses_is_not_granted(tree: SysTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.nvidia("0000:c1:00.0", 0)
    asked = pci.os.access
    # root may open whatever a test can write: refused as a device cgroup would
    refuses = lambda path, mode: asked(path, mode) and not (mode and "nvidia0" in str(path))  # noqa: E731
    monkeypatch.setattr("pilotwrap.host.pci.os.access", refuses)
    assert [one.reason for one in found(tree)] == ["not-granted"]


@pytest.mark.parametrize("left", ["folder", "nothing"])
def test_a_card_of_nvidia_s_that_its_loaded_driver_does_not_show_is_lost(tree: SysTree, left: str) -> None:
    for minor in range(2):
        tree.nvidia(f"0000:c{minor}:00.0", minor)
    folder = tree.root / "proc/driver/nvidia/gpus/0000:c1:00.0"
    (folder / "information").unlink()
    if left == "nothing":
        folder.rmdir()
    assert [one.reason for one in found(tree)] == [None, "lost"]
    assert found(tree)[1].detail == "the host's driver does not show it: only the bus has it"


@pytest.mark.parametrize("number", ["10de:20b0", "1002:7408", "8086:0bd5"])
def test_a_device_that_fell_off_the_bus_is_lost_whatever_its_files_remember(tree: SysTree, number: str) -> None:
    vendor = int(number[:4], 16)
    tree.kfd(4, "0000:c1:00.0")
    for address in ("0000:c1:00.0", "0000:c2:00.0"):
        base = tree.device(address, number, "30200")
        (tree.root / base[1:] / "config").write_bytes(vendor.to_bytes(2, "little") + bytes(62))
    assert {one.reason for one in found(tree)} <= {None, "not-granted"}
    tree.file("/dev/kfd", "")
    tree.fall_off("0000:c1:00.0")
    said = {one.pci_address: (one.health, one.reason, one.detail) for one in found(tree)}
    assert said["0000:c1:00.0"] == ("unusable", "lost", "it does not answer on the bus any more")


def test_without_any_driver_of_nvidia_s_nothing_is_said_of_its_cards_before_the_probe(tree: SysTree) -> None:
    tree.device("0000:c1:00.0", "10de:20b0", "30200", "nouveau")
    assert [(one.reason, one.driver) for one in found(tree)] == [(None, None)]


def test_devices_of_two_vendors_are_listed_a_vendor_after_the_other(tree: SysTree) -> None:
    mi250x(tree, "0000:01:00.0")
    tree.nvidia("0000:c1:00.0", 0)
    pvc(tree, "8086:0bda")
    assert [one.vendor for one in found(tree)] == ["nvidia", "amd", "intel"]


def test_what_differs_in_words_alone_makes_no_group_of_its_own_and_a_dead_device_says_what_it_has(
    tree: SysTree,
) -> None:
    mi250x(tree, "0000:c1:00.0", "0000:c6:00.0")
    hidden = [
        node(devices=accelerators(said(tree).model_copy(update={"variables": {"ROCR_VISIBLE_DEVICES": text}})))
        for text in ("0", "0,")
    ]
    tree.file("/sys/bus/pci/devices/0000:c6:00.0/ras/umc_err_count", "ue: 3\nce: 0\n")
    surveyed = allocation_facts(hidden[0], {"node1": hidden[0], "node2": hidden[1], "node3": node(devices=found(tree))})
    assert [group.hosts for group in surveyed.groups] == [("node1", "node2")]
    assert surveyed.unfit[0].detail.endswith(
        "is unusable: ecc, 3 uncorrectable memory errors since the driver was loaded"
    )
