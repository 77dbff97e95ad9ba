"""The starter's plain mappings and the controller's values name the same keys: neither reads what is never said."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan.facts import allocation, device, job, node, request

import pilotwrap.run
from pilotwrap.host import ask, observe, pci, wire
from pilotwrap.model.base import Value
from pilotwrap.model.outcome import Usage
from pilotwrap.model.plan import Binding, RankVariables
from pilotwrap.model.snapshot import SCHEMA, CommandSaid, DeviceSaid, DiskSaid, FileSaid, Snapshot, SystemSaid
from pilotwrap.plan.plan import plan
from pilotwrap.run import link
from pilotwrap.run.orders import Payload, shim_file, signals, spawns

ROOM = Path(pilotwrap.run.__file__).parent
CONTROLLER = [*sorted(ROOM.glob("*.py")), ROOM.parent / "cli" / "controller.py"]
SAID = {
    "message": {"event"} | {key for keys in wire.EVENTS.values() for key in keys},
    "hello": {"event", *wire.EVENTS["hello"]},
    "exited": {"event", *wire.EVENTS["exited"], *wire.EVENTS["failed"]},
    "used": set(wire.USAGE),
}
PAYLOAD = Payload(name="1-1", cwd="/runs/1", output="/runs/1/out", user=None)


def keys(kind: type[Value]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items()}


def nodes() -> Iterator[ast.AST]:
    for path in CONTROLLER:
        yield from ast.walk(ast.parse(path.read_text()))


def read(name: str) -> set[str]:
    """Return the constant keys that the controller reads of what it calls by this name."""
    found = set()
    for one in nodes():
        key: ast.AST | None = None
        of: ast.AST | None = None
        if isinstance(one, ast.Subscript):
            of, key = one.value, one.slice
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "get" and one.args:
            of, key = one.func.value, one.args[0]
        if isinstance(of, ast.Name) and of.id == name and isinstance(key, ast.Constant) and isinstance(key.value, str):
            found.add(key.value)
    return found


def written() -> dict[str, list[set[str]]]:
    """Return the keys of every order that stands in the controller's source, by what it orders."""
    found: dict[str, list[set[str]]] = {}
    for one in nodes():
        if isinstance(one, ast.Dict):
            said = {
                key.value: value
                for key, value in zip(one.keys, one.values, strict=True)
                if isinstance(key, ast.Constant)
            }
            order = said.get("do")
            if isinstance(order, ast.Constant):
                found.setdefault(str(order.value), []).append({str(key) for key in said} - {"do"})
    return found


@pytest.mark.parametrize("name", SAID)
def test_the_controller_reads_only_what_the_starter_says(name: str) -> None:
    assert read(name) <= SAID[name]


def test_every_event_is_known_to_the_controller() -> None:
    words = {one.value for one in nodes() if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    assert {event for event in wire.EVENTS if event != "observed"} <= words
    assert {"hello", "message"} <= {name for name in SAID if read(name)}


def test_every_order_in_the_source_has_the_keys_of_the_wire() -> None:
    found = written()
    assert {"spawn", "signal", "finish"} <= set(found) <= set(wire.ORDERS)
    for order, many in found.items():
        assert all(said <= set(wire.ORDERS[order]) for said in many), order


def test_the_orders_of_a_plan_have_every_key_of_the_wire() -> None:
    own = plan(request(job(ranks_per_node=2), node()))
    launched = plan(request(job(nodes=2), node(given=allocation(["a", "b"]), launcher="srun")))
    orders = [*spawns(own, PAYLOAD), *spawns(launched, PAYLOAD)]
    assert len(orders) == 3
    assert all(set(order) == {"do", *wire.ORDERS["spawn"]} for order in orders)
    assert all(set(order) == {"do", *wire.ORDERS["signal"]} for order in signals({"1"}, 2.0))


def test_the_shim_s_file_has_every_key_of_the_wire() -> None:
    found = shim_file(plan(request(job(gpus_per_rank=1), node(devices=[device(1)]))), PAYLOAD, "/runs/1/results")
    assert set(found) == set(wire.SHIM)
    assert all(set(one) == set(wire.BINDING) for one in found["bindings"])
    assert set(wire.BINDING) <= keys(Binding)
    assert keys(RankVariables) <= set(wire.SHIM)
    assert found["protocol"] == link.PROTOCOL == wire.PROTOCOL


def test_the_snapshot_s_keys_are_the_value_s_but_for_where_it_was_kept() -> None:
    assert keys(Snapshot) == {*wire.SNAPSHOT, "source"}
    assert SCHEMA == wire.SNAPSHOT_SCHEMA


def test_the_use_of_a_payload_is_the_value_s_and_when_it_began() -> None:
    assert set(wire.USAGE) == {*keys(Usage), "started_at"}


def test_a_shim_s_result_is_read_by_its_own_keys() -> None:
    from pilotwrap.run.results import _Said

    assert keys(_Said) <= set(wire.RESULT)


def test_this_node_s_snapshot_is_the_value_s_part_by_part() -> None:
    said = observe.snapshot()
    assert set(said) == set(wire.SNAPSHOT)
    snapshot = Snapshot.model_validate(said)
    assert Snapshot.model_validate_json(snapshot.to_json()) == snapshot
    assert set(wire.mapping(said, "system")) == keys(SystemSaid)
    files, disks = wire.mapping(said, "files"), wire.mapping(said, "disk")
    assert all(set(wire.mapping(files, path)) < keys(FileSaid) for path in files)
    assert all(set(wire.mapping(disks, path)) == keys(DiskSaid) for path in disks)
    assert files
    assert disks


def test_what_a_command_says_is_read_however_it_ended(tmp_path: Path) -> None:
    argvs = [["/bin/sh", "-c", "echo said; exit 3"], ["/bin/sh", "-c", "kill -9 $$"], [str(tmp_path / "missing")]]
    said = ask.answers(argvs, dict(os.environ))
    assert all(set(one) == keys(CommandSaid) for one in said)
    ended, killed, missing = Snapshot.model_validate({"commands": said}).commands
    assert (ended.words[0], ended.exit, ended.output, ended.error) == ("sh", 3, "said\n", None)
    assert (killed.exit, missing.exit, missing.error) == (-9, None, "ENOENT")


def test_a_command_that_does_not_end_is_read_as_one_without_an_exit() -> None:
    said = ask.answers([["/bin/sh", "-c", "echo begun; exec sleep 60"]], dict(os.environ), deadline_s=0.3)
    late = Snapshot.model_validate({"commands": said}).commands[0]
    assert (late.error, late.output) == ("deadline", "begun\n")
    assert late.exit in {None, -9}


def test_a_device_of_sysfs_is_read_key_by_key(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:C1:00.0"
    folder.mkdir(parents=True)
    (folder / "uevent").write_text("DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:20B0\n")
    (folder / "numa_node").write_text("3\n")
    (folder / "local_cpulist").write_text("0-3\n")
    said = pci.devices(pci.place_below(str(tmp_path)))
    assert set(said[0]) - keys(DeviceSaid) == {"render_nodes"}
    assert keys(DeviceSaid) <= set(said[0])
    read_back = Snapshot.model_validate({"devices": said}).devices[0]
    assert (read_back.address, read_back.pci_class, read_back.vendor) == ("0000:c1:00.0", "0x030200", "0x10de")
    assert (read_back.numa_node, read_back.local_cpus, read_back.granted) == (3, "0-3", None)
