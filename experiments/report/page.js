// Three small things: the theme, the sliders, tables that sort. The page can be read without them.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");

  const themes = ["auto", "light", "dark"];
  const button = document.querySelector(".theme");
  const wear = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `theme: ${theme}`;
  };
  let theme = "auto";
  try { theme = themes.find((name) => name === localStorage.getItem("fedfuse-theme")) ?? "auto"; } catch { /* a browser may keep nothing for files */ }
  wear(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    wear(theme);
    try { localStorage.setItem("fedfuse-theme", theme); } catch { /* then it holds for this visit */ }
  });

  for (const figure of document.querySelectorAll("figure.moments")) {
    const frames = [...figure.querySelectorAll(".frame")];
    const input = figure.querySelector("input[type=range]");
    const output = figure.querySelector("output");
    if (!input) { frames[0].classList.add("shown"); continue; }
    const show = () => {
      frames.forEach((frame, i) => frame.classList.toggle("shown", i === Number(input.value)));
      const name = frames[Number(input.value)].dataset.name;
      output.textContent = name;
      input.setAttribute("aria-valuetext", name);
    };
    input.addEventListener("input", show);
    show();
  }

  const value = (cell) => {
    const key = cell.dataset.sort ?? cell.textContent;
    const number = Number(key);
    return key !== "" && Number.isFinite(number) ? number : key;
  };
  // Numbers before words, words as people sort them, and what is missing last either way.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a === typeof b) {
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    }
    return sign * (typeof a === "number" ? -1 : 1);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      sorter.title = head.title;
      head.replaceChildren(sorter);
      sorter.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort((a, b) => compare(value(a.cells[column]), value(b.cells[column]), down ? -1 : 1));
        body.append(...rows);
      });
    });
  }

  // A link into a closed part opens it.
  const reveal = () => {
    const goal = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const part = goal && goal.closest("details");
    if (part) { part.open = true; goal.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Everything is open on paper.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
})();
