"""The scripts of terraform/instance/, run: only the machine around them (packages, systemd, AWS) is stood in for."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.conftest import TERRAFORM
from deploy.test_compose import environments
from shared.settings import Settings
from shared.webhook_signature import secrets_in

SCRIPTS = sorted((TERRAFORM / "instance").glob("leaderboard-*"))
_RELEASE = dict.fromkeys(("RELEASE_REPOSITORY", "RELEASE_REF", "RELEASE_ARCHIVE", "RELEASE_SHA256"), "")
_SECRETS = {"POSTGRES_SECRET": "arn:p", "REDIS_SECRET": "arn:r", "ADMIN_KEY_SECRET": "arn:a"}
_NEW = f"whsec_{'+/Ab' * 10}Q29tZQ=="
_OLD = f"whsec_{'0f' * 32}"


class Machine:
    """A folder with programs that write down how they were called, in place of those of the machine."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = folder / "programs"
        self.programs.mkdir()
        self._numbers = itertools.count()

    def program(self, name, body="", code=0):
        path = self.programs / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.folder}/calls"\n{body}\nexit {code}\n')
        path.chmod(0o755)

    def conf(self, **values):
        path = self.folder / "deployment.conf"
        path.write_text("".join(f"{name}='{value}'\n" for name, value in {"REGION": "eu-central-1", **values}.items()))
        return path

    def moved(self, script):
        """The script, with every path of the machine below this folder."""
        text = (TERRAFORM / "instance" / script).read_text()
        for path in ("/etc/", "/usr/local/", "/var/lib/", "/opt/", "/dev/disk/"):
            text = text.replace(path, f"{self.folder}{path}")
        target = self.programs / script
        target.write_text(text)
        target.chmod(0o755)
        return target

    def run(self, script, *arguments):
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, check=False)

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_shellcheck():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed in this environment")
    done = subprocess.run([shellcheck, "--shell=bash", *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
    assert len(SCRIPTS) == 4


class TestEnv:
    """leaderboard-env."""

    def write(self, machine, secret="0123456789abcdef", webhook="", code=0):
        settings = machine.folder / "settings.env"
        settings.write_text("API_PORT=8080\nREDIS_URL=rediss://:${REDIS_PASSWORD}@redis.example.com:6379/0\n")
        others = f'case $* in *arn:r*) echo "{secret}" ;; *arn:w*) echo "{webhook}" ;; *) echo fedcba9876543210 ;; esac'
        machine.program("aws", others, code)
        script = TERRAFORM / "instance" / "leaderboard-env"
        conf = machine.conf(**_SECRETS, WEBHOOKS_SECRET="arn:w" if webhook else "")
        return machine.run(script, conf, settings, machine.folder / ".env")

    def test_holds_secrets_and_settings_for_its_owner_alone(self, machine):
        assert self.write(machine).returncode == 0
        assert (machine.folder / ".env").read_text().splitlines()[1:] == [
            "POSTGRES_PASSWORD=fedcba9876543210",
            "REDIS_PASSWORD=0123456789abcdef",
            "ADMIN_KEY=fedcba9876543210",
            "API_PORT=8080",
            "REDIS_URL=rediss://:${REDIS_PASSWORD}@redis.example.com:6379/0",
        ]
        assert stat.S_IMODE((machine.folder / ".env").stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "webhook", [_OLD, f"{_NEW} {_OLD}", f"whsec_{'A' * 32}", f"whsec_{'A' * 83}=", f"whsec_{'A' * 86}=="]
    )
    def test_what_signs_final_ranks_reaches_the_service_as_it_is_stored(self, machine, monkeypatch, webhook):
        done = self.write(machine, webhook=webhook)
        assert done.returncode == 0, done.stderr
        file = machine.folder / ".env"
        assert f"WEBHOOK_SECRET={webhook}\n" in file.read_text()
        # As Compose reads that file for its containers.
        found = environments(machine.folder)
        assert {found[name].get("WEBHOOK_SECRET") for name in ("api", "worker")} == {webhook}
        monkeypatch.setenv("WEBHOOK_SECRET", found["worker"]["WEBHOOK_SECRET"])
        settings = Settings(_env_file=None)
        assert settings.webhooks == "public"
        assert len(secrets_in(settings.webhook_secret.get_secret_value())) == len(webhook.split())

    @pytest.mark.parametrize(
        "webhook",
        [
            *("0123456789abcdef", "whsec_", f"whsec_{'A' * 31}", f"whsec_{'A' * 87}=", f"whsec_{'A' * 88}"),
            *(f"{_NEW}, {_OLD}", f"{_NEW} {_OLD}\nADMIN_KEY=x"),
        ],
    )
    def test_what_can_sign_nothing_is_refused_and_not_printed(self, machine, webhook):
        (machine.folder / ".env").write_text("as it was")
        done = self.write(machine, webhook=webhook)
        assert done.returncode != 0
        assert done.stderr == "arn:w: must be whsec_ and 24 to 64 bytes in base64, several with a blank between\n"
        assert (machine.folder / ".env").read_text() == "as it was"

    def test_asks_by_name_and_region(self, machine):
        self.write(machine)
        asked = "aws secretsmanager get-secret-value --region eu-central-1 --secret-id {}"
        wanted = [f"{asked.format(arn)} --query SecretString --output text" for arn in _SECRETS.values()]
        assert machine.calls() == wanted

    @pytest.mark.parametrize("secret", ["short", "with spaces and more", "sixteen-$(reboot)", ""])
    def test_refuses_what_would_need_quoting_and_does_not_print_it(self, machine, secret):
        (machine.folder / ".env").write_text("as it was")
        done = self.write(machine, secret=secret.replace("$", "\\$"))
        assert done.returncode != 0
        assert "arn:r" in done.stderr
        assert not secret or secret not in done.stdout + done.stderr
        assert (machine.folder / ".env").read_text() == "as it was"
        assert list(machine.folder.glob(".env.*")) == []

    def test_without_secrets_the_file_stays(self, machine):
        (machine.folder / ".env").write_text("as it was")
        assert self.write(machine, code=1).returncode != 0
        assert (machine.folder / ".env").read_text() == "as it was"


class TestRelease:
    """leaderboard-release, from a repository of Git and from archives."""

    @pytest.fixture
    def repository(self, tmp_path):
        folder = tmp_path / "repository"
        self.git(tmp_path, "init", "--quiet", "--initial-branch=work", folder)
        for number in (1, 2):
            (folder / "compose.yaml").write_text(f"# {number}\n")
            self.git(folder, "add", "compose.yaml")
            self.git(folder, "commit", "--quiet", "--message", str(number))
            self.git(folder, "tag", f"v{number}")
        return folder

    def git(self, folder, *argv):
        author = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *author, *argv], cwd=folder, capture_output=True, text=True, check=True).stdout

    def fetch(self, machine, **release):
        script = TERRAFORM / "instance" / "leaderboard-release"
        return machine.run(script, machine.conf(**{**_RELEASE, **release}), machine.folder / "release")

    def fetched(self, machine):
        return (machine.folder / "release" / "compose.yaml").read_text()

    def test_a_tag_in_place_of_what_was_there(self, machine, repository):
        for tag, text in (("v1", "# 1\n"), ("v2", "# 2\n")):
            done = self.fetch(machine, RELEASE_REPOSITORY=repository, RELEASE_REF=tag)
            assert done.returncode == 0, done.stderr
            assert self.fetched(machine) == text

    def test_a_commit(self, machine, repository):
        commit = self.git(repository, "rev-parse", "v1").strip()
        done = self.fetch(machine, RELEASE_REPOSITORY=repository, RELEASE_REF=commit)
        assert done.stdout == f"commit {commit}\n"
        assert self.fetched(machine) == "# 1\n"

    @pytest.mark.parametrize("ref", ["work", "v3", "0" * 40])
    def test_no_branch_and_nothing_that_is_not_there(self, machine, repository, ref):
        self.fetch(machine, RELEASE_REPOSITORY=repository, RELEASE_REF="v1")
        assert self.fetch(machine, RELEASE_REPOSITORY=repository, RELEASE_REF=ref).returncode != 0
        assert self.fetched(machine) == "# 1\n"
        assert sorted(one.name for one in machine.folder.glob("release*")) == ["release"]

    @pytest.mark.parametrize("options", [[], ["--prefix=leaderboard-2/"]])
    def test_an_archive_of_a_bucket(self, machine, repository, options):
        archive = machine.folder / "archive.tar.gz"
        self.git(repository, "archive", "--format=tar.gz", *options, f"--output={archive}", "v2")
        machine.program("aws", f'cp "{archive}" "${{@: -1}}"')
        right = hashlib.sha256(archive.read_bytes()).hexdigest()
        asked = {"RELEASE_ARCHIVE": "s3://studio/leaderboard.tar.gz"}
        done = self.fetch(machine, RELEASE_SHA256=right, **asked)
        assert done.returncode == 0, done.stderr
        assert self.fetched(machine) == "# 2\n"
        assert machine.calls()[0].startswith(
            "aws s3 cp --region eu-central-1 --only-show-errors s3://studio/leaderboard"
        )
        assert self.fetch(machine, RELEASE_SHA256="0" * 64, **asked).returncode != 0
        assert self.fetched(machine) == "# 2\n"

    def test_another_project(self, machine, repository):
        self.git(repository, "mv", "compose.yaml", "other.yaml")
        self.git(repository, "commit", "--quiet", "--message", "3")
        self.git(repository, "tag", "v3")
        done = self.fetch(machine, RELEASE_REPOSITORY=repository, RELEASE_REF="v3")
        assert done.returncode == 1
        assert "is it this project?" in done.stderr


