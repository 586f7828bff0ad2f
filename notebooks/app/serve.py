"""The web page: Voila on the cells of notebook 06 that are tagged `page`, closed to everything else.

Run it by `make app`. Options are Voila's (`--help`), for example `--port=8866` or `--base_url=/emotion/`, and those of
`Sessions` below, for example `--Sessions.max_sessions=40`.
"""

import asyncio
import contextvars
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.utils import url_path_join
from jupyterlab_server.themes_handler import ThemesHandler
from tornado.web import HTTPError
from traitlets import Int, List, Unicode
from traitlets.config import Config
from voila.app import Voila, _kernel_id_regex
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

COPIES = sys.platform == "linux"  # elsewhere every session is a process of its own: slower to come, heavier
HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE.parent / "06_inference_demo.ipynb"
#: What the server says itself, by language.
WORDS = json.loads((HERE.parents[1] / "sercore" / "words.json").read_text(encoding="utf-8"))
WORDS = {language: parts["server"] for language, parts in WORDS.items()}
#: Largest message of a browser [bytes]; Tornado closes the connection of a larger one. The demo sends parts of 4 MB.
MAX_MESSAGE = 64 * 2**20
#: What a page may ask of its kernel: to talk to the widgets that are there. No code, no completion, no inspection.
ALLOWED = ["comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"]
PROTOCOL = "v1.kernel.websocket.jupyter.org"
#: What answers besides the page itself. Voila's other handlers would give out files of the folder.
SERVED = (VoilaKernelWebsocketHandler, VoilaShutdownKernelHandler, TemplateStaticFileHandler, MultiStaticFileHandler,
          ThemesHandler, FileFindHandler, LoginFormHandler)  # fmt: skip
# Widgets are styled in place and anywidget imports its code from a blob; nothing comes from another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline' blob:; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
)


