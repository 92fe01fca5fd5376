"""What is in `deploy/` fits the code: options, ports, probes and durations, without any engine."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure.admin.api.node import NodeApi
from perdure.admin.errors import ClusterNotJoinedError, PartitionsUnplacedError
from perdure.admin.view import AdminView
from perdure.core.metrics import Metrics
from perdure.core.quantities import parse_duration
from perdure.node.options import (
    Door,
    NodeOptions,
    advertised,
    load_node_options,
    metadata_servers,
)

from .tree import TREE

DEPLOY = TREE / "deploy"
GRACE_SECONDS = NodeOptions().limits.stop_grace / 1e9
NAMESPACE = "prod"
USER = 10001


def dockerfile() -> str:
    """With continued lines joined."""
    return re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())


def image_environment() -> dict[str, str]:
    """What the image sets of the node's options."""
    [line] = re.findall(r"^ENV (.*)$", dockerfile(), re.MULTILINE)
    pairs = dict(word.split("=", 1) for word in line.split())
    return {key: value for key, value in pairs.items() if key.startswith("PERDURE__")}


def compose() -> Any:
    """The compose file."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def compose_nodes() -> dict[str, Any]:
    """The services that are nodes."""
    return {name: it for name, it in compose()["services"].items() if "hostname" in it}


def manifests() -> dict[tuple[str, str], Any]:
    """The Kubernetes objects, by kind and name."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


def pod_environment(container: Any, ordinal: int) -> dict[str, str]:
    """The variables of one pod: what comes earlier is put into what comes later."""
    fields = {"metadata.name": f"perdure-{ordinal}", "metadata.namespace": NAMESPACE}
    found: dict[str, str] = {}
    for entry in container["env"]:
        if "value" in entry:
            value = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], entry["value"])
        else:
            value = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        found[entry["name"]] = value
    return found


def port_of(address: str) -> int:
    """The port of an address."""
    return int(address.rpartition(":")[2])


def ports_of(options: NodeOptions) -> set[int]:
    """Every port that a node listens on."""
    listen = options.listen
    return {
        port_of(it) for it in (listen.ingress_http, listen.ingress_grpc, listen.admin, listen.node)
    }


class Partitions:
    """A node whose cluster has these partitions, each with its replicas; None: not joined."""

    node_name = "n1"

    def __init__(self, replicas: list[list[str]] | None) -> None:
        self._replicas = replicas

    @property
    def cluster_view(self) -> "Partitions":
        return self

    @property
    def partitions(self) -> list["Row"]:
        return [Row(number, names) for number, names in enumerate(self._replicas or ())]

    async def status(self) -> "Partitions":
        self.check_started()
        return self

    def check_started(self) -> None:
        if self._replicas is None:
            raise ClusterNotJoinedError("it waits")


class Row:
    """One partition of the cluster's status."""

    def __init__(self, partition: int, replicas: list[str]) -> None:
        self.partition = partition
        self.replicas = replicas


def node_api(replicas: list[list[str]] | None) -> Any:
    """The routes of a node, whose request they do not look at."""
    view: Any = Partitions(replicas)
    checked: AdminView = view
    return NodeApi(checked, Metrics())


def answer(route: Any) -> Any:
    """Run a route that waits for nothing: a probe may depend on nobody else."""
    running = route(None)
    with pytest.raises(StopIteration) as ended:
        running.send(None)
    return ended.value.value


def test_a_live_node_is_live_whatever_it_waits_for() -> None:
    assert answer(node_api(None).live) == {"status": "ok", "node": "n1"}


def test_a_node_is_ready_once_all_partitions_have_a_place() -> None:
    assert answer(node_api([["n1"], ["n2"]]).ready) == {"status": "ok", "node": "n1"}


