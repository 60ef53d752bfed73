"""What a deployment makes in AWS, by the facts of rehearsal.py: asked of moto's server with boto3."""

from __future__ import annotations

import base64
import re

import pytest
import yaml

from shared.webhook_signature import secrets_in

# Alone, without other tests to wait beside, the rehearsal takes two minutes.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def made(rehearsed):
    return rehearsed["made"]


@pytest.fixture
def written(made):
    """Files by path, as cloud-init would write them."""
    user_data = base64.b64decode(made["user_data"]).decode()
    assert user_data.startswith("#cloud-config\n")
    return {file["path"]: file["content"] for file in yaml.safe_load(user_data)["write_files"]}


def test_the_metadata_service_wants_tokens_and_answers_no_container(made):
    options = made["instance"]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_only_the_allowed_reach_the_api(made):
    parts = ("IsEgress", "IpProtocol", "FromPort", "ToPort", "CidrIpv4")
    assert {tuple(rule[part] for part in parts) for rule in made["rules"]} == {
        (False, "tcp", 8080, 8080, "203.0.113.0/24"),
        (True, "tcp", 443, 443, "0.0.0.0/0"),
    }


def test_every_volume_is_encrypted_and_the_data_has_one_of_its_own(rehearsed, made):
    assert [volume["Encrypted"] for volume in made["volumes"]] == [True, True]
    (data,) = (one for one in made["volumes"] if one["VolumeId"] == rehearsed["outputs"]["data_volume_id"])
    assert data["AvailabilityZone"] == made["instance"]["Placement"]["AvailabilityZone"]
    assert [one["InstanceId"] for one in data["Attachments"]] == [made["instance"]["InstanceId"]]


def test_the_address_is_there_before_the_instance(rehearsed, made):
    (address,) = made["addresses"]
    (interface,) = made["instance"]["NetworkInterfaces"]
    assert address["NetworkInterfaceId"] == interface["NetworkInterfaceId"]
    assert rehearsed["outputs"]["url"] == f"http://{address['PublicIp']}:8080"


def test_secrets_are_random_and_in_no_state_output_or_user_data(rehearsed, made):
    secrets = made["secrets"]
    assert {purpose: len(value) for purpose, value in secrets.items()} == {
        "admin-key": 64,
        "postgres-password": 48,
        "redis-password": 48,
        "webhook-secret": 70,
    }
    digits = {purpose: value.removeprefix("whsec_") for purpose, value in secrets.items()}
    assert all(re.fullmatch("[0-9a-f]+", value) for value in digits.values())
    assert len({value[:16] for value in digits.values()}) == 4
    (signing,) = secrets_in(secrets["webhook-secret"])
    assert len(signing) == 48
    elsewhere = [base64.b64decode(made["user_data"]).decode(), rehearsed["applied"], str(rehearsed["outputs"])]
    assert not [purpose for purpose, value in secrets.items() if any(value in text for text in elsewhere)]
    assert rehearsed["secrets_in_state"] == []


def test_the_instance_may_do_three_things(rehearsed, made):
    assert made["attached"] == []
    rights = {statement["Sid"]: statement for statement in made["policy"]["Statement"]}
    assert set(rights) == {"SessionManager", "OwnSecrets"}
    assert rights["OwnSecrets"]["Action"] == "secretsmanager:GetSecretValue"
    assert sorted(rights["OwnSecrets"]["Resource"]) == sorted(rehearsed["outputs"]["secrets"].values())


def test_everything_says_whose_it_is(made):
    for one in (made["instance"], *made["volumes"], *made["groups"]):
        tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        assert {"Project": "rehearsal", "ManagedBy": "terraform", "Studio": "ours"}.items() <= tags.items()


def test_the_instance_is_told_where_its_release_and_its_secrets_are(rehearsed, written):
    conf = dict(line.split("=", 1) for line in written["/etc/leaderboard/deployment.conf"].splitlines())
    assert conf["RELEASE_REF"] == "'v1.0.0'"
    assert conf["DATA_VOLUME_ID"] == f"'{rehearsed['outputs']['data_volume_id']}'"
    assert conf["ADMIN_KEY_SECRET"] == f"'{rehearsed['outputs']['secrets']['admin-key']}'"
    assert conf["WEBHOOKS_SECRET"] == f"'{rehearsed['outputs']['secrets']['webhook-secret']}'"
    assert written["/etc/leaderboard/settings.env"].splitlines() == [
        "API_PORT=8080",
        "COMPOSE_FILE=compose.yaml",
        "LOG_LEVEL=debug",
    ]


@pytest.fixture
def with_rds(rehearsed):
    """Planned values by address."""
    return {address: change["after"] for address, change in rehearsed["changes"].items()}


def test_rds_is_encrypted_in_two_zones_and_hard_to_lose(with_rds):
    wanted = {
        "engine": "postgres",
        "engine_version": "18",
        "storage_encrypted": True,
        "multi_az": True,
        "publicly_accessible": False,
        "backup_retention_period": 14,
        "deletion_protection": True,
        "skip_final_snapshot": False,
        # Write-only: not even a plan shows it.
        "password_wo": None,
    }
    database = with_rds["aws_db_instance.this[0]"]
    assert {name: database[name] for name in wanted} == wanted
    assert with_rds["aws_db_parameter_group.this[0]"]["family"] == "postgres18"
    parameters = {one["name"]: one["value"] for one in with_rds["aws_db_parameter_group.this[0]"]["parameter"]}
    assert {"synchronous_commit": "on", "rds.force_ssl": "1"}.items() <= parameters.items()
    zones = [with_rds[f"aws_subnet.private[{number}]"]["availability_zone"] for number in (0, 1)]
    assert len(set(zones)) == 2


def test_only_the_instance_reaches_rds(rehearsed, with_rds):
    rules = [values for address, values in with_rds.items() if "ingress_rule.managed" in address]
    assert [(one["from_port"], one["to_port"], one["cidr_ipv4"]) for one in rules] == [(5432, 5432, None)]
    (interface,) = rehearsed["made"]["instance"]["NetworkInterfaces"]
    (group,) = (one["GroupId"] for one in interface["Groups"])
    assert [one["referenced_security_group_id"] for one in rules] == [group]


def test_a_second_plan_is_empty(rehearsed):
    assert rehearsed["again"] == 0


def test_another_release_replaces_the_instance_and_nothing_that_lasts(rehearsed):
    actions = {address: change["actions"] for address, change in rehearsed["changes"].items()}
    assert {address: done for address, done in actions.items() if "delete" in done or "update" in done} == {
        "aws_instance.this": ["delete", "create"],
        "aws_volume_attachment.data": ["delete", "create"],
    }


def test_without_webhooks_their_secret_goes_and_no_other(rehearsed):
    changed = {address: done for address, done in rehearsed["without_webhooks"].items() if "secret" in address}
    assert changed == {
        'aws_secretsmanager_secret.this["webhook-secret"]': ["delete"],
        'aws_secretsmanager_secret_version.this["webhook-secret"]': ["delete"],
    }
    assert rehearsed["without_webhooks"]["aws_instance.this"] == ["delete", "create"]


def test_nothing_is_left_but_the_ledger(rehearsed):
    left = rehearsed["left"]
    assert set(left["instances"]) == {"terminated"}
    assert (left["volumes"], left["secrets"]) == ([], [])
    assert left["vpcs"] == [True]
    assert [one["VolumeId"] for one in left["snapshots"]] == [rehearsed["outputs"]["data_volume_id"]]
