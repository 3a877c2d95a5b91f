"""The demo: Prometheus finds relay and takes its rules, Grafana finds Prometheus and shows both dashboards."""

import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import aiohttp
import yaml

from relay import app
from relay.demo.names import PASSWORD, Part
from relay.demo.parts import simulated
from relay.settings import Process, load
from tests.k8s.rendered import K8S, Object, containers, name_of, named, of_kind, overlay, pods, selects
from tests.k8s.test_settings import laid_out

DEMO = "overlays/demo"


def container_of(place: str) -> Object:
    """A container of the demo, as Deployment/grafana/grafana."""
    return next(one for where, _, one in containers(overlay(DEMO)) if where == place)


def mounts(place: str) -> dict[str, str]:
    """Where a container's volumes are mounted, by path."""
    return {mount["mountPath"]: mount["name"] for mount in container_of(place)["volumeMounts"]}


def prometheus_settings() -> dict[str, Any]:
    """What Prometheus reads."""
    settings: dict[str, Any] = yaml.safe_load((K8S / DEMO / "prometheus" / "prometheus.yml").read_text("utf-8"))
    return settings


def test_no_kinds_of_operators_are_needed() -> None:
    """Any cluster takes the demo: there is nothing in it that Kubernetes itself does not know."""
    assert {thing["apiVersion"] for thing in overlay(DEMO)} == {
        "v1",
        "apps/v1",
        "batch/v1",
        "policy/v1",
        "networking.k8s.io/v1",
    }


def test_prometheus_scrapes_every_pod_of_relay() -> None:
    """The name that it looks up is a Service with the address of each serving pod, ready or not, on the ops port."""
    (scrape,) = prometheus_settings()["scrape_configs"]
    assert scrape["job_name"] == "relay", "what the dashboards and alerts expect"
    (discovery,) = scrape["dns_sd_configs"]
    (name,) = discovery["names"]
    service = named(overlay(DEMO), f"Service/{name}")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    behind = [pod.owner for pod in pods(overlay(DEMO)) if selects({"matchLabels": service["selector"]}, pod.labels)]
    assert behind == ["Deployment/relay"]
    assert discovery["port"] == Process.model_fields["ops_port"].default
    namespace = next(one["replacement"] for one in scrape["relabel_configs"] if one["target_label"] == "namespace")
    assert namespace == of_kind(overlay(DEMO), "Namespace")[0]["metadata"]["name"]


def test_prometheus_takes_the_same_rules_as_the_operator(tmp_path: Path) -> None:
    """What the first container makes of the operator's file is a rule file with the very same groups."""
    script = container_of("Deployment/prometheus/rules")["command"][2]
    source, target = "/rules/rules.yaml", "/etc/prometheus/rules/relay.yaml"
    assert {Path(source).parent.as_posix(), Path(target).parent.as_posix()} == set(
        mounts("Deployment/prometheus/rules")
    )
    assert prometheus_settings()["rule_files"] == [target]
    assert Path(target).parent.as_posix() in mounts("Deployment/prometheus/prometheus")
    rules = K8S / "monitoring" / "rules.yaml"
    script = script.replace(source, str(rules)).replace(target, str(tmp_path / "relay.yaml"))
    subprocess.run(["/bin/sh", "-c", script], check=True, timeout=10)  # noqa: S603 - the files' own
    made = yaml.safe_load((tmp_path / "relay.yaml").read_text("utf-8"))
    assert made == yaml.safe_load(rules.read_text("utf-8"))["spec"]
    assert made["groups"]


def test_prometheus_reads_its_settings_where_they_are() -> None:
    """The file that its arguments name is the mounted one, and what it keeps goes to a folder that it may write."""
    arguments = dict(
        one.removeprefix("--").split("=") for one in container_of("Deployment/prometheus/prometheus")["args"]
    )
    mounted = mounts("Deployment/prometheus/prometheus")
    assert mounted[arguments["config.file"]] == "settings"
    assert mounted[arguments["storage.tsdb.path"]] == "data"


