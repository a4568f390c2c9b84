// Accepts images that are dropped anywhere on the page, or pasted, and sends them to the server; of other files, and of
// larger ones, the name alone.

async function asText(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return { name: file.name || "pasted.png", content: btoa(text) };
}

export default function ({ data, parentElement, setTriggerValue }) {
  const isImage = (file) =>
    file.size <= data.largest &&
    (file.type.startsWith("image/") || data.suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix)));
  const send = async (files) => {
    const sent = [...files].map((file) => (isImage(file) ? asText(file) : { name: file.name }));
    if (sent.length) setTriggerValue("files", await Promise.all(sent));
  };
  let sign = parentElement.querySelector(".sign");
  if (!sign) {
    sign = document.createElement("div");
    sign.className = "sign";
    sign.hidden = true;
    sign.textContent = "Drop images to explain them";
    sign.style.cssText =
      "position: fixed; inset: 12px; z-index: 999990; pointer-events: none; border: 3px dashed currentColor; " +
      "border-radius: 12px; background: color-mix(in srgb, var(--st-background-color, white) 82%, transparent); " +
      "color: var(--st-primary-color); font: 600 1.4rem var(--st-font, sans-serif); text-align: center; padding-top: 30vh;";
    parentElement.appendChild(sign);
  }
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const inUploader = (event) => event.target.closest?.("[data-testid=stFileUploaderDropzone]");
  const over = (event) => {
    if (!carriesFiles(event) || inUploader(event)) return;
    event.preventDefault();
    sign.hidden = false;
  };
  const leave = (event) => {
    if (!event.relatedTarget) sign.hidden = true;
  };
  const drop = (event) => {
    sign.hidden = true;
    if (!carriesFiles(event) || inUploader(event)) return;
    event.preventDefault();
    send(event.dataTransfer.files);
  };
  const paste = (event) => {
    if (event.clipboardData?.files.length && !inUploader(event)) send(event.clipboardData.files);
  };
  const listeners = { dragover: over, dragleave: leave, drop, paste };
  // Streamlit calls this again when the theme changes, and the cleanup only at the end.
  const before = parentElement.dropListeners ?? {};
  for (const [name, listener] of Object.entries(before)) document.removeEventListener(name, listener);
  for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
  parentElement.dropListeners = listeners;
  return () => {
    for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
  };
}
