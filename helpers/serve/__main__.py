"""The command: ``python -m helpers.serve FOLDER --port 8000``. Ctrl+C stops it."""

import argparse
import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

from helpers.serve.process import READY
from helpers.systems import print_anything


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers.serve", description="Serve a model, or an adapter with "
                                     "its base, to any OpenAI client.")
    parser.add_argument("folder", help="a saved model or adapter with its processor, a Hub id, or 'tiny'")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine alone")
    parser.add_argument("--name", help="what clients call the model (default: the folder's name)")
    parser.add_argument("--allow-paths", action="store_true", help="let clients name files of this machine")
    parser.add_argument("--allow-urls", action="store_true", help="let clients name addresses to fetch")
    parser.add_argument("--end-with-input", action="store_true", help="stop when standard input is closed, as "
                        "it is when the program that started the server ends, in whatever way")
    return parser


def _end_with_input(server) -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that waits inside it makes Python's own end noisy
        pass
    server.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 1 after a sentence on stderr that says what is wrong."""
    print_anything()
    options = _parser().parse_args(arguments)
    try:
        import openai  # noqa: F401  (transformers' server takes its types)
        import uvicorn
    except ImportError as error:
        print(f"Serving needs the package {error.name!r}: python -m pip install -r requirements.txt -c constraints.txt",
              file=sys.stderr)
        return 1
    try:
        listener = socket.create_server((options.host, options.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"Cannot listen on {options.host}, port {options.port} ({reason}): choose another with --port, or 0 for "
              "any free one.", file=sys.stderr)
        return 1

    from helpers.hub import HubError
    from helpers.model.hardware import NoSuchDevice, NotEnoughMemory
    from helpers.model.lora import AdapterError
    from helpers.serve.folder import load_for_serving
    from helpers.serve.server import build_app

    try:
        model, processor = load_for_serving(options.folder)
    except (FileNotFoundError, AdapterError, HubError, NoSuchDevice, NotEnoughMemory) as error:
        print(error, file=sys.stderr)
        return 1
    name = options.name or Path(options.folder).resolve().name
    app = build_app(model, processor, name, options.allow_paths, options.allow_urls)
    host, port = listener.getsockname()[:2]
    if not host.startswith("127."):
        print(f"Everybody who reaches {host} may use this server: it asks for no password.", flush=True)
    print(f"{READY}http://{host}:{port}/v1 as {name!r}; Ctrl+C stops it.", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    if options.end_with_input:
        threading.Thread(target=_end_with_input, args=[server], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
