// The two networks, away from the page's own thread so that it never freezes.

import { fetched } from "./fetched.js";
import * as ort from "./runtime/ort.wasm.min.js";
import { cropBox, decode, pixelsOf, preprocess, readsTrulyFrom, resizePlanes } from "./preprocess.js";

const SHOWN = 768; // most pixels of a side that is drawn; no photograph is enlarged to it

let model, encoder, masker;
let turn = Promise.resolve(); // a session runs once at a time

const calls = { load, run, encode };

self.onmessage = ({ data }) => {
  turn = turn.then(() => answer(data));
};

async function answer({ id, call, argument }) {
  try {
    const [result, moved = []] = await calls[call](argument);
    self.postMessage({ id, result }, moved);
  } catch (error) {
    self.postMessage({ id, error: { kind: error.kind, message: String(error?.message ?? error).split("\n")[0] } });
  }
}

/** Fetch and start both networks. */
async function load(card) {
  model = card;
  // Threads need memory that pages share, which a browser grants only to sites that send COOP and COEP headers.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const file = (suffix) => new URL(`runtime/ort-wasm-simd-threaded.${suffix}`, import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: file("js"), wasm: file("wasm") };
  const total = Object.values(card.networks).reduce((sum, bytes) => sum + bytes, 0);
  let loaded = 0;
  const start = async (name) => {
    const bytes = await bytesOf(`model/${name}.onnx`, (count) => {
      loaded += count;
      self.postMessage({ progress: loaded / total });
    });
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  };
  encoder = await start("encoder");
  masker = await start("masker");
  return [{ threads: ort.env.wasm.numThreads }];
}

async function bytesOf(path, progress) {
  const parts = [];
  const reader = (await fetched(path)).body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    progress(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Features and masks of an image file, the pixels and the picture that they were made of, and how long it took. */
async function run(blob) {
  const times = {};
  const timed = async (name, work) => {
    const start = performance.now();
    const result = await work();
    times[name] = performance.now() - start;
    return result;
  };
  if (!readsTrulyFrom()) throw new Error("this browser alters the pixels that a page reads; allow it canvas access");
  const bitmap = await timed("decode", () => decode(blob)).catch(() => {
    throw Object.assign(new Error("not an image"), { kind: "image" });
  });
  const pixels = await timed("prepare", () => preprocess(pixelsOf(bitmap), model));
  const [features] = await timed("encoder", () => encode(pixels));
  const masks = await timed("masker", async () => {
    const small = resizePlanes(pixels, model.pixels, model.masker_pixels, true);
    return resizePlanes(await output(masker, "masks", small, model.masker_pixels), model.masker_pixels, model.pixels, false);
  });
  const square = await shown(bitmap);
  bitmap.close();
  return [{ pixels, features, masks, square, times }, [square]];
}

/** Features of normalised pixels (3, S, S). */
async function encode(pixels) {
  return [await output(encoder, "features", pixels, model.pixels)];
}

async function output(session, name, pixels, side) {
  const tensor = new ort.Tensor("float32", pixels, [1, 3, side, side]);
  const results = await session.run({ pixel_values: tensor }, [name]);
  return results[name].data.slice(); // the original lies in the runtime's memory, which it uses again
}

function shown(bitmap) {
  const [left, top, width, height] = cropBox(model, bitmap.width, bitmap.height);
  const side = Math.round(Math.min(SHOWN, Math.max(width, height, model.pixels)));
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, left, top, width, height, 0, 0, side, side);
  return canvas.transferToImageBitmap();
}