class TestVolume:
    """leaderboard-volume, with the real blkid on files in place of volumes."""

    @pytest.fixture
    def volume(self, machine):
        for tool in ("blkid", "mke2fs"):
            if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
                pytest.skip(f"{tool} is not installed")
        for name in ("udevadm", "systemctl", "mount", "mkfs.xfs"):
            machine.program(name)
        machine.program("mountpoint", code=1)
        for folder in ("etc", "dev/disk/by-id"):
            (machine.folder / folder).mkdir(parents=True)
        (machine.folder / "etc/fstab").write_text("# as it came\n")
        device = machine.folder / "dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc"
        with device.open("wb") as file:
            file.truncate(4 * 2**20)
        return device

    def mount(self, machine):
        return machine.run(machine.moved("leaderboard-volume"), machine.conf(DATA_VOLUME_ID="vol-0abc"))

    def formatted(self, machine):
        return [call for call in machine.calls() if call.startswith("mkfs")]

    def test_an_empty_volume_gets_a_file_system(self, machine, volume):
        done = self.mount(machine)
        assert done.returncode == 0, done.stderr
        assert machine.calls()[0] == f"udevadm wait --timeout=900 {volume}"
        assert self.formatted(machine) == [f"mkfs.xfs -L leaderboard {volume}"]
        assert machine.calls()[-1] == f"mount {machine.folder}/var/lib/docker/volumes"

    def test_a_volume_with_data_is_left_as_it_is(self, machine, volume):
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        subprocess.run([shutil.which("mke2fs", path=path), "-q", "-t", "ext4", volume], check=True, capture_output=True)
        before = volume.read_bytes()
        assert self.mount(machine).returncode == 0
        assert self.formatted(machine) == []
        assert volume.read_bytes() == before
        assert machine.calls()[-1].startswith("mount ")

    @pytest.mark.usefixtures("volume")
    def test_a_volume_that_cannot_be_told_is_left_as_it_is(self, machine):
        machine.program("blkid", code=8)  # several file systems at once, as it says then
        assert self.mount(machine).returncode == 8
        assert self.formatted(machine) == []
        assert (machine.folder / "etc/fstab").read_text() == "# as it came\n"

    def test_the_second_time_nothing_is_added(self, machine, volume):
        self.mount(machine)
        once = (machine.folder / "etc/fstab").read_text()
        self.mount(machine)
        assert (machine.folder / "etc/fstab").read_text() == once
        assert once.splitlines()[1].split()[:3] == [str(volume), f"{machine.folder}/var/lib/docker/volumes", "xfs"]


