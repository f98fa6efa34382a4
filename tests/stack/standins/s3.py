"""An S3 service in memory, in place of one on disk."""

import time

import boto3
from moto.server import ThreadedMotoServer

PORT = 8333

if __name__ == "__main__":
    ThreadedMotoServer(ip_address="0.0.0.0", port=PORT).start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{PORT}",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name="us-east-1",
    )
    # What the health check of the real one asks for.
    client.create_bucket(Bucket="status", ACL="public-read")
    while True:
        time.sleep(60)
