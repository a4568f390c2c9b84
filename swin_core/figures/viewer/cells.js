// One cell: an image, the heat map over it, what lies over both (crosshair, contour lines, wipe), and its caption.

import { attachBrush } from "./brush.js";
import { button, element } from "./controls.js";
import { contours, decodeMap, levelsOf, paint, valueAt } from "./maps.js";

const HEAT_PIXELS = 320;
/** Images with a shorter side are enlarged by repeating their pixels, as `overlay.enlarged` does. */
export const LEAST_PIXELS = 256;
const SVG = "http://www.w3.org/2000/svg";

/** "23 %", "0.4 %", as `figures.text.percent` writes it. */
export function percent(share) {
  const value = 100 * share;
  if (value < 0.05) return "<0.1 %";
  return `${value.toFixed(value < 9.95 || (value >= 99.5 && value < 99.95) ? 1 : 0)} %`;
}

function canvas(className) {
  const made = element("canvas", className);
  made.width = made.height = 1;
  return made;
}

/** An image that lies on a region of the photo. */
function stage() {
  const box = element("div", "stage");
  const photo = Object.assign(element("img"), { alt: "", draggable: false });
  box.append(photo);
  return { box, photo };
}

export class CellView {
  /**
   * @param viewer what all cells share: settings, the visible part of the photo, the place of the crosshair.
   * @param row, column place in the grid; column -1 holds the photo.
   */
  constructor(viewer, row, column) {
    // `visible` is null until the first drawing finds out.
    Object.assign(this, { viewer, row, column, data: null, map: null, visible: null, stale: true, sizes: [0, 0] });
    this.element = element("div", column < 0 ? "cell image" : "cell");
    this.title = element("div", "title");
    this.head = element("div", "column"); // on a phone, of the column
    this.frame = Object.assign(element("div", "frame"), { tabIndex: 0 });
    this.frame.setAttribute("role", "img");
    this.base = stage();
    this.own = element("div", "layer");
    this.heat = canvas("heat");
    this.lines = document.createElementNS(SVG, "svg");
    this.lines.setAttribute("viewBox", "0 0 1 1");
    this.lines.setAttribute("preserveAspectRatio", "none");
    this.path = this.lines.appendChild(document.createElementNS(SVG, "path"));
    this.ownStage = element("div", "stage");
    this.ownStage.append(this.heat, this.lines);
    this.own.append(this.ownStage);
    this.marks = document.createElementNS(SVG, "svg");
    this.marks.setAttribute("class", "stage marks");
    this.marks.setAttribute("viewBox", "0 0 1 1");
    this.marks.setAttribute("preserveAspectRatio", "none");
    this.other = null; // of the wipe; most cells never need it
    this.wipe = element("div", "line");
    this.wipe.hidden = true;
    this.across = element("div", "across");
    this.down = element("div", "down");
    this.chip = element("div", "chip");
    this.message = element("div", "message");
    this.save = button("", () => viewer.saveCell(this), "save");
    this.save.title = "Save this cell as PNG";
    this.save.setAttribute("aria-label", "Save this cell as PNG");
    this.frame.append(this.base.box, this.own, this.marks, this.wipe);
    this.frame.append(this.across, this.down, this.chip, this.message);
    this.window = element("div", "window");
    this.window.append(this.frame, this.save);
    this.caption = element("div", "caption");
    this.element.append(this.title, this.head, this.window, this.caption);
  }