class TestInstall:
    """leaderboard-install: in which order, and that it stops at the first thing that is wrong."""

    def install(self, machine, downloaded=b"docker compose", **conf):
        (machine.folder / "download").write_bytes(downloaded)
        for name in ("dnf", "systemctl", "docker", "leaderboard-volume", "leaderboard-release"):
            machine.program(name)
        machine.program("uname", "echo x86_64")
        # curl … --output FILE URL
        machine.program("curl", f'cp "{machine.folder}/download" "${{@: -2:1}}"')
        (machine.folder / "etc/leaderboard").mkdir(parents=True)
        values = {
            **_RELEASE,
            "RELEASE_REF": "v1",
            "POSTGRES_CA_URL": "",
            "COMPOSE_URL": "https://example.com/compose-",
            "COMPOSE_SHA256_X86_64": hashlib.sha256(b"docker compose").hexdigest(),
            **conf,
        }
        machine.conf(**values).rename(machine.folder / "etc/leaderboard/deployment.conf")
        return machine.run(machine.moved("leaderboard-install"))

    def test_in_order(self, machine):
        done = self.install(machine, POSTGRES_CA_URL="https://example.com/ca.pem")
        assert done.returncode == 0, done.stdout + done.stderr
        conf = f"{machine.folder}/etc/leaderboard/deployment.conf"
        assert [call for call in machine.calls() if not call.startswith(("uname", "curl"))] == [
            "dnf install --assumeyes --quiet docker git",
            f"leaderboard-volume {conf}",
            "systemctl daemon-reload",
            "systemctl enable --now docker",
            f"leaderboard-release {conf} {machine.folder}/opt/leaderboard",
            f"docker build --quiet --tag leaderboard:local {machine.folder}/opt/leaderboard",
            "systemctl enable leaderboard",
            "systemctl restart leaderboard",
        ]
        assert [call.split()[-1] for call in machine.calls() if call.startswith("curl")] == [
            "https://example.com/compose-x86_64",
            "https://example.com/ca.pem",
        ]
        assert done.stdout.splitlines()[-1].endswith("leaderboard: ready")
        plugin = machine.folder / "usr/local/lib/docker/cli-plugins/docker-compose"
        assert stat.S_IMODE(plugin.stat().st_mode) == 0o755

    def test_another_plugin_than_the_pinned_one_is_not_installed(self, machine):
        done = self.install(machine, downloaded=b"something else")
        assert done.returncode != 0
        assert "leaderboard: failed in line" in done.stdout
        assert not any(call.startswith("systemctl") for call in machine.calls())
        assert not (machine.folder / "usr/local/lib/docker/cli-plugins/docker-compose").exists()
