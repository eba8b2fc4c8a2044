#!/usr/bin/env python3
"""A whole client of Holdfast's gRPC APIs in one file: sign in, list, watch, deploy. Copy what you need.

    pip install grpcio grpcio-tools PyJWT cryptography
    ./fleet.py list --filter 'board=host'
    ./fleet.py watch --count 3
    ./fleet.py deploy dv... bn...

It acts in the current context of the `holdfast` command line (HOLDFAST_HOME, or ~/.config/holdfast), and generates its stubs from the
.proto files at every start; a program of yours would do that once.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
import tomllib
import uuid

import grpc
import grpc_tools
import jwt
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def stubs():
    """Generates and imports the stubs; they live as long as the process."""
    out = tempfile.mkdtemp(prefix="holdfast-stubs-")
    files = [str(file.relative_to(PROTO)) for file in sorted(PROTO.glob("holdfast/**/*.proto"))]
    known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(arguments + files) != 0:
        sys.exit("the .proto files cannot be compiled")
    sys.path.insert(0, out)


class Session:
    """Channels that trust the context's CA alone, and an access token for every call."""

    def __init__(self, home):
        config = tomllib.loads((home / "config.toml").read_text())
        self.context = config["contexts"][config["current"]]
        self.tenant = self.context["tenant"]
        self.ca = pathlib.Path(self.context["ca"]).read_bytes()
        self.metadata = [("authorization", f"Bearer {self.sign_in()}")]

    def channel(self, service):
        target = self.context[service].removeprefix("https://")
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(self.ca))

    def sign_in(self):
        """RFC 7523: an assertion signed by the key, for a token of 15 minutes. The private key stays here."""
        from holdfast.registry.v1 import token_pb2, token_pb2_grpc

        now = int(time.time())
        claims = {"iss": self.context["key"], "sub": self.context["key"], "aud": "holdfast/token"}
        claims |= {"iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
        key = pathlib.Path(self.context["key_file"]).read_text()
        assertion = jwt.encode(claims, key, algorithm="ES256")
        tokens = token_pb2_grpc.TokenServiceStub(self.channel("registry"))
        return tokens.ExchangeToken(token_pb2.ExchangeTokenRequest(assertion=assertion)).access_token

    def name(self, collection, text):
        return text if "/" in text else f"{self.tenant}/{collection}/{text}"


def devices(session, text):
    """Every device that matches, page by page: stop only at an empty page token."""
    from holdfast.registry.v1 import device_pb2, device_pb2_grpc

    service = device_pb2_grpc.DeviceServiceStub(session.channel("registry"))
    request = device_pb2.ListDevicesRequest(parent=session.tenant, filter=text, page_size=100)
    while True:
        page = service.ListDevices(request, metadata=session.metadata, timeout=10)
        yield from page.devices
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def watch(session, count):
    """The devices there are, then changes; a watch ends with its access token: `resume_token` of the last event goes on after it."""
    from holdfast.registry.v1 import device_pb2, device_pb2_grpc

    service = device_pb2_grpc.DeviceServiceStub(session.channel("registry"))
    for event in service.WatchDevices(device_pb2.WatchDevicesRequest(parent=session.tenant), metadata=session.metadata):
        kind = device_pb2.WatchDevicesResponse.Kind.Name(event.kind).removeprefix("KIND_").lower()
        print(kind, event.device.name.rsplit("/", 1)[-1], flush=True)
        count -= 1
        if count == 0:
            return


def deploy(session, device, bundle):
    """Tells one device what to run and follows it to its end; true when the device kept it."""
    from holdfast.ota.v1 import deployment_pb2, deployment_pb2_grpc

    service = deployment_pb2_grpc.DeploymentServiceStub(session.channel("ota"))
    request = deployment_pb2.CreateDeploymentRequest(
        parent=session.tenant, device=session.name("devices", device), bundle=session.name("bundles", bundle)
    )
    deployment = service.CreateDeployment(request, metadata=session.metadata, timeout=10)
    state = deployment_pb2.Deployment.State
    for told in service.WatchDeployment(
        deployment_pb2.WatchDeploymentRequest(name=deployment.name), metadata=session.metadata
    ):
        now = told.deployment
        print(state.Name(now.state).removeprefix("STATE_").lower(), now.reason, flush=True)
    return now.state == state.STATE_CONFIRMED


def explain(error):
    """Programs act on the reason (docs/errors.md), never on the message."""
    text = f"{error.code().name}: {error.details()}"
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        name = detail.type_url.rsplit(".", 1)[-1]
        if name == "ErrorInfo":
            from google.rpc import error_details_pb2

            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            text += f" ({info.reason})"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = os.environ.get("HOLDFAST_HOME") or pathlib.Path.home() / ".config/holdfast"
    parser.add_argument("--home", type=pathlib.Path, default=home)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list").add_argument("--filter", default="")
    commands.add_parser("watch").add_argument("--count", type=int, default=0, help="end after so many events")
    one = commands.add_parser("deploy")
    one.add_argument("device")
    one.add_argument("bundle")
    arguments = parser.parse_args()
    stubs()
    try:
        session = Session(pathlib.Path(arguments.home))
        if arguments.command == "list":
            for device in devices(session, arguments.filter):
                print(device.name.rsplit("/", 1)[-1], device.board, device.hardware_id)
        elif arguments.command == "watch":
            watch(session, arguments.count)
        elif not deploy(session, arguments.device, arguments.bundle):
            return 7
    except grpc.RpcError as error:
        print(explain(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
