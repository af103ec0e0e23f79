# What Debian's cloud-init makes of a user-data message and a network-config, as JSON on stdout.
#   readers.py DIRECTORY   (holds user-data, meta-data, network-config)
import email
import json
import sys

from cloudinit import safeyaml, util
from cloudinit.net import network_state
from cloudinit.sources import DataSourceNoCloud  # noqa: F401  what reads the disk
from cloudinit.user_data import UserDataProcessor


class Paths:
    def get_ipath_cur(self, name):
        return "/nonexistent"

    def get_cpath(self, name):
        return "/nonexistent"


def read(name):
    with open(sys.argv[1] + "/" + name, "rb") as file:
        return file.read()


message = UserDataProcessor(Paths()).process(read("user-data"))
parts = [
    {
        "type": part.get_content_type(),
        "name": part.get_filename(),
        "text": util.fully_decoded_payload(part),
    }
    for part in message.walk()
    if not part.is_multipart()
]
state = network_state.parse_net_config_data(safeyaml.load(read("network-config")))
print(
    json.dumps(
        {
            "parts": parts,
            "meta": safeyaml.load(read("meta-data")),
            "configs": [safeyaml.load(p["text"]) for p in parts if p["type"] == "text/cloud-config"],
            "interfaces": list(state.iter_interfaces()),
            "routes": list(state.iter_routes()),
            "dns": [state.dns_nameservers, state.dns_searchdomains],
        },
        default=str,
    )
)
