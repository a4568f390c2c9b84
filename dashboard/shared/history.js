// Lets Back in the browser undo what the user did. Streamlit replaces the URL when a widget changes, which leaves nothing
// to go back to, and makes an entry of the history for each parameter that the server changes. Here all changes of the
// query that follow something that the user did are one entry.
const TOGETHER_MS = 1500; // changes of the same parameter within this time, such as steps of a slider, are one entry

function changedKeys(before, after) {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => before.getAll(key).join("\n") !== after.getAll(key).join("\n")).join(" ");
}

// How many entries of the history lead back to choices on this page; Undo is of no use without one.
function choices() {
  return history.state?.choices ?? 0;
}

function install() {
  let acted = false; // whether the user did something since the last entry
  let restoring = false; // from Back until the user does something, Streamlit restores what the URL says
  let last = "";
  let when = 0;
  const tell = () => document.dispatchEvent(new CustomEvent("swinlens-history"));
  const replaceState = history.replaceState.bind(history);
  const replace = (state, title, url) => {
    replaceState({ ...state, choices: choices() }, title, url);
    tell();
  };
  const push = history.pushState.bind(history);
  // Streamlit itself makes an entry where the server changes the query, and for another page.
  history.pushState = (state, title, url) => {
    const samePage = new URL(url ?? location.href, location.href).pathname === location.pathname;
    if (samePage && !acted) {
      replace(state, title, url);
      return;
    }
    acted = false;
    push({ ...state, choices: samePage ? choices() + 1 : 0 }, title, url);
    tell();
  };
  history.replaceState = (state, title, url) => {
    const next = new URL(url ?? location.href, location.href);
    if (next.pathname !== location.pathname || next.search === location.search || restoring) {
      replace(state, title, url);
      return;
    }
    const changed = changedKeys(new URLSearchParams(location.search), next.searchParams);
    const now = performance.now();
    if (changed === last && now - when < TOGETHER_MS) replace(state, title, url);
    else history.pushState(state, title, url);
    last = changed;
    when = now;
  };
  addEventListener("popstate", () => {
    restoring = true;
    acted = false;
    tell();
  });
  const act = () => {
    restoring = false;
    acted = true;
  };
  // Assistive programs change a field, and other windows drop a file, without the pointer or a key.
  for (const kind of ["pointerdown", "keydown", "input", "change", "drop", "paste"]) addEventListener(kind, act, true);
}

export default function () {
  if (globalThis.swinlensHistory) return;
  globalThis.swinlensHistory = true;
  install();
}
