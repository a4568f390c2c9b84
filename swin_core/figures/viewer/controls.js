// The bar of look controls: native inputs, so that they work with mouse, touch and keyboard.

/** An element with a class and a text. Text is only ever set as text. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function field(name, input) {
  const label = element("label", "field");
  label.append(element("span", "word", name), input);
  return label;
}

function slider(name, most, read) {
  const input = Object.assign(element("input"), { type: "range", min: 0, max: most, step: 1 });
  input.setAttribute("aria-label", name);
  const value = element("output");
  const label = field(name, input);
  label.append(value);
  const show = (share) => {
    const percent = Math.round(100 * share);
    if (Number(input.value) !== percent) input.value = percent;
    value.textContent = `${percent} %`;
    input.setAttribute("aria-valuetext", value.textContent);
  };
  input.addEventListener("input", () => {
    show(Number(input.value) / 100);
    read(Number(input.value) / 100);
  });
  return { label, input, show };
}

function choice(name, options, read) {
  const input = element("select");
  input.setAttribute("aria-label", name);
  const offer = (entries) =>
    input.replaceChildren(...entries.map(([value, text]) => Object.assign(element("option", "", text), { value })));
  offer(options);
  input.addEventListener("change", () => read(input.value));
  return { label: field(name, input), input, offer };
}

function tick(name, read) {
  const input = Object.assign(element("input"), { type: "checkbox" });
  input.addEventListener("change", () => read(input.checked));
  const label = element("label", "field tick");
  label.append(input, element("span", "word", name));
  return { label, input };
}

export function button(name, press, className = "") {
  const made = Object.assign(element("button", className, name), { type: "button" });
  made.addEventListener("click", press);
  return made;
}

/** Shares of the scale that a text names in percent, such as "25 50 75", to two decimals as in links. */
function levelsIn(text) {
  const percents = (text.match(/\d+(?:[.,]\d+)?/g) ?? []).map((one) => Number(one.replace(",", ".")).toFixed(2));
  const levels = percents.map((one) => Number(one) / 100);
  return levels.filter((level) => level > 0 && level <= 1).slice(0, 10);
}

const SCALES = [
  ["cell", "Each map"],
  ["shared", "Shared"],
];

/**
 * The bar. `read` gets a changed part of the settings at once, while a control is dragged; `done` is called with the
 * look when the drag or the choice ends.
 */
export function lookBar(colormaps, { read, done }) {
  const bar = element("div", "bar");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Look of the heat maps");
  const opacity = slider("Opacity", 100, (value) => read({ opacity: value }));
  const threshold = slider("Threshold", 95, (value) => read({ threshold: value }));
  const names = Object.keys(colormaps).filter((name) => name !== "signed");
  const colormap = choice("Colour map", names.map((name) => [name, name]), (value) => read({ colormap: value }));
  const scale = choice("Scale", SCALES, (value) => read({ scale: value }));
  threshold.input.title = "Below this share of the scale, only the image is shown";
  const contours = Object.assign(element("input"), { type: "text", inputMode: "numeric", placeholder: "none" });
  contours.setAttribute("aria-label", "Contour lines");
  contours.title = "Levels in percent of the scale, such as 25 50 75";
  contours.addEventListener("input", () => {
    read({ contours: levelsIn(contours.value) });
  });
  const wipe = choice("Wipe", [["", "off"]], (value) => {
    line.label.hidden = !value;
    read({ wipe: value });
  });
  const line = slider("Wipe position", 100, (value) => read({ split: value }));
  line.label.hidden = true;
  const image = tick("Show image", (value) => read({ image: value }));
  const raw = tick("Raw values", (value) => read({ raw: value }));
  raw.label.title = "Values as they are, not in percent of the peak, with the exact name of the layer";
  // A key moves a slider many times; the page is told once.
  let waiting = 0;
  const inputs = [opacity, threshold, colormap, scale, wipe, line, image, raw].map(({ input }) => input);
  for (const input of [...inputs, contours]) {
    input.addEventListener("change", () => {
      clearTimeout(waiting);
      waiting = setTimeout(done, 200);
    });
  }
  const ends = () => clearTimeout(waiting);

  const more = element("details", "more");
  const tools = element("div", "tools");
  more.append(element("summary", "", "More"), tools);
  tools.append(field("Contour lines", contours), wipe.label, line.label, image.label, raw.label);
  const opener = button("Look", () => {
    opener.setAttribute("aria-expanded", String(bar.classList.toggle("open")));
  }, "opener");
  opener.setAttribute("aria-expanded", "false");
  const main = element("div", "controls");
  main.append(opacity.label, threshold.label, colormap.label, scale.label, more);
  bar.append(opener, main);

  return {
    bar,
    tools,
    ends,
    /** Show a look, the models that the wipe can compare with unless they stay, and whether the colour map has an effect. */
    show(settings, wipes, signed) {
      opacity.show(settings.opacity);
      threshold.show(settings.threshold);
      colormap.input.value = settings.colormap;
      colormap.input.disabled = signed;
      colormap.label.title = signed ? "Maps with negative values are blue to orange" : "";
      scale.input.value = settings.scale;
      const lines = settings.contours.map((level) => +(100 * level).toFixed(2)).join(" ");
      if (levelsIn(contours.value).join() !== levelsIn(lines).join()) contours.value = lines; // else as it is written
      if (wipes) wipe.offer(wipes);
      wipe.input.value = settings.wipe;
      if (wipe.input.selectedIndex < 0) wipe.input.value = ""; // the column is gone
      line.show(settings.split);
      line.label.hidden = !wipe.input.value;
      image.input.checked = settings.image;
      raw.input.checked = settings.raw;
    },
  };
}
