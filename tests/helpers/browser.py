"""A headless Chromium, driven by its DevTools protocol."""

import json
import shutil
import subprocess
from contextlib import contextmanager
from itertools import count

import websocket

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
FLAGS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-sync',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-dev-shm-usage',
    '--remote-debugging-port=0',
    '--remote-allow-origins=*',
]
KEYS = dict(
    ArrowLeft=37,
    ArrowUp=38,
    ArrowRight=39,
    ArrowDown=40,
    Escape=27,
    Enter=13,
    Tab=9,
    PageUp=33,
    PageDown=34,
)


class Page:
    """One tab.

    Attributes:
        complaints (list[dict]): exceptions and messages of the console since ``open``.
        requests (list[str]): addresses that the page has asked for since then.
    """

    SHIFT = 8  # of the modifiers of ``press``

    def __init__(self, socket, session):
        self._socket, self._session, self._ids = socket, session, count(1)
        self.complaints, self.requests = [], []
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(f'{domain}.enable')

    def send(self, method, **params):
        """The result of a command; events that come before it are sorted in."""
        number = next(self._ids)
        self._socket.send(
            json.dumps(dict(id=number, method=method, params=params, sessionId=self._session))
        )
        while True:
            message = json.loads(self._socket.recv())
            if message.get('method') in (
                'Runtime.exceptionThrown',
                'Runtime.consoleAPICalled',
                'Log.entryAdded',
            ):
                self.complaints.append(message['params'])
            elif message.get('method') == 'Network.requestWillBeSent':
                self.requests.append(message['params']['request']['url'])
            elif message.get('id') == number and message.get('sessionId') == self._session:
                assert 'error' not in message, message['error']
                return message['result']

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited."""
        result = self.send(
            'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True
        )
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def open(self, path, width=1200, height=900, mobile=False):
        """Shows a file in a window of a given size and waits until it is drawn."""
        self.complaints.clear()
        self.requests.clear()
        self.send(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        self.send('Emulation.setTouchEmulationEnabled', enabled=mobile)
        self.send('Page.navigate', url=path.resolve().as_uri())
        self.evaluate(
            'new Promise(done => document.readyState === "complete" ? done() '
            ': addEventListener("load", done))'
        )
        self.settle()

    def settle(self):
        """Waits for the frames in which the page draws."""
        self.evaluate(
            'new Promise(done => requestAnimationFrame(() => requestAnimationFrame('
            '() => requestAnimationFrame(done))))'
        )

    def _position(self, selector, x, y):
        return self.evaluate(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: 'nearest'}}); const b = e.getBoundingClientRect();
            return {{x: b.left + {x} * b.width, y: b.top + {y} * b.height}}; }})()""")

    def mouse(self, selector, x, y, click=False):
        """Moves the pointer to the fractions (x, y) of an element, and clicks."""
        at = self._position(selector, x, y)
        self.send('Input.dispatchMouseEvent', type='mouseMoved', **at)
        for kind in ('mousePressed', 'mouseReleased') if click else ():
            self.send('Input.dispatchMouseEvent', type=kind, button='left', clickCount=1, **at)
        self.settle()

    def tap(self, selector, x, y):
        """Touches the fractions (x, y) of an element."""
        at = self._position(selector, x, y)
        self.send('Input.dispatchTouchEvent', type='touchStart', touchPoints=[at])
        self.send('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])
        self.settle()

    def press(self, key, modifiers=0):
        """Presses and releases a key by its JavaScript name."""
        code = KEYS.get(key) or ord(key)
        text = dict(text=key) if len(key) == 1 else {}
        for kind in ('keyDown', 'keyUp'):
            self.send(
                'Input.dispatchKeyEvent',
                type=kind,
                key=key,
                modifiers=modifiers,
                windowsVirtualKeyCode=code,
                **(text if kind == 'keyDown' else {}),
            )
        self.settle()


@contextmanager
def open_browser(profile):
    """A page of a fresh Chromium with its profile in a given folder."""
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f'--user-data-dir={profile}', 'about:blank'],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = next(line.split()[-1] for line in process.stderr if 'DevTools listening' in line)
        socket = websocket.create_connection(address, timeout=60)
        socket.send(json.dumps(dict(id=0, method='Target.getTargets')))
        targets = json.loads(socket.recv())['result']['targetInfos']
        target = next(t['targetId'] for t in targets if t['type'] == 'page')
        socket.send(
            json.dumps(
                dict(
                    id=0, method='Target.attachToTarget', params=dict(targetId=target, flatten=True)
                )
            )
        )
        message = {}
        while message.get('id') != 0:
            message = json.loads(socket.recv())
        yield Page(socket, message['result']['sessionId'])
        socket.close()
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()
