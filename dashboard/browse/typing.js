// Lets the search field of the filter bar take effect while the user types: Streamlit reads a text field at Enter only.
const PAUSE_MS = 350;

export default function () {
  let timer = 0;
  const typed = (event) => {
    if (!event.target.closest?.(".st-key-search")) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      event.target.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", code: "Enter", keyCode: 13, bubbles: true }));
    }, PAUSE_MS);
  };
  // Streamlit calls this again when the theme changes, and the cleanup only at the end.
  document.removeEventListener("input", globalThis.swinlensTyped ?? typed);
  globalThis.swinlensTyped = typed;
  document.addEventListener("input", typed);
  return () => document.removeEventListener("input", globalThis.swinlensTyped);
}
