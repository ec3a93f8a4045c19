"""A real S3 server on the loopback, which can be made slow, break off and refuse."""

import threading
import time
from contextlib import contextmanager

BUCKET = 'photographs'
BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>busy</Message></Error>'
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'


class Faults:
    """What happens to requests that read objects.

    Attributes:
        every: of how many requests one is hit; 0 for none.
        kind: 'slow', 'cut', 'busy' or 'denied'.
        hits: how many were hit.
    """

    every, kind, hits = 0, '', 0

    def __init__(self):
        self._count, self._lock = 0, threading.Lock()

    def strikes(self) -> bool:
        with self._lock:
            self._count += 1
            struck = self.every and self._count % self.every == 0
            self.hits += bool(struck)
            return bool(struck)


def _with_faults(application, faults: Faults):
    def call(environ, start_response):
        if environ['REQUEST_METHOD'] != 'GET' or not faults.strikes():
            return application(environ, start_response)
        if faults.kind == 'busy':
            start_response('503 Slow Down', [('Content-Type', 'application/xml')])
            return [BUSY]
        if faults.kind == 'denied':
            start_response('403 Forbidden', [('Content-Type', 'application/xml')])
            return [DENIED]
        if faults.kind == 'slow':
            time.sleep(0.3)
            return application(environ, start_response)
        content = b''.join(application(environ, start_response))  # its length is announced already
        return [content[: len(content) // 2]]

    return call


@contextmanager
def s3_server(monkeypatch):
    """Starts one, with an empty bucket; yields (file system, faults)."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *args):
            pass

    faults = Faults()
    application = _with_faults(DomainDispatcherApplication(create_backend_app), faults)
    server = make_server('127.0.0.1', 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in environment(server.server_port).items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir(BUCKET)
    try:
        yield system, faults
    finally:
        faults.every = 0
        system.rm(BUCKET, recursive=True)
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()


def environment(port: int) -> dict[str, str]:
    """What a process needs to reach it."""
    return dict(
        AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}',
        AWS_ACCESS_KEY_ID='tests',
        AWS_SECRET_ACCESS_KEY='tests',
        AWS_DEFAULT_REGION='us-east-1',
        AWS_MAX_ATTEMPTS='1',  # the library's own patience would hide the plug-in's
        NO_PROXY='127.0.0.1',
    )
