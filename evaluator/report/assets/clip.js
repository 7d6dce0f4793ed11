// One clip in a dialog: its sound, its words laid below the reference, its raw text and figures.
// Every text is set as text, never as markup.
"use strict";

report.clip = (function () {
  const dialog = document.getElementById("clip");
  let facts = null;
  let around = null;

  function make(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function told(value, percent) {
    if (value === null || value === undefined) return "-";
    return percent ? (100 * value).toFixed(1) + " %" : value.toFixed(3);
  }

  function button(text, label, act) {
    const made = make("button", text);
    made.type = "button";
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  function bar(row, place) {
    const top = make("div", null, "dialog-bar");
    const title = make("h2", row.id);
    title.id = "clip-title";
    const before = button("\u2190", "Clip before", () => place.step(-1));
    const after = button("\u2192", "Clip after", () => place.step(1));
    before.disabled = !place.before;
    after.disabled = !place.after;
    top.append(title, before, after, button("Close", "Close", () => dialog.close()));
    return top;
  }

  function figures(row) {
    const list = make("dl", null, "facts");
    const add = (name, value) => {
      const pair = make("div");
      pair.append(make("dt", name), make("dd", value));
      list.append(pair);
    };
    facts.metrics.forEach((metric, place) => add(metric.title, told(row.scores[place], metric.percent)));
    if (row.wrong !== null) add("wrong", row.wrong + " of " + row.length + " " + facts.unit + "s");
    add("length", row.seconds + " s");
    add("tokens", row.tokens);
    add("finish reason", row.finish);
    add("answered in", row.took + " s");
    if (row.speaker) add("speaker", row.speaker);
    if (row.flags.length) add("remarks", row.flags.map((key) => facts.titles[key] || key).join(", "));
    return list;
  }

  function words(pieces, row, estimate) {
    const line = make("p", null, "words");
    line.dir = "auto";
    const whole = pieces.reduce((sum, each) => sum + width(each), 0) || 1;
    let before = 0;
    for (const each of pieces) {
      const share = (before + width(each) / 2) / whole;
      before += width(each);
      line.append(typeof each === "string" ? make("span", each, "word") : wrongWord(each, share, row, estimate), " ");
    }
    return line;
  }

  function width(piece) {
    const word = typeof piece === "string" ? piece : piece[0];
    return word === null ? 0 : word.length + 1;
  }

  function wrongWord(piece, share, row, estimate) {
    const [word, said] = piece;
    const kind = word === null ? "inserted" : said === null ? "deleted" : "substituted";
    const made = make("button");
    made.type = "button";
    made.title = "Play about this second (an estimate)";
    made.addEventListener("click", () => {
      const from = report.player.playShare(share, row.seconds);
      estimate.textContent = "Playing one second from " + from.toFixed(1) + " s: an estimate from the word's place in the text.";
    });
    made.className = "word wrong " + kind;
    // What colours and lines say, for those who hear the page.
    if (word !== null) made.append(make("del", word), make("span", said === null ? " left out" : " answered as ", "unseen"));
    if (said !== null) made.append(make("ins", said));
    if (word === null) made.append(make("span", " too many", "unseen"));
    return made;
  }

  function alignment(title, pieces, row, estimate) {
    const part = make("section", null, "aligned");
    part.append(make("h3", title), words(pieces, row, estimate));
    return part;
  }

  function raw(title, text, name) {
    const part = make("section", null, "raw");
    part.append(make("h3", title));
    const body = make("p", text === "" ? "(empty)" : text, name);
    body.dir = "auto";
    part.append(body);
    return part;
  }

  function open(row, place) {
    around = place;
    const status = make("p", null, "quiet");
    status.setAttribute("aria-live", "polite");
    const player = make("div", null, "player");
    const body = make("div", null, "dialog-body");
    body.append(player, status);
    if (facts.joined.includes(row.row)) body.append(make("p", "The model heard several files as one; the first is played.", "quiet"));
    if (row.pieces) {
      body.append(alignment("Words: reference struck out, answer below it", row.pieces, row, status));
    } else if (row.wrong && facts.notAligned) body.append(make("p", facts.notAligned, "quiet"));
    if (row.question) body.append(raw("Question", row.question));
    body.append(raw("Reference", row.reference));
    row.references.forEach((each) => body.append(raw("Another reference", each)));
    body.append(row.error ? raw("No answer", row.error) : raw("Answer", row.text, "answer"));
    row.others.forEach((other, number) => body.append(...otherRun(facts.others[number], other, row, status)));
    body.append(figures(row));
    dialog.replaceChildren(bar(row, place), body);
    if (!dialog.open) dialog.showModal();
    report.player.open(player, row, (text) => { status.textContent = text; });
  }

  function otherRun(name, other, row, status) {
    if (other === null) return [make("p", name + ": the same answer", "quiet")];
    const [text, score, pieces] = other;
    const title = name + ": " + facts.metrics[0].title + " " + told(score, facts.percent);
    return pieces ? [alignment(title, pieces, row, status)] : [raw(title, text)];
  }

  function begin(known) {
    facts = known;
    dialog.addEventListener("close", () => {
      report.player.close();
      dialog.replaceChildren();
      if (around) around.closed();
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.closest("audio")) return;
      if (event.key === "ArrowLeft" && around.before) around.step(-1);
      if (event.key === "ArrowRight" && around.after) around.step(1);
    });
  }

  return { begin, open, told };
})();
