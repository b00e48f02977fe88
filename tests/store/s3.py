"""A store in a bucket of an S3-compatible server on loopback; tests/store/test_remote.py runs it.

Prints what it found as one JSON document.
"""

import json
import os

import numpy as np
import torch

from limbeck.errors import LimbeckError
from limbeck.store import Store, Writer, by_number, codec, merge, place

WHERE = "s3://teachers/digits"


def rows(ids):
    return torch.sin(torch.as_tensor(ids).float()[:, None] * torch.arange(1, 6))


def write(ids, about="a"):
    with Writer(place(WHERE), {"teacher": about}, {"output": codec("float32")}) as writer:
        fresh = np.asarray(ids)[~writer.known(by_number(ids), np.zeros(len(ids), int))]
        for part in np.array_split(fresh, 3):
            writer.add(by_number(part), np.zeros(len(part), int), {"output": rows(part)})


def refused(action):
    try:
        action()
    except LimbeckError as error:
        return str(error)
    return None


def main():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    boto3.client("s3").create_bucket(Bucket="teachers")
    write(range(40))
    write(range(60))
    found = {"shards": len(Store(place(WHERE)).shards)}
    ids = np.random.default_rng(0).permutation(60)
    zeros = np.zeros(60, int)
    found["equal"] = Store(place(WHERE)).read(by_number(ids), zeros)["output"].equal(rows(ids))
    found["other"] = refused(lambda: write(range(60, 70), about="b"))
    packed = merge([place(WHERE)], place(WHERE))
    found["packed"] = [len(packed), len(packed.shards)]
    client = boto3.client("s3")
    key = f"digits/{packed.shards[0].told['name']}"
    body = bytearray(client.get_object(Bucket="teachers", Key=key)["Body"].read())
    body[-1] ^= 1
    client.put_object(Bucket="teachers", Key=key, Body=bytes(body))
    found["changed"] = refused(lambda: Store(place(WHERE)).read(by_number(ids), zeros))
    server.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
