// Masks as pictures: layers of one colour whose opacity is the mask, laid over the photograph.

/** Share of the area that each of the masks (N, S, S) covers, from 0 to 1. */
export function shares(masks, slots) {
  const area = masks.length / slots;
  return Array.from({ length: slots }, (_, k) => masks.subarray(k * area, (k + 1) * area).reduce((a, b) => a + b, 0) / area);
}

/** Red, green and blue from 0 to 255 of `#rrggbb`. */
export const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/** Black or white, whichever reads better on the colour. */
export function ink(colour) {
  const [r, g, b] = rgb(colour).map((v) => (v <= 10 ? v / 3295 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

/** Draw all masks, each in its colour: at every pixel the strongest prevails. */
export function paintAll(canvas, masks, colours) {
  const area = masks.length / colours.length;
  const paints = colours.map(rgb);
  layer(canvas, area, (i, pixel) => {
    // The fourth power lets the largest mask win, with borders as soft as the masks' own.
    const strength = paints.map((_, k) => masks[k * area + i] ** 4);
    const sum = strength.reduce((a, b) => a + b, 0) || 1;
    for (let c = 0; c < 3; c++) pixel[c] = paints.reduce((mix, paint, k) => mix + (paint[c] * strength[k]) / sum, 0);
    pixel[3] = 255;
  });
}

/** Draw one mask (S, S) in a colour [r, g, b]. Over a photograph x this gives x (1 - m) + colour m. */
export function paintOne(canvas, mask, colour) {
  layer(canvas, mask.length, (i, pixel) => pixel.set([...colour, 255 * mask[i]]));
}

function layer(canvas, area, fill) {
  const side = Math.sqrt(area);
  const small = new OffscreenCanvas(side, side);
  const image = new ImageData(side, side);
  for (let i = 0; i < area; i++) fill(i, image.data.subarray(4 * i, 4 * i + 4));
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Where a mask's number goes: [x, y] from 0 to 1, the middle of the place where it is strongest. */
export function strongest(mask) {
  const side = Math.sqrt(mask.length);
  const reach = Math.max(1, Math.round(side / 12));
  // Sums over squares, by way of the running sums of the whole: a lone strong pixel is no place.
  const sums = new Float64Array((side + 1) ** 2);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = (y + 1) * (side + 1) + x + 1;
      sums[at] = mask[y * side + x] + sums[at - 1] + sums[at - side - 1] - sums[at - side - 2];
    }
  }
  let best = { sum: -1, x: 0, y: 0 };
  for (let y = reach; y < side - reach; y++) {
    for (let x = reach; x < side - reach; x++) {
      const [above, below] = [(y - reach) * (side + 1), (y + reach + 1) * (side + 1)];
      const [left, right] = [x - reach, x + reach + 1];
      const sum = sums[below + right] - sums[below + left] - sums[above + right] + sums[above + left];
      if (sum > best.sum) best = { sum, x, y };
    }
  }
  return [(best.x + 0.5) / side, (best.y + 0.5) / side];
}