@pytest.mark.parametrize(
    ("replicas", "error"),
    [
        (None, ClusterNotJoinedError),
        ([], PartitionsUnplacedError),
        ([["n1"], []], PartitionsUnplacedError),
    ],
)
def test_a_node_is_not_ready_before(replicas: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        node_api(replicas).ready(None).send(None)


def test_image_sets_options_that_exist_and_exposes_what_it_listens_on() -> None:
    options = load_node_options(environment=image_environment())
    [exposed] = re.findall(r"^EXPOSE (.*)$", dockerfile(), re.MULTILINE)

    assert {int(port) for port in exposed.split()} == ports_of(options)
    assert f"VOLUME {options.node.base_dir}\n" in dockerfile()
    assert f"USER {USER}:{USER}\n" in dockerfile()
    # Another form runs a shell as process 1, which keeps SIGTERM to itself.
    assert 'ENTRYPOINT ["perdure"]' in dockerfile()
    [health] = re.findall(r"^HEALTHCHECK .*$", dockerfile(), re.MULTILINE)
    assert "+ '/live'" in health


def test_image_leaves_out_what_is_not_source() -> None:
    ignored = (TREE / ".dockerignore").read_text().split()

    assert {".git", ".venv", "perdure-data"} <= set(ignored)


def test_compose_starts_nodes_of_one_cluster() -> None:
    nodes = compose_nodes()
    starts = {}
    for name, service in nodes.items():
        starts[name] = load_node_options(environment=image_environment() | service["environment"])

    assert len(nodes) == 3
    assert {name: options.node.name for name, options in starts.items()} == {n: n for n in nodes}
    assert len({options.cluster.metadata_servers for options in starts.values()}) == 1
    assert len({options.node.cluster for options in starts.values()}) == 1
    assert sum(options.cluster.provision for options in starts.values()) == 1
    told = [advertised(options.listen, "node") for options in starts.values()]
    assert metadata_servers(starts["n1"].cluster) == tuple(told)
    for name, options in starts.items():
        doors: tuple[Door, ...] = ("ingress_http", "ingress_grpc", "admin")
        hosts = {advertised(options.listen, door).rpartition(":")[0] for door in doors}
        assert hosts == {name}


def test_compose_keeps_data_and_gives_time_to_stop() -> None:
    taken: set[str] = set()
    for name, service in compose_nodes().items():
        options = load_node_options(environment=image_environment() | service["environment"])
        mounts = dict(reversed(volume.split(":")) for volume in service["volumes"])
        assert mounts[options.node.base_dir] == name
        assert mounts[options.snapshots.directory] == "snapshots"
        assert parse_duration(service["stop_grace_period"]) / 1e9 >= 2 * GRACE_SECONDS
        for published in service["ports"]:
            outside, _, inside = published.rpartition(":")
            assert int(inside) in ports_of(options)
            assert outside not in taken
            taken.add(outside)
    assert {"n1", "n2", "n3", "snapshots"} == set(compose()["volumes"])


def test_compose_runs_a_worker_of_an_app_that_is_there() -> None:
    worker = compose()["services"]["worker"]
    verb, app, option, addresses = worker["command"]

    assert (verb, option) == ("worker", "--connect")
    [mount] = worker["volumes"]
    folder, inside, _ = mount.split(":")
    assert (DEPLOY / folder / Path(app).relative_to(inside)).is_file()
    starts = [
        load_node_options(environment=image_environment() | it["environment"])
        for it in compose_nodes().values()
    ]
    assert addresses.split(",") == [advertised(options.listen, "node") for options in starts]


def test_kubernetes_starts_nodes_of_one_cluster() -> None:
    stateful = manifests()["StatefulSet", "perdure"]["spec"]
    [container] = stateful["template"]["spec"]["containers"]
    service = stateful["serviceName"]
    servers: list[str] = []
    for ordinal in range(stateful["replicas"]):
        variables = pod_environment(container, ordinal)
        options = load_node_options(environment=image_environment() | variables)
        assert options.node.name == f"perdure-{ordinal}"
        host = f"perdure-{ordinal}.{service}.{NAMESPACE}.svc.cluster.local"
        assert advertised(options.listen, "node") == f"{host}:5122"
        assert advertised(options.listen, "admin") == f"{host}:9070"
        assert advertised(options.listen, "ingress_http") == f"{host}:8080"
        assert {it["containerPort"] for it in container["ports"]} == ports_of(options)
        mounts = {it["mountPath"]: it["name"] for it in container["volumeMounts"]}
        assert mounts[options.node.base_dir] == "data"
        assert mounts[options.snapshots.directory] == "snapshots"
        servers.append(advertised(options.listen, "node"))
        named = metadata_servers(options.cluster)
    assert tuple(servers) == named


@pytest.mark.parametrize(("name", "says"), [("perdure-0", "true"), ("perdure-1", "")])
def test_kubernetes_has_the_first_pod_alone_set_the_cluster_up(
    tmp_path: Path, name: str, says: str
) -> None:
    """The pod's own command, with a stand-in for the program that shows what it was given."""
    program = tmp_path / "perdure"
    program.write_text('#!/bin/sh\necho "$1,$PERDURE__CLUSTER__PROVISION"\n')
    program.chmod(0o700)
    [container] = manifests()["StatefulSet", "perdure"]["spec"]["template"]["spec"]["containers"]

    done = subprocess.run(
        container["command"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PERDURE__NODE__NAME": name},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert done.stdout == f"server,{says}\n"
    assert "exec perdure server" in container["command"][-1]


def test_kubernetes_probes_ask_what_they_mean() -> None:
    [container] = manifests()["StatefulSet", "perdure"]["spec"]["template"]["spec"]["containers"]
    known = {route.path for route in node_api(None).routes()}
    asked = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert get["path"] in known
        assert get["port"] == "admin"
        asked[probe] = get["path"]

    assert asked == {"startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}


def test_kubernetes_objects_agree_with_each_other() -> None:
    objects = manifests()
    stateful = objects["StatefulSet", "perdure"]["spec"]
    pod = stateful["template"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    [container] = pod["containers"]
    names = {it["name"]: it["containerPort"] for it in container["ports"]}
    for service in ("perdure", "perdure-nodes"):
        spec = objects["Service", service]["spec"]
        assert spec["selector"] == labels
        assert all(names[it["targetPort"]] == it["port"] for it in spec["ports"])
    headless = objects["Service", stateful["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None"
    # Nodes must be found before they are ready, and all at once: else none ever is.
    assert headless["publishNotReadyAddresses"] is True
    assert stateful["podManagementPolicy"] == "Parallel"
    budget = objects["PodDisruptionBudget", "perdure"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
    [away] = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert away["labelSelector"]["matchLabels"] == labels
    claims = {it["metadata"]["name"] for it in stateful["volumeClaimTemplates"]}
    volumes = {it["name"]: it for it in pod["volumes"]}
    assert {it["name"] for it in container["volumeMounts"]} == claims | set(volumes)
    shared = volumes["snapshots"]["persistentVolumeClaim"]["claimName"]
    assert objects["PersistentVolumeClaim", shared]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert pod["terminationGracePeriodSeconds"] >= 2 * GRACE_SECONDS
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == USER


UNITS = ("perdure.service", "perdure-node.service")


def unit_of(name: str) -> dict[str, list[str]]:
    """What a unit sets, by key."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_unit_gives_time_to_stop(name: str) -> None:
    [seconds] = unit_of(name)["TimeoutStopSec"]

    assert int(seconds) >= 2 * GRACE_SECONDS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_unit_is_one_for_systemd(tmp_path: Path, name: str) -> None:
    """All but its program, which need not be installed where this is tested."""
    unit = (DEPLOY / name).read_text()
    copy = tmp_path / name
    copy.write_text(unit.replace("ExecStart=/opt/perdure/bin/perdure", "ExecStart=/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_unit_of_a_cluster_node_can_do_what_a_node_does_and_no_more() -> None:
    unit = unit_of("perdure-node.service")
    [file] = unit["EnvironmentFile"]
    options = load_node_options(environment=service_environment())

    assert Path(file).name == "node.environment"
    assert Path(file).is_absolute(), "a node without its options would be another one"
    # It is a privilege that neither a bug nor a worker's bytes may use.
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["NoNewPrivileges"] == unit["RestrictNamespaces"] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert "-" + options.snapshots.directory in unit["ReadWritePaths"]
    assert "time-sync.target" in unit["After"][0]
    # Of what the filter takes away nothing is used: io_uring, clocks, namespaces, limits.
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} == set(unit["RestrictAddressFamilies"][0].split())


def service_environment() -> dict[str, str]:
    """The options that come with the unit of a cluster's node."""
    lines = (DEPLOY / "node.environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_options_of_a_cluster_node_are_such_as_others_reach_it_by() -> None:
    text = (DEPLOY / "node.environment").read_text()
    # What is off by default is still an option that exists.
    for line in re.findall(r"^#(PERDURE__\w+=.*)$", text, re.MULTILINE):
        load_node_options(environment=service_environment() | dict([line.split("=", 1)]))
    options = load_node_options(environment=service_environment())

    assert advertised(options.listen, "node") == metadata_servers(options.cluster)[0]
    assert len(metadata_servers(options.cluster)) == 3
    assert options.cluster.provision is False
