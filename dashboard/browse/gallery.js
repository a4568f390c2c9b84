// A sheet of images that can be picked. All text is set as text, never as HTML.

function tile(sheet) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const image = document.createElement("img");
  const fault = part("fault");
  const tick = part("tick");
  tick.textContent = "in tray";
  const frame = part("frame");
  frame.append(image, fault, tick);
  button.append(frame, part("label"));
  button.onclick = () => {
    // Show the change at once; the page sends the real state afterwards.
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    sheet.ask(item.dataset.name);
  };
  item.append(button);
  return item;
}

function part(name) {
  const made = document.createElement("span");
  made.className = name;
  return made;
}

function fill(item, content) {
  const [button] = item.children;
  const [frame, label] = button.children;
  const [image, fault] = frame.children;
  if (image.getAttribute("src") !== content.source) image.setAttribute("src", content.source);
  image.alt = content.alt;
  image.hidden = Boolean(content.fault);
  fault.textContent = content.fault;
  label.textContent = content.label;
  button.title = content.details;
  button.setAttribute("aria-pressed", String(content.picked));
  while (button.children.length > 2) button.lastChild.remove();
  for (const [state, words] of content.verdicts) {
    const verdict = part(`verdict ${state}`);
    verdict.textContent = words;
    button.append(verdict);
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const sheet = parentElement.querySelector("#sheet");
  if (!sheet || !data) return;
  sheet.ask = (name) => setTriggerValue("toggled", name);
  sheet.setAttribute("aria-label", data.title);
  sheet.style.setProperty("--least", `${data.least}px`);
  // Keep the elements of tiles that stay, so that they keep the keyboard focus.
  const there = new Map([...sheet.children].map((item) => [item.dataset.name, item]));
  const items = data.tiles.map((content) => {
    const item = there.get(content.name) ?? tile(sheet);
    item.dataset.name = content.name;
    fill(item, content);
    return item;
  });
  const same = items.length === sheet.children.length && items.every((item, place) => item === sheet.children[place]);
  if (!same) sheet.replaceChildren(...items);
  sheet.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1 };
    const item = event.target.closest("li");
    if (!item || !(event.key in steps)) return;
    const next = [...sheet.children].indexOf(item) + steps[event.key];
    sheet.children[next]?.querySelector("button").focus();
    event.preventDefault();
  };
}
