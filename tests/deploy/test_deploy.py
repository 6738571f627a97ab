"""The files for clusters and docs/cluster.md: their form, and that every command of ours in them is one of today."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.documents import DOCS

from dnw_core.errors import UserError
from pipelines.commands import leave_node
from pipelines.commands.options import make_parser, parse_options

ROOT = DOCS.parent
KUBERAY = ROOT / "deploy" / "kuberay"
JOB: dict[str, Any] = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text("utf-8"))
CLUSTER = JOB["spec"]["rayClusterSpec"]
WORKERS = CLUSTER["workerGroupSpecs"][0]
PODS = {
    "submitter": JOB["spec"]["submitterPodTemplate"]["spec"],
    "head": CLUSTER["headGroupSpec"]["template"]["spec"],
    "worker": WORKERS["template"]["spec"],
}


def commands_of_ours(text: str) -> list[list[str]]:
    """The words after ``reproduce_all.py`` and ``leave_node.py`` in a shell text, each with the script's name first."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.search(r'pipelines/(reproduce_all|leave_node)\.py"?(.*)', line)
        if match and not line.lstrip().startswith("#"):
            found.append([match[1], *shlex.split(match[2], comments=True)])
    return found


def check(words: list[str]) -> None:
    """Raise for a word that our own parsers do not know."""
    if words[0] == "leave_node":
        leave_node.make_parser().parse(words[1:], "")
    else:
        parse_options(words[1:])


def blocks(document: Path) -> list[str]:
    """The shell blocks of a document."""
    return re.findall(r"^```sh\n(.*?)^```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_documents_commands_are_ours() -> None:
    """Each command of ours in docs/cluster.md and the README's section parses; a misspelt option would not."""
    found = [words for block in blocks(DOCS / "cluster.md") for words in commands_of_ours(block)]
    assert len(found) >= 6
    found += [words for block in blocks(ROOT / "README.md") for words in commands_of_ours(block)]
    for words in found:
        check(words)
    with pytest.raises(UserError, match="unknown option --results-dri"):
        check(["reproduce_all", "--results-dri", "x"])
    named = set(re.findall(r"`(--[a-z-]+)", (DOCS / "cluster.md").read_text("utf-8")))
    known = {option for action in make_parser()._actions for option in action.option_strings}
    slurm = {"--signal", "--requeue", "--no-kill", "--gpus-per-node"}
    assert named - known == slurm & named


def test_the_documents_blocks_are_shell() -> None:
    """Bash reads every block; every file and heading that is linked exists."""
    for block in blocks(DOCS / "cluster.md"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    text = (DOCS / "cluster.md").read_text("utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (DOCS / target).exists(), target


def test_a_rayjob_has_what_kuberay_requires() -> None:
    """Version v1's required fields, and those that this job depends on."""
    assert (JOB["apiVersion"], JOB["kind"], JOB["metadata"]["name"]) == ("ray.io/v1", "RayJob", "dnw")
    assert JOB["spec"]["submissionMode"] == "K8sJobMode"
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert all(isinstance(value, str) for value in CLUSTER["headGroupSpec"]["rayStartParams"].values())
    assert WORKERS["groupName"]
    assert 0 == WORKERS["minReplicas"] <= WORKERS["replicas"] <= WORKERS["maxReplicas"]
    for name, pod in PODS.items():
        (container,) = pod["containers"]
        assert container["name"], name
        assert container["image"], name
        assert {"requests", "limits"} == set(container["resources"]), name
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} == volumes, name


def test_the_rayjobs_commands_are_ours_and_fit_its_machines() -> None:
    """The entrypoint parses; the machine it announces is the worker's; folders are mounted; Ray's version is ours."""
    (words,) = commands_of_ours(JOB["spec"]["entrypoint"])
    options = parse_options(words[1:])
    (container,) = PODS["worker"]["containers"]
    limits = container["resources"]["limits"]
    assert limits == container["resources"]["requests"]
    (shape,) = options.node_types
    assert (shape.cpus, shape.gpus) == (float(limits["cpu"]), float(limits["nvidia.com/gpu"]))
    places = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(options.results_dir), options.data_dir} < places
    assert options.cluster == "auto"
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    assert CLUSTER["rayVersion"] == pinned[1]
    assert f"'ray[default]=={pinned[1]}'" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_a_pod_has_time_to_leave() -> None:
    """The hook is our command, and what it may take is less than what the pod has."""
    (container,) = PODS["worker"]["containers"]
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:2] == ["python", "/app/pipelines/leave_node.py"]
    values = leave_node.make_parser().parse(hook[2:], "")
    for_ray = float(next(one["value"] for one in container["env"] if one["name"].endswith("DRAIN_TIMEOUT_S")))
    assert values.seconds + for_ray < PODS["worker"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", PODS)
def test_no_pod_may_more_than_it_must(name: str) -> None:
    """Not root, no way to become it; only the head, whose autoscaler asks for workers, may speak to Kubernetes."""
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        inside = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == inside
    assert pod.get("automountServiceAccountToken") is (None if name == "head" else False)


def test_other_manifests_are_whole() -> None:
    """The claims that the job names exist and can be mounted on many nodes; the policy lets nobody else in."""
    claims = {
        one["metadata"]["name"]: one["spec"]
        for one in yaml.safe_load_all((KUBERAY / "volumes.yaml").read_text("utf-8"))
    }
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in PODS["worker"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert used == set(claims)
    assert all(claim["accessModes"] == ["ReadWriteMany"] for claim in claims.values())
    policy = yaml.safe_load((KUBERAY / "network_policy.yaml").read_text("utf-8"))
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    for rule in policy["spec"]["ingress"]:
        assert all("podSelector" in who for who in rule["from"])  # a namespace alone would be everybody in it


def test_the_slurm_file_is_bash_and_keeps_its_secret() -> None:
    """Bash reads it; the token's file is made for its owner alone before anything is written to it; what the command is
    given parses; it asks for a signal in time."""
    path = ROOT / "deploy" / "slurm" / "reproduce.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text("utf-8")
    assert text.index("umask 077") < text.index('>"$RAY_AUTH_TOKEN_PATH"') < text.index("umask 022")
    directives = dict(re.findall(r"^#SBATCH (--[a-z-]+)(?:=(.*))?$", text, re.M))
    assert directives["--signal"] == "B:USR1@120"
    assert {"--requeue", "--no-kill", "--cpus-per-task", "--gpus-per-node", "--time"} < set(directives)
    (words,) = [words for words in commands_of_ours(text) if words[0] == "reproduce_all"]
    assert words[-2:] == ["$@", "&"]  # the user's words follow
    check(words[:-2])
