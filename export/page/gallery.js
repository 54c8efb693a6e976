// Photographs with their features, the nearest first by cosine similarity.

import { fetched } from "./fetched.js";

function unit(features) {
  const length = Math.hypot(...features) || 1;
  return features.map((value) => value / length);
}

const product = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** Cosine similarity of two features. */
export const cosine = (a, b) => product(unit(a), unit(b));

/** A gallery of entries {name, features, image, open}, where `open()` gives the photograph's file. */
export class Gallery {
  entries = [];

  /** Add a photograph; one of the same key takes the place of the former. */
  add(entry) {
    this.entries = [...this.entries.filter(({ key }) => key !== entry.key), { ...entry, unit: unit(entry.features) }];
  }

  /** The `count` nearest entries but that of `key`, each with its `cosine`. */
  nearest(features, count, key) {
    const query = unit(features);
    return this.entries
      .filter((entry) => entry.key !== key)
      .map((entry) => ({ ...entry, cosine: product(entry.unit, query) }))
      .sort((a, b) => b.cosine - a.cosine)
      .slice(0, count);
  }
}

/** Read the gallery that was exported with the model. */
export async function exportedGallery(model) {
  const gallery = new Gallery();
  if (!model.gallery.length) return gallery;
  const response = await fetched("gallery/features.bin");
  const features = new Float32Array(await response.arrayBuffer()); // little-endian, as every browser's machine
  const width = features.length / model.gallery.length;
  model.gallery.forEach(({ name, file }, i) => {
    const open = async () => (await fetched(file)).blob();
    const row = features.subarray(i * width, (i + 1) * width);
    gallery.add({ key: file, name, features: row, image: file, open });
  });
  return gallery;
}
