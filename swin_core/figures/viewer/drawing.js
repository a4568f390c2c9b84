// PNG files of a cell and of the grid, as they are seen: with look, zoom, wipe and contour lines.

import { LEAST_PIXELS } from "./cells.js";

const GAP = 16;
const LINE = 20;

function sheet(width, height) {
  const made = document.createElement("canvas");
  Object.assign(made, { width: Math.max(1, Math.round(width)), height: Math.max(1, Math.round(height)) });
  return made;
}

/** A cell's image in its own resolution, small ones with repeated pixels, with the heat map over it. */
function composed(cell, withHeat) {
  const { width, height } = cell.picture;
  const times = Math.max(1, Math.floor(LEAST_PIXELS / Math.min(width, height)));
  const whole = sheet(width * times, height * times);
  const context = whole.getContext("2d");
  context.imageSmoothingEnabled = times === 1;
  if (cell.data.empty) context.filter = "grayscale(1)";
  if (cell.column < 0 || cell.viewer.settings.image) context.drawImage(cell.base.photo, 0, 0, whole.width, whole.height);
  context.filter = "none";
  if (!withHeat || !cell.map || cell.data.empty) return whole;
  const heat = sheet(whole.width, whole.height);
  heat.getContext("2d").putImageData(cell.pixels(whole.width, whole.height), 0, 0);
  context.drawImage(heat, 0, 0);
  return whole;
}

/** Draw what a cell shows into a rectangle of a canvas. */
function drawCell(context, cell, x, y, width, height) {
  const { settings } = cell.viewer;
  const wiped = cell.viewer.wiped(cell);
  const end = wiped ? settings.split : 1;
  const seen = cell.viewer.seen(cell.data.region);
  const lay = (one, picture) => {
    const [left, top, right, bottom] = one.data.region;
    const across = (left - seen.left) / seen.width;
    const down = (top - seen.top) / seen.height;
    const size = [(right - left) / seen.width, (bottom - top) / seen.height];
    context.imageSmoothingEnabled = picture.width > width / size[0] || one.picture.width >= LEAST_PIXELS;
    context.drawImage(picture, x + across * width, y + down * height, size[0] * width, size[1] * height);
  };
  const part = (from, to, draw) => {
    context.save();
    context.beginPath();
    context.rect(x + from * width, y, (to - from) * width, height);
    context.clip();
    draw();
    context.restore();
  };
  context.fillStyle = "white"; // where the image is hidden
  context.fillRect(x, y, width, height);
  part(0, 1, () => lay(cell, composed(cell, !wiped)));
  if (wiped) part(0, end, () => lay(cell, composed(cell, true)));
  if (wiped?.partner) part(end, 1, () => lay(wiped.partner, composed(wiped.partner, true)));
  const onImage = (path) => {
    const [left, top, right, bottom] = cell.data.region;
    const place = new DOMMatrix();
    place.translateSelf(x + ((left - seen.left) / seen.width) * width, y + ((top - seen.top) / seen.height) * height);
    place.scaleSelf(((right - left) / seen.width) * width, ((bottom - top) / seen.height) * height);
    const lines = new Path2D();
    lines.addPath(new Path2D(path), place);
    return lines;
  };
  const path = cell.map && !cell.data.empty && settings.contours.length ? cell.path.getAttribute("d") : "";
  if (path) {
    part(0, end, () => {
      Object.assign(context, { strokeStyle: "white", lineWidth: 1.5, shadowColor: "black", shadowBlur: 2 });
      context.stroke(onImage(path));
    });
  }
  for (const { path: outline, stroke, width: thick, fill } of cell.data.marks ?? []) {
    part(0, 1, () => {
      Object.assign(context, { strokeStyle: stroke, lineWidth: thick, fillStyle: fill, lineJoin: "round" });
      if (fill) context.fill(onImage(outline), "evenodd");
      if (stroke) context.stroke(onImage(outline));
    });
  }
  const outline = cell.brush?.canvas;
  if (outline?.width) context.drawImage(outline, x, y, width, height);
  if (wiped) {
    context.fillStyle = "white";
    context.fillRect(x + end * width - 1, y, 2, height);
  }
}

/** A canvas with one cell, at the resolution of its image. */
export function cellSheet(cell) {
  const { width, height } = cell.picture;
  const times = Math.max(1, Math.floor(LEAST_PIXELS / Math.min(width, height)));
  const made = sheet(width * times, height * times);
  drawCell(made.getContext("2d"), cell, 0, 0, made.width, made.height);
  return made;
}

function wrapped(context, text, width) {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (context.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** A canvas with the whole grid: titles, cells and captions on white. */
export function gridSheet(rows, side = 320) {
  const columns = Math.max(...rows.map((cells) => cells.length));
  const context = sheet(1, 1).getContext("2d");
  const font = (bold) => `${bold ? "600 " : ""}14px system-ui, sans-serif`;
  const texts = rows.map((cells, number) =>
    cells.map((cell) => {
      const caption = [...cell.caption.querySelectorAll("b, small:not([hidden]), .class, .badge")];
      const words = caption.map((one) => [...one.childNodes].map((part) => part.textContent).join("  "));
      context.font = font(true);
      const title = number === 0 ? wrapped(context, cell.title.textContent, side) : [];
      context.font = font(false);
      const failed = cell.picture ? [] : wrapped(context, cell.data.error ?? "", side);
      return { title, lines: [...failed, ...words.flatMap((line) => wrapped(context, line, side))] };
    }),
  );
  const heights = rows.map((cells, number) => ({
    head: LINE * Math.max(...texts[number].map(({ title }) => title.length)),
    image: Math.max(side / 4, ...cells.filter((cell) => cell.picture).map((cell) => (side * cell.picture.height) / cell.picture.width)),
    text: LINE * Math.max(...texts[number].map(({ lines }) => lines.length)),
  }));
  const height = GAP + heights.reduce((sum, one) => sum + one.head + one.image + one.text + 2 * GAP, 0);
  const made = sheet(GAP + columns * (side + GAP), height);
  const drawing = made.getContext("2d");
  drawing.fillStyle = "white";
  drawing.fillRect(0, 0, made.width, made.height);
  let y = GAP;
  rows.forEach((cells, number) => {
    const { head, image, text } = heights[number];
    cells.forEach((cell, column) => {
      const x = GAP + column * (side + GAP);
      const write = (lines, start, bold) => {
        drawing.font = font(bold);
        drawing.fillStyle = "black";
        lines.forEach((line, at) => drawing.fillText(line, x, start + LINE * at + 14));
      };
      write(texts[number][column].title, y, true);
      if (cell.picture) {
        drawCell(drawing, cell, x, y + head, side, (side * cell.picture.height) / cell.picture.width);
      }
      write(texts[number][column].lines, y + head + (cell.picture ? image + 6 : 0), false);
    });
    y += head + image + text + 2 * GAP;
  });
  return made;
}

/** Give a canvas to the user as a PNG file. */
export function download(made, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = made.toDataURL("image/png");
  link.click();
}
