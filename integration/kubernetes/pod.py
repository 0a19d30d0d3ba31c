"""Runs the pod of deploy/kubernetes/ as two plain containers: with what its manifest says, in the kubelet's order.

Both containers share the network of the first one, as those of a pod share that of its sandbox, and the volumes of the pod. A volume
of type emptyDir is made as the kubelet makes it for an fsGroup: mode 2777, and that group. The engine's own seccomp profile is in force,
which is what RuntimeDefault says.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import docker

from uwsgibridge.testing.engine import docker_command

if TYPE_CHECKING:
    from docker.models.containers import Container

_BUILD_SECONDS: Final = 900.0
_PORTS: Final = (8080, 8081)
_SUFFIXES: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def build_image(checkout: Path, target: str, base: Mapping[str, str]) -> str:
    """Build one of the images of the Dockerfile, and give its name; the caller removes it."""
    name = f"uwsgibridge-test-pod-{target}:{secrets.token_hex(4)}"
    arguments = [it for key, value in base.items() for it in ("--build-arg", f"{key}={value}")]
    subprocess.run(
        (
            *(docker_command(), "buildx", "build", "--load", "--quiet", "--target", target),
            *("--tag", name, *arguments, str(checkout)),
        ),
        check=True,
        capture_output=True,
        timeout=_BUILD_SECONDS,
    )
    return name


def version_of(nginx: str) -> tuple[int, ...]:
    """Ask an image which Nginx is in it."""
    command = (docker_command(), "run", "--rm", "--entrypoint", "nginx", nginx, "-v")
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr
    (version,) = re.findall(r"nginx/([\d.]+)", said)
    return tuple(int(it) for it in version.split("."))


class Pod:
    """One pod, from its template, for as long as a `with` block lasts.

    Args:
        template: of the Deployment.
        config_maps: what is in the ConfigMaps that it names, by their names.
        images: what runs in the place of an image that the template names.
        directories: mounted beside the volumes of the template, into the container ``bridge``: path and directory.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        config_maps: Mapping[str, Mapping[str, str]],
        images: Mapping[str, str],
        directories: Mapping[str, Path],
    ) -> None:
        self._spec = template["spec"]
        (self._sidecar,) = self._spec["initContainers"]
        (self._main,) = self._spec["containers"]
        assert self._sidecar["restartPolicy"] == "Always"
        self._config_maps = config_maps
        self._images = images
        self._directories = directories
        self._name = f"uwsgibridge-test-pod-{secrets.token_hex(4)}"
        self._undo = contextlib.ExitStack()
        self._mounts: dict[str, str] = {}
        self.sidecar: Container
        self.main: Container

    def __enter__(self) -> Self:
        with self._undo:
            self._client = docker.from_env()
            self._undo.callback(self._client.close)
            for volume in self._spec["volumes"]:
                self._mounts[volume["name"]] = self._make(volume)
            # Each port of this machine is a free one.
            ports = {f"{port}/tcp": ("127.0.0.1", 0) for port in _PORTS}
            self.sidecar = self._run(self._sidecar, ports=ports)
            self._wait_for(self._sidecar, self.sidecar)
            self.main = self._run(self._main, network_mode=f"container:{self.sidecar.id}")
            self._wait_for(self._main, self.main)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def address(self, port: int) -> tuple[str, int]:
        """Where a port of the pod is reached from here."""
        self.sidecar.reload()
        (first, *_) = self.sidecar.ports[f"{port}/tcp"] or [{}]
        return "127.0.0.1", int(first["HostPort"])

    def probe(self, kind: str) -> int:
        """Ask what a probe of the bridge asks, and give the status; 200 to 399 is success."""
        return self._ask(self._main[kind])

    def stop(self, on_sigterm: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """Stop the pod as the kubelet does (``killContainer`` in kuberuntime_container.go).

        The hooks of all containers begin at once. A container gets its signal when its hook is over and, if it is a sidecar, all that
        were started after it have ended.

        Returns:
            The exit statuses of the bridge and of Nginx. Whatever is there when the grace period is over is killed.
        """
        deadline = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        assert "lifecycle" not in self._main
        hook = threading.Thread(target=self._run_hook)
        hook.start()
        self.main.kill("SIGTERM")
        on_sigterm()
        with contextlib.suppress(docker.errors.APIError, OSError):
            self.main.wait(timeout=deadline - time.monotonic())
        hook.join()
        self.main.reload()
        seconds = max(2, int(deadline - time.monotonic()))
        self.sidecar.stop(timeout=seconds)
        self.sidecar.reload()
        return self.main.attrs["State"]["ExitCode"], self.sidecar.attrs["State"]["ExitCode"]

    def _run_hook(self) -> None:
        command = self._sidecar["lifecycle"]["preStop"]["exec"]["command"]
        done = self.sidecar.exec_run(command)
        assert done.exit_code == 0, done.output

    def _make(self, volume: Mapping[str, Any]) -> str:
        """Make a volume, and give the name or the path by which containers mount it."""
        if "configMap" in volume:
            directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory()))
            directory.chmod(0o755)
            for name, text in self._config_maps[volume["configMap"]["name"]].items():
                (directory / name).write_text(text)
                (directory / name).chmod(0o644)
            return str(directory)
        group = self._spec["securityContext"]["fsGroup"]
        size = _bytes(volume["emptyDir"]["sizeLimit"])
        made = self._client.volumes.create(
            f"{self._name}-{volume['name']}",
            driver="local",
            driver_opts={
                "type": "tmpfs",
                "device": "tmpfs",
                "o": f"size={size},mode=2777,gid={group},nosuid,nodev",
            },
        )
        self._undo.callback(made.remove, force=True)
        return str(made.name)

    def _run(self, container: Mapping[str, Any], **more: Any) -> Container:
        security = {**self._spec["securityContext"], **container["securityContext"]}
        assert security["runAsNonRoot"]
        assert not security["allowPrivilegeEscalation"]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        environment = {
            name: value
            for source in container.get("envFrom", ())
            if "configMapRef" in source
            for name, value in self._config_maps[source["configMapRef"]["name"]].items()
        }
        volumes = [
            f"{self._mounts[it['name']]}:{it['mountPath']}:{'ro' if it.get('readOnly') else 'rw'}"
            for it in container["volumeMounts"]
        ]
        if container is self._main:
            volumes += [f"{there}:{path}:ro" for path, there in self._directories.items()]
        options: dict[str, Any] = {
            "name": f"{self._name}-{container['name']}",
            "entrypoint": container.get("command"),
            "environment": environment,
            "user": f"{security['runAsUser']}:{security['runAsGroup']}",
            "group_add": [security["fsGroup"]],
            "read_only": security["readOnlyRootFilesystem"],
            "cap_drop": security["capabilities"]["drop"],
            "security_opt": ["no-new-privileges:true"],
            "mem_limit": _bytes(container["resources"]["limits"]["memory"]),
            "volumes": volumes,
            **more,
        }
        if container is self._sidecar:
            # That of nginx.org's images, which images for tests need not have.
            options["stop_signal"] = "SIGQUIT"
        image = self._images[container["image"]]
        running: Container = self._client.containers.run(
            image, container.get("args"), detach=True, **options
        )
        self._undo.callback(running.remove, force=True)
        return running

    def _wait_for(self, container: Mapping[str, Any], running: Container) -> None:
        probe = container["startupProbe"]
        deadline = time.monotonic() + probe.get("periodSeconds", 10) * probe.get(
            "failureThreshold", 3
        )
        while not 200 <= self._ask(probe) < 400:
            running.reload()
            log = running.logs().decode()
            assert running.status == "running", log
            assert time.monotonic() < deadline, log
            time.sleep(0.1)

    def _ask(self, probe: Mapping[str, Any]) -> int:
        named = {it["name"]: it["containerPort"] for it in self._sidecar["ports"]}
        port = probe["httpGet"]["port"]
        seconds = probe.get("timeoutSeconds", 1)
        connection = http.client.HTTPConnection(
            *self.address(named.get(port, port)), timeout=seconds
        )
        try:
            connection.request("GET", probe["httpGet"]["path"])
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _SUFFIXES[quantity[-2:]]


@contextlib.contextmanager
def removed_images(images: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Remove images at the end of a `with` block; their layers stay in the build cache."""
    try:
        yield images
    finally:
        subprocess.run(
            (docker_command(), "image", "rm", "--force", *images.values()),
            check=False,
            capture_output=True,
            timeout=60,
        )
