// A brush over an image: "what if this were not there?"
//
// The host gets the region as text at the end of each stroke, and answers with `update`. Until then the region is
// striped and the old answer stays in view; afterwards only its outline is drawn. Strokes are
// {tool: "brush" | "rectangle" | "erase", size, points: [[x, y], ...]}: points as fractions of the photo's width and
// height, size as the diameter in fractions of its shorter side.

const STEPS = 1000; // points lie on a grid of so many steps along each side, as in swin_core/attribution/strokes.py
const STROKES_AT_MOST = 100;
const POINTS_AT_MOST = 800;
const LETTERS = {brush: "b", rectangle: "r", erase: "e"};
const ICONS = {
  brush: "M7 14a3 3 0 0 0-3 3c0 1.3-1.2 2-2 2 .9 1.2 2.5 2 4 2a4 4 0 0 0 4-4 3 3 0 0 0-3-3zm13.7-9.4-1.3-1.3a1 1 0 0 0-1.4 0L9 12.3 11.8 15l8.9-9a1 1 0 0 0 0-1.4z",
  rectangle: "M4 5h16v14H4V5zm2 2v10h12V7H6z",
  erase: "M16.2 3.6 21 8.4a2 2 0 0 1 0 2.8L12.4 20H21v2H7.6l-4.8-4.8a2 2 0 0 1 0-2.8L13.4 3.6a2 2 0 0 1 2.8 0zM4.2 15.8l4.2 4.2h1.2l3.3-3.4-5.2-5.2-3.5 3.5v.9z",
  undo: "M12.5 8c-2.7 0-5 1-6.9 2.6L2 7v9h9l-3.6-3.6A8 8 0 0 1 20 16l2.4-.8A10.5 10.5 0 0 0 12.5 8z",
  reset: "M6 19a2 2 0 0 0 2 2h8a2 2 0 0 0 2-2V7H6v12zM19 4h-3.5l-1-1h-5l-1 1H5v2h14V4z",
};
const BRUSH_STYLE = `
.brush-canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; z-index: 3; }
.brush-canvas.active { pointer-events: auto; cursor: crosshair; touch-action: none; }
.brush-canvas.active:focus-visible { outline: 3px solid var(--accent, #0069a6); outline-offset: -3px; }
.brush-tools { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; margin: 6px 0; font-size: 13px;
  line-height: 1.3; color: inherit; }
.brush-tools [role=group] { display: inline-flex; gap: 2px; }
.brush-tools button { box-sizing: border-box; width: 30px; height: 30px; padding: 5px; border-radius: 6px; cursor: pointer;
  border: 1px solid color-mix(in srgb, currentColor 30%, transparent); background: none; color: inherit; }
.brush-tools button:hover:enabled { background: color-mix(in srgb, currentColor 10%, transparent); }
.brush-tools button[aria-pressed=true] { background: var(--accent, #0069a6); border-color: var(--accent, #0069a6);
  color: var(--on-accent, #fff); }
.brush-tools button:disabled { opacity: 0.4; cursor: default; }
.brush-tools :is(button, input, select):focus-visible { outline: 2px solid var(--accent, #0069a6); outline-offset: 2px; }
.brush-tools svg { display: block; width: 100%; height: 100%; fill: currentColor; }
.brush-tools label { display: inline-flex; align-items: center; gap: 6px; min-height: 24px; }
.brush-tools input[type=range] { width: 76px; accent-color: var(--accent, #0069a6); }
.brush-tools input[type=checkbox] { width: 18px; height: 18px; margin: 0; accent-color: var(--accent, #0069a6); }
.brush-tools select { font: inherit; color: inherit; max-width: 150px; padding: 3px 4px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 30%, transparent); background: transparent; }
.brush-tools option { color: CanvasText; background: Canvas; }
.brush-tools [role=status] { flex-basis: 100%; opacity: 0.8; min-height: 1.3em; }
.brush-tools [hidden] { display: none; }
@media (pointer: coarse) { .brush-tools button { width: 40px; height: 40px; padding: 9px; } }
`;

/** Return strokes as the text that `parse_strokes` of swin_core reads. */
export function strokesText(strokes) {
  const step = (value) => Math.round(STEPS * Math.min(1, Math.max(0, value)));
  return strokes
    .map(({tool, size, points}) => {
      const places = points.map(([x, y]) => `-${step(x)}.${step(y)}`).join("");
      return LETTERS[tool] + (tool === "rectangle" ? "" : Math.max(1, step(size))) + places;
    })
    .join("_");
}

