"""The Deployment of k8s/base, played by podman: the manifests and the image fit each other."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from relay.demo.sim_bme import BmeContract, BmeSim
from relay.demo.traffic import Sent
from tests.acceptance.harness import World, signed
from tests.acceptance.processes import free_port
from tests.image.containers import Container, Image
from tests.k8s.rendered import Object, named, of_kind, overlay

SECRETS = {
    "secret-key": "the deployment's own secret",
    "blastmail-password": "password",
    "blastmail-api-key": "password",
}
SIGNING_KEY = b"what the crm of this pod signs with"


def adapted(image: Image, secrets: Path, sim_url: str, ports: tuple[int, int]) -> list[Object]:
    """Return the ConfigMap and the Deployment as kustomize renders them, but for what podman 4.3 cannot do.

    It knows one replica, no probe by HTTP, no sleep before the end, and leaves secrets in base64: so they are a folder
    here. The ports are free ones, as the pod shares the machine's network; the vendor is a simulated one.
    """
    rendered = overlay("base")
    [settings] = of_kind(rendered, "ConfigMap")
    text = settings["data"]["relay.toml"]
    settings["data"]["relay.toml"] = text.replace(
        'vendor = "blastmail"\n', f'vendor = "blastmail"\nbase_url = "{sim_url}"\n'
    )
    assert sim_url in settings["data"]["relay.toml"]
    deployment = named(rendered, "Deployment/relay")
    deployment["spec"]["replicas"] = 1
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == image.name, "kustomize names the image that `make image` builds"
    container["image"] = f"localhost/{image.name}"
    for beyond_podman in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
        del container[beyond_podman]
    names = ("RELAY_PORT", "RELAY_OPS_PORT")
    container["env"] += [{"name": name, "value": str(port)} for name, port in zip(names, ports, strict=True)]
    [volume] = [volume for volume in pod["volumes"] if "secret" in volume]
    del volume["secret"]
    volume["hostPath"] = {"path": str(secrets), "type": "Directory"}
    return [settings, deployment]


@asynccontextmanager
async def playing(image: Image, world: World, sim_url: str) -> AsyncIterator[Container]:
    """Play the Deployment for the length of the block."""
    secrets = world.directory / "secrets"
    secrets.mkdir()
    for name, value in {
        **SECRETS,
        "database-url": world.database_url,
        "crm-webhook-secret": SIGNING_KEY.decode(),
    }.items():
        (secrets / name).write_text(value, encoding="utf-8")
    world.directory.chmod(0o755)
    ports = free_port(), free_port()
    file = world.directory / "pod.yaml"
    documents = adapted(image, secrets, sim_url, ports)
    file.write_text(yaml.safe_dump_all(documents, allow_unicode=True), encoding="utf-8")
    container = Container(image, "relay-pod-0-relay", ports)
    try:
        await container.podman("play", "kube", "--network", "host", str(file))
        yield container
    finally:
        await container.podman("play", "kube", "--down", str(file))


async def test_the_rendered_deployment_serves(image: Image, world: World) -> None:
    """With the Deployment's user, settings, volumes and restrictions relay becomes ready, receives, and ends with 0."""
    migrated = image.run("migrate", options=("--network=host", "--env", f"RELAY_DATABASE_URL={world.database_url}"))
    assert migrated.code == 0, migrated
    sim = BmeSim(BmeContract("example", "password", "password", columns=("氏名",)))
    async with sim.serve(), playing(image, world, sim.base_url) as relay:
        await relay.ready()
        [found] = json.loads(await relay.podman("inspect", relay.name))
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert not found["EffectiveCaps"]
        assert "no-new-privileges" in found["HostConfig"]["SecurityOpt"]
        assert found["Config"]["User"] == "10001:10001"
        webhook = Sent(
            "msg_1", "customer.created", datetime.now(UTC), {"email": "taro@example.jp", "name": "髙橋 太郎"}
        )
        body = json.dumps(webhook.body()).encode()
        headers = signed(webhook.message_id, body, SIGNING_KEY)
        async with world.session.post(f"{relay.url}/v1/webhooks/crm", data=body, headers=headers) as response:
            assert response.status == 202, await response.text()
        assert (
            await relay.podman("exec", relay.name, "sh", "-c", "touch /tmp/a /var/spool/relay/a && ! touch /a 2>&1")
            != ""
        )
        await relay.podman("stop", "--time", "40", relay.name)
        assert (await relay.state())["ExitCode"] == 0
        assert await world.value("select count(*) from event") == 1
