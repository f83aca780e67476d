/* What the pages can do without a server: sliders on figures, films that pause, figures that enlarge. */
"use strict";

/* A figure of mamlkit.report.explore gets its controls; a frame is shown by the values that they have. */
function explore(figure) {
  const controls = JSON.parse(figure.dataset.controls);
  const groups = new Map();
  figure.querySelectorAll("[data-frame]").forEach((group) => groups.set(group.dataset.frame, group));
  const key = (values) => JSON.stringify(values);
  const same = new Map([...groups.keys()].map((name) => [key(JSON.parse(name)), groups.get(name)]));
  const form = document.createElement("form");
  const inputs = controls.map(({ name, values }) => {
    const label = document.createElement("label");
    const isNumber = values.every((value) => typeof value === "number");
    const input = document.createElement(isNumber ? "input" : "select");
    if (isNumber) {
      Object.assign(input, { type: "range", min: 0, max: values.length - 1, step: 1, value: 0 });
    } else {
      values.forEach((value, place) => input.add(new Option(value, place)));
    }
    const shown = document.createElement("output");
    label.append(name + " ", input, " ", isNumber ? shown : "");
    form.append(label);
    return { input, shown, values };
  });
  const show = () => {
    const values = inputs.map(({ input, values }) => values[Number(input.value)]);
    inputs.forEach(({ input, shown }, place) => {
      shown.value = values[place];
      input.setAttribute("aria-valuetext", values[place]);
    });
    same.forEach((group, name) => {
      group.style.display = name === key(values) ? "" : "none";
    });
    figure.querySelector(".explore-says").textContent = same.get(key(values)).dataset.says;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  figure.prepend(form);
  show();
}

/* A film has a button; stopped, and for who asks for less motion, it shows its last picture (pictures.py). */
function film(image) {
  const button = document.createElement("button");
  const still = new Image();
  const box = document.createElement("span");
  box.className = "film";
  image.replaceWith(box);
  box.append(image, still, button);
  button.type = "button";
  still.className = "still";
  still.alt = image.alt;
  const play = (moving) => {
    if (!moving) still.src = image.src.replace(/\.film\.webp$/, ".still.webp");
    box.classList.toggle("paused", !moving);
    button.textContent = moving ? "Pause" : "Play";
  };
  button.addEventListener("click", () => play(box.classList.contains("paused")));
  play(!window.matchMedia("(prefers-reduced-motion: reduce)").matches);
}

/* A click on a figure shows it as wide as the window; Escape or another click closes it. */
function enlarge(image) {
  const open = (event) => {
    event.preventDefault(); // some figures lie in a link to their bare file
    const dialog = document.createElement("dialog");
    dialog.className = "enlarged";
    const large = image.cloneNode();
    large.src = image.currentSrc; // of a figure's two forms the one that is shown
    ["width", "height"].forEach((name) => large.removeAttribute(name));
    large.classList.toggle("tall", image.height > image.width);
    dialog.append(large);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // to the search's script, which would take it for its own
      dialog.close();
    });
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  image.classList.add("enlarges");
  image.tabIndex = 0;
  image.addEventListener("click", open);
  image.addEventListener("keydown", (event) => event.key === "Enter" && open(event));
}

/* A table wider than its box is set smaller (book.css). */
function tighten(table) {
  const box = table.parentElement;
  table.classList.toggle("tight", box.scrollWidth > box.clientWidth);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article .pst-scrollable-table-container > table").forEach(tighten);
  document.querySelectorAll("figure.explore").forEach(explore);
  document.querySelectorAll(".bd-article img").forEach((image) => {
    image.src.endsWith(".film.webp") ? film(image) : enlarge(image);
  });
});
