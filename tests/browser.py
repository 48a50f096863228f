"""A page in headless Chromium, told what to do through pipes by the DevTools protocol."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Seconds after which Chromium is not waited for any longer.
PATIENCE = 120.0
SKIPPED = "there is no Chromium: apt-get install chromium, and the pages of reports are looked at"


def program():
    """The path of Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One Chromium with one page at a time; what goes wrong in it is kept."""

    def __init__(self, width=1100, height=900):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()
        # Chromium listens at its descriptor 3, and answers at 4.
        command = (
            f'exec "{program()}" --headless=new --no-sandbox --disable-gpu --no-first-run '
            f"--disable-background-networking --disable-dev-shm-usage --remote-debugging-pipe "
            f'--user-data-dir="{self.folder.name}" --window-size={width},{height} about:blank '
            f"3<&{from_us} 4>&{to_us}"
        )
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command], pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._rest, self._number, self._session = b"", 0, None
        self.complaints, self.requests = [], []
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(one for one in targets if one["type"] == "page")
        attached = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{part}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)

    def close(self):
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._in)
            os.close(self._out)
            self.folder.cleanup()

    def open(self, path):
        """Load a file; returns the seconds until it was drawn."""
        self.complaints, self.requests = [], []
        begun = time.perf_counter()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        self.run(
            "new Promise((done) => { const wait = () => document.readyState === 'complete'"
            " ? requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(wait, 5);"
            " wait(); })"
        )
        return time.perf_counter() - begun

    def run(self, code):
        """The value of an expression of JavaScript in the page."""
        found = self._ask(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def drawn(self, code="undefined"):
        """The value of an expression, after what it changes was drawn."""
        return self.run(
            f"new Promise((done) => {{ const value = {code}; requestAnimationFrame(() =>"
            " requestAnimationFrame(() => done(value))); })"
        )

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.drawn()

    def move(self, x, y):
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.drawn()

    def media(self, kind):
        """Show the page as on ``"screen"``, or in ``"print"``."""
        self._ask("Emulation.setEmulatedMedia", media=kind)

    def picture(self, path, whole=True):
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _ask(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(answer["error"])
                return answer["result"]
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, method, given):
        if method in ("Runtime.exceptionThrown", "Log.entryAdded") or (
            method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning")
        ):
            self.complaints.append(given)
        elif method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])

    def _next(self):
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise AssertionError("Chromium does not answer")
            self._rest += os.read(self._in, 1_000_000)
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)