/** Leave out the points of a line that lie within `tolerance` of the line through the others (Douglas-Peucker). */
export function simplify(points, tolerance) {
  if (points.length < 3) return points;
  const [[x0, y0], [x1, y1]] = [points[0], points.at(-1)];
  const length = Math.hypot(x1 - x0, y1 - y0);
  let [farthest, index] = [0, 0];
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    const distance = length
      ? Math.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length
      : Math.hypot(x - x0, y - y0);
    if (distance > farthest) [farthest, index] = [distance, i];
  }
  if (farthest <= tolerance) return [points[0], points.at(-1)];
  return [...simplify(points.slice(0, index + 1), tolerance).slice(0, -1), ...simplify(points.slice(index), tolerance)];
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function iconButton(name, title) {
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  icon.append(path);
  return make("button", {type: "button", "data-brush": name, title, "aria-label": title}, icon);
}

/**
 * Let the user paint on an image.
 *
 * @param {HTMLElement} cell - a positioned element that shows the photo; it gets a canvas, and the tools after it.
 * @param {(x: number, y: number) => [number, number]} toPhoto - from client coordinates to fractions of the photo.
 * @param {{onStroke?: Function, kept?: Object}} callbacks - `onStroke({strokes, fill, keep, time})` with the strokes as
 *   text, empty for none, and the time in milliseconds; without it the region is only shown. `kept` is an object in
 *   which the tool in hand outlives this brush.
 * @param {{strokes: Array, fill: string, keep: boolean, time?: number, fills?: Object, fault?: string, image?: string}}
 *   brush - the state to start from: `fills` are the titles of what can replace the region, `fault` says why it could
 *   not be replaced, `image` identifies the photo. In an answer, `time` is that of the last stroke it knows, of any
 *   photo: an answer that does not know this brush's last stroke is ignored.
 * @returns {{update: Function, redraw: Function, destroy: Function, canvas: HTMLCanvasElement}} `update(brush)` shows the
 *   host's answer; `redraw` follows a zoom or a new size of the cell; `canvas` shows the region.
 */
