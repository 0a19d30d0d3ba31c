"""What deploy/kubernetes/ says: valid for Kubernetes, of one piece, and the same by kustomize and by Helm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from integration.kubernetes import manifests
from uwsgibridge.figures.reference import all_families

# The oldest that has native sidecars by default, and the newest whose schemas are at hand.
VERSIONS: Final = ("1.29", kubernetes_validate.latest_version())

FILES: Final = (
    "deployment.yaml",
    "service.yaml",
    "poddisruptionbudget.yaml",
    "components/autoscaling/horizontalpodautoscaler.yaml",
    "components/ingress/ingress.yaml",
    "components/monitoring/service.yaml",
    "components/network-policy/networkpolicy.yaml",
)
COMPONENTS: Final = ("autoscaling", "ingress", "monitoring", "network-policy")

# What the chart's values have to say for the same objects.
ALL_OF_THE_CHART: Final = {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True},
    "monitoring": {"enabled": True},
    "networkPolicy": {"enabled": True},
}

# How long an ASGI application's shutdown may take: there is time for as much.
SHUTDOWN_SECONDS: Final = 20

Object = dict[str, Any]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None,
        reason=f"{program} is not installed: integration/kubernetes/tools",
    )


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, **options
    )


def objects(text: str) -> dict[tuple[str, str], Object]:
    """Read objects, and give them by their kind and name."""
    found = [it for it in yaml.safe_load_all(text) if it]
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


def by_kustomize(directory: Path, *components: str) -> dict[tuple[str, str], Object]:
    """Have kubectl build the manifests with some components."""
    base = base_for(directory)
    kustomization = {
        "resources": [base],
        "components": [f"{base}/components/{it}" for it in components],
    }
    return built(directory, json.dumps(kustomization))


def base_for(directory: Path) -> str:
    """Give the path of the manifests as a kustomization in a directory has to have it."""
    return os.path.relpath(manifests.DIRECTORY.resolve(), directory.resolve())


def built(directory: Path, kustomization: str) -> dict[tuple[str, str], Object]:
    (directory / "kustomization.yaml").write_text(kustomization)
    done = run("kubectl", "kustomize", directory)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def helm(directory: Path, name: str, values: Object) -> subprocess.CompletedProcess[str]:
    (directory / "values.json").write_text(json.dumps(values))
    chart = manifests.DIRECTORY / "chart"
    return run("helm", "template", name, chart, "--values", directory / "values.json")


def by_helm(
    directory: Path, values: Object, name: str = "uwsgibridge"
) -> dict[tuple[str, str], Object]:
    done = helm(directory, name, values)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def assert_valid(made: dict[tuple[str, str], Object]) -> None:
    for (kind, _), it in made.items():
        if kind != "ServiceMonitor":  # of the Prometheus operator: no part of Kubernetes
            for version in VERSIONS:
                kubernetes_validate.validate(it, version, strict=True)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_is_valid(file: str, version: str) -> None:
    kubernetes_validate.validate(manifests.read(file), version, strict=True)


def test_a_slip_is_found() -> None:
    deployment = manifests.read("deployment.yaml")
    bridge = deployment["spec"]["template"]["spec"]["containers"][0]
    bridge["securityContext"]["readOnlyRootFileSystem"] = True  # the S is small
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_times_fit_into_each_other() -> None:
    deployment = manifests.read("deployment.yaml")
    assert_times_fit(deployment["spec"]["template"]["spec"])


def assert_times_fit(spec: Object) -> None:
    (nginx,), (bridge,) = spec["initContainers"], spec["containers"]
    options = dict(it.split("=") for it in bridge["args"] if "=" in it)
    drain = int(options["--drain-delay-seconds"])
    graceful = int(options["--graceful-timeout-seconds"])
    grace = spec["terminationGracePeriodSeconds"]
    hook = nginx["lifecycle"]["preStop"]["exec"]["command"][-1]
    started = nginx["command"][-1]
    slept = int(re.findall(r"sleep (\d+)", hook)[0])
    (shutdown,) = {int(it) for it in re.findall(r"worker_shutdown_timeout (\d+)s", started + hook)}
    # Both lines start the same Nginx.
    (of_the_hook,), (of_the_start,) = (
        re.findall(r"nginx .*'", line.split("&&")[-1]) for line in (hook, started)
    )
    assert of_the_hook == of_the_start
    # Connections are without keep-alive before the bridge accepts no more.
    assert slept + 5 <= drain
    # Processes of Nginx that the reload has replaced wait for the last request of the bridge, ...
    assert slept + shutdown >= drain + graceful + 5
    # ... and the kubelet for them, and for what Nginx itself has in its buffers.
    assert grace >= drain + graceful + SHUTDOWN_SECONDS + 10 + 10
    assert grace >= slept + shutdown + 5


def test_what_belongs_together_has_the_same_names() -> None:
    deployment, service = manifests.read("deployment.yaml"), manifests.read("service.yaml")
    spec = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {it["name"]: it["containerPort"] for it in spec["initContainers"][0]["ports"]}
    status = manifests.read("components/monitoring/service.yaml")
    budget = manifests.read("poddisruptionbudget.yaml")
    policy = manifests.read("components/network-policy/networkpolicy.yaml")
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        status["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
        policy["spec"]["podSelector"]["matchLabels"],
        *(it["labelSelector"]["matchLabels"] for it in spec["topologySpreadConstraints"]),
    ]
    assert selectors == [labels] * len(selectors)
    named = [
        *(it["targetPort"] for it in service["spec"]["ports"] + status["spec"]["ports"]),
        *(rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]),
    ]
    assert set(named) == set(ports)
    # The one that Prometheus's operator looks for is that of the status port alone.
    monitor = manifests.read("components/monitoring/servicemonitor.yaml")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= status["metadata"]["labels"].items()
    assert not wanted <= service["metadata"]["labels"].items()
    assert [it["port"] for it in monitor["spec"]["endpoints"]] == ["status"]
    scaler = manifests.read("components/autoscaling/horizontalpodautoscaler.yaml")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    backend = manifests.read("components/ingress/ingress.yaml")["spec"]["rules"][0]["http"]
    assert backend["paths"][0]["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }
    config_maps = manifests.config_maps()
    assert {it["configMap"]["name"] for it in spec["volumes"] if "configMap" in it} | {
        it["configMapRef"]["name"]
        for it in spec["containers"][0]["envFrom"]
        if "configMapRef" in it
    } == set(config_maps)
    # Probes and Nginx's configuration are of one mind.
    nginx = config_maps["uwsgibridge-nginx"]["nginx.conf"]
    asked = [
        container[kind]["httpGet"]
        for container in spec["initContainers"] + spec["containers"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        if kind in container
    ]
    assert {ports.get(it["port"], it["port"]) for it in asked} == {ports["status"]}
    assert {it["path"] for it in asked} <= set(re.findall(r"location = (\S+)", nginx))


def test_no_container_may_do_more_than_it_has_to() -> None:
    spec = manifests.pod_template()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["initContainers"] + spec["containers"]:
        security = container["securityContext"]
        assert security["runAsUser"] > 0
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"]


def nginx_check(
    args: list[str], files: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Judge a configuration by the options of a pod, in the form of a file of options."""
    variables = manifests.config_maps()["uwsgibridge-options"]
    options: dict[str, Any] = {
        k.removeprefix("UWSGIBRIDGE_").lower(): v for k, v in variables.items()
    }
    for name, value in (it.removeprefix("--").split("=") for it in args if "=" in it):
        options[name.replace("-", "_")] = value
    options |= {
        "bind": [options["bind"]],
        **{k: int(v) for k, v in options.items() if k.endswith(("_seconds", "_bytes", "workers"))},
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    (directory / "uwsgibridge.toml").write_text("\n".join(lines))
    for name, text in files.items():
        (directory / name).write_text(text)
    command = (sys.executable, "-m", "uwsgibridge", "nginx", "--check", "nginx.conf", "--strict")
    return run(*command, "--config", "uwsgibridge.toml", cwd=directory)


def test_options_are_known_and_nginx_fits_them(tmp_path: Path) -> None:
    args = manifests.pod_template()["spec"]["containers"][0]["args"]
    assert args[0] == "serve"
    files = manifests.config_maps()["uwsgibridge-nginx"]
    # With the lines of docs/kubernetes.md, too.
    for more in ({}, {"server-ingress.conf": manifests.documented("nginx")}):
        done = nginx_check(args, files | more, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout.endswith("0 errors, 0 warnings, 0 notices\n"), done.stdout
    # So it is not for want of looking: another buffer, and an option that is none.
    smaller = {
        name: text.replace("uwsgi_buffer_size 32k", "uwsgi_buffer_size 16k")
        for name, text in files.items()
    }
    assert "[buffer-too-small]" in nginx_check(args, smaller, tmp_path).stdout
    done = nginx_check([*args, "--drain-dealy-seconds=3"], files, tmp_path)
    assert done.returncode == 2
    assert "drain_dealy_seconds" in done.stderr


def test_the_vars_are_those_of_the_other_deployments() -> None:
    files = manifests.config_maps()["uwsgibridge-nginx"]
    assert (
        files["uwsgibridge_params"]
        == (manifests.REPOSITORY / "nginx/uwsgibridge_params").read_text()
    )


@needs("kubectl")
def test_a_kustomization_is_valid(tmp_path: Path) -> None:
    made = by_kustomize(tmp_path, *COMPONENTS)
    assert len(made) == len(FILES) + 3  # two ConfigMaps and the ServiceMonitor
    assert_valid(made)
    # The ConfigMaps have names of their own content, and the Deployment asks for those.
    deployment = made["Deployment", "uwsgibridge"]
    assert "replicas" not in deployment["spec"]
    bridge = deployment["spec"]["template"]["spec"]["containers"][0]
    assert ("ConfigMap", bridge["envFrom"][0]["configMapRef"]["name"]) in made


@needs("kubectl")
def test_an_operators_kustomization_changes_what_it_names(tmp_path: Path) -> None:
    text = manifests.documented("yaml").replace("?ref=VERSION", "")
    made = built(
        tmp_path,
        text.replace("https://example.com/uwsgibridge//deploy/kubernetes", base_for(tmp_path)),
    )
    assert_valid(made)
    assert ("HorizontalPodAutoscaler", "uwsgibridge") in made
    bridge = made["Deployment", "uwsgibridge"]["spec"]["template"]["spec"]["containers"][0]
    assert bridge["image"] == "registry.example/mysite:1.2"
    assert made["ConfigMap", bridge["envFrom"][0]["configMapRef"]["name"]]["data"] == {
        "UWSGIBRIDGE_APP": "mysite.wsgi:application",
        "UWSGIBRIDGE_THREADS": "16",
        "UWSGIBRIDGE_WORKERS": "2",
    }


@needs("helm")
def test_the_chart_says_the_same_as_the_manifests(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: integration/kubernetes/tools")
    assert plain(by_helm(tmp_path, {})) == plain(by_kustomize(tmp_path))
    assert plain(by_helm(tmp_path, ALL_OF_THE_CHART)) == plain(by_kustomize(tmp_path, *COMPONENTS))


def plain(made: dict[tuple[str, str], Object]) -> dict[tuple[str, str], Object]:
    """Leave out what Helm says of itself, and the hash in names of ConfigMaps."""
    text = json.dumps(list(made.values()))
    text = re.sub(r"(uwsgibridge-(?:nginx|options))-[a-z0-9]{10}\b", r"\1", text)
    result = {}
    for it in json.loads(text):
        metadata = it["metadata"]
        labels = metadata.get("labels", {})
        labels.pop("helm.sh/chart", None)
        labels.pop("app.kubernetes.io/managed-by", None)
        if it["kind"] == "ConfigMap":
            metadata.pop("labels", None)
            it["data"] = {name: value.strip() for name, value in it["data"].items()}
        if it["kind"] == "Deployment":
            it["spec"]["template"]["metadata"]["annotations"].pop("checksum/config", None)
        result[it["kind"], metadata["name"]] = it
    return result


OTHER_VALUES: Final = {
    **ALL_OF_THE_CHART,
    "app": "mysite.wsgi:application",
    "options": {"UWSGIBRIDGE_MAX_BODY_BYTES": 100000000, "UWSGIBRIDGE_THREADS": "16"},
    "secretName": "mysite",
    "image": {"repository": "registry.example/mysite", "tag": "1.2", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "nginx": {"server": "client_max_body_size 95m;", "resources": {}},
    "drainDelaySeconds": 40,
    "gracefulTimeoutSeconds": 7,
    "podAnnotations": {"example.com/team": "web"},
    "priorityClassName": "high",
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "web", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "volumes": [{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}],
    "volumeMounts": [{"name": "media", "mountPath": "/srv/media"}],
    "autoscaling": {"enabled": True, "busyPercent": 0, "requestsInFlight": 40, "cpuPercent": 0},
    "monitoring": {"enabled": True, "serviceMonitorLabels": {"release": "prometheus"}},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "", "host": "a.example"},
}


@needs("helm")
def test_values_arrive_where_they_belong(tmp_path: Path) -> None:
    made = by_helm(tmp_path, OTHER_VALUES, name="123")
    assert_valid(made)
    spec = made["Deployment", "123-uwsgibridge"]["spec"]["template"]["spec"]
    assert_times_fit(spec)
    bridge = spec["containers"][0]
    assert bridge["image"] == "registry.example/mysite:1.2"
    assert bridge["envFrom"][1]["secretRef"] == {"name": "mysite", "optional": True}
    assert bridge["volumeMounts"][-1] == {"name": "media", "mountPath": "/srv/media"}
    options = made["ConfigMap", "123-uwsgibridge-options"]["data"]
    assert options == {
        "UWSGIBRIDGE_APP": "mysite.wsgi:application",
        "UWSGIBRIDGE_MAX_BODY_BYTES": "100000000",
        "UWSGIBRIDGE_THREADS": "16",
        "UWSGIBRIDGE_WORKERS": "2",
    }
    nginx = made["ConfigMap", "123-uwsgibridge-nginx"]["data"]
    assert nginx["server-values.conf"] == "client_max_body_size 95m;\n"
    (metric,) = made["HorizontalPodAutoscaler", "123-uwsgibridge"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "uwsgibridge_requests_in_flight"
    # A change of a value of Nginx alone rolls new pods out, and only such a change.
    checksums = [
        by_helm(tmp_path, it, name="123")["Deployment", "123-uwsgibridge"]["spec"]["template"][
            "metadata"
        ]["annotations"]["checksum/config"]
        for it in (OTHER_VALUES, {**OTHER_VALUES, "replicas": 7}, {**OTHER_VALUES, "nginx": {}})
    ]
    assert checksums[0] == checksums[1] != checksums[2]


@needs("helm")
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"drainDelaySeconds": 4}, "'/drainDelaySeconds': minimum: got 4, want 5"),
        ({"replicaCount": 3}, "additional properties 'replicaCount' not allowed"),
        ({"app": ""}, "'/app': minLength: got 0, want 1"),
        (
            {"options": {"UWSGIBRIDGE_DRAIN_DELAY_SECONDS": "3"}},
            "has no effect, because the chart sets this option: set drainDelaySeconds instead",
        ),
        ({"options": {"UWSGIBRIDGE_BIND": "x"}}, "sets this option: leave it out"),
        (
            {"autoscaling": {"enabled": True, "busyPercent": 0, "cpuPercent": 0}},
            "autoscaling.enabled needs one of autoscaling.busyPercent, requestsInFlight and",
        ),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, values: Object, sentence: str) -> None:
    done = helm(tmp_path, "uwsgibridge", values)
    assert done.returncode != 0
    assert sentence in done.stderr


@needs("helm")
def test_helm_has_nothing_to_say_of_the_chart() -> None:
    done = run("helm", "lint", "--strict", manifests.DIRECTORY / "chart")
    assert done.returncode == 0, done.stdout


def adapter_rules() -> Iterator[tuple[str, str]]:
    """Give each rule of the adapter's: the name of what it makes, and its query for one namespace and each pod."""
    for rule in manifests.read("prometheus-adapter.yaml")["rules"]["custom"]:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        yield rule["name"]["as"], query.replace("<<.LabelMatchers>>", 'namespace="shop"')


def test_the_autoscaler_asks_for_what_the_adapter_gives() -> None:
    given = dict(adapter_rules())
    figures = {it.name for it in all_families()}
    assert {
        it for query in given.values() for it in re.findall(r"uwsgibridge_\w+", query)
    } <= figures
    scaler = manifests.read("components/autoscaling/horizontalpodautoscaler.yaml")
    asked = {it["pods"]["metric"]["name"] for it in scaler["spec"]["metrics"] if "pods" in it}
    assert asked <= set(given)
    assert set(given) == {"uwsgibridge_busy_share", "uwsgibridge_requests_in_flight"}


@needs("promtool")
def test_prometheus_computes_the_adapters_rules(tmp_path: Path) -> None:
    rules = [{"record": f"adapted_{name}", "expr": query} for name, query in adapter_rules()]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "adapter", "rules": rules}]})
    )
    series = {
        # Of the pod "a", 3 of 8 threads are busy and two requests more wait; "b" serves ASGI, which has no places.
        'uwsgibridge_requests_running{namespace="shop",pod="a",mount="/"}': "2x9",
        'uwsgibridge_requests_running{namespace="shop",pod="a",mount="/api"}': "1x9",
        'uwsgibridge_request_places{namespace="shop",pod="a",mount="/"}': "4x9",
        'uwsgibridge_request_places{namespace="shop",pod="a",mount="/api"}': "4x9",
        'uwsgibridge_requests_in_flight{namespace="shop",pod="a",mount="/"}': "5x9",
        'uwsgibridge_requests_running{namespace="shop",pod="b",mount="/"}': "9x9",
        'uwsgibridge_requests_in_flight{namespace="shop",pod="b",mount="/"}': "9x9",
        'uwsgibridge_requests_in_flight{namespace="other",pod="c",mount="/"}': "90x9",
    }
    wanted: dict[str, dict[str, float]] = {
        "adapted_uwsgibridge_busy_share": {"a": 0.375},
        "adapted_uwsgibridge_requests_in_flight": {"a": 5, "b": 9},
    }
    test = {
        "rule_files": ["rules.yml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": it, "values": to} for it, to in series.items()],
                "promql_expr_test": [
                    {
                        "expr": name,
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": f'{name}{{pod="{pod}"}}', "value": value}
                            for pod, value in pods.items()
                        ],
                    }
                    for name, pods in wanted.items()
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))
    done = run("promtool", "test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