  /** Show the data of the payload for this cell; only what differs is changed. */
  update(data, title, images, rowTitle) {
    const picture = images[data.image];
    const text = JSON.stringify([data, title, rowTitle, picture?.source.length]);
    if (text === this.known && this.picture?.source === picture?.source) return;
    this.element.removeAttribute("aria-busy");
    const moved = JSON.stringify(data.map) !== JSON.stringify(this.data?.map);
    Object.assign(this, { known: text, data, picture, rowTitle });
    this.title.textContent = title;
    this.frame.hidden = !picture;
    this.message.textContent = data.error || (data.empty ? "Almost no signal" : "");
    this.window.classList.toggle("failed", !picture);
    if (!picture) this.window.prepend(this.message);
    else this.frame.append(this.message);
    this.save.hidden = !picture;
    if (picture) {
      show(this.base.photo, picture, data.empty);
      this.frame.style.aspectRatio = `${picture.width} / ${picture.height}`;
    }
    if (moved) {
      this.map = data.map ? decodeMap(data.map) : null;
      this.levels = null;
      this.stale = true;
    }
    this.heat.hidden = this.lines.hidden = !this.map || data.empty;
    const what = this.column < 0 ? `Image ${rowTitle}` : `Heat map of ${title} on ${rowTitle}: ${data.headline ?? ""}`;
    const keys = this.viewer.callbacks.sheet ? "" : " Arrow keys move the crosshair.";
    this.frame.setAttribute("aria-label", `${what}.${keys}`);
    this.fillCaption(rowTitle);
    this.showBrush(data.brush);
    this.showMarks(data.marks ?? []);
  }

  /** Show new probabilities, or the photo that was painted on; a map stays, dimmed, until `update` brings its new one. */
  answer(data, picture = this.picture) {
    Object.assign(this, { known: "", data, picture });
    if (this.column < 0) {
      show(this.base.photo, picture, data.empty);
      this.showBrush(data.brush);
    } else if (data.map) {
      this.element.setAttribute("aria-busy", "true");
      this.fillCaption(this.rowTitle);
    }
  }

  /** Lines and areas over the image, such as the borders of windows; their paths are in fractions of it. */
  showMarks(marks) {
    this.marks.replaceChildren(
      ...marks.map(({ path, stroke, width, fill }) => {
        const mark = document.createElementNS(SVG, "path");
        mark.setAttribute("d", path);
        Object.assign(mark.style, { fill: fill || "none", stroke: stroke || "none", strokeWidth: `${width}px` });
        return mark;
      }),
    );
  }

  /** On a photo, the region that was replaced; where the host takes strokes, the tools to paint it too. */
  showBrush(state) {
    if (state && this.brush) return this.brush.update(state);
    this.brush?.destroy();
    this.brush = null;
    if (!state) return;
    const { viewer, row } = this;
    const toPhoto = (clientX, clientY) => {
      const { x, y } = viewer.placeOf(this, { clientX, clientY });
      return [x, y];
    };
    const send = viewer.callbacks.onStroke;
    const onStroke = send && ((stroke) => send({ row, ...stroke }));
    // The tool in hand outlives a new drawing of the viewer.
    const kept = ((viewer.kept.brushes ??= {})[row] ??= {});
    this.brush = attachBrush(this.window, toPhoto, { onStroke, kept }, state);
  }

  fillCaption(rowTitle) {
    const { data, viewer, row, column } = this;
    this.caption.replaceChildren();
    if (column < 0) {
      this.caption.append(element("b", "", rowTitle));
      if (data.truth) this.caption.append(element("small", "", `true class: ${data.truth}`));
      return;
    }
    if (!data.map) return;
    if (data.headline && !data.classes.some((one) => one.explained)) {
      this.caption.append(element("b", "headline", data.headline));
    }
    this.caption.append(...this.classList());
    this.badge = element("div", "badge-place");
    this.caption.append(this.badge);
    this.showBadge(viewer.badges[data.key] ?? data.badge);
    this.magnitude = element("small", "", data.magnitude);
    this.magnitude.hidden = !viewer.settings.raw;
    this.caption.append(this.magnitude);
    for (const note of data.notes) this.caption.append(element("small", "", note));
  }

