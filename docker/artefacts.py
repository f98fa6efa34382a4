"""Save MLflow's artefacts from the S3-compatible store to standard output, or load them from input.

Runs inside the container of MLflow, which knows the store: python artefacts.py save|load
"""

from __future__ import annotations

import io
import os
import sys
import tarfile

import boto3


def main(action: str) -> None:
    """Write or read a tar archive with one file for each object."""
    destination = os.environ["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
    bucket, _, prefix = destination.partition("/")
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    if action == "load":
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz") as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                client.put_object(Bucket=bucket, Key=member.name, Body=content.read())
        return
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as archive:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                content = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                member = tarfile.TarInfo(entry["Key"])
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main(sys.argv[1])