class Copies:
    """The process of `sessions.py`, and what it is asked for."""

    def __init__(self):
        # One thread a session: twenty of them share the processors.
        one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        self._env = os.environ | one
        self._process = None
        self._lock = threading.Lock()

    def spawn(self):
        """Start the process; it loads for some seconds."""
        pipe = subprocess.PIPE
        command = [sys.executable, HERE / "sessions.py"]
        self._process = subprocess.Popen(command, env=self._env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        # Sessions may write to no file, and our stderr can be one: it is copied here, line by line.
        threading.Thread(target=self._copy_log, args=(self._process,), daemon=True).start()

    def wait(self):
        """Wait until it has loaded."""
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{HERE / 'sessions.py'} did not start: expected 'ready'. Its messages are above.")

    def copy(self, **request):
        """Start a session; give its process."""
        with self._lock:
            if self._process.poll() is not None:
                self.spawn()
                self.wait()
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return Copy(int(self._process.stdout.readline()))

    @staticmethod
    def _copy_log(process):
        for line in process.stderr:
            sys.stderr.write(line)
            sys.stderr.flush()


class Copy:
    """What LocalProvisioner wants of a process, for one that is nobody's child here."""

    stdin = stdout = stderr = None

    def __init__(self, pid):
        self.pid = pid
        self._end = os.pidfd_open(pid)  # becomes readable when the process ends; ids alone are used anew

    def poll(self):
        if self._end is not None and select.select([self._end], [], [], 0)[0]:
            os.close(self._end)
            self._end = None
        return 0 if self._end is None else None

    def wait(self):
        return 0

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self._end, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


copies = Copies()
#: Whose page is being made, and in which language.
visitor = contextvars.ContextVar("visitor", default="127.0.0.1")
spoken = contextvars.ContextVar("spoken", default="en")
LOCAL = ("127.0.0.1", "::1")


class CopyProvisioner(LocalProvisioner):
    """Kernels that are copies of the process of `sessions.py`."""

    async def launch_kernel(self, cmd, *, env, cwd, **_):
        argv = [*cmd[cmd.index("-f") :], "--HistoryManager.enabled=False"]
        env = env | {"IPYTHONDIR": str(Path(self.parent.connection_file).parent)}  # nobody's own start-up files
        memory_mb = self.parent.parent.memory_mb
        self.process = await asyncio.to_thread(copies.copy, argv=argv, env=env, cwd=str(cwd), memory_mb=memory_mb)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Sessions(AsyncMappingKernelManager):
    """The kernels, one a visitor, as many as the machine can bear."""

    max_sessions = Int(20, config=True, help="A visitor beyond these is asked to come back later.")
    max_per_address = Int(
        5, config=True, help="Sessions of one address; this computer, and a proxy on it, may have all."
    )
    closed_s = Int(300, config=True, help="How long a session stays that no page is connected to any more [s].")
    unmet_s = Int(30, config=True, help="How long a session stays that no page ever connected to [s].")
    memory_mb = Int(4000, config=True, help="What one session may allocate [MB].")

    def __init__(self, **options):
        super().__init__(**options)
        self._starting, self._met, self._addresses = 0, set(), {}

    async def start_kernel(self, **options):
        address = visitor.get()
        mine = sum(of == address for kernel, of in self._addresses.items() if kernel in self)
        crowded = address not in LOCAL and mine >= self.max_per_address
        if crowded or len(self) + self._starting >= self.max_sessions:
            raise HTTPError(503)
        self._starting += 1
        options["env"] = options.get("env", os.environ) | {"SERCORE_LANGUAGE": spoken.get()}
        try:
            kernel_id = await super().start_kernel(**options)
            self._addresses[kernel_id] = address
            return kernel_id
        finally:
            self._starting -= 1

    def notify_connect(self, kernel_id):
        self._met.add(kernel_id)
        super().notify_connect(kernel_id)

    async def cull_kernel_if_idle(self, kernel_id):
        closed_s = self.closed_s if kernel_id in self._met else self.unmet_s
        limit_s = self.cull_idle_timeout if self._kernel_connections.get(kernel_id) else closed_s
        self.get_kernel(kernel_id).kernel_spec.metadata["cull_idle_timeout"] = limit_s
        await super().cull_kernel_if_idle(kernel_id)


class Channel(VoilaKernelWebsocketHandler):
    """The websocket of a page, closed to messages that would keep the server busy for ever.

    A message begins with the number of its parts, and both jupyter_server (incoming) and Voila (outgoing, where it
    takes messages of the older protocol for ones of this) count as far as that says: to 2^64.
    """

    async def pre_get(self):
        if PROTOCOL not in self.request.headers.get("Sec-WebSocket-Protocol", ""):
            raise HTTPError(400, f"Bad websocket protocol: expected {PROTOCOL}.")
        await super().pre_get()

    def on_message(self, message):
        if isinstance(message, str) or int.from_bytes(message[:8], "little") > len(message) // 8:
            self.close(1007, "Not a message.")
        else:
            super().on_message(message)


class Template(TemplateStaticFileHandler):
    """Files of the template; an odd path is not found, and no reason for a traceback."""

    async def get(self, *args, **options):
        try:
            await super().get(*args, **options)
        except HTTPError:
            raise
        except Exception as error:
            raise HTTPError(404) from error


class KernelAnswer(KernelHandler):
    """Says whether a kernel is there, to those who know its name; does nothing to it."""

    SUPPORTED_METHODS = ("GET",)


class Page(TornadoVoilaHandler):
    """The page itself; a link preview or a probe, which ask for its HEAD, start no session."""

    def prepare(self):
        host, known = self.request.host_name, App.instance().hosts
        if known and host not in known:
            raise HTTPError(403, f"Bad host {host!r}: expected one of {known} (option App.hosts).")
        return super().prepare()

    @property
    def language(self):
        """The one that the address asks for (?lang=de), or the first of the browser's that is known."""
        accepted = self.request.headers.get("Accept-Language", "").split(",")
        asked = [self.get_query_argument("lang", ""), *accepted]  # browsers list them by preference
        languages = [re.split("[-;]", word.strip())[0].lower() for word in asked]
        return next((language for language in languages if language in WORDS), "en")

    @property
    def template_namespace(self):
        return super().template_namespace | {"words": WORDS[self.language]}

    def head(self):
        self.set_header("Content-Type", "text/html; charset=utf-8")

    async def get(self):
        visitor.set(self.request.remote_ip)
        spoken.set(self.language)
        self.xsrf_token  # noqa: B018 - sets the cookie, without which a page that closes cannot end its session
        await super().get()


def keep_page_cells(_, notebook, cwd):
    """Leave the cells that belong on the page: the others are neither shown nor run."""
    notebook.cells = [cell for cell in notebook.cells if "page" in cell.metadata.get("tags", ())]
    if not notebook.cells:
        name = Path(App.instance().notebook_path).name
        raise HTTPError(500, f"No cell of {name} has the tag 'page': expected the cell that shows the demo.")
    notebook.metadata["words"] = WORDS[spoken.get()]
    notebook.metadata["title"] = notebook.metadata["words"]["title"]
    return notebook


def log_error(cell, cell_index, execute_reply):
    """Tell the log what a visitor is not told."""
    App.instance().log.error("The page cannot be shown:\n%s", "\n".join(execute_reply["content"]["traceback"]))


class App(Voila):
    """Voila with the settings above; its own options still count for more."""

    hosts = List(Unicode(), ["localhost", "127.0.0.1", "::1"], config=True,
                 help="Names under which the page is served; an empty list is any.")  # fmt: skip

    def initialize(self, argv=None):
        config = Config()
        config.Voila.update(ip="127.0.0.1", open_browser=False, notebook_path=str(NOTEBOOK))
        config.Voila.port_retries = 0  # another port would be no place that the README names
        config.Voila.tornado_settings = {
            "websocket_max_message_size": MAX_MESSAGE,
            "headers": {"Content-Security-Policy": POLICY, "Permissions-Policy": "microphone=(self)"}
            | {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"},
        }
        config.VoilaConfiguration.update(
            allow_template_override="NO",
            allow_theme_override="NO",
            extension_allowlist=[
                "@jupyter-widgets/jupyterlab-manager",
                "@voila-dashboards/widgets-manager8",
                "anywidget",
            ],
            multi_kernel_manager_class=Sessions,
            prelaunch_hook=keep_page_cells,
        )
        config.VoilaExecutor.on_cell_error = log_error
        config.VoilaExecutor.cell_error_instruction = "Please reload the page. The server's log says what went wrong."
        # An open page may rest for an hour; a session that died is not replaced by an empty one in silence.
        config.Sessions.update(cull_idle_timeout=3600, cull_interval=10, cull_connected=True)
        config.AsyncIOLoopKernelRestarter.restart_limit = 0
        if COPIES:
            if len(tempfile.gettempdir()) < 36:  # the path of a socket has 107 letters at most
                config.KernelManager.transport = "ipc"  # in a folder of our own: no ports to run out of or to knock at
            factory = KernelProvisionerFactory.instance(parent=self)
            factory.default_provisioner_name = "copy"
            factory.provisioners["copy"] = EntryPoint("copy", f"{__name__}:CopyProvisioner", factory.GROUP_NAME)
        self.update_config(config)
        super().initialize(argv)
        if COPIES:
            copies.spawn()

    def setup_template_dirs(self):
        super().setup_template_dirs()
        self.template_paths.insert(0, str(HERE))

    def _is_free(self):
        with socket.socket(socket.AF_INET6 if ":" in self.ip else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.ip, self.port))
            except OSError:
                return False
        return True

    def init_settings(self):
        settings = super().init_settings()
        for environment in ("voila_jinja2_env", "jinja2_env"):
            settings[environment].globals["words"] = WORDS[spoken.get()]
        self.kernel_manager.allowed_message_types = ALLOWED
        return settings

    def init_handlers(self):
        handlers = super().init_handlers()
        served = [handler for handler in handlers if issubclass(handler[1], SERVED)]
        ours = {VoilaKernelWebsocketHandler: Channel, TemplateStaticFileHandler: Template}
        served = [(place, ours.get(kind, kind), *rest) for place, kind, *rest in served]
        state = (url_path_join(self.server_url, rf"/api/kernels/{_kernel_id_regex}"), KernelAnswer)
        return [*served, state, (url_path_join(self.server_url, "/?"), Page, handlers[-1][2])]

    def listen(self):
        if not self._is_free():
            sys.exit(
                f"Port {self.port} is taken, perhaps by this page itself. Choose another: make app OPTIONS=--port=8867"
            )
        print(
            f"Starting; about ten seconds. Then: http://localhost:{self.port}{self.base_url}",
            file=sys.stderr,
            flush=True,
        )
        if COPIES:
            copies.wait()
        # Nobody has to send us more than a few bytes, other than through a websocket.
        self.app.listen = partial(self.app.listen, max_body_size=2**16)
        super().listen()


if __name__ == "__main__":
    App.launch_instance()
