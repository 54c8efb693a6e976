"""The web page in a real browser: Python's numbers, no other place, and usable without a pointer or without sight."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adios_zoo.export import web_runtime
from adios_zoo.export.compare import worst_difference
from adios_zoo.export.web import export_web
from PIL import Image, ImageCms
from torch.nn import functional as F

from adios_zoo.images.image import read_image
from adios_zoo.models.card import MaskerFacts
from adios_zoo.models.model import AdiosModel
from adios_zoo.models.preprocess import make_transform
from adios_zoo.pictures.demo import sample_photographs, views_of
from adios_zoo.pictures.draw import area_percentages, cut_out, predict_masks
from adios_zoo.search.neighbours import nearest
from adios_zoo.zoo.load import load_model
from tests.browser import chromium, served
from tests.conftest import DATA
from tests.small_models import exported_model, small_card


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if web_runtime.cached() is None:
        pytest.skip("onnxruntime-web is not in the cache: python -m adios_zoo.export.web_runtime fetches it")
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@dataclass
class Visit:
    """An open page."""

    driver: Any

    def do(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, body: str, *arguments: object) -> Any:
        """The first true value of an expression, or the page's error as an AssertionError."""
        script = f"""
            const [...given] = arguments, done = given.pop();
            const look = () => {{
                const found = (() => {body})();
                const error = document.querySelector("#error").textContent;
                if (found || error) done(found || {{ error }}); else setTimeout(look, 30);
            }};
            look();
        """
        found = self.driver.execute_async_script(script, *arguments)
        if isinstance(found, dict) and "error" in found:
            raise AssertionError(found["error"])
        return found

    def give(self, *paths: Path) -> dict[str, Any]:
        """Choose files and return what the page finds of the last."""
        before = self.do("return window.results.length")
        self.driver.find_element("id", "file").send_keys("\n".join(map(str, paths)))
        return self.result(before + len(paths))

    def result(self, number: int) -> dict[str, Any]:
        """The so-manieth result of this page, from 1."""
        self.wait("window.results.length >= given[0]", number)
        found: dict[str, Any] = self.do(
            "const r = window.results[arguments[0] - 1];"
            "return {name: r.name, features: [...r.features], masks: [...r.masks], pixels: [...r.pixels]};",
            number,
        )
        return {k: v if k == "name" else np.array(v, np.float32) for k, v in found.items()}

    def text(self, selector: str) -> str:
        return str(self.do("return document.querySelector(arguments[0]).innerText", selector))

    def press(self, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def focus(self) -> str:
        """What has the focus: its id, its value or its text."""
        return str(self.do("const e = document.activeElement; return e.id || e.value || e.innerText"))


def visit(driver: Any, address: str) -> Visit:
    for name in ("performance", "browser"):  # of the page before
        driver.get_log(name)
    driver.get(address)
    page = Visit(driver)
    page.wait('document.querySelector("#status").textContent.startsWith("Ready")')
    page.do('window.results = []; document.addEventListener("result", (e) => window.results.push(e.detail))')
    return page


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Views of two photographs, one of which is nearest to each."""
    folder = tmp_path_factory.mktemp("views")
    for path in sample_photographs():
        for name, view in views_of(path.stem, read_image(path)).items():
            view.resize((200, 150)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("web") / "model")


@pytest.fixture(scope="module")
def folder(model: Path, views: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_web(model, tmp_path_factory.mktemp("web") / "page", gallery=views)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Visit:
    return visit(browser, address)


# The numbers


def real_photographs() -> list[Path]:
    if not (DATA / "photos").is_dir():
        return sample_photographs()
    found = sorted((DATA / "photos").glob("*.jpg"))
    grey = [path for path in found if Image.open(path).mode == "L"]
    return [*found[:3], *grey[:1]]


def vit_tiny(folder: Path) -> Path:
    torch.manual_seed(0)
    masker = MaskerFacts(image_size=96, slots=6, base_channels=8, norm="gn", blocks=5)
    card = small_card(
        architecture="vit_tiny_patch16_224", model_args={"img_size": 96}, input_size=96, crop_pct=0.375, masker=masker
    )
    return AdiosModel(card).save_pretrained(folder)


@pytest.mark.parametrize("name", ["resnet18_tin200", "vit_tiny"])
def test_features_and_masks_are_pythons(browser: Any, tmp_path: Path, name: str) -> None:
    source = str(vit_tiny(tmp_path / "model")) if name == "vit_tiny" else name
    model = load_model(source)
    with served(export_web(source, tmp_path / "page")) as address:
        page = visit(browser, address)
        for path in real_photographs():
            found = page.give(path)
            image = read_image(path)
            with torch.inference_mode():
                features = model(model.transform(image)[None])[0].numpy()
            masks = predict_masks(model, image)
            assert worst_difference(features, found["features"]) <= 1e-3, path
            assert worst_difference(masks, found["masks"].reshape(masks.shape)) <= 1e-3, path
            shares = page.do('return [...document.querySelectorAll(".share")].map((e) => e.innerText)')
            assert shares == [f"{percent} %" for percent in area_percentages(masks)]


def swapped_profile() -> bytes:
    """A colour profile by which red and green change places: whoever heeds it shows other colours."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return plain.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")


