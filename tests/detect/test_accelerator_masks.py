"""Each vendor's masks, read as its runtime reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.model.snapshot import DeviceSaid, FileSaid, ProbeSaid, Snapshot

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44")
Variables = dict[str, str]


def bus(vendor: str, device: str, count: int = 4) -> tuple[DeviceSaid, ...]:
    return tuple(
        DeviceSaid.model_validate(
            {"address": f"0000:0{n}:00.0", "class": "0x038000", "vendor": f"0x{vendor}", "device": f"0x{device}"}
        )
        for n in range(count)
    )


def nvidia(variables: Variables, *changes: dict[str, object], more: tuple[dict[str, object], ...] = ()) -> Snapshot:
    """Four GPUs as NVML tells them, some changed, others added."""
    records = [
        {"kind": "device", "pci_address": f"0000:0{n}:00.0", "uuid": uuid, "health": "ok", "speed": 100}
        for n, uuid in enumerate(UUIDS)
    ]
    for n, change in enumerate(changes):
        records[n] = {**records[n], **change}
    probe = ProbeSaid.model_validate({"probe": "nvml", "exit": 0, "records": [*records, *more]})
    return Snapshot(variables=variables, devices=bus("10de", "20b0"), probes=(probe,))


def usable(snapshot: Snapshot) -> list[int]:
    return [n for n, device in enumerate(accelerators(snapshot)) if device.health == "ok"]


CUDA: dict[str, tuple[str | None, list[int]]] = {
    "not set: all": (None, [0, 1, 2, 3]),
    "set but empty: none": ("", []),
    "a number": ("2", [2]),
    "numbers, in any order": ("3,1", [1, 3]),
    "cut at -1": ("0,-1,2", [0]),
    "cut at a number beyond": ("1,7,2", [1]),
    "nothing before the cut": ("-1,0", []),
    "no number": ("none", []),
    "NoDevFiles, as Slurm says": ("NoDevFiles", []),
    "a repeat empties": ("0,1,0", []),
    "a repeat after the cut counts no more": ("0,9,0", [0]),
    "digits like strtol's": ("1gpu2,2x", [1, 2]),
    "blanks before a number": ("0, 2", [0, 2]),
    "a plus sign": ("+1", [1]),
    "an empty entry cuts": ("0,,1", [0]),
    "a comma at the end": ("0,1,", [0, 1]),
    "a UUID": ("GPU-bb33", [2]),
    "UUIDs": ("GPU-cc44,GPU-aa11", [0, 3]),
    "a unique prefix": ("GPU-b", [2]),
    "a prefix of two": ("GPU-aa", []),
    "an unknown UUID cuts": ("GPU-aa11,GPU-dd,GPU-bb33", [0]),
    "a UUID and its prefix are a repeat": ("GPU-bb33,GPU-b", []),
    "a number among UUIDs cuts": ("GPU-aa11,1", [0]),
    "a UUID among numbers cuts": ("1,GPU-aa11", [1]),
    "a UUID in another case is another": ("GPU-AA11", []),
    "a MIG name where there is none": ("MIG-1", []),
}


@pytest.mark.parametrize("case", CUDA)
def test_cuda_visible_devices_is_read_as_cuda_does(case: str) -> None:
    text, expected = CUDA[case]
    assert usable(nvidia({} if text is None else {"CUDA_VISIBLE_DEVICES": text})) == expected


def test_what_is_hidden_is_listed_with_the_variable_that_hides_it() -> None:
    hidden = accelerators(nvidia({"CUDA_VISIBLE_DEVICES": "0"}))[1:]
    assert {(one.health, one.reason, one.detail) for one in hidden} == {
        ("unusable", "masked", "hidden by CUDA_VISIBLE_DEVICES=0")
    }


def test_a_lost_card_is_skipped_in_the_count_and_an_ill_one_is_not() -> None:
    lost = {"health": "unusable", "reason": "lost"}
    assert usable(nvidia({"CUDA_VISIBLE_DEVICES": "0,2"}, lost)) == [1, 3]
    refused = {"health": "unusable", "reason": "not-granted"}
    assert usable(nvidia({"CUDA_VISIBLE_DEVICES": "0"}, refused, refused)) == [2]
    ill = {"health": "unusable", "reason": "ecc"}
    assert usable(nvidia({"CUDA_VISIBLE_DEVICES": "0,2"}, ill)) == [2]
    assert [one.reason for one in accelerators(nvidia({"CUDA_VISIBLE_DEVICES": "3"}, lost))] == [
        *("lost", "masked", "masked", "masked")
    ]


def test_numbers_count_the_fastest_first_unless_the_bus_is_asked_for() -> None:
    fast = {"speed": 900}
    assert usable(nvidia({"CUDA_VISIBLE_DEVICES": "0"}, {}, {}, fast)) == [2]
    assert usable(nvidia({"CUDA_VISIBLE_DEVICES": "0,1"}, {}, {}, fast)) == [0, 2]
    in_order = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert usable(nvidia(in_order, {}, {}, fast)) == [0]
    assert usable(nvidia({**in_order, "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, {}, {}, fast)) == [2]


INSTANCES = (
    {"type": "mig", "uuid": "MIG-1a", "instance": 0},
    {"kind": "device", "pci_address": "0000:00:00.0", "type": "mig", "uuid": "MIG-1b", "instance": 1},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("MIG-1b", [1]),
        ("MIG-1a,MIG-1b", [0, 1]),
        ("MIG-1", []),
        ("MIG-1a,MIG-1a", []),
        ("MIG-1a,GPU-aa22", [0, 2]),
        ("0", [0]),
        ("1", [2]),
        ("MIG-GPU-aa11/1/0", []),
    ],
)
def test_mig_instances_go_by_their_names(text: str | None, expected: list[int]) -> None:
    variables = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}
    assert usable(nvidia(variables, INSTANCES[0], more=(INSTANCES[1],))) == expected


def amd(variables: Variables) -> Snapshot:
    serials = {
        f"/sys/bus/pci/devices/0000:0{n}:00.0/unique_id": FileSaid(text=f"{serial}\n")
        for n, serial in enumerate(["aa11000000000000", "aa22000000000000", "bb33000000000000", "cc44000000000000"])
    }
    return Snapshot(variables=variables, devices=bus("1002", "740c"), files=serials)


ROCM: dict[str, tuple[Variables, list[int]]] = {
    "none": ({}, [0, 1, 2, 3]),
    "ROCr's": ({"ROCR_VISIBLE_DEVICES": "1,3"}, [1, 3]),
    "ROCr's, empty: none": ({"ROCR_VISIBLE_DEVICES": ""}, []),
    "ROCr's, a repeat cuts": ({"ROCR_VISIBLE_DEVICES": "2,2,0"}, [2]),
    "ROCr's, cut at the invalid": ({"ROCR_VISIBLE_DEVICES": "2,9,0"}, [2]),
    "ROCr's, by UUID in any case": ({"ROCR_VISIBLE_DEVICES": "GPU-BB33000000000000,0"}, [0, 2]),
    "ROCr's, by prefix": ({"ROCR_VISIBLE_DEVICES": "gpu-cc"}, [3]),
    "ROCr's, by a prefix of two": ({"ROCR_VISIBLE_DEVICES": "GPU-aa"}, []),
    "HIP's": ({"HIP_VISIBLE_DEVICES": "2"}, [2]),
    "HIP's, empty: not set": ({"HIP_VISIBLE_DEVICES": ""}, [0, 1, 2, 3]),
    "HIP's counts within ROCr's": ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "0"}, [3]),
    "HIP's beyond ROCr's": ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2"}, []),
    "CUDA's is HIP's alias": ({"CUDA_VISIBLE_DEVICES": "1"}, [1]),
    "HIP's comes before its alias": ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "2"}, [2]),
    "the alias where HIP's is empty": ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": ""}, [1]),
    "another vendor's UUID": ({"CUDA_VISIBLE_DEVICES": "GPU-ffff"}, []),
    "OpenCL's": ({"GPU_DEVICE_ORDINAL": "0,3"}, [0, 3]),
    "OpenCL's within ROCr's": ({"ROCR_VISIBLE_DEVICES": "2,3", "GPU_DEVICE_ORDINAL": "1"}, [3]),
    "Slurm's three of one list are one grant": (
        {"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3", "GPU_DEVICE_ORDINAL": "2,3"},
        [2, 3],
    ),
    "Intel's": ({"ZE_AFFINITY_MASK": "0"}, [0, 1, 2, 3]),
}


@pytest.mark.parametrize("case", ROCM)
def test_rocm_s_variables_are_read_as_rocm_does(case: str) -> None:
    variables, expected = ROCM[case]
    assert usable(amd(variables)) == expected


CARDS = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}
FLAT = {"ZE_FLAT_DEVICE_HIERARCHY": "FLAT"}
LEVEL_ZERO: dict[str, tuple[Variables, list[int]]] = {
    "none": ({}, [0, 1, 2, 3, 4, 5]),
    "empty: not set": ({"ZE_AFFINITY_MASK": ""}, [0, 1, 2, 3, 4, 5]),
    "a card": ({**CARDS, "ZE_AFFINITY_MASK": "1"}, [2, 3]),
    "a tile": ({**CARDS, "ZE_AFFINITY_MASK": "1.1"}, [3]),
    "a set, not a list": ({**CARDS, "ZE_AFFINITY_MASK": "2,0.1,2.0"}, [1, 4, 5]),
    "a repeat is once": ({**CARDS, "ZE_AFFINITY_MASK": "0,0"}, [0, 1]),
    "what is beyond is left out": ({**CARDS, "ZE_AFFINITY_MASK": "7,0.5,1.0"}, [2]),
    "nonsense leaves none": ({**CARDS, "ZE_AFFINITY_MASK": "x"}, []),
    "flat": ({**FLAT, "ZE_AFFINITY_MASK": "1,2"}, [1, 2]),
    "flat is the default": ({"ZE_AFFINITY_MASK": "5"}, [5]),
    "flat knows no tiles": ({**FLAT, "ZE_AFFINITY_MASK": "3.1"}, [3]),
    "selector, all GPUs": ({"ONEAPI_DEVICE_SELECTOR": "opencl:gpu;level_zero:gpu"}, [0, 1, 2, 3, 4, 5]),
    "selector, numbers": ({**CARDS, "ONEAPI_DEVICE_SELECTOR": "level_zero:0,2"}, [0, 1, 4, 5]),
    "selector, a tile": ({**CARDS, "ONEAPI_DEVICE_SELECTOR": "level_zero:1.1"}, [3]),
    "selector, all tiles": ({**CARDS, "ONEAPI_DEVICE_SELECTOR": "level_zero:*.*"}, [0, 1, 2, 3, 4, 5]),
    "selector, case": ({**FLAT, "ONEAPI_DEVICE_SELECTOR": "Level_Zero:1"}, [1]),
    "selector, what is taken away": ({**FLAT, "ONEAPI_DEVICE_SELECTOR": "*:gpu;!level_zero:0,1"}, [2, 3, 4, 5]),
    "selector, only taken away": ({**FLAT, "ONEAPI_DEVICE_SELECTOR": "!level_zero:5"}, [0, 1, 2, 3, 4]),
    "selector, processors": ({"ONEAPI_DEVICE_SELECTOR": "opencl:cpu"}, []),
    "selector, another vendor": ({"ONEAPI_DEVICE_SELECTOR": "cuda:*"}, []),
    "selector that ends SYCL": ({"ONEAPI_DEVICE_SELECTOR": "gpu"}, []),
    "selector, empty: not set": ({"ONEAPI_DEVICE_SELECTOR": ""}, [0, 1, 2, 3, 4, 5]),
    "selector within the mask": (
        {**CARDS, "ZE_AFFINITY_MASK": "1,2", "ONEAPI_DEVICE_SELECTOR": "level_zero:1"},
        [4, 5],
    ),
}


@pytest.mark.parametrize("case", LEVEL_ZERO)
def test_level_zero_s_and_sycl_s_variables_are_read_as_they_do(case: str) -> None:
    variables, expected = LEVEL_ZERO[case]
    assert usable(Snapshot(variables=variables, devices=bus("8086", "0bd5", 3))) == expected


NAMES = st.sampled_from(
    [
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
        *("GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY", "ONEAPI_DEVICE_SELECTOR"),
    ]
)
WORDS = st.text(alphabet="0123456789-+,.:;!*GPU gplevzro_\u00b2", max_size=12) | st.text(max_size=5)


@given(st.dictionaries(NAMES, WORDS))
def test_any_mask_hides_or_leaves_and_loses_no_device(variables: Variables) -> None:
    for snapshot, count in (
        (nvidia(variables), 4),
        (amd(variables), 4),
        (Snapshot(variables=variables, devices=bus("8086", "0bd5", 3)), 6),
    ):
        assert [one.reason in {None, "masked"} for one in accelerators(snapshot)] == [True] * count
