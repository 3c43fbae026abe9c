// What the page does: sort and filter lists, copy statements, and show structures in 3D. Texts of the atlas are only
// ever written as text (textContent), never as HTML. Without this script the page has everything but the 3D views.
"use strict";

(function () {
  const MISSING = -1; // in place of the pLDDT of a residue that has none
  const COLOURS = [[90, "#0053d6"], [70, "#65cbf3"], [50, "#ffdb13"], [MISSING / 2, "#ff7d45"]];
  const NO_PLDDT = "#888888";
  const KNOWN = "#8a8a8a";
  const TURN = 15; // degrees
  const ZOOM = 1.2;
  const WAYS = {
    ArrowLeft: (view) => view.rotate(-TURN, "y"),
    ArrowRight: (view) => view.rotate(TURN, "y"),
    ArrowUp: (view) => view.rotate(-TURN, "x"),
    ArrowDown: (view) => view.rotate(TURN, "x"),
    "+": (view) => view.zoom(ZOOM),
    "-": (view) => view.zoom(1 / ZOOM),
  };

  function button(label, press) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", press);
    return made;
  }

  // Lists

  function keyOf(cell, isNumber) {
    if (!isNumber) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }

  function compare(a, b) {
    if (a === null || b === null) return 0;
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  // Sort the rows of a table by a column. Rows without a value come last in either direction.
  function sort(table, column, isNumber, direction) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [keyOf(row.cells[column], isNumber), row]);
    rows.sort(([a], [b]) => (a === null) - (b === null) || direction * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  }

  function makeSortable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const isNumber = head.classList.contains("number");
      const label = head.textContent.trim();
      head.textContent = "";
      head.append(button(label, () => {
        const before = head.getAttribute("aria-sort");
        const next = before ? (before === "ascending" ? "descending" : "ascending") : isNumber ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        sort(table, column, isNumber, next === "ascending" ? 1 : -1);
      }));
    });
  }

  function makeFilter(input) {
    const rows = Array.from(document.getElementById(input.dataset.filter).tBodies[0].rows);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const shown = document.querySelector(`[data-shown="${input.dataset.filter}"]`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, number) => {
        row.hidden = !words.every((word) => texts[number].includes(word));
        count += row.hidden ? 0 : 1;
      });
      shown.textContent = words.length ? `${count} of ${rows.length} rows` : `${rows.length} rows`;
    });
  }

  // Statements

  function makeCopy(copy) {
    const code = copy.previousElementSibling;
    copy.hidden = false;
    copy.setAttribute("aria-live", "polite");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        copy.textContent = "Selected: copy it with the keyboard";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
  }

  // Structures

  function atomLine(serial, name, residue, chain, number, xyz, plddt) {
    const place = xyz.map((value) => (value / 100).toFixed(3).padStart(8)).join("");
    return `ATOM  ${String(serial).padStart(5)}  ${name.padEnd(3)} ${residue} ${chain}${String(number).padStart(4)}    ${place}` +
      `  1.00${plddt.toFixed(2).padStart(6)}           ${name[0]}`;
  }

  // Return PDB text of atoms given residue by residue as x, y, z in 0.01 angstrom, or null for a missing one.
  function pdbText(coordinates, names, residues, chain, plddt) {
    const lines = [];
    coordinates.forEach((xyz, number) => {
      if (xyz === null) return;
      const residue = Math.floor(number / names.length);
      const value = plddt && plddt[residue] !== null ? plddt[residue] : MISSING;
      lines.push(atomLine(lines.length + 1, names[number % names.length], residues[residue] || "UNK", chain, residue + 1, xyz, value));
    });
    return lines.join("\n");
  }

  function colour(atom) {
    const found = COLOURS.find(([limit]) => atom.b > limit);
    return found ? found[1] : NO_PLDDT;
  }

  function show(box, structure, residueNames) {
    const view = window.$3Dmol.createViewer(box, { backgroundAlpha: 0, antialias: true });
    if (!view) return;
    const residues = Array.from(structure.sequence, (letter) => residueNames[letter]);
    view.addModel(pdbText(structure.backbone, ["N", "CA", "C", "O"], residues, "A", structure.plddt), "pdb");
    view.setStyle({ model: 0 }, { cartoon: { colorfunc: colour, arrows: true } });
    if (structure.known) {
      view.addModel(pdbText(structure.known, ["CA"], [], "B", null), "pdb");
      view.setStyle({ model: 1 }, { cartoon: { style: "trace", color: KNOWN, thickness: 0.35, opacity: 0.85 } });
    }
    view.zoomTo({ model: 0 });
    view.zoom(0.9);
    view.render();
    box.classList.add("live");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${box.dataset.label}; turn it with the arrow keys, zoom with + and -`);
    box.addEventListener("keydown", (event) => {
      const way = WAYS[event.key === "=" ? "+" : event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      way(view);
      view.render();
    });
    addTools(view, structure, document.querySelector(`[data-tools="${box.dataset.structure}"]`));
    new ResizeObserver(() => view.resize()).observe(box);
  }

  function addTools(view, structure, tools) {
    const press = (way) => () => { way(view); view.render(); };
    tools.append(
      button("Turn left", press(WAYS.ArrowLeft)), button("Turn right", press(WAYS.ArrowRight)),
      button("Zoom in", press(WAYS["+"])), button("Zoom out", press(WAYS["-"])),
      button("Reset", press((one) => { one.setView(start); })),
    );
    const start = view.getView();
    if (structure.known) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => {
        const model = view.getModel(1);
        if (box.checked) model.show(); else model.hide();
        view.render();
      });
      label.append(box, "Nearest known structure");
      tools.append(label);
    }
    tools.hidden = false;
  }

  function hasWebGL() {
    try {
      const canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch {
      return false;
    }
  }

  function showStructures() {
    const stored = document.getElementById("data");
    if (!stored || !window.$3Dmol || !hasWebGL()) return;
    const data = JSON.parse(stored.textContent);
    document.querySelectorAll(".viewer-help").forEach((help) => { help.hidden = false; });
    // each view is made when it comes near the window, since browsers limit their number
    const watcher = new IntersectionObserver((entries) => {
      entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
        watcher.unobserve(target);
        show(target, data.structures[Number(target.dataset.structure)], data.residueNames);
      });
    }, { rootMargin: "300px" });
    document.querySelectorAll(".view").forEach((box) => watcher.observe(box));
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("[data-filter]").forEach(makeFilter);
  document.querySelectorAll("button.copy").forEach(makeCopy);
  showStructures();
})();