def rotated(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)


def with_profile(image: Image.Image, path: Path) -> None:
    image.save(path, icc_profile=swapped_profile())


def with_holes(image: Image.Image, path: Path) -> None:
    alpha = np.full((image.height, image.width), 255, np.uint8)
    alpha[: image.height // 3] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(path)


def tiny(image: Image.Image, path: Path) -> None:
    image.resize((9, 7)).save(path)


def large(image: Image.Image, path: Path) -> None:
    image.resize((2000, 1500)).save(path)  # more than is read at a time


@pytest.mark.parametrize(
    ("make", "suffix"), [(rotated, "jpg"), (with_profile, "png"), (with_holes, "png"), (tiny, "png"), (large, "png")]
)
def test_pixels_are_those_of_python(
    page: Visit, model: Path, tmp_path: Path, make: Callable[[Image.Image, Path], None], suffix: str
) -> None:
    path = tmp_path / f"photo.{suffix}"
    make(read_image(sample_photographs()[0]), path)
    expected = load_model(model).transform(read_image(path)).numpy()
    assert worst_difference(expected.ravel(), page.give(path)["pixels"]) < 1e-5


PREPROCESS = """
    const [model, width, height, bytes, done] = arguments;
    const rgba = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    const rows = (y, n) => rgba.subarray(4 * width * y, 4 * width * (y + n));
    import("/preprocess.js").then(({ preprocess }) => done([...preprocess({ width, height, stride: 4, rows }, model)]));
"""


@pytest.mark.parametrize(
    "changes", [{}, {"crop_mode": "squash"}, {"interpolation": "bicubic"}, {"crop_pct": 0.51}, {"crop_pct": 1.0}]
)
@pytest.mark.parametrize("size", [(50, 70), (33, 33), (120, 41), (41, 60)])
def test_every_transform_of_a_card(page: Visit, folder: Path, changes: dict[str, Any], size: tuple[int, int]) -> None:
    card = small_card(**changes)
    told = json.loads((folder / "model" / "model.json").read_text())
    told |= {"resize": int(card.input_size / card.crop_pct), "squash": card.crop_mode == "squash"}
    told["interpolation"] = card.interpolation
    image = Image.effect_noise(size, 120).convert("RGB")
    image.paste((250, 20, 90), (0, 0, 20, 20))
    content = base64.b64encode(image.convert("RGBA").tobytes()).decode()
    found = page.driver.execute_async_script(PREPROCESS, told, *size, content)
    expected = make_transform(card)(image).numpy()
    level = 1 / 255 / min(card.std)  # by which Pillow's versions differ among themselves
    assert np.abs(np.array(found, np.float32).reshape(expected.shape) - expected).max() < 1.01 * level


@pytest.mark.parametrize(("old", "new", "antialias"), [(24, 16, True), (24, 16, False), (16, 24, False), (7, 31, True)])
def test_planes_are_resized_as_torch_does_it(page: Visit, old: int, new: int, antialias: bool) -> None:
    planes = torch.rand(3, old, old)
    script = (
        "const [planes, ...rest] = arguments, done = rest.pop();"
        'import("/preprocess.js").then((m) => done([...m.resizePlanes(Float32Array.from(planes), ...rest)]));'
    )
    found = page.driver.execute_async_script(script, planes.flatten().tolist(), old, new, antialias)
    expected = F.interpolate(planes[None], (new, new), mode="bilinear", antialias=antialias)[0].flatten()
    assert np.abs(np.array(found) - expected.numpy()).max() < 1e-5


# What is shown


def test_nearest(page: Visit, model: Path, views: Path) -> None:
    query = sample_photographs()[1]
    names, images = zip(*[(path.stem, read_image(path)) for path in sorted(views.iterdir())], strict=True)
    loaded = load_model(model)
    with torch.inference_mode():
        features = loaded(torch.stack([loaded.transform(image) for image in (read_image(query), *images)])).numpy()
    answer = nearest([features[1:]], features[:1], 6)[0]
    expected = [(names[i], f"cosine {cosine:.2f}") for i, cosine in answer]
    page.give(query)
    shown = page.do('return [...document.querySelectorAll(".neighbours .words")].map((e) => e.innerText.split("\\n"))')
    assert [tuple(words) for words in shown] == expected
    assert "among 8." in page.text("#nearest-note")


def test_the_page_grows_a_gallery_of_its_own(browser: Any, model: Path, tmp_path: Path) -> None:
    with served(export_web(model, tmp_path / "page")) as address:
        page = visit(browser, address)
        first, second = sample_photographs()
        page.give(first)
        assert "no other photograph yet" in page.text("#nearest-note")
        page.give(second)
        assert page.text(".neighbours").startswith("china.jpg")
        page.do('document.querySelector(".neighbours button").click()')
        assert page.result(3)["name"] == "china.jpg"
        assert page.text(".neighbours").startswith("flower.jpg")


def shown_pixels(page: Visit, canvas: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a canvas shows, (H, W, 4) from 0 to 1."""
    address = page.do("return document.querySelector(arguments[0]).toDataURL()", canvas)
    return (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGBA"), np.float32)
        / 255
    )


def test_one_mask_and_what_the_encoder_sees_without_it(page: Visit, model: Path) -> None:
    found = page.give(sample_photographs()[0])
    card = load_model(model).card
    mask = found["masks"].reshape(3, 32, 32)[1]
    page.do("document.querySelectorAll('#slots input')[2].click()")
    colour, alpha = np.split(shown_pixels(page, ".paint"), [3], axis=2)
    centres = slice(12, None, 24)  # of the mask's 32 pixels among the picture's 768
    assert np.abs(alpha[centres, centres, 0] - mask).max() < 0.06  # smoothly enlarged, but the same mask
    assert np.ptp(colour[alpha[..., 0] > 0.2], axis=0).max() < 0.05
    layer = shown_pixels(page, ".hidden")
    photograph = np.full((768, 768, 3), 0.9, np.float32)
    composed = photograph * (1 - layer[..., 3:]) + layer[..., :3] * layer[..., 3:]
    assert np.abs(composed - cut_out(photograph, layer[..., 3], card.mean)).max() < 0.02
    # The figure beside it is of the encoder on just that.
    page.wait('document.querySelector("#seen + figcaption").textContent.includes("cosine")')
    loaded = load_model(model)
    with torch.inference_mode():
        pixels = torch.from_numpy(found["pixels"]).reshape(1, 3, 32, 32)
        whole, without = loaded(pixels), loaded(pixels * (1 - torch.from_numpy(mask)))
    assert f"cosine of {F.cosine_similarity(whole, without).item():.2f} " in page.text("#seen + figcaption")


def test_dropped_and_pasted(page: Visit) -> None:
    content = base64.b64encode(sample_photographs()[0].read_bytes()).decode()
    page.do(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
        const given = new DataTransfer();
        given.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
        document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: given, bubbles: true }));
        """,
        content,
    )
    first, second = page.result(1), page.result(2)
    assert (first["name"], second["name"]) == ("a.jpg", "pasted photograph")
    assert np.array_equal(first["features"], second["features"])


# No other place


def test_nothing_is_fetched_from_elsewhere(page: Visit, address: str) -> None:
    page.give(sample_photographs()[0])
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {request["method"] for request in asked} == {"GET"}
    timed = page.do('return performance.getEntriesByType("resource").map((e) => e.name)')
    addresses = [request["url"] for request in asked] + timed
    assert f"{address}page.js" in addresses
    assert all(url.startswith((address, f"blob:{address}")) for url in addresses)
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_policy_forbids_other_places(page: Visit) -> None:
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        attempt = f'fetch("http://localhost:{server.server_port}/").then(() => "sent", () => "refused")'
        from_page = page.driver.execute_async_script(f"{attempt}.then(arguments[0])")
        from_worker = page.driver.execute_async_script(
            "const script = new Blob([arguments[0]]), done = arguments[1];"
            "new Worker(URL.createObjectURL(script)).onmessage = (event) => done(event.data);",
            f"{attempt}.then(postMessage)",
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (from_page, from_worker, asked) == ("refused", "refused", [])


def test_threads_where_the_server_allows_them(browser: Any, folder: Path) -> None:
    headers = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    query = sample_photographs()[0]
    with served(folder) as address:
        page = visit(browser, address)
        alone = page.give(query)
        assert "one thread" in page.text("#runs-on")
    with served(folder, headers) as address:
        page = visit(browser, address)
        threads = min(4, int(page.do("return navigator.hardwareConcurrency")))
        several = page.give(query)
        if threads > 1:
            assert f"{threads} threads" in page.text("#runs-on")
    assert worst_difference(alone["features"], several["features"]) < 1e-4


# Without a pointer, without sight


def test_by_keyboard_alone(page: Visit) -> None:
    from selenium.webdriver.common.keys import Keys

    page.press(Keys.TAB)
    assert page.focus() == "file"
    outline = 'return getComputedStyle(document.querySelector("#file + label")).outlineStyle'
    assert page.do(outline) == "solid"
    page.press(Keys.TAB)
    assert "begin with one of the gallery" in page.focus()
    page.press(Keys.TAB)
    sample = page.focus()
    page.press(Keys.ENTER)
    assert page.result(1)["name"] == sample
    page.wait('document.activeElement.id === "name"')  # the focus is where the result begins
    page.press(Keys.TAB)
    assert page.focus() == "all"
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.ARROW_DOWN)
    assert page.focus() == "1"
    assert page.text("#masked + figcaption") == "Mask 2 alone"
    page.press(Keys.TAB)
    assert page.focus() == "opacity"
    page.press(Keys.ARROW_LEFT)
    assert page.text("output") == "60 %"
    assert page.do('return getComputedStyle(document.querySelector(".paint")).opacity') == "0.6"
    page.press(Keys.TAB)
    neighbour = page.focus().split("\n")[0]
    page.press(Keys.SPACE)
    assert page.result(2)["name"] == neighbour
    assert page.text("#masked + figcaption") == "Mask 2 alone"  # the choice stays


def test_by_screen_reader(page: Visit) -> None:
    page.give(sample_photographs()[0])
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    heard = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    shares = page.do('return [...document.querySelectorAll(".share")].map((e) => e.innerText)')
    roles = {role for role, _ in heard}
    assert {"banner", "main", "contentinfo", "heading", "group", "status"} <= roles
    assert ("button", "Choose photographs") in heard
    radios = [name for role, name in heard if role == "radio"]
    assert radios == ["All masks", *(f"Mask {k} {share}" for k, share in enumerate(shares, 1))]
    assert ("slider", "Opacity of the masks") in heard
    assert ("image", "china.jpg with all 3 masks in colour, numbered where they are strongest") in heard
    assert all(name for role, name in heard if role in ("button", "image", "radio", "slider", "heading", "region"))
    status = page.text("#status")
    assert status.startswith("china.jpg: mask 1 covers ")
    assert "Nearest: china" in status
    page.do("document.querySelectorAll('#slots input')[1].click()")
    page.wait('document.querySelector("#status").textContent.includes("without mask 1")')


CONTRASTS = """
    const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * channel(rgb[i] / 255), 0);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const found = parse(getComputedStyle(e).backgroundColor);
            if (found.length < 4 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const e of document.querySelectorAll("body *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !e.checkVisibility()) continue;
        const pair = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a);
        found.push([(pair[0] + 0.05) / (pair[1] + 0.05), e.tagName + "." + e.className, e.textContent.trim()]);
    }
    return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Visit, scheme: str) -> None:
    emulate = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulate)
    try:
        page.give(sample_photographs()[0])
        found = page.do(CONTRASTS)
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(found) > 30
    assert [entry for entry in found if entry[0] < 4.5] == []


def test_narrow_screens_need_no_sideways_scrolling(page: Visit) -> None:
    metrics = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.give(sample_photographs()[0])
        assert page.do("return document.documentElement.scrollWidth") <= 320
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Mistakes


def test_what_is_no_image(page: Visit, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no image")
    with pytest.raises(AssertionError, match=r"notes.txt is not an image that this browser can read; take a JPEG"):
        page.give(notes)
    assert page.do('return document.querySelector("#error").getAttribute("role")') == "alert"
    page.do('document.querySelector("#error").textContent = ""')
    assert page.give(sample_photographs()[0])["name"] == "china.jpg"
    assert page.text("#error") == ""


def test_opened_as_a_file(browser: Any, folder: Path) -> None:
    browser.get((folder / "index.html").as_uri())
    assert "python -m http.server" in Visit(browser).text("#status")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("delete self.WebAssembly", "this browser has no WebAssembly"),
        ("delete self.OffscreenCanvas", "this browser has no OffscreenCanvas"),
    ],
)
def test_a_browser_that_lacks_something(browser: Any, address: str, script: str, words: str) -> None:
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        with pytest.raises(AssertionError, match=words):
            visit(browser, address)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


@pytest.mark.parametrize("name", ["model/masker.onnx", "model/model.json", "runtime/ort-wasm-simd-threaded.wasm"])
def test_a_missing_file(browser: Any, folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.rglob("*"):
        target = tmp_path / path.relative_to(folder)
        if path.is_dir():
            target.mkdir()
        elif path != folder / name:
            target.symlink_to(path)
    with served(tmp_path) as address, pytest.raises(AssertionError, match=r"networks could not be started"):
        visit(browser, address)
