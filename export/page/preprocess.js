// What the model's card says about pixels: resize as Pillow does it, centre crop, normalisation.
// A canvas resizes in another way, and the features would be those of another photograph.

const BITS = 22; // of the fixed-point weights in Pillow's resize of bytes
const STRIP = 1 << 20; // pixels that are read at a time

const FILTERS = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, at: (x) => cubic(Math.abs(x)) },
};

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

/** Width and height that a photograph is resized to before the crop. */
export function resizedSize(model, width, height) {
  if (model.squash) return [model.resize, model.resize];
  const shorter = Math.min(width, height);
  return [Math.trunc((model.resize * width) / shorter), Math.trunc((model.resize * height) / shorter)];
}

/** First pixel of the central crop along a side: half of what is spare, halves rounded to even. */
export function cropStart(model, side) {
  const half = (side - model.pixels) / 2;
  return Number.isInteger(half) ? half : 2 * Math.round(half / 2);
}

/** The square of a photograph that the model sees, in the photograph's own pixels: [left, top, width, height]. */
export function cropBox(model, width, height) {
  const [wide, high] = resizedSize(model, width, height);
  const [x, y] = [width / wide, height / high];
  return [cropStart(model, wide) * x, cropStart(model, high) * y, model.pixels * x, model.pixels * y];
}

/** For each of `count` new pixels from `start` on: the first old pixel that it is made of, and their weights. */
function weights(oldSide, newSide, { start = 0, count = newSide, filter = FILTERS.bilinear, antialias = true } = {}) {
  const scale = oldSide / newSide;
  const stretch = antialias ? Math.max(scale, 1) : 1;
  const reach = filter.support * stretch;
  return Array.from({ length: count }, (_, i) => {
    const centre = (start + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(oldSide, Math.trunc(centre + reach + 0.5));
    // Reciprocals as in Pillow: a quotient may round to another weight.
    const values = Array.from({ length: end - first }, (_, j) => filter.at((first + j - centre + 0.5) * (1 / stretch)));
    const whole = 1 / values.reduce((a, b) => a + b, 0);
    return { first, values: values.map((value) => value * whole) };
  });
}

const fixed = (taps) =>
  taps.map(({ first, values }) => ({ first, values: values.map((v) => Math.trunc(v * 2 ** BITS + (v < 0 ? -0.5 : 0.5))) }));

const byte = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/**
 * A photograph as the networks take it: normalised (3, S, S).
 *
 * @param source an image: its `width` and `height`, the `stride` from one pixel to the next in bytes, and `rows(y, n)`,
 *   which gives n rows of bytes from row y on.
 */
export function preprocess(source, model) {
  const side = model.pixels;
  const { width, height } = source;
  const filter = FILTERS[model.interpolation];
  const [wide, high] = resizedSize(model, width, height);
  // Only what the crop keeps is computed.
  const columns = fixed(weights(width, wide, { start: cropStart(model, wide), count: side, filter }));
  const rows = fixed(weights(height, high, { start: cropStart(model, high), count: side, filter }));
  // In Pillow's order, since bytes are rounded twice; of very tall images newer ones resize the columns first, which
  // differs by one level here and there.
  const bytes = resizeColumns(resizeRows(source, columns, reach(rows)), moved(rows)).rows(0, side);
  const plane = side * side;
  const out = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) out[c * plane + i] = (bytes[3 * i + c] / 255 - model.mean[c]) / model.std[c];
  }
  return out;
}

/** The old pixels from the first to the last that any new one is made of: [start, end]. */
const reach = (taps) => [taps[0].first, Math.max(...taps.map(({ first, values }) => first + values.length))];

/** The taps of an image of which only their reach is left. */
const moved = (taps) => taps.map(({ first, values }) => ({ first: first - taps[0].first, values }));

/** The rows [top, bottom) of an image, each resized by the taps. */
function resizeRows(image, taps, [top, bottom]) {
  const { width, stride } = image;
  const out = new Uint8Array((bottom - top) * taps.length * 3);
  let to = 0;
  for (const { count, bytes } of strips(image, top, bottom)) {
    for (let y = 0; y < count; y++) {
      for (const { first, values } of taps) {
        let red = 1 << (BITS - 1);
        let green = red;
        let blue = red;
        let from = stride * (y * width + first);
        for (const weight of values) {
          red += bytes[from] * weight;
          green += bytes[from + 1] * weight;
          blue += bytes[from + 2] * weight;
          from += stride;
        }
        out[to++] = byte(red);
        out[to++] = byte(green);
        out[to++] = byte(blue);
      }
    }
  }
  return imageOf(out, taps.length, bottom - top);
}

/** An image's columns, each resized by the taps. */
function resizeColumns(image, taps) {
  const line = image.width * 3;
  const sums = new Int32Array(taps.length * line).fill(1 << (BITS - 1));
  for (const { start, count, bytes } of strips(image, ...reach(taps))) {
    taps.forEach(({ first, values }, row) => {
      const end = Math.min(start + count, first + values.length);
      for (let y = Math.max(start, first); y < end; y++) {
        const weight = values[y - first];
        for (let x = 0; x < line; x++) sums[row * line + x] += bytes[(y - start) * line + x] * weight;
      }
    });
  }
  return imageOf(Uint8Array.from(sums, byte), image.width, taps.length);
}

function* strips(image, top, bottom) {
  const step = Math.max(1, Math.floor(STRIP / image.width));
  for (let start = top; start < bottom; start += step) {
    const count = Math.min(step, bottom - start);
    yield { start, count, bytes: image.rows(start, count) };
  }
}

const imageOf = (bytes, width, height) => ({
  width,
  height,
  stride: 3,
  rows: (y, count) => bytes.subarray(3 * width * y, 3 * width * (y + count)),
});

/** Planes (n, a, a) of numbers resized to (n, b, b), bilinear; `antialias` as torch's interpolate means it. */
export function resizePlanes(planes, a, b, antialias) {
  if (a === b) return planes;
  const taps = weights(a, b, { antialias });
  const count = planes.length / (a * a);
  const narrow = new Float32Array(count * a * b);
  const out = new Float32Array(count * b * b);
  for (let row = 0; row < count * a; row++) {
    taps.forEach(({ first, values }, x) => {
      narrow[row * b + x] = values.reduce((sum, weight, j) => sum + weight * planes[row * a + first + j], 0);
    });
  }
  for (let plane = 0; plane < count; plane++) {
    taps.forEach(({ first, values }, y) => {
      for (let x = 0; x < b; x++) {
        const from = (plane * a + first) * b + x;
        out[(plane * b + y) * b + x] = values.reduce((sum, weight, j) => sum + weight * narrow[from + j * b], 0);
      }
    });
  }
  return out;
}

/** Decode an image file as Pillow would: upright, without its colour profile. */
export function decode(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
}

/** A decoded image, transparency over white, for `preprocess`. */
export function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  // A canvas of the whole photograph would meet the limits of some browsers.
  const canvas = new OffscreenCanvas(width, Math.min(height, Math.max(1, Math.floor(STRIP / width))));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rows = (y, count) => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, canvas.height);
    context.drawImage(bitmap, 0, -y);
    return context.getImageData(0, 0, width, count).data;
  };
  return { width, height, stride: 4, rows };
}

/** Whether this browser gives pixels back as they were drawn; some alter them to protect their users. */
export function readsTrulyFrom(canvas = new OffscreenCanvas(16, 16)) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = Uint8ClampedArray.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 255 : (i * 37) % 256));
  context.putImageData(new ImageData(drawn, 16, 16), 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((value, i) => value === drawn[i]);
}
