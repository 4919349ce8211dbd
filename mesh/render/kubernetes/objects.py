"""Kubernetes objects as plain data: what each node has beside its pods, and how they are written down."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from mesh.render.envoy.resource import Dumper

Object = dict[str, Any]
"""A Kubernetes object in its JSON form."""

PART_OF = {"app.kubernetes.io/part-of": "authmesh"}
NAME_LABEL = "app.kubernetes.io/name"

REPLICAS = 2
"""Of each node, at least: one may be lost, or replaced."""
MOST_REPLICAS = 10
_CPU_PERCENT = 70
"""Of what its containers request: above it another replica is started."""


class _Dumper(Dumper):
    pass


def _text(dumper: Any, text: str) -> Any:
    """Text of several lines as people write it."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def documents(objects: Iterable[Mapping[str, Any]]) -> str:
    """The text of a file of objects."""
    return str(yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=150, explicit_start=True))


def document(content: Mapping[str, Any]) -> str:
    """The text of a file with one object."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=150))


def selector(node: str) -> dict[str, str]:
    """Labels by which the pods of a node are found. They can't be changed once it runs."""
    return {NAME_LABEL: node, **PART_OF}


def kind(api_version: str, name_of_kind: str, name: str, **fields: Any) -> Object:
    """An object with the labels that all of ours have. Its namespace is Kustomize's business."""
    labels = {NAME_LABEL: name, **PART_OF}
    return {"apiVersion": api_version, "kind": name_of_kind, "metadata": {"name": name, "labels": labels}, **fields}


def service_account(node: str) -> Object:
    """Who the pods are: their SPIFFE id comes of it, and in EKS their role (Pod Identity). They get no token."""
    return kind("v1", "ServiceAccount", node, automountServiceAccountToken=False)


def headless_service(node: str, port: int, name_of_port: str) -> Object:
    """A DNS name with one record for each pod that is ready: the callers' Envoys choose among them."""
    ports = [{"name": name_of_port, "port": port, "targetPort": port, "protocol": "TCP", "appProtocol": "grpc"}]
    return kind("v1", "Service", node, spec={"clusterIP": "None", "selector": selector(node), "ports": ports})


def cluster_service(node: str, port: int, name_of_port: str) -> Object:
    """An address inside of the cluster, for what does not come through the load balancer."""
    ports = [{"name": name_of_port, "port": port, "targetPort": port, "protocol": "TCP", "appProtocol": "https"}]
    return kind("v1", "Service", node, spec={"type": "ClusterIP", "selector": selector(node), "ports": ports})


def deployment(node: str, template: Object) -> Object:
    """Replicas of a pod. A new one is ready before an old one goes.

    It has no `replicas`: applying it anew would undo what the autoscaler has chosen.
    """
    spec = {
        "revisionHistoryLimit": 5,
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": selector(node)},
        "template": template,
    }
    return kind("apps/v1", "Deployment", node, spec=spec)


def autoscaler(node: str) -> Object:
    """More replicas under load. Fewer again only when it has been quiet for five minutes."""
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": _CPU_PERCENT}},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": node},
        "minReplicas": REPLICAS,
        "maxReplicas": MOST_REPLICAS,
        "metrics": [metric],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            }
        },
    }
    return kind("autoscaling/v2", "HorizontalPodAutoscaler", node, spec=spec)


def disruption_budget(node: str) -> Object:
    """A node of the cluster is emptied one pod at a time."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(node)},
    }
    return kind("policy/v1", "PodDisruptionBudget", node, spec=spec)
