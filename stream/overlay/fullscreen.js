// @ts-check
// Full screen, by button and by the key F.

function toggle() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

/** @param {HTMLElement} button */
export function offerFullscreen(button) {
  button.addEventListener("click", toggle);
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const typing = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
    const command = event.ctrlKey || event.metaKey || event.altKey;
    if (event.key.toLowerCase() === "f" && !typing && !command) toggle();
  });
}