export function attachBrush(cell, toPhoto, callbacks, brush) {
  const canvas = make("canvas", {class: "brush-canvas"});
  const region = document.createElement("canvas");
  const buttons = {
    brush: iconButton("brush", "Brush"),
    rectangle: iconButton("rectangle", "Rectangle"),
    erase: iconButton("erase", "Eraser"),
    undo: iconButton("undo", "Undo stroke"),
    reset: iconButton("reset", "Remove all strokes"),
  };
  const size = make("input", {type: "range", min: 2, max: 50, value: 15, "aria-label": "Brush size"});
  const fill = make("select", {"aria-label": "Replace the region by"});
  const keep = make("input", {type: "checkbox"});
  const status = make("div", {role: "status"});
  const sizeLabel = make("label", {}, "Size", size);
  const fillLabel = make("label", {}, "Fill", fill);
  const keepLabel = make("label", {}, keep, "Keep only this");
  const tools = make(
    "div",
    {class: "brush-tools"},
    make("div", {role: "group", "aria-label": "Paint a region"}, buttons.brush, buttons.rectangle, buttons.erase),
    make("div", {role: "group", "aria-label": "Strokes"}, buttons.undo, buttons.reset),
    sizeLabel,
    fillLabel,
    keepLabel,
    status,
  );
  const style = make("style", {}, BRUSH_STYLE);
  cell.append(style, canvas);
  if (callbacks.onStroke) cell.after(tools);

  const kept = callbacks.kept ?? {};
  let strokes = [];
  let tool = kept.tool ?? null;
  size.value = kept.size ?? size.value;
  let stroke = null; // the one being drawn
  let cursor = null; // of the keyboard
  let pointer = null; // id of the pointer that draws
  let time = 0; // of the last change that was sent
  let waiting = false; // for its answer
  let image = null; // the photo that the strokes are on

  function send() {
    time = Date.now();
    waiting = true;
    show();
    callbacks.onStroke({strokes: strokesText(strokes), fill: fill.value, keep: keep.checked, time});
  }

  function say(text) {
    status.textContent = text;
  }

  function show() {
    for (const name of ["brush", "rectangle", "erase"]) buttons[name].setAttribute("aria-pressed", tool === name);
    const started = tool !== null || strokes.length > 0;
    buttons.undo.disabled = buttons.reset.disabled = !strokes.length;
    buttons.undo.parentElement.hidden = fillLabel.hidden = keepLabel.hidden = !started;
    sizeLabel.hidden = tool !== "brush" && tool !== "erase";
    canvas.classList.toggle("active", tool !== null);
    tools.setAttribute("aria-busy", waiting);
    if (tool === null) {
      canvas.removeAttribute("tabindex");
      canvas.removeAttribute("role");
      canvas.setAttribute("aria-hidden", "true");
    } else {
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-label", "Painting area. Arrow keys move, Enter starts and ends a stroke, Escape leaves.");
      canvas.removeAttribute("aria-hidden");
    }
    redraw();
  }

  function draw(context, {tool: kind, size: diameter, points}, {place, unit}) {
    context.globalCompositeOperation = kind === "erase" ? "destination-out" : "source-over";
    const places = points.map(place);
    if (kind === "rectangle") {
      const [[x0, y0], [x1, y1]] = [places[0], places.at(-1)];
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
      return;
    }
    context.beginPath();
    context.arc(...places[0], (diameter * unit) / 2, 0, 2 * Math.PI); // a canvas draws no line of a single point
    context.fill();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = diameter * unit;
    context.beginPath();
    for (const point of places) context.lineTo(...point);
    context.stroke();
  }

  function redraw() {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    for (const each of [canvas, region]) [each.width, each.height] = [width, height]; // clears it too
    if (!width || !height) return;
    const [[x0, y0], [x1, y1]] = [toPhoto(box.left, box.top), toPhoto(box.right, box.bottom)];
    const [across, down] = [width / (x1 - x0), height / (y1 - y0)];
    const view = {place: ([x, y]) => [(x - x0) * across, (y - y0) * down], unit: Math.min(across, down)};
    const context = canvas.getContext("2d");
    const painted = stroke ? [...strokes, stroke] : strokes;
    if (painted.length) {
      const inside = region.getContext("2d");
      for (const each of painted) draw(inside, each, view);
      if (stroke || waiting) drawStripes(context, ratio);
      else drawOutline(context, ratio);
    }
    if (cursor) drawCursor(context, view, ratio);
  }

  // Stripes of black and white can be seen on every photo.
  function drawStripes(context, ratio) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = Math.round(8 * ratio);
    const pattern = tile.getContext("2d");
    pattern.fillStyle = "rgb(255 255 255 / 0.6)";
    pattern.fillRect(0, 0, tile.width, tile.width);
    pattern.strokeStyle = "rgb(0 0 0 / 0.7)";
    pattern.lineWidth = tile.width / 3;
    for (const shift of [-1, 0, 1]) {
      pattern.beginPath();
      pattern.moveTo((shift - 0.5) * tile.width, 1.5 * tile.width);
      pattern.lineTo((shift + 1.5) * tile.width, -0.5 * tile.width);
      pattern.stroke();
    }
    context.globalCompositeOperation = "source-over";
    context.fillStyle = context.createPattern(tile, "repeat");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = keep.checked ? "destination-out" : "destination-in";
    context.drawImage(region, 0, 0);
    context.globalCompositeOperation = "source-over";
  }

  function drawOutline(context, ratio) {
    for (const [reach, color] of [[2, "white"], [1, "black"]]) {
      const ring = document.createElement("canvas");
      [ring.width, ring.height] = [canvas.width, canvas.height];
      const paint = ring.getContext("2d");
      for (let angle = 0; angle < 8; angle++) {
        const turn = (angle * Math.PI) / 4;
        paint.drawImage(region, reach * ratio * Math.cos(turn), reach * ratio * Math.sin(turn));
      }
      paint.globalCompositeOperation = "source-in";
      paint.fillStyle = color;
      paint.fillRect(0, 0, ring.width, ring.height);
      context.drawImage(ring, 0, 0);
    }
    context.globalCompositeOperation = "destination-out";
    context.drawImage(region, 0, 0);
    context.globalCompositeOperation = "source-over";
  }

  function drawCursor(context, view, ratio) {
    const [x, y] = view.place(cursor);
    const reach = tool === "rectangle" ? 10 * ratio : Math.max(6 * ratio, (diameter() * view.unit) / 2);
    for (const [width, color] of [[4, "white"], [2, "black"]]) {
      context.lineWidth = width * ratio;
      context.strokeStyle = color;
      context.beginPath();
      context.moveTo(x - reach, y);
      context.lineTo(x + reach, y);
      context.moveTo(x, y - reach);
      context.lineTo(x, y + reach);
      context.stroke();
    }
  }

  const diameter = () => Number(size.value) / 100;
  const inside = ([x, y]) => [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];

  function begin(point) {
    if (strokes.length >= STROKES_AT_MOST) {
      say("The region is full: undo strokes, or remove all.");
      return;
    }
    stroke = {tool, size: tool === "rectangle" ? 0 : diameter(), points: [point]};
  }

  function extend(point) {
    if (tool === "rectangle") stroke.points = [stroke.points[0], point];
    else stroke.points.push(point);
  }

  function end() {
    const done = stroke;
    stroke = null;
    if (tool === "rectangle") {
      const [first, last] = [done.points[0], done.points.at(-1)];
      if (first[0] === last[0] || first[1] === last[1]) return show();
    } else {
      done.points = simplify(done.points, Math.max(0.002, done.size / 25));
    }
    const count = [...strokes, done].reduce((sum, each) => sum + each.points.length, 0);
    if (count > POINTS_AT_MOST) {
      say("The region is full: undo strokes, or remove all.");
      return show();
    }
    if (tool === "erase" && !strokes.length) return show();
    strokes = [...strokes, done];
    say("");
    send();
  }

  function cancel() {
    stroke = null;
    pointer = null;
    show();
  }

  function undo() {
    if (!strokes.length) return;
    strokes = strokes.slice(0, -1);
    send();
  }

  function choose(name) {
    tool = kept.tool = tool === name ? null : name;
    [stroke, cursor, pointer] = [null, null, null];
    say(tool === null ? "" : "Paint over the image: the models answer as if that were not there.");
    show();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (tool === null || pointer !== null || (event.pointerType === "mouse" && event.button !== 0)) return;
    event.stopPropagation(); // the viewer would pan
    event.preventDefault();
    canvas.focus({preventScroll: true});
    cursor = null;
    begin(inside(toPhoto(event.clientX, event.clientY)));
    if (!stroke) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    redraw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer || !stroke) return;
    event.stopPropagation();
    extend(inside(toPhoto(event.clientX, event.clientY)));
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (event.pointerId !== pointer) return;
    event.stopPropagation();
    pointer = null;
    if (stroke) end();
  });
  canvas.addEventListener("pointercancel", (event) => event.pointerId === pointer && cancel());
  for (const name of ["click", "dblclick"]) canvas.addEventListener(name, (event) => event.stopPropagation());

  canvas.addEventListener("keydown", (event) => {
    const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    const step = event.shiftKey ? 0.1 : 0.02;
    if (event.key in moves) {
      const [x, y] = cursor ?? [0.5, 0.5];
      cursor = inside([x + step * moves[event.key][0], y + step * moves[event.key][1]]);
      if (stroke) extend(cursor);
      say(`${Math.round(100 * cursor[0])} % from the left, ${Math.round(100 * cursor[1])} % from the top`);
      redraw();
    } else if (event.key === "Enter" || event.key === " ") {
      cursor ??= [0.5, 0.5];
      if (stroke) end();
      else begin(cursor);
      redraw();
    } else if (event.key === "Escape") {
      if (stroke) cancel();
      else {
        const before = tool;
        choose(tool);
        buttons[before].focus();
      }
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      undo();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  for (const name of ["brush", "rectangle", "erase"]) buttons[name].addEventListener("click", () => choose(name));
  buttons.undo.addEventListener("click", undo);
  buttons.reset.addEventListener("click", () => {
    strokes = [];
    send();
  });
  for (const input of [fill, keep]) input.addEventListener("change", send);
  size.addEventListener("change", () => (kept.size = size.value));
  const resized = new ResizeObserver(redraw);
  resized.observe(cell);

  function update(answer) {
    if (answer.fills && !fill.options.length) {
      fill.replaceChildren(...Object.entries(answer.fills).map(([value, title]) => make("option", {value}, title)));
    }
    if (answer.image !== image) {
      [image, time, stroke, pointer] = [answer.image, 0, null, null]; // another photo: no answer will come
    } else if (answer.time < time) return; // each stroke is answered twice, and quick ones overtake the answers
    waiting = false;
    if (answer.fault) say(answer.fault);
    if (stroke) return; // adopted with the stroke that is being drawn
    fill.value = answer.fill;
    keep.checked = answer.keep;
    strokes = answer.strokes;
    show();
  }

  update(brush);
  return {
    canvas,
    update,
    redraw,
    destroy() {
      resized.disconnect();
      for (const part of [style, canvas, tools]) part.remove();
    },
  };
}
