"""Credentials set up as for boto3: profiles and what other machines get of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage.s3_credentials import portable_environment
from tests.s3.conftest import Bucket, use


@pytest.fixture
def profile(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """A bucket whose key, region and endpoint stand in the profile "pad" alone."""
    server = bucket.server
    (tmp_path / "config").write_text(
        f"[profile pad]\nregion = us-east-1\nendpoint_url = {bucket.faults.endpoint}\n"
        f"[profile process]\nregion = us-east-1\nendpoint_url = {bucket.faults.endpoint}\n"
        f"credential_process = {sys.executable} {tmp_path / 'process.py'}\n"
    )
    (tmp_path / "credentials").write_text(
        f"[pad]\naws_access_key_id = {server.key}\naws_secret_access_key = {server.secret}\n"
    )
    keys = {"Version": 1, "AccessKeyId": server.key, "SecretAccessKey": server.secret}
    (tmp_path / "process.py").write_text(f"print({json.dumps(json.dumps(keys))})\n")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    use(
        monkeypatch,
        AWS_PROFILE="pad",
        AWS_CONFIG_FILE=str(tmp_path / "config"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
        AWS_EC2_METADATA_DISABLED="true",
    )
    return bucket


@pytest.mark.parametrize("name", ["pad", "process"])
def test_a_profile_is_used_as_boto3_uses_it(
    profile: Bucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    use(monkeypatch, AWS_PROFILE=name)
    storage.write_atomic(f"{profile.url}/run/x", b"ours")
    assert storage.list_files(f"{profile.url}/run") == ["x"]
    client = boto3.Session(profile_name=name).client("s3")
    bucket = profile.url.removeprefix("s3://")
    assert client.get_object(Bucket=bucket, Key="run/x")["Body"].read() == b"ours"
    client.put_object(Bucket=bucket, Key="run/y", Body=b"boto3's")
    assert storage.read_bytes(f"{profile.url}/run/y") == b"boto3's"


def test_an_unknown_profile_is_named(profile: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, AWS_PROFILE="nobody")
    with pytest.raises(UserError, match=r"cannot read s3://.*profile \(nobody\)"):
        storage.read_bytes(f"{profile.url}/x")


READ = """
import sys
from pad_pipeline import storage
sys.stdout.buffer.write(storage.read_bytes(sys.argv[1]))
"""


def test_another_machine_gets_what_the_profile_stands_for(profile: Bucket, tmp_path: Path) -> None:
    storage.write_atomic(f"{profile.url}/x", b"content")
    given = portable_environment()
    assert given == {
        "AWS_ACCESS_KEY_ID": profile.server.key,
        "AWS_SECRET_ACCESS_KEY": profile.server.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": profile.faults.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    there = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", READ, f"{profile.url}/x"],
        env={**there, "HOME": str(tmp_path / "nobody"), **given},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"content"


def test_temporary_keys_are_warned_about(
    profile: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "credentials").open("a") as file:
        file.write("aws_session_token = of-an-hour\n")
    with caplog.at_level(logging.WARNING):
        assert portable_environment()["AWS_SESSION_TOKEN"] == "of-an-hour"
    assert "cannot renew them" in caplog.text


def test_a_profile_that_cannot_be_used_does_not_stop_a_run_without_s3(
    profile: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with caplog.at_level(logging.WARNING):
        assert portable_environment() == {"AWS_EC2_METADATA_DISABLED": "true"}
    assert "profile (nobody) could not be found" in caplog.text


def test_without_a_profile_the_variables_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    assert portable_environment() == {}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_ROLE_ARN", "of this machine")
    assert portable_environment() == {"AWS_ACCESS_KEY_ID": "key"}
