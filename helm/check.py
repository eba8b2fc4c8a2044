#!/usr/bin/env python3
"""Holds the chart to what it promises, with Helm's own engine and Kubernetes' own schemas; needs no cluster.

    .dev/python/bin/python helm/check.py            checks everything, one line each
    .dev/python/bin/python helm/check.py render F   prints what values file F renders to, as JSON

Every documented combination (holdfast/ci/*-values.yaml) is linted strictly, rendered, validated against each Kubernetes version,
and held to the restricted profile of the Pod Security Standards; wrong values must be refused.
"""

import json
import pathlib
import sys

import kubernetes_validate
import yaml
from helm_python import Chart, lint

HERE = pathlib.Path(__file__).parent
CHART = HERE / "holdfast"
VERSIONS = ["1.30", "1.33"]
# Of an operator's own: no schema of Kubernetes'.
FOREIGN = {"PodMonitor"}


def render(values):
    rendered = Chart.load(str(CHART)).render(values, name="fleet", namespace="holdfast", is_install=True, revision=1)
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def values_of(file):
    return yaml.safe_load(pathlib.Path(file).read_text())


def pods(documents):
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def is_restricted(name, pod):
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"]["type"] == "RuntimeDefault", name
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False, name
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= {"secret", "configMap", "emptyDir", "projected"}, (name, volume)
    for container in pod.get("initContainers", []) + pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, name
        assert own["capabilities"]["drop"] == ["ALL"] and "add" not in own["capabilities"], name
        assert container["resources"].get("limits", {}).get("memory"), name
        for variable in container["env"]:
            secret = any(word in variable["name"] for word in ("POSTGRES_URL", "REDIS_URL", "ACCESS_KEY", "SECRET_KEY"))
            assert not secret or "value" not in variable, (name, variable["name"], "is a secret in plain sight")


def check(file):
    values = values_of(file)
    found = lint(str(CHART), values, strict=True, namespace="holdfast", kube_version=f"v{VERSIONS[0]}.0")
    # 1 is a remark.
    bad = [message for message in found["messages"] if message["severity"] > 1] + found["errors"]
    assert not bad, bad
    documents = render(values)
    for document in documents:
        if document["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    count = 0
    for name, pod in pods(documents):
        is_restricted(name, pod)
        count += 1
    print(f"{pathlib.Path(file).name}: {len(documents)} objects, {count} pods, Kubernetes {', '.join(VERSIONS)}")


def changed(values, path, value):
    values = json.loads(json.dumps(values))
    *parents, last = path.split(".")
    place = values
    for key in parents:
        place = place.setdefault(key, {})
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return values


def refused(values, path, value):
    try:
        render(changed(values, path, value))
    except Exception as error:  # whatever Helm raises
        # It names what is wrong: the place, or the key that may not be there.
        names = path.split(".") + list(value if isinstance(value, dict) else [])
        assert any(name in str(error) for name in names), (path, str(error))
        return
    raise AssertionError(f"{path} = {value!r} was accepted")


def main():
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    assert len(files) >= 4
    for file in files:
        check(file)
    minimal = values_of(CHART / "ci/minimal-values.yaml")
    wrong = [
        ("imagee", {}),
        ("image.registry", ""),
        ("services.registry.replicas", 0),
        ("services.ota.environment", {"A": "b"}),
        ("services.ota.env", {"HOLDFAST_SWEEP_MS": 1}),
        ("services.logs.env", {"lower_case": 1}),
        ("broker", {"external": True}),
        ("broker.replicas", 2),
        ("addresses.device", "no-port"),
        ("postgres.existingSecret", ""),
        ("postgres.password", "secret"),
        ("masterKeys", None),
        ("s3.endpoint", "s3.example.com"),
        ("otlpEndpoint", "collector:4317"),
    ]
    for path, value in wrong:
        refused(minimal, path, value)
    print(f"{len(wrong)} wrong values refused")


if __name__ == "__main__":
    if sys.argv[1:2] == ["render"]:
        print(json.dumps(render(values_of(sys.argv[2]))))
    else:
        main()
