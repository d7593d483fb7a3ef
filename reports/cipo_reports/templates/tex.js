"use strict";
// Mathematics for the page: TeX, as models write it, to MathML. Elements are made one by one, text is text; what cannot
// be read stays as it was written. `visible` and `plain` are those of page.js.

const MATHML = "http://www.w3.org/1998/Math/MathML";
function m(tag, children = [], attributes = {}) {
  const made = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const SYMBOLS = Object.create(null);
("alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ sigma σ " +
  "tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω " +
  "infty ∞ partial ∂ nabla ∇ ell ℓ hbar ℏ emptyset ∅ varnothing ∅ Re ℜ Im ℑ aleph ℵ angle ∠ triangle △ square □ degree °")
  .split(" ").forEach((name, i, all) => { if (i % 2 === 0) SYMBOLS[name] = ["mi", all[i + 1]]; });
("times × cdot ⋅ div ÷ pm ± mp ∓ ast ∗ star ⋆ circ ∘ bullet • le ≤ leq ≤ leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ equiv ≡ approx ≈ sim ∼ simeq ≃ " +
  "cong ≅ propto ∝ ll ≪ gg ≫ in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ supset ⊃ supseteq ⊇ cup ∪ cap ∩ setminus ∖ land ∧ wedge ∧ lor ∨ vee ∨ lnot ¬ neg ¬ " +
  "forall ∀ exists ∃ to → rightarrow → leftarrow ← Rightarrow ⇒ Leftarrow ⇐ leftrightarrow ↔ Leftrightarrow ⇔ implies ⇒ iff ⇔ mapsto ↦ longrightarrow ⟶ " +
  "sum ∑ prod ∏ int ∫ iint ∬ oint ∮ bigcup ⋃ bigcap ⋂ ldots … dots … cdots ⋯ vdots ⋮ ddots ⋱ mid ∣ nmid ∤ parallel ∥ perp ⊥ therefore ∴ because ∵ " +
  "lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ rangle ⟩ lvert | rvert | vert | lVert ‖ rVert ‖ Vert ‖ lbrace { rbrace } prime ′ oplus ⊕ otimes ⊗ colon : " +
  "{ { } } % % $ $ & & # # _ _ | ‖ blacksquare ■ checkmark ✓")
  .split(" ").forEach((name, i, all) => { if (i % 2 === 0) SYMBOLS[name] = ["mo", all[i + 1]]; });
const NAMED = new Set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup inf gcd lcm det dim ker deg arg Pr mod".split(" "));
const LIMITS = new Set("∑ ∏ ⋃ ⋂ lim max min sup inf gcd".split(" "));
const SPACES = { ",": 0.17, ":": 0.22, ";": 0.28, "!": -0.17, " ": 0.25, "~": 0.25, quad: 1, qquad: 2, enspace: 0.5, thinspace: 0.17 };
const ACCENTS = { overline: "¯", bar: "¯", hat: "^", widehat: "^", vec: "→", overrightarrow: "→", tilde: "~", widetilde: "~", dot: "˙", ddot: "¨", underline: "_", overbrace: "⏞", underbrace: "⏟" };
const PLAIN = new Set(["mathit", "mathfrak", "mathnormal"]);
const BOLD = new Set(["mathbf", "boldsymbol", "bm"]);
// Letters that Unicode had before it had the alphabets.
const BOARD = { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" };
const SCRIPT = { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ" };
const letter = (char, exceptions, start) =>
  !/[A-Z]/.test(char) ? char : exceptions[char] ?? String.fromCodePoint(start + char.charCodeAt(0) - 65);
const TEXTS = new Set("text textbf textit textrm texttt mathrm operatorname mbox hbox mathsf mathtt textsf".split(" "));
const IGNORED = new Set("displaystyle textstyle scriptstyle limits nolimits big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr nonumber notag hline".split(" "));

function formula(source, block, whole) {
  try {
    if (source.length > 4000) throw new Error("too long");
    const made = m("math", [new Tex(source).all()], { display: block ? "block" : "inline" });
    const box = element("span", "formula", made);
    box.title = visible(source.trim());
    return box;
  } catch {
    const box = element("span", "", "");
    plain(box, whole); // as it was written
    return box;
  }
}

class Tex {
  constructor(source) {
    this.tokens = source.match(/\\(?:[a-zA-Z]+|[\s\S])|\d+(?:[.,]\d+)*|\s+|[\s\S]/gu) ?? [];
    this.at = 0;
    this.depth = 0;
  }
  all() {
    const rows = this.grid(() => this.at >= this.tokens.length);
    return rows;
  }
  peek() {
    while (this.at < this.tokens.length && /^\s/.test(this.tokens[this.at])) this.at++;
    return this.tokens[this.at];
  }
  // Cells between & and \\, as a table where there is more than one.
  grid(done) {
    const rows = [[[]]];
    while (!done()) {
      const token = this.peek();
      if (token === undefined) break;
      if (token === "&") { this.at++; rows.at(-1).push([]); }
      else if (token === "\\\\" || token === "\\cr") { this.at++; this.skipOptional(); rows.push([[]]); }
      else {
        const cell = rows.at(-1).at(-1), made = this.scripted(), last = cell.at(-1);
        const sign = made.localName === "mo" && "−+".includes(made.textContent);
        if (sign && last?.localName === "mo" && !/[)\]}|!′]/.test(last.textContent)) made.setAttribute("form", "prefix");
        cell.push(made);
      }
    }
    if (rows.length === 1 && rows[0].length === 1) return m("mrow", rows[0][0]);
    if (rows.at(-1).length === 1 && !rows.at(-1)[0].length) rows.pop();
    return m("mtable", rows.map((cells) => m("mtr", cells.map((cell) => m("mtd", cell)))), { columnspacing: "0.6em" });
  }
  skipOptional() {
    if (this.tokens[this.at] === "[") while (this.at < this.tokens.length && this.tokens[this.at++] !== "]");
  }
  // One argument: a group, or what comes next.
  argument() {
    const token = this.peek();
    if (token === undefined || token === "}" || token === "&") return m("mrow");
    return token === "{" ? this.group() : this.atom();
  }
  group() {
    if (++this.depth > 60) throw new Error("too deep");
    this.at++;
    const made = this.grid(() => this.peek() === "}" || this.peek() === undefined);
    if (this.peek() !== "}") throw new Error("unclosed");
    this.at++;
    this.depth--;
    return made;
  }
  raw() { // the characters of a group, for texts
    if (this.peek() !== "{") return this.tokens[this.at++] ?? "";
    let depth = 0, text = "";
    do {
      const token = this.tokens[this.at++];
      if (token === undefined) throw new Error("unclosed");
      if (token === "{" && depth++ === 0) continue;
      if (token === "}" && --depth === 0) break;
      text += token === "\\ " ? " " : token.replace(/^\\([%$&#_{} ])$/, "$1");
    } while (true);
    return text;
  }
  scripted() {
    if (++this.depth > 60) throw new Error("too deep");
    const base = this.atom();
    let below = null, above = null;
    for (;;) {
      const token = this.peek();
      if (token === "_" && !below) { this.at++; below = this.argument(); }
      else if (token === "^" && !above) { this.at++; above = this.argument(); }
      else if (token === "'") { this.at++; above = m("mrow", [...(above ? [above] : []), m("mo", ["′"])]); }
      else if (token === "\\limits" || token === "\\nolimits") this.at++;
      else break;
    }
    this.depth--;
    if (!below && !above) return base;
    const stacked = LIMITS.has(base.textContent) || base.dataset.stacked;
    const tag = below && above ? (stacked ? "munderover" : "msubsup") : below ? (stacked ? "munder" : "msub") : stacked ? "mover" : "msup";
    return m(tag, [base, ...(below ? [below] : []), ...(above ? [above] : [])]);
  }
  delimiter() {
    const token = this.peek();
    this.at++;
    if (token === undefined) throw new Error("unclosed");
    if (token === ".") return "";
    if (token === "<") return "⟨";
    if (token === ">") return "⟩";
    return token.startsWith("\\") ? (SYMBOLS[token.slice(1)]?.[1] ?? "") : token;
  }
  atom() {
    const token = this.peek();
    this.at++;
    if (token === undefined) throw new Error("nothing there");
    if (token === "{") { this.at--; return this.group(); }
    if (token === "^" || token === "_") { this.at--; return m("mrow"); } // a script without a base
    if (token === "}") throw new Error("unopened");
    if (token.startsWith("\\") && token.length > 1) return this.command(token.slice(1));
    if (/^\d/.test(token)) return m("mn", [token]);
    if (/^\p{L}$/u.test(token)) return m("mi", [token]);
    if (token === "-") return m("mo", ["−"]);
    if (token === "~") return m("mspace", [], { width: "0.25em" });
    return m("mo", [visible(token)], "()[]|".includes(token) ? { stretchy: "false" } : {});
  }
  command(name) {
    if (name in SYMBOLS) {
      const [tag, text] = SYMBOLS[name];
      return m(tag, [text], "{}|‖⌊⌋⌈⌉⟨⟩".includes(text) ? { stretchy: "false" } : {});
    }
    if (NAMED.has(name)) return m("mi", [name], { mathvariant: "normal" });
    if (name in SPACES) return m("mspace", [], { width: `${SPACES[name]}em` });
    if (IGNORED.has(name)) return m("mrow");
    if (name in ACCENTS) {
      const under = name.startsWith("under"), inner = this.argument();
      const made = m(under ? "munder" : "mover", [inner, m("mo", [ACCENTS[name]])], { [under ? "accentunder" : "accent"]: "true" });
      if (name.endsWith("brace")) made.dataset.stacked = "1";
      return made;
    }
    if (BOLD.has(name)) return m("mrow", [this.argument()], { class: "bold" });
    if (PLAIN.has(name)) return this.argument();
    if (name === "mathbb") return m("mi", [...this.raw()].map((char) => letter(visible(char), BOARD, 0x1d538)));
    if (name === "mathcal" || name === "mathscr") return m("mi", [...this.raw()].map((char) => letter(visible(char), SCRIPT, 0x1d49c)));
    if (TEXTS.has(name)) return m("mtext", [visible(this.raw())]);
    switch (name) {
      case "frac": case "dfrac": case "tfrac": case "cfrac": { const top = this.argument(); return m("mfrac", [top, this.argument()]); }
      case "binom": case "dbinom": case "tbinom": {
        const top = this.argument();
        return m("mrow", [m("mo", ["("]), m("mfrac", [top, this.argument()], { linethickness: "0" }), m("mo", [")"])]);
      }
      case "sqrt": {
        if (this.peek() !== "[") return m("msqrt", [this.argument()]);
        this.at++;
        const index = this.grid(() => this.peek() === "]" || this.peek() === undefined);
        this.at++;
        return m("mroot", [this.argument(), index]);
      }
      case "boxed": case "fbox": return m("mrow", [this.argument()], { class: "boxed" });
      case "overset": case "stackrel": { const over = this.argument(); return m("mover", [this.argument(), over]); }
      case "underset": { const under = this.argument(); return m("munder", [this.argument(), under]); }
      case "pmod": return m("mrow", [m("mspace", [], { width: "0.4em" }), m("mo", ["("]), m("mi", ["mod"]), m("mspace", [], { width: "0.25em" }), this.argument(), m("mo", [")"])]);
      case "bmod": return m("mi", ["mod"]);
      case "not": { const next = this.atom(); next.textContent += "\u0338"; return next; }
      case "color": case "textcolor": this.raw(); return m("mrow");
      case "phantom": this.argument(); return m("mrow");
      case "left": {
        if (++this.depth > 60) throw new Error("too deep");
        const open = this.delimiter();
        const inner = this.grid(() => this.peek() === "\\right" || this.peek() === undefined);
        if (this.peek() === undefined) throw new Error("unclosed");
        this.at++;
        const close = this.delimiter();
        this.depth--;
        return m("mrow", [...(open ? [m("mo", [open], { stretchy: "true", fence: "true" })] : []), inner, ...(close ? [m("mo", [close], { stretchy: "true", fence: "true" })] : [])]);
      }
      case "middle": return m("mo", [this.delimiter()], { stretchy: "true" });
      case "begin": return this.environment(this.raw());
      default: return m("mtext", [visible(`\\${name}`)]);
    }
  }
  environment(name) {
    if (++this.depth > 60) throw new Error("too deep");
    if (/^(array|tabular)$/.test(name)) { this.skipOptional(); this.raw(); }
    const table = this.grid(() => this.peek() === "\\end" || this.peek() === undefined);
    if (this.peek() === undefined) throw new Error("unclosed");
    this.at++;
    this.raw();
    this.depth--;
    const fences = { pmatrix: "()", bmatrix: "[]", vmatrix: "||", Bmatrix: "{}", Vmatrix: "‖‖", cases: "{ " }[name.replace("*", "")];
    if (/^(align|aligned|split|eqnarray)/.test(name) && table.localName === "mtable") table.setAttribute("columnalign", "right left");
    if (name.startsWith("cases") && table.localName === "mtable") table.setAttribute("columnalign", "left left");
    if (!fences) return table;
    const ends = [...fences].map((char) => (char === " " ? null : m("mo", [char], { stretchy: "true", fence: "true" })));
    return m("mrow", [ends[0], table, ends[1]].filter(Boolean));
  }
}
