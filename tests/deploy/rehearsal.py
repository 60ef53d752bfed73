"""A deployment's whole life against moto's server: applied, looked at, planned again, planned with changes, destroyed.

`python rehearsal.py FOLDER PID LOCK`, with an initialised copy of terraform/ in FOLDER/configuration, leaves what was
seen in FOLDER/facts.json, secrets included: they are made up. A process of its own, because most of its two minutes it
waits: the provider asks every ten seconds whether something is there. It closes LOCK, a file descriptor, when it is
through; when the process PID ends, it ends with all that it started, and takes FOLDER along.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import boto3

REGION = "eu-central-1"
VARIABLES = {
    "region": REGION,
    "name": "rehearsal",
    "tags": {"Studio": "ours"},
    "allowed_cidrs": ["203.0.113.0/24"],
    "release": {"repository": "https://git.example.com/studio/leaderboard.git", "ref": "v1.0.0"},
    "settings": {"LOG_LEVEL": "debug"},
    "webhooks": True,
    # moto does not know the service that makes snapshots, nor ElastiCache's parameter groups; terraform/tests do.
    "snapshots_kept": 0,
}


class Terraform:
    """Commands on one state, in FOLDER."""

    def __init__(self, folder, endpoint):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))},
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            # What moto does not know is an error at once.
            "AWS_MAX_ATTEMPTS": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def run(self, command, *arguments, **changes):
        """Standard output of a command; an error, with all output, unless it ends with 0, or 2, a plan's "changes"."""
        variables = self.folder / "variables.json"
        variables.write_text(json.dumps({**VARIABLES, **changes}))
        argv = ["terraform", command, "-no-color", "-input=false", f"-state={self.folder / 'state'}"]
        done = subprocess.run(
            [*argv, f"-var-file={variables}", *arguments],
            cwd=self.folder / "configuration",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in {0, 2}:
            raise RuntimeError(f"terraform {command}:\n{done.stdout}\n{done.stderr}")
        return done

    def plan(self, **changes):
        """What a plan would change: actions and values by address."""
        self.run("plan", f"-out={self.folder / 'plan'}", **changes)
        shown = subprocess.run(
            ["terraform", "show", "-json", self.folder / "plan"],
            cwd=self.folder / "configuration",
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        changed = json.loads(shown.stdout)["resource_changes"]
        return {one["address"]: one["change"] for one in changed if one["change"]["actions"] != ["no-op"]}


def looked_at(client, outputs):
    """What AWS says is there."""
    ec2, secrets = client("ec2"), client("secretsmanager")
    of_project = [{"Name": "tag:Project", "Values": ["rehearsal"]}]
    (instance,) = ec2.describe_instances(Filters=of_project)["Reservations"][0]["Instances"]
    user_data = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    groups = [one["GroupId"] for one in ec2.describe_security_groups(Filters=of_project)["SecurityGroups"]]
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": groups}])
    profile = client("iam").list_instance_profiles()["InstanceProfiles"][0]
    (role,) = (one["RoleName"] for one in profile["Roles"])
    (policy,) = client("iam").list_role_policies(RoleName=role)["PolicyNames"]
    return {
        "instance": instance,
        "user_data": user_data["UserData"]["Value"],
        "groups": ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"],
        "rules": rules["SecurityGroupRules"],
        "volumes": ec2.describe_volumes()["Volumes"],
        "addresses": ec2.describe_addresses()["Addresses"],
        "policy": client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"],
        "attached": client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"],
        "secrets": {
            purpose: secrets.get_secret_value(SecretId=arn)["SecretString"]
            for purpose, arn in outputs["secrets"].items()
        },
    }


def what_is_left(client):
    return {
        "instances": [
            one["State"]["Name"]
            for reservation in client("ec2").describe_instances()["Reservations"]
            for one in reservation["Instances"]
        ],
        "volumes": client("ec2").describe_volumes()["Volumes"],
        "snapshots": client("ec2").describe_snapshots(Filters=[{"Name": "tag:Project", "Values": ["rehearsal"]}])[
            "Snapshots"
        ],
        "vpcs": [one["IsDefault"] for one in client("ec2").describe_vpcs()["Vpcs"]],
        "secrets": client("secretsmanager").list_secrets()["SecretList"],
    }


def rehearse(folder, endpoint):
    def client(service):
        return boto3.client(
            service, REGION, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
        )

    terraform = Terraform(folder, endpoint)
    facts = {"applied": terraform.run("apply", "-auto-approve").stdout}
    state = (folder / "state").read_text()
    facts["outputs"] = {name: one["value"] for name, one in json.loads(state)["outputs"].items()}
    facts["made"] = looked_at(client, facts["outputs"])
    facts["secrets_in_state"] = [name for name, value in facts["made"]["secrets"].items() if value in state]
    facts["again"] = terraform.run("plan", "-detailed-exitcode").returncode
    facts["without_webhooks"] = {
        address: change["actions"] for address, change in terraform.plan(webhooks=False).items()
    }
    # Planned, not made: the provider waits minutes for a database.
    facts["changes"] = terraform.plan(release={**VARIABLES["release"], "ref": "v1.1.0"}, rds={})
    terraform.run("destroy", "-auto-approve")
    facts["left"] = what_is_left(client)
    return facts


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(folder):
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("aws_server.py"), str(port)],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "server.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        while True:
            assert server.poll() is None, (folder / "server.log").read_text()
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        facts = rehearse(folder, f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()
    (folder / "facts.json").write_text(json.dumps(facts, default=str))


def _end_with(pid, folder):
    select.select([os.pidfd_open(pid)], [], [])
    group = os.getpgid(0)
    if os.fork() == 0:
        os.setsid()
        os.killpg(group, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    place, run, lock = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    ending = threading.Thread(target=_end_with, args=(run, place))
    ending.start()
    try:
        main(place)
    finally:
        os.close(lock)
    ending.join()
