
// All viewers of a page have the same look: `held` has the name and the viewer of one, and sends events.
function swinlensLook(look, held) {
  held.send("look", look);
  document.dispatchEvent(new CustomEvent("swinlens-look", { detail: { look, name: held.name } }));
}

function swinlensFollow(held) {
  held.follow ??= ({ detail }) => detail.name !== held.name && held.viewer?.look(detail.look);
  document.addEventListener("swinlens-look", held.follow);
  return () => document.removeEventListener("swinlens-look", held.follow);
}
