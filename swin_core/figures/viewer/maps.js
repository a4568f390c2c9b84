// Numbers of an attribution map: decoding, resizing as `regions.bilinear` does, colours as `overlay.overlay` does.

const LEVELS = 1024;
const FIELD = 96;

/** The bytes of a base64 text. */
export function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** A map of the payload as numbers: { width, height, values, nearest }, row by row. */
export function decodeMap({ data, bits, width, height, low, high, nearest }) {
  const bytes = bytesOf(data);
  const codes = bits === 16 ? new Uint16Array(bytes.buffer) : bytes;
  const step = (high - low) / (2 ** bits - 1);
  return { width, height, nearest, values: Float32Array.from(codes, (code) => low + code * step) };
}

/** Two nearest of `source` cell centres for a place in [0, 1], and the weight of the second; 0 for the nearest alone. */
function neighbours(source, place, nearest) {
  if (nearest) {
    const cell = Math.min(Math.max(Math.floor(place * source), 0), source - 1);
    return [cell, cell, 0];
  }
  const position = Math.min(Math.max(place * source - 0.5, 0), source - 1);
  const first = Math.floor(position);
  return [first, Math.min(first + 1, source - 1), position - first];
}

/** Value of a map at a place in [0, 1] x [0, 1]. */
export function valueAt({ width, height, values, nearest }, x, y) {
  const [left, right, across] = neighbours(width, x, nearest);
  const [top, bottom, down] = neighbours(height, y, nearest);
  const upper = values[top * width + left] * (1 - across) + values[top * width + right] * across;
  const lower = values[bottom * width + left] * (1 - across) + values[bottom * width + right] * across;
  return upper * (1 - down) + lower * down;
}

/** The rows of a map resized to a width, one after the other. */
function widened(map, width) {
  const narrow = new Float32Array(map.height * width);
  for (let x = 0; x < width; x++) {
    const [left, right, weight] = neighbours(map.width, (x + 0.5) / width, map.nearest);
    for (let y = 0; y < map.height; y++) {
      const start = y * map.width;
      narrow[y * width + x] = map.values[start + left] * (1 - weight) + map.values[start + right] * weight;
    }
  }
  return narrow;
}

/** A map resized to `width` x `height`: cell centres keep their values, edges are extended; or its cells enlarged. */
function resized(map, width, height) {
  const narrow = widened(map, width);
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom, weight] = neighbours(map.height, (y + 0.5) / height, map.nearest);
    for (let x = 0; x < width; x++) {
      values[y * width + x] = narrow[top * width + x] * (1 - weight) + narrow[bottom * width + x] * weight;
    }
  }
  return { width, height, values };
}

/**
 * A map resized as by `resized`, each value as an index into `colourTable`: 0 to `top`, of signed maps -`top` to `top`.
 * One pass over the pixels: this takes most of the time until a grid is seen.
 */
export function levelsOf(map, width, height, top, signed) {
  const most = LEVELS - 1;
  const scale = (top > 0 ? 1 / top : 0) * (signed ? most / 2 : most);
  const middle = (signed ? most / 2 : 0) + 0.5; // the array cuts the fraction off
  const narrow = widened(map, width);
  for (let i = 0; i < narrow.length; i++) narrow[i] = narrow[i] * scale + middle;
  const levels = new Uint16Array(width * height);
  let pixel = 0;
  for (let y = 0; y < height; y++) {
    const [first, second, weight] = neighbours(map.height, (y + 0.5) / height, map.nearest);
    let upper = first * width;
    let lower = second * width;
    for (const end = pixel + width; pixel < end; pixel++, upper++, lower++) {
      const level = narrow[upper] + (narrow[lower] - narrow[upper]) * weight;
      levels[pixel] = level > most ? most : level > 0 ? level : 0;
    }
  }
  return levels;
}

/** Colour and weight of each level as one 32-bit pixel; `colours` are 256 x RGB. */
export function colourTable(colours, { opacity, threshold }, signed) {
  const pixels = new Uint8ClampedArray(4 * LEVELS);
  for (let level = 0; level < LEVELS; level++) {
    const share = level / (LEVELS - 1);
    const magnitude = Math.abs(signed ? 2 * share - 1 : share);
    const colour = 3 * Math.min(Math.floor(share * 256), 255);
    pixels[4 * level] = colours[colour];
    pixels[4 * level + 1] = colours[colour + 1];
    pixels[4 * level + 2] = colours[colour + 2];
    pixels[4 * level + 3] = magnitude < threshold ? 0 : 255 * opacity * magnitude;
  }
  return new Uint32Array(pixels.buffer);
}

/** Fill the pixels of an image with the colours of levels. */
export function paint(levels, table, image) {
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < levels.length; i++) pixels[i] = table[levels[i]];
}

/** Lines where a map crosses fractions of `top`, as the path of an SVG of 1 x 1. Marching squares. */
export function contours(map, top, fractions, signed) {
  if (!fractions.length) return "";
  const { width, height, values } = resized(map, Math.max(map.width, FIELD), Math.max(map.height, FIELD));
  const lines = [];
  for (const fraction of signed ? fractions.flatMap((one) => [one, -one]) : fractions) {
    const level = fraction * top;
    const between = (a, b) => (level - a) / (b - a);
    for (let y = 0; y + 1 < height; y++) {
      for (let x = 0; x + 1 < width; x++) {
        const [a, b] = [values[y * width + x], values[y * width + x + 1]];
        const [d, c] = [values[(y + 1) * width + x], values[(y + 1) * width + x + 1]];
        const crossed = [];
        if (a < level !== b < level) crossed.push([x + between(a, b), y]);
        if (b < level !== c < level) crossed.push([x + 1, y + between(b, c)]);
        if (d < level !== c < level) crossed.push([x + between(d, c), y + 1]);
        if (a < level !== d < level) crossed.push([x, y + between(a, d)]);
        for (let i = 0; i + 1 < crossed.length; i += 2) {
          const [from, to] = [crossed[i], crossed[i + 1]].map(
            ([px, py]) => `${((px + 0.5) / width).toFixed(4)} ${((py + 0.5) / height).toFixed(4)}`,
          );
          lines.push(`M${from}L${to}`);
        }
      }
    }
  }
  return lines.join("");
}
