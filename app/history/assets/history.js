// The History tab: what was generated, newest first; open, copy the link, delete after asking.

const PAGE_SIZE = 30;

class HistoryPage {
  constructor(root, api, showTabOf) {
    this.api = api;
    this.showTab = showTabOf;
    this.showExplore = () => showTabOf("explore");
    this.turn = 0;
    this.search = h("input", { type: "search", class: "sol-input",
      placeholder: "Words of the prompt" });
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), 200);
    });
    this.list = h("ol", { class: "sol-history-list" });
    this.empty = h("p", { class: "sol-history-empty", hidden: true });
    this.error = h("p", { class: "sol-message is-bad", role: "alert", hidden: true });
    this.more = h("button", { type: "button", class: "sol-button sol-history-more", hidden: true,
      onclick: () => this.load(this.last) }, "Show more");
    this.dialog = this.buildDialog();
    root.append(
      h("div", { class: "sol-history-head" }, labelled("Search", null, this.search),
        h("p", { class: "sol-muted" }, PAGE.isShared ? "Only you see this list; anyone you give a link sees that run."
          : "All runs in this data directory.")),
      this.error, h("section", { class: "sol-panel", "aria-label": "Runs" }, this.list, this.empty),
      this.more, this.dialog);
    addEventListener("sol:runs-changed", () => this.load());
    // The tab comes into view: what ended meanwhile shows.
    new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && this.load())
      .observe(root);
  }

  async load(before = null) {
    const turn = ++this.turn;
    try {
      const answer = await this.api("list_runs",
        { query: this.search.value, before, limit: PAGE_SIZE });
      if (turn !== this.turn) return;
      const rows = answer.runs.map((run) => this.row(run));
      if (before === null) this.list.replaceChildren(...rows);
      else this.list.append(...rows);
      this.last = answer.next;
      show(this.more, answer.next !== null);
      show(this.error, false);
      setText(this.empty, this.search.value ? "No run's prompt has these words."
        : "Nothing yet. Generate something in Explore, or inspect a text, and it will be listed here.");
      show(this.empty, this.list.children.length === 0);
    } catch (error) {
      if (turn !== this.turn) return;
      setText(this.error, error.refused ? error.message : "The server does not answer. Try again.");
      show(this.error, true);
    }
  }

  row(run) {
    const isInspection = run.kind === "inspection";
    const link = addressOf(isInspection ? "inspection" : "run", run.id);
    const open = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (isInspection) return this.showInspection(run.id);
      dispatchEvent(new CustomEvent("sol:open-run", { detail: run.id }));
      this.showExplore();
    };
    const copy = h("button", { type: "button", class: "sol-chip",
      "aria-label": `Copy link: ${run.title}`,
      onclick: async () => {
        await copyText(link);
        setText(copy, "Copied");
        setTimeout(() => setText(copy, "Copy link"), 1600);
      } }, "Copy link");
    const kinds = { finished: "good", failed: "bad", interrupted: "bad", running: "busy" };
    return h("li", { class: "sol-history-row" },
      h("div", {},
        h("a", { class: "sol-history-title", href: link, dir: "auto", onclick: open },
          run.title),
        h("div", { class: "sol-history-facts" },
          h("span", { class: "sol-state", "data-kind": kinds[run.status] || "idle" },
            run.status_label),
          h("span", {}, run.schedule_label), h("span", {}, run.budget),
          h("span", {}, count(run.tokens, "token")),
          h("time", { datetime: run.created_at }, whenText(run.created_at)),
          h("span", {}, modelName(run.model)))),
      h("div", { class: "sol-history-tools" },
        !isInspection && run.tokens > 0 && run.status !== "running"
          && h("button", { type: "button", class: "sol-chip", "aria-label": `Inspect: ${run.title}`,
            onclick: () => this.inspect(run.id) }, "Inspect"),
        copy,
        run.can_delete && h("button", { type: "button", class: "sol-chip",
          "aria-label": `Delete: ${run.title}`, onclick: () => this.ask(run) }, "Delete")));
  }

  // Inspect may not have been on the screen yet; it then looks at the address when it is.
  showInspection(id) {
    window.history.pushState(null, "", addressOf("inspection", id));
    dispatchEvent(new CustomEvent("sol:open-inspection", { detail: id }));
    this.showTab("inspect");
  }

  inspect(runId) {
    window.solInspectRun = runId;
    dispatchEvent(new CustomEvent("sol:inspect-run", { detail: runId }));
    this.showTab("inspect");
  }

  buildDialog() {
    this.question = h("p", {});
    return h("dialog", { class: "sol-dialog", "aria-label": "Delete a run" },
      h("p", {}, h("strong", {}, "Delete this run for good?")), this.question,
      h("form", { method: "dialog", class: "sol-actions" },
        h("button", { class: "sol-button", value: "keep", autofocus: true }, "Keep it"),
        h("button", { class: "sol-button is-danger", value: "delete" }, "Delete")));
  }

  ask(run) {
    setText(this.question, `“${run.title}”, ${count(run.tokens, "token")}. Links to it will stop working.`);
    this.dialog.returnValue = "";
    this.dialog.onclose = () => {
      if (this.dialog.returnValue === "delete") this.remove(run);
    };
    this.dialog.showModal();
  }

  async remove(run) {
    try {
      await this.api("delete_run", { run_id: run.id });
      dispatchEvent(new CustomEvent("sol:run-deleted", { detail: run.id }));
      this.load();
    } catch (error) {
      setText(this.error, error.refused ? error.message : "The server does not answer. Try again.");
      show(this.error, true);
    }
  }
}

{
  const root = element.querySelector(".sol-history");
  const page = new HistoryPage(root, makeApi(server), (name) => showTab(trigger, name));
  page.load();
}
