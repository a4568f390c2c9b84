
// A sheet of images that open in a large view and can be picked. All text is set as text, never as HTML.
// With heat maps, the viewer draws into the tiles, and its bar stands under the sheet.

const swinlensSheets = new WeakMap();
const swinlensSheetKept = {}; // what the user has set outlives a visit to another page

function part(name, text = "") {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function press(name, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  made.onclick = act;
  return made;
}

function tile(sheet) {
  const item = document.createElement("li");
  const open = press("open", () => sheet.open(item.dataset.name));
  const thumbs = part("thumbs");
  const pick = press("pick", () => {
    // Show the change at once; the page sends the real state afterwards.
    pick.setAttribute("aria-pressed", String(pick.getAttribute("aria-pressed") !== "true"));
    sheet.pick(item.dataset.name);
  });
  pick.append(part("tick"));
  open.append(thumbs);
  item.append(open, pick);
  return item;
}

/** The places of a tile's image, or of one heat map for each model. */
function fillThumbs(thumbs, content, letters) {
  while (thumbs.children.length > letters.length) thumbs.lastChild.remove();
  while (thumbs.children.length < letters.length) {
    const thumb = part("thumb");
    thumb.append(document.createElement("img"), part("fault"), part("spot"), part("letter"));
    thumbs.append(thumb);
  }
  [...thumbs.children].forEach((thumb, at) => {
    const [image, fault, , letter] = thumb.children;
    if (image.getAttribute("src") !== content.source) image.setAttribute("src", content.source);
    image.alt = content.alt;
    image.hidden = !content.source;
    fault.textContent = content.fault;
    letter.textContent = letters[at];
  });
}

function fill(item, content, letters) {
  const [open, pick] = item.children;
  fillThumbs(open.firstChild, content, letters);
  open.title = content.details;
  while (open.children.length > 1) open.lastChild.remove();
  open.append(part("label", content.label));
  for (const [state, words] of content.verdicts) open.append(part(`verdict ${state}`, words));
  pick.setAttribute("aria-pressed", String(content.picked));
  pick.setAttribute("aria-label", `Pick ${content.details.split(":")[0]} for Compare`);
  pick.title = content.picked ? "In the tray: click to remove it" : "Put it into the tray for Compare";
}

function showMaps(held, root, maps) {
  const { sheet } = held;
  if (!maps) {
    held.viewer?.destroy();
    held.viewer = null;
    if (sheet.parentElement !== root) root.prepend(sheet);
    return;
  }
  if (held.viewer) {
    held.viewer.update(maps);
    return;
  }
  held.viewer = mount(root, maps, {
    kept: swinlensSheetKept,
    onLook: (look) => swinlensLook(look, held),
    sheet: {
      body: sheet,
      placeOf: (row, column) => sheet.children[row].querySelectorAll(".spot")[column],
    },
  });
}

/** Give the focus to the tile whose large view was closed, once the page shows it and the dialog is gone. */
function focusWanted(held) {
  setTimeout(() => {
    if (!held.wanted || document.querySelector("[role=dialog]")) return;
    const item = [...held.sheet.children].find((one) => one.dataset.name === held.wanted);
    if (!item) return;
    held.wanted = "";
    item.querySelector(".open").focus();
  }, 150);
}

export default function ({ data, parentElement, setStateValue }) {
  const sheet = parentElement.querySelector("#sheet");
  if (!sheet || !data) return undefined;
  const held = swinlensSheets.get(sheet) ?? { sheet, root: sheet.parentElement, name: "sheet" };
  swinlensSheets.set(sheet, held);
  swinlensSendEvents(held, data.session, setStateValue);
  sheet.pick = (name) => held.send("toggled", name);
  sheet.open = (name) => held.send("opened", name);
  sheet.setAttribute("aria-label", data.title);
  const letters = data.maps ? (data.maps.columns.length > 1 ? ["A", "B"] : [""]) : [""];
  sheet.style.setProperty("--least", `${data.least * letters.length}px`);
  sheet.classList.toggle("pair", letters.length > 1);
  // Keep the elements of tiles that stay, so that they keep the keyboard focus.
  const there = new Map([...sheet.children].map((item) => [item.dataset.name, item]));
  const items = data.tiles.map((content) => {
    const item = there.get(content.name) ?? tile(sheet);
    item.dataset.name = content.name;
    fill(item, content, letters);
    return item;
  });
  const same = items.length === sheet.children.length && items.every((item, place) => item === sheet.children[place]);
  if (!same) sheet.replaceChildren(...items);
  showMaps(held, held.root, data.maps);
  focusWanted(held);
  sheet.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1 };
    const item = event.target.closest("li");
    if (!item || !(event.key in steps)) return;
    const next = [...sheet.children].indexOf(item) + steps[event.key];
    sheet.children[next]?.querySelector(".open").focus();
    event.preventDefault();
  };
  held.closed ??= ({ detail }) => {
    held.wanted = detail;
    focusWanted(held);
  };
  document.addEventListener("swinlens-large-closed", held.closed);
  const unfollow = swinlensFollow(held);
  return () => {
    unfollow();
    document.removeEventListener("swinlens-large-closed", held.closed);
  };
}
