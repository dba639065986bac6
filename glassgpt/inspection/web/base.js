// The data of the page by name: the value of JSON, of bytes an ArrayBuffer.
function read(name) {
  const element = document.getElementById(name);
  if (element.type === "application/json") return JSON.parse(element.textContent);
  const written = atob(element.textContent);
  const bytes = new Uint8Array(written.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = written.charCodeAt(at);
  return bytes.buffer;
}

// An element: make("span", {class: "token", title: "…"}, child, "text", …). What is a string is shown as text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A token as it can be seen: · for a space, ⏎ for the end of a line, ⇥ for a tab; what is not printed as its number.
function visible(text) {
  return text.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/[\p{C}\p{Z}]/gu, (sign) =>
    `\\u{${sign.codePointAt(0).toString(16)}}`);
}

// A share as a person says it: 12 %, 0.3 %, <0.1 %.
function percent(share) {
  const hundredths = 100 * share;
  if (hundredths > 0 && hundredths < 0.1) return "<0.1 %";
  return `${hundredths < 9.95 ? hundredths.toFixed(1) : Math.round(hundredths)} %`;
}
