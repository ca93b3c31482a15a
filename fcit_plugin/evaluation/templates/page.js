"use strict";
for (const part of document.querySelectorAll(".js")) part.hidden = false;

for (const slider of document.querySelectorAll("[data-slider]")) {
  const section = slider.closest("section");
  const input = slider.querySelector("input");
  const show = () => {
    slider.querySelector("output").textContent = input.value;
    input.setAttribute("aria-valuetext", "stage " + input.value);
    for (const part of section.querySelectorAll("[data-after]")) part.hidden = part.dataset.after !== input.value;
    for (const row of section.querySelectorAll("tr[data-stage]")) row.classList.toggle("on", row.dataset.stage === input.value);
  };
  input.addEventListener("input", show);
  show();
}

for (const filters of document.querySelectorAll("[data-filters]")) {
  const section = filters.closest("section");
  const [which, words] = [filters.querySelector("select"), filters.querySelector("input")];
  const show = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const record of section.querySelectorAll("article")) {
      const fits = (which.value === "all" || record.classList.contains(which.value))
        && (!wanted || record.textContent.toLowerCase().includes(wanted));
      record.hidden = !fits;
      count += fits;
    }
    filters.querySelector("output").textContent = count + (count === 1 ? " record" : " records");
  };
  which.addEventListener("change", show);
  words.addEventListener("input", show);
  show();
}