def test_grafana_finds_prometheus() -> None:
    """The one data source is the default one, and its address that of a Service here."""
    (source,) = yaml.safe_load((K8S / DEMO / "grafana" / "datasources.yaml").read_text("utf-8"))["datasources"]
    assert source["isDefault"] is True
    host, port = source["url"].removeprefix("http://").split(":")
    assert int(port) in {one["port"] for one in named(overlay(DEMO), f"Service/{host}")["spec"]["ports"]}
    assert "/etc/grafana/provisioning/datasources/datasources.yaml" in mounts("Deployment/grafana/grafana")


def test_grafana_shows_both_dashboards() -> None:
    """The folder that it is told to read holds both files, and the first page is one of them."""
    (provider,) = yaml.safe_load((K8S / DEMO / "grafana" / "dashboards.yaml").read_text("utf-8"))["providers"]
    folder = provider["options"]["path"]
    volume = mounts("Deployment/grafana/grafana")[folder]
    (spec,) = (pod.spec for pod in pods(overlay(DEMO)) if pod.owner == "Deployment/grafana")
    (sources,) = (one["projected"]["sources"] for one in spec["volumes"] if one["name"] == volume)
    maps = [named(overlay(DEMO), f"ConfigMap/{source['configMap']['name']}") for source in sources]
    shown = {f"{folder}/{file}" for one in maps for file in one["data"]}
    assert shown == {f"{folder}/{name}.json" for name in ("overview", "delivery")}
    env = {one["name"]: one["value"] for one in container_of("Deployment/grafana/grafana")["env"]}
    assert env["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in shown
    assert (env["GF_AUTH_ANONYMOUS_ENABLED"], env["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")


def test_the_traffic_goes_to_relay(tmp_path: Path) -> None:
    """Its URL is relay's Service, and relay's settings have its source, which leads to all three vendors."""
    env = {one["name"]: one["value"] for one in container_of("Deployment/traffic/traffic")["env"]}
    host, port = env["RELAY_URL"].removeprefix("http://").split(":")
    service = named(overlay(DEMO), f"Service/{host}")
    assert {one["name"]: one["port"] for one in service["spec"]["ports"]}["http"] == int(port)
    settings = load(laid_out(DEMO, tmp_path), {})
    app.check(settings)
    assert set(settings.sources["crm"].accounts) == set(settings.accounts) == {"haihai", "blastmail", "blaynmail"}


def test_parts_are_what_the_command_knows() -> None:
    """The arguments of the demo's two parts are understood by `relay demo`."""
    for part in get_args(Part):
        arguments = container_of(f"Deployment/{part}/{part}")["args"]
        assert arguments == ["demo", "--part", part]


async def test_vendors_answer_their_probes() -> None:
    """The path that Kubernetes asks is one that each simulated vendor answers."""
    probes = [
        container_of("Deployment/vendors/vendors")[f"{kind}Probe"]["httpGet"] for kind in ("readiness", "liveness")
    ]
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        for sim, _ in simulated(PASSWORD).values():
            port = urlsplit(await stack.enter_async_context(sim.serve())).port
            for probe in probes:
                async with session.get(f"http://127.0.0.1:{port}{probe['path']}") as response:
                    assert response.status == 200


def test_postgres_is_as_durable_as_relay_demands() -> None:
    """Nothing turns durability off, its password is the Secret's, and its data lies where it may write."""
    postgres = container_of("StatefulSet/postgres/postgres")
    assert not {"command", "args"} & set(postgres)
    env = {one["name"]: one["value"] for one in postgres["env"]}
    mounted = mounts("StatefulSet/postgres/postgres")
    assert Path(env["POSTGRES_PASSWORD_FILE"]).parent.as_posix() in mounted
    assert Path(env["PGDATA"]).parent.as_posix() in mounted
    services = {name_of(thing) for thing in of_kind(overlay(DEMO), "Service")}
    assert "Service/postgres" in services
