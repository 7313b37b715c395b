"""The S3 access of this process as variables that hold on other machines too."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)

_OF_ONE_MACHINE = ("AWS_CONTAINER_", "AWS_EXECUTION_ENV", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE")
_PROFILE = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
)


def portable_environment() -> dict[str, str]:
    """The AWS_* variables for processes on other machines.

    What names files or services of this machine is left out. A profile, whose files are here alone,
    becomes what it stands for: keys, session token, region and endpoint. A warning says where it
    cannot be used, and where its keys are temporary, as other machines cannot renew them.
    """
    found = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("AWS_") and not name.startswith(_OF_ONE_MACHINE)
    }
    if not found.keys() & set(_PROFILE):
        return found
    return {
        **{name: value for name, value in found.items() if name not in _PROFILE},
        **_resolve_profile(),
    }


def _resolve_profile() -> dict[str, str]:
    """What the profile stands for; {} without the S3 extra and where it cannot be used."""
    try:
        import boto3
        from botocore.configprovider import ConfiguredEndpointProvider
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session
    except ImportError:
        return {}
    try:
        core = get_session()
        session = boto3.Session(botocore_session=core)
        credentials = session.get_credentials()
        if credentials is None:
            return {}
        keys = credentials.get_frozen_credentials()
        endpoint = ConfiguredEndpointProvider(
            full_config=core.full_config,
            scoped_config=core.get_scoped_config(),
            client_name="s3",
        ).provide()
    except (BotoCoreError, ClientError) as error:
        logger.warning(
            "workers get no S3 credentials, as the AWS profile cannot be used: %s", error
        )
        return {}
    if keys.token:
        logger.warning(
            "workers get the temporary keys of the AWS profile and cannot renew them: for a run "
            "that takes longer, give their machines a role"
        )
    values = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_DEFAULT_REGION": session.region_name,
        "AWS_ENDPOINT_URL_S3": endpoint,
    }
    return {name: value for name, value in values.items() if value}
