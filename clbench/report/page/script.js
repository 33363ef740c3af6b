"use strict";

// Boards: each line is followed by the row that holds its runs; both move and vanish together.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const turned = now === "ascending" ? "descending" : "ascending";
      const direction = now ? turned : button.dataset.first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      for (const body of table.tBodies) sort(body, column, direction === "ascending" ? 1 : -1);
    });
  });
  for (const button of table.querySelectorAll("button[aria-expanded]")) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      document.getElementById(button.getAttribute("aria-controls")).hidden = !open;
    });
  }
}

function sort(body, column, sign) {
  const lines = [...body.querySelectorAll(":scope > .line")].map((line) => [line.cells[column], line, line.nextElementSibling]);
  lines.sort(([one], [other]) => compare(one, other, sign));
  for (const [, line, runs] of lines) body.append(line, runs);
}

// What is undefined comes last, whichever way a column is sorted.
function compare(one, other, sign) {
  if (!("value" in one.dataset && "value" in other.dataset)) {
    return sign * one.textContent.trim().localeCompare(other.textContent.trim());
  }
  const [a, b] = [Number(one.dataset.value), Number(other.dataset.value)];
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
}

for (const input of document.querySelectorAll("input.filter")) {
  const section = input.closest("section");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    const lines = [...section.querySelectorAll(".line")];
    let left = 0;
    for (const line of lines) {
      line.hidden = !line.cells[0].textContent.toLowerCase().includes(wanted);
      const open = line.querySelector("button").getAttribute("aria-expanded") === "true";
      line.nextElementSibling.hidden = line.hidden || !open;
      left += !line.hidden;
    }
    section.querySelector("output").textContent = wanted ? `${left} of ${lines.length} rows` : "";
  });
}

const theme = document.getElementById("theme");
const dark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = dark() ? "Light colours" : "Dark colours"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  name();
});
name();
