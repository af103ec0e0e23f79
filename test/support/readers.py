# What Debian's cloud-init makes of a user-data message and a network-config, as JSON on stdout.
#   readers.py DIRECTORY   (holds user-data, meta-data, network-config)
import importlib.util  # noqa: F401  cloud-init takes it for granted
import json
import logging
import os
import sys
import tempfile

from cloudinit import handlers, helpers, safeyaml, util
from cloudinit.config import schema
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.net import network_state
from cloudinit.sources import DataSourceNoCloud  # noqa: F401  what reads the disk
from cloudinit.user_data import UserDataProcessor


logged = []


class Collect(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())


class Scripts(handlers.Handler):
    """Takes scripts without keeping them."""

    prefixes = ["#!"]

    def handle_part(self, *_args):
        pass


def read(name):
    with open(sys.argv[1] + "/" + name, "rb") as file:
        return file.read()


logging.getLogger().addHandler(Collect(logging.WARNING))
work = tempfile.mkdtemp(prefix="vmbatch-cloud-init-")
source = type("Source", (), {"get_instance_id": lambda self: "instance"})()
paths = helpers.Paths({"cloud_dir": work, "run_dir": work}, source)
message = UserDataProcessor(paths).process(read("user-data"))
parts = [
    {
        "type": part.get_content_type(),
        "name": part.get_filename(),
        "text": util.fully_decoded_payload(part),
    }
    for part in message.walk()
    if not part.is_multipart()
]
# The parts in the hands of cloud-init's own handlers.
code = os.path.join(work, "handlers")
os.mkdir(code)
sys.path.insert(0, code)
config = CloudConfigPartHandler(paths)
registry = helpers.ContentHandlers()
registry.register(config)
registry.register(Scripts("always"))
state = {"handlers": registry, "handlerdir": code, "data": None, "frequency": "always", "handlercount": 0, "excluded": []}
handlers.walk(message, handlers.walker_callback, state)
merged = config.cloud_buf
util.del_dir(work)

problems = []
own = [p["text"] for p in parts if p["name"] == "vmbatch.cfg"][0]
try:
    schema.validate_cloudconfig_schema(safeyaml.load(own), schema=schema.get_schema(), strict=True)
except schema.SchemaValidationError as error:
    problems.append(str(error))

state = network_state.parse_net_config_data(safeyaml.load(read("network-config")))
print(
    json.dumps(
        {
            "parts": parts,
            "meta": safeyaml.load(read("meta-data")),
            "merged": merged,
            "problems": problems,
            "logged": logged,
            "configs": [safeyaml.load(p["text"]) for p in parts if p["type"] == "text/cloud-config"],
            "interfaces": list(state.iter_interfaces()),
            "routes": list(state.iter_routes()),
            "dns": [state.dns_nameservers, state.dns_searchdomains],
        },
        default=str,
    )
)
