"""`python -m pipeline_lib.training.launch.loopback ...`: `accelerate launch` whose processes listen on 127.0.0.1 only.

torch's rendezvous listens on all interfaces, asks nobody for a login, and has no setting for either. On one machine
nobody else has to reach it.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta

from accelerate.commands.launch import main
from torch import distributed
from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

HOST = "127.0.0.1"


class LoopbackStore(distributed.TCPStore):  # type: ignore[name-defined]
    """A TCPStore whose server is given a socket that listens already."""

    def __init__(
        self, host: str, port: int, world_size: int, is_master: bool, timeout: timedelta, multi_tenant: bool = False
    ) -> None:
        listening = socket.create_server((HOST, port))
        super().__init__(
            HOST,
            listening.getsockname()[1],
            world_size,
            is_master,
            timeout,
            multi_tenant=multi_tenant,
            master_listen_fd=listening.detach(),
        )


if __name__ == "__main__":
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if sys.platform == "linux":
            os.environ.setdefault(name, "lo")
    vars(static_tcp_rendezvous)["TCPStore"] = LoopbackStore
    main()
