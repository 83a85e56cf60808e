"""A RabbitMQ of its own for a measurement, that of the system."""
import os
import subprocess

from load import free_port, wait_until_open

RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def start_rabbitmq(directory, plugins=""):
    """Answers the processes, the server first, and the port where guests are welcome."""
    port, distribution, epmd_port = free_port(), free_port(), free_port()
    with open(os.path.join(directory, "plugins"), "w") as file:
        file.write(f"[{plugins}].\n")
    epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(epmd_port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_open(epmd_port)
    names = {"NODENAME": f"bench{port}@localhost", "NODE_IP_ADDRESS": "127.0.0.1", "NODE_PORT": port,
             "DIST_PORT": distribution, "MNESIA_BASE": f"{directory}/data",
             "LOG_BASE": f"{directory}/log", "PID_FILE": f"{directory}/pid",
             "ENABLED_PLUGINS_FILE": f"{directory}/plugins",
             "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}
    environment = {f"RABBITMQ_{name}": str(value) for name, value in names.items()}
    environment.update(HOME=directory, ERL_EPMD_ADDRESS="127.0.0.1", ERL_EPMD_PORT=str(epmd_port))
    # The script becomes the virtual machine's parent: what it costs is read from its child.
    script = subprocess.Popen([RABBITMQ], env=os.environ | environment, process_group=0,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until_open(port)
    return [script, epmd], port


class Machine:
    """The process that burns the CPU time of a server."""

    def __init__(self, server):
        found = subprocess.run(["pgrep", "-g", str(server.pid), "beam.smp"], capture_output=True,
                               text=True, check=False).stdout.split()
        self.pid = int(found[0]) if found else server.pid


def end_rabbitmq(server):
    """What the script has started is its group."""
    subprocess.run(["kill", "-9", "--", f"-{server.pid}"], check=False)
