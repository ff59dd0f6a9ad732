"""The listening test in a real browser: JupyterLab, headless Chromium, real clicks and keys.

`make browser-test` installs what it needs."""
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "listening"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]


def cannot(reason):
    """Skip with a reason; under `make browser-test`, which promises a browser, fail."""
    (pytest.fail if os.environ.get("SPA_LIB_BROWSER_TEST") else pytest.skip)(f"{reason}: make browser-test")


@pytest.fixture(scope="module")
def browser():
    for package in ("playwright", "jupyterlab", "ipywidgets"):
        if importlib.util.find_spec(package) is None:
            cannot(f"the package {package} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        installed = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
        candidates = [os.environ.get("SPA_LIB_CHROMIUM"), *installed, p.chromium.executable_path]
        found = [f for f in candidates if f and Path(f).exists()]
        if not found:
            cannot("there is no Chromium")
        browser = p.chromium.launch(executable_path=found[0], args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """A JupyterLab over an empty folder: (its address, the folder)."""
    root = tmp_path_factory.mktemp("lab")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config, runtime = tmp_path_factory.mktemp("config"), tmp_path_factory.mktemp("runtime")
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    news = config / "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}",
    ]
    log_path = root.parent / "lab.log"
    with open(log_path, "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, log_path.read_text()[-2000:]
                time.sleep(0.5)
        else:
            raise AssertionError("JupyterLab did not start:\n" + log_path.read_text()[-2000:])
        yield address, root
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def asked(lab, request):
    """A new test of six clips, and the name of a copy of the volunteers' notebook that opens it."""
    from spa_lib.perception import demo_test

    name = re.sub(r"\W", "_", request.node.name)
    test = demo_test(lab[1] / name, n_classes=3, per_class=2)
    notebook = json.loads((ROOT / "nbs" / "guides" / "listening_test.ipynb").read_text())
    cell = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell["source"] = [f"folder = {str(test.folder)!r}"]
    (lab[1] / f"{name}.ipynb").write_text(json.dumps(notebook))
    return test, f"{name}.ipynb"


class Person:
    """Someone with a browser of their own. `given` holds the answers: trial -> (presence, confidence)."""

    def __init__(self, browser, lab, asked, name):
        self.lab, (self.test, self.notebook), self.name = lab, asked, name
        self.page = browser.new_context(viewport={"width": 1100, "height": 900}).new_page()
        self.page.set_default_timeout(60_000)
        self.given, self.order = {}, self.test.order(name)

    def run_all(self):
        """Open the notebook and run all cells."""
        self.page.goto(f"{self.lab[0]}/doc/tree/{self.notebook}?token={TOKEN}&reset")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        self.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()  # the kernel is there
        self.menu("Run", "Run All Cells")
        # JupyterLab asks which kernel, when it was not quite there
        which = self.page.locator(".jp-Dialog", has_text="Select Kernel")
        which.or_(self.button("start")).first.wait_for()
        if which.is_visible():
            which.locator("button.jp-mod-accept").click()
        self.button("start").wait_for()

    def menu(self, menu, item):
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{re.escape(item)}")).click()

    def button(self, name):
        return self.page.locator(f".spa-listening button.spa-{name}:visible").last

    def says(self, words):
        self.some(".spa-listening", "p => p.offsetParent && p.innerText.includes(arg)", words)

    def some(self, selector, condition, arg=None):
        """Wait until an element fulfils a condition, which is given in JavaScript."""
        elements = f"[...document.querySelectorAll({selector!r})]"
        self.page.wait_for_function(f"arg => {elements}.some({condition})", arg=arg)

    def start(self, known=False):
        """Give the name and begin; where there are answers under it, say that they are theirs."""
        self.page.locator(".spa-listening:visible input").last.press_sequentially(self.name)
        self.page.keyboard.press("Enter")
        if known:
            self.says(f"There are answers under the name {self.name}.")
            self.shot("7_known_name")
            self.page.wait_for_timeout(800)  # a double click is no reply
            self.button("start").click()
        self.says(f"You are {self.name}.")
        self.says(f"{len(self.given)} of {len(self.test.trials)} answered")

    def current(self):
        return next((t for t in self.order if t not in self.given), None)

    def press(self, name, key, keyboard):
        """Press a button when it can be pressed, with the mouse or by its key."""
        button = self.button(name)
        self.some(f".spa-listening button.spa-{name}", "b => b.offsetParent && !b.disabled")
        if keyboard:
            self.page.keyboard.press(key)
        else:
            button.click()

    def play(self, keyboard=False):
        """Play the clip, and see that it sounds: the player's clock runs."""
        _, mid = self.test.trials[self.current()]
        self.says(f"Do you hear this sound?\n\n{self.test.name(mid)}\n")
        self.press("play", "p", keyboard)
        self.some(".spa-listening audio", "a => a.currentTime > 0 && a.duration > 1")

    def answer(self, presence, confidence, keyboard=False):
        self.play(keyboard)
        self.press("yes" if presence else "no", "y" if presence else "n", keyboard)
        self.press(f"c{confidence}", str(confidence), keyboard)
        self.given[self.current()] = (presence, confidence)
        self.says(f"{len(self.given)} of {len(self.test.trials)} answered")

    def undo(self, keyboard=False):
        self.press("undo", "u", keyboard)
        self.given.popitem()
        self.says("Undone")

    def shot(self, state):
        """A picture for the eye, where $SPA_LIB_SCREENSHOTS names a folder."""
        if folder := os.environ.get("SPA_LIB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=f"{folder}/{state}.png")
            self.page.locator(".spa-listening:visible").last.screenshot(path=f"{folder}/{state}_panel.png")

    def check_file(self, undone):
        """The file holds exactly what was answered, in that order."""
        from spa_lib.perception import read_participants

        found = read_participants(self.test, [self.test.answers_file(self.name)])
        trials = [self.test.trials[t] for t in self.given]
        assert list(zip(found["clip"], found["class"])) == trials
        assert list(zip(found.presence, found.confidence)) == [(int(p), c) for p, c in self.given.values()]
        assert (found.participant == self.name).all() and (found.seconds > 0).all()
        assert found.attrs["undone"] == undone


def test_a_person_plays_answers_undoes_reloads_and_finishes(browser, lab, asked):
    anna = Person(browser, lab, asked, "anna")
    anna.run_all()
    anna.shot("1_start")
    anna.start()
    assert all(anna.button(name).is_disabled() for name in ("yes", "c4", "undo"))
    anna.shot("2_question")
    anna.play()
    anna.shot("3_playing")
    anna.press("yes", "y", keyboard=False)
    anna.says("how sure")
    anna.shot("4_chosen")
    anna.answer(True, 4)
    anna.shot("5_answered")
    cells = anna.page.locator(".jp-Notebook .jp-Cell").count()
    anna.answer(False, 2, keyboard=True)
    anna.undo(keyboard=True)
    anna.shot("6_after_undo")
    anna.answer(False, 5, keyboard=True)
    anna.page.keyboard.press("1")  # too early: nothing was played
    assert anna.page.locator(".jp-Notebook .jp-Cell").count() == cells, "a key reached the notebook"
    assert anna.page.locator(".jp-Notebook .jp-MarkdownCell").count() == 1, "a key reached the notebook"

    anna.run_all()  # a reload in mid-test, the kernel lives on
    anna.start(known=True)
    anna.shot("8_after_reload")
    anna.answer(True, 1)

    anna.menu("Kernel", "Restart Kernel and Run All Cells")
    anna.page.locator(".jp-Dialog button.jp-mod-accept").click()
    anna.says("Listening test")
    anna.start(known=True)
    anna.undo()
    for k in range(4):
        anna.answer(k % 2 == 0, k + 2, keyboard=k % 2 == 0)
    anna.says("Finished")
    anna.shot("9_finished")
    anna.check_file(undone=2)
    anna.page.context.close()


def test_two_people_in_two_browsers_lose_nothing(browser, lab, asked):
    people = [Person(browser, lab, asked, name) for name in ("ben", "clara")]
    for p in people:
        p.run_all()
        p.start()
    for k in range(6):
        for p in people:
            p.answer((k + len(p.name)) % 2 == 0, 1 + k % 5, keyboard=k % 2 == 0)
    for p in people:
        p.says("Finished")
        p.check_file(undone=0)
        p.page.context.close()