  /** The most probable classes: a click explains one, one dragged onto another asks for the contrast. */
  classList() {
    const { data, viewer, row, column } = this;
    const { onClass: send, onContrast: contrast } = viewer.callbacks;
    if (!data.classes.length) return [];
    const list = element("ul", "classes");
    data.classes.forEach(({ label, probability, before, right, explained }, place) => {
      const entry = send ? button("", () => send({ row, column, label })) : element("span");
      entry.className = explained ? "class explained" : "class";
      if (explained) entry.setAttribute("aria-current", "true");
      entry.append(element("span", "word", label), element("span", "share", percent(probability)));
      if (typeof before === "number") entry.append(element("small", "", `was ${percent(before)}`));
      if (place === 0 && right !== null) {
        entry.append(element("span", right ? "right" : "wrong", right ? "right" : "wrong"));
      }
      if (send) {
        entry.title = `Explain ${label}`;
      }
      if (contrast) {
        entry.title += `; drag it onto another class, or press Shift+Enter, for "why ${label}, not the other?"`;
        entry.draggable = true;
        entry.ondragstart = (event) => {
          event.dataTransfer.setData("text/plain", label);
          viewer.dragged = { row, column, label };
        };
        entry.ondragend = () => (viewer.dragged = null);
        entry.ondragover = (event) => viewer.dragged && event.preventDefault();
        entry.ondrop = (event) => {
          const from = viewer.dragged;
          if (!from) return; // a file, or a text from elsewhere
          event.preventDefault();
          if (from.label !== label) contrast({ ...from, against: label });
        };
        entry.onkeydown = (event) => {
          // The keyboard's way to a contrast: this class against the one that is explained.
          const target = data.classes.find((one) => one.explained)?.label;
          if (event.key === "Enter" && event.shiftKey && target && target !== label) {
            event.preventDefault();
            contrast({ row, column, label, against: target });
          }
        };
      }
      const item = element("li");
      item.append(entry);
      list.append(item);
    });
    return [list];
  }

  showBadge(badge) {
    if (!this.badge || this.badge.dataset.text === JSON.stringify(badge ?? null)) return;
    this.badge.dataset.text = JSON.stringify(badge ?? null);
    this.badge.replaceChildren();
    if (!badge) return;
    const { viewer, row, column } = this;
    const state = badge.better === true ? "badge better" : badge.better === false ? "badge worse" : "badge waiting";
    if (viewer.callbacks.onCell && badge.better !== null && badge.better !== undefined) {
      this.badge.append(button(badge.text, () => viewer.callbacks.onCell({ row, column }), state));
    } else {
      const text = element("span", state, badge.text);
      if (badge.reason) text.title = badge.reason;
      this.badge.append(text);
    }
  }

  /** Take the frame's size on the screen in pixels; the heat map is computed anew if it has changed. */
  resize(across, down) {
    if (this.sizes[0] === across && this.sizes[1] === down) return;
    this.sizes = [across, down];
    const scale = Math.min(window.devicePixelRatio || 1, HEAT_PIXELS / Math.max(across, down, 1));
    const [width, height] = this.sizes.map((side) => Math.max(1, Math.round(side * scale)));
    if (this.heat.width !== width || this.heat.height !== height) {
      Object.assign(this.heat, { width, height });
      this.levels = null;
      this.stale = true;
    }
  }

  /** Colours of the heat map at a size, as an image for a canvas. */
  pixels(width, height) {
    const top = this.viewer.topOf(this.data.map);
    const levels = levelsOf(this.map, width, height, top, this.data.signed);
    const image = new ImageData(width, height);
    paint(levels, this.viewer.table(this.data.signed), image);
    return image;
  }

  /** Draw the heat map's colours; of what the look changes, only this depends on every pixel. */
  paintHeat() {
    this.stale = false;
    if (!this.map || this.data.empty) return;
    const { width, height } = this.heat;
    const top = this.viewer.topOf(this.data.map);
    this.levels ??= new Map(); // by the top of the scale: its own, and the shared one
    if (!this.levels.has(top)) {
      if (this.levels.size > 1) this.levels.clear();
      this.levels.set(top, levelsOf(this.map, width, height, top, this.data.signed));
    }
    if (this.image?.width !== width || this.image?.height !== height) this.image = new ImageData(width, height);
    paint(this.levels.get(top), this.viewer.table(this.data.signed), this.image);
    this.heat.getContext("2d").putImageData(this.image, 0, 0);
  }

  /** Path of the contour lines at the chosen levels. */
  paintContours() {
    if (!this.map) return;
    const { contours: fractions } = this.viewer.settings;
    const top = this.viewer.topOf(this.data.map);
    this.path.setAttribute("d", contours(this.map, top, fractions, this.data.signed));
  }

