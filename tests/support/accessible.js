// What can be checked of a page without a person: names, roles, order of the focus, and contrast by
// computation. Returns a list of faults, each in words.
(() => {
  const faults = [];
  const visible = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const tell = (element) =>
    `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : `.${element.className}`}`;
  const nameOf = (element) => {
    const labelled = (element.getAttribute("aria-labelledby") ?? "").split(" ")
      .map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join(" ").trim();
    const own = element.matches("button, a, summary") ? element.textContent.trim() : "";
    return labelled || (element.getAttribute("aria-label") ?? "").trim() || labels || own
      || (element.getAttribute("title") ?? "").trim();
  };

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`id twice: ${id}`);
  for (const attribute of ["aria-labelledby", "for", "aria-describedby"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(" ")) {
        if (!document.getElementById(id)) faults.push(`${tell(element)} names ${id}, which is not`);
      }
    }
  }
  const named = "button, select, input, textarea, dialog, a[href], section, "
    + '[role="img"], [role="group"], [role="meter"], [role="region"], [role="slider"]';
  for (const element of document.querySelectorAll(named)) {
    if (element.matches("dialog:not([open])")) continue; // named when it opens
    if (!nameOf(element)) faults.push(`no name: ${tell(element)}`);
  }
  for (const element of document.querySelectorAll("[tabindex]")) {
    if (Number(element.getAttribute("tabindex")) > 0) faults.push(`order by number: ${tell(element)}`);
    if (!nameOf(element)) faults.push(`focus without a name: ${tell(element)}`);
  }
  for (const element of document.querySelectorAll("[aria-hidden=true]")) {
    if (element.querySelector("button, select, input, a[href], [tabindex]")) {
      faults.push(`hidden but focusable: ${tell(element)}`);
    }
  }
  for (const list of document.querySelectorAll("ul, ol")) {
    for (const child of list.children) {
      if (child.tagName !== "LI") faults.push(`${tell(list)} has ${tell(child)}`);
    }
  }
  for (const list of document.querySelectorAll("dl")) {
    for (const child of list.querySelectorAll("dt, dd")) {
      const parent = child.parentElement;
      if (parent !== list && parent?.parentElement !== list) faults.push(`lost: ${tell(child)}`);
    }
  }
  if (!document.documentElement.lang) faults.push("the page names no language");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");

  // --- Contrast: of text with what lies behind it, as far as that is a plain colour.
  const parse = (colour) => {
    const values = colour.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    return { rgb: values.slice(0, 3), alpha: values[3] ?? 1 };
  };
  const over = (top, below) => top.rgb.map((v, i) => v * top.alpha + below[i] * (1 - top.alpha));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    const grounds = [];
    for (let at = element; at; at = at.parentElement) {
      const ground = parse(getComputedStyle(at).backgroundColor);
      grounds.push(ground);
      if (ground.alpha === 1) break;
    }
    return grounds.reverse().reduce((below, ground) => over(ground, below), [255, 255, 255]);
  };
  for (const element of document.body.querySelectorAll("*")) {
    const words = [...element.childNodes].some((node) =>
      node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!words || !visible(element) || element.closest(".unseen, option, noscript")) continue;
    const style = getComputedStyle(element);
    let faint = 1;
    for (let at = element; at; at = at.parentElement) faint *= Number(getComputedStyle(at).opacity);
    if (faint < 1) continue; // what is not active needs no contrast
    const ground = behind(element);
    const found = ratio(over(parse(style.color), ground), ground);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (found < (large ? 3 : 4.5)) {
      faults.push(`contrast ${found.toFixed(2)}: ${tell(element)} "${element.textContent.slice(0, 20)}"`);
    }
  }
  return faults;
})()