  /** Move the image and what lies over it to the visible part of the photo. */
  place() {
    if (!this.picture) return;
    this.brush?.redraw();
    if (this.magnitude) this.magnitude.hidden = !this.viewer.settings.raw;
    const seen = this.viewer.seen(this.data.region);
    const own = transform(this.data.region, seen);
    this.base.box.style.transform = this.ownStage.style.transform = this.marks.style.transform = own;
    const { split, image } = this.viewer.settings;
    const bare = !image && this.column >= 0;
    this.base.box.style.visibility = bare ? "hidden" : "";
    this.frame.classList.toggle("bare", bare);
    const wiped = this.viewer.wiped(this);
    this.own.style.clipPath = wiped ? `inset(0 ${(100 * (1 - split)).toFixed(2)}% 0 0)` : "";
    this.wipe.hidden = !wiped;
    this.wipe.style.left = `${100 * split}%`;
    const partner = wiped?.partner;
    if (this.other) this.other.hidden = !partner;
    if (!partner) return;
    if (!this.other) {
      this.other = element("div", "layer other");
      this.second = Object.assign(stage(), { heat: canvas("heat") });
      this.second.box.append(this.second.heat);
      this.other.append(this.second.box);
      this.own.after(this.other);
    }
    this.other.style.clipPath = `inset(0 0 0 ${100 * split}%)`;
    this.second.photo.style.visibility = image ? "" : "hidden";
    show(this.second.photo, partner.picture, partner.data.empty);
    this.second.box.style.transform = transform(partner.data.region, seen);
    const { heat } = this.second;
    if (partner.stale) partner.paintHeat();
    Object.assign(heat, { width: partner.heat.width, height: partner.heat.height });
    if (!partner.heat.hidden) heat.getContext("2d").drawImage(partner.heat, 0, 0);
  }

  /** Place and value of the crosshair. */
  cross(point) {
    const shown = point && this.picture;
    const seen = shown && this.viewer.seen(this.data.region);
    const [x, y] = shown ? [(point.x - seen.left) / seen.width, (point.y - seen.top) / seen.height] : [-1, -1];
    const inside = x >= 0 && x <= 1 && y >= 0 && y <= 1;
    this.frame.classList.toggle("crossed", inside);
    if (!inside) return;
    const [width, height] = this.sizes;
    this.across.style.transform = `translateY(${(y * height).toFixed(1)}px)`;
    this.down.style.transform = `translateX(${(x * width).toFixed(1)}px)`;
    this.chip.textContent = this.valueText(point);
    this.chip.hidden = !this.chip.textContent;
    this.chip.classList.toggle("left", x > 0.5);
    this.chip.classList.toggle("above", y > 0.5);
    this.chip.style.transform = `translate(${(x * width).toFixed(1)}px, ${(y * height).toFixed(1)}px)`;
  }

  /** The map's value at a place of the photo, in words; empty without a map or outside of the crop. */
  valueText(point) {
    if (!this.map || this.data.empty) return "";
    const [left, top, right, bottom] = this.data.region;
    const [x, y] = [(point.x - left) / (right - left), (point.y - top) / (bottom - top)];
    if (x < 0 || x > 1 || y < 0 || y > 1) return "";
    const value = valueAt(this.map, x, y);
    if (this.data.share) return percent(value);
    if (this.viewer.settings.raw) return value.toPrecision(3);
    return `${Math.round((100 * value) / (this.data.map.peak || 1))} % of peak`;
  }
}

/** Show the image of a cell, grey if the cell's map has almost no signal. */
function show(photo, picture, grey) {
  if (photo.getAttribute("src") !== picture.source) photo.setAttribute("src", picture.source);
  photo.classList.toggle("grey", Boolean(grey));
  photo.classList.toggle("pixels", Math.min(picture.width, picture.height) < LEAST_PIXELS);
}

/** CSS transform that lays a box of the frame's size over a region, where the frame shows `seen` of the photo. */
function transform([left, top, right, bottom], seen) {
  const across = (100 * (left - seen.left)) / seen.width;
  const down = (100 * (top - seen.top)) / seen.height;
  const size = `${(right - left) / seen.width}, ${(bottom - top) / seen.height}`;
  return `translate(${across.toFixed(3)}%, ${down.toFixed(3)}%) scale(${size})`;
}
