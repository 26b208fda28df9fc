// A class room: its teacher opens it and sees how many guessed what; pupils enter its code and send
// their guess at the question that it is about.

import { askedFor, linkTo, setAddress } from "../shared/address.js";
import { reasonOf } from "../shared/api.js";
import { button, chip, h, setText, show, smallButton } from "../shared/dom.js";
import { Follower } from "../shared/follower.js";
import { labelled } from "../shared/forms/form_parts.js";
import { recall, remember } from "../shared/memory.js";
import { errorLine, showText } from "../shared/message.js";
import { copyChip } from "../shared/page_parts.js";
import { barRow, LETTERS } from "./pictures.js";

const WATCH_MS = 1000;
const FOLLOW_MS = 3000; // a class asks from thirty pages at once

// Polls a room: {call, request} say how.
class RoomFollower extends Follower {
  ask({ call, request }) {
    return this.api(call, request);
  }

  take(room) {
    this.on.room(room);
    return room.counts ? WATCH_MS : FOLLOW_MS;
  }
}

// How many guessed what. options: texts; without them letters alone.
export class Guesses {
  constructor(options) {
    this.options = options;
    this.list = h("div", { class: "sol-learn-bars" });
    this.total = h("p", { class: "sol-learn-state" });
    this.element = h("section", { class: "sol-guesses", "aria-label": "Guesses of the class" }, this.list, this.total);
  }

  update(counts) {
    const all = counts.reduce((sum, one) => sum + one, 0);
    this.list.replaceChildren(...counts.map((number, at) => barRow(
      h("span", {}, h("b", {}, LETTERS[at]), this.options && ` ${this.options[at]}`), all ? number / all : 0, `${number}`)));
    setText(this.total, all ? `${all} ${all === 1 ? "guess" : "guesses"}` : "No guesses yet");
  }
}

export class Room {
  // lessons: {titleOf(key), shown(): key, go(key), follow(key): go without the focus}; changed(): another room, or another question
  constructor(api, lessons, codeLength, changed) {
    this.api = api;
    this.lessons = lessons;
    this.codeLength = codeLength;
    this.changed = changed;
    this.now = null; // the room: {code, lesson}, with counts for its teacher, with a guess for a pupil
    this.follower = new RoomFollower(api, {
      room: (room) => this.take(room), lost: () => setText(this.state, "The server does not answer; trying again."),
      gone: (error) => { this.forget(); showText(this.error, error.message); },
    });
    this.guesses = new Guesses();
    this.watchers = new Set([this.guesses]);
    this.element = this.build();
    this.draw();
    this.resume();
  }

  build() {
    this.error = errorLine();
    this.state = h("p", { class: "sol-learn-state", role: "status" });
    this.code = h("input", { type: "text", class: "sol-input", maxlength: 12, autocapitalize: "characters", autocomplete: "off", spellcheck: "false" });
    this.outside = h("form", { class: "sol-room-form", onsubmit: (event) => {
      event.preventDefault();
      this.enter(this.code.value);
    } },
    labelled("Code", null, this.code), h("button", { type: "submit", class: "sol-button is-small" }, "Enter"));
    this.opener = h("p", { class: "sol-hint" }, "You teach? ", chip("Open a room", () => this.open()),
      " and your class guesses from its own screens.");
    this.letters = h("output", { class: "sol-room-code" });
    this.topic = h("p", {});
    this.move = smallButton("Ask this lesson's question", () => this.open());
    this.ours = h("div", { class: "sol-room-mine" }, this.letters,
      h("p", { class: "sol-hint" }, "Pupils open Learn on this server and enter the code, or take the link."),
      h("div", { class: "sol-learn-ask" }, copyChip("Copy link", () => linkTo({ room: this.now.code })), chip("Close the room", () => this.leave())),
      this.guesses.element, this.move);
    this.away = h("div", { class: "sol-room-mine" }, button("Show its question", () => this.lessons.go(this.now.lesson), { class: "sol-button is-small" }),
      chip("Leave the room", () => this.leave()));
    this.heading = h("h2", { tabindex: "-1" }, "Class room");
    return h("section", { class: "sol-panel sol-room", "aria-label": "Class room" },
      this.heading, this.topic, this.outside, this.opener, this.ours, this.away, this.state, this.error);
  }

  get isMine() {
    return Boolean(this.now?.counts);
  }

  // The room that this browser was in before a reload, or that a link names.
  resume() {
    const code = askedFor("room");
    const kept = recall("room");
    this.followed = code === null ? kept.lesson : null; // a reload leaves the reader where they were
    setAddress({ room: null });
    if (code !== null) this.enter(code);
    else if (kept.isMine) this.follower.follow({ call: "watch_room", request: {} });
    else if (typeof kept.code === "string") this.enter(kept.code);
  }

  // Asks the question of the lesson on show, in a new room or the one that is open.
  open() {
    this.ask("open_room", { lesson: this.lessons.shown() }, { call: "watch_room", request: {} });
  }

  enter(code) {
    this.ask("enter_room", { code }, { call: "enter_room", request: { code } });
  }

  guess(choice) {
    const { code, lesson } = this.now;
    return this.ask("guess_in_room", { code, lesson, choice }, null);
  }

  // follow: how the room is polled from now on; null: as before. Says whether Python agreed.
  async ask(call, request, follow) {
    showText(this.error, "");
    try {
      this.take(await this.api(call, request));
      if (follow) this.follower.follow(follow);
      return true;
    } catch (error) {
      showText(this.error, reasonOf(error));
      return false;
    }
  }

  take(room) {
    const isNew = room.code !== this.now?.code || room.lesson !== this.now?.lesson;
    const hadFocus = this.element.contains(document.activeElement);
    const isFirst = !this.now;
    this.now = room;
    setText(this.state, "");
    if (room.counts) this.watchers.forEach((one) => one.update(room.counts));
    if (!isNew) return;
    remember("room", { code: room.code, lesson: room.lesson, isMine: this.isMine });
    this.draw();
    if (hadFocus && isFirst) this.heading.focus(); // what had it is gone
    if (!this.isMine && room.lesson !== this.followed) this.lessons.follow(room.lesson);
    this.followed = room.lesson;
    this.changed();
  }

  leave() {
    if (this.isMine) this.api("close_room", {}).catch(() => {}); // unwatched, it closes by itself
    this.forget();
    this.heading.focus();
  }

  forget() {
    this.follower.leave();
    this.now = this.followed = null;
    remember("room", {});
    this.draw();
    this.changed();
  }

  // Also when another lesson comes on show.
  draw() {
    const { now } = this;
    show(this.outside, !now);
    show(this.opener, !now);
    show(this.ours, this.isMine);
    show(this.away, Boolean(now) && !this.isMine);
    show(this.topic, Boolean(now));
    if (!now) return;
    const title = this.lessons.titleOf(now.lesson);
    setText(this.heading, this.isMine ? "Your class room" : `Room ${now.code}`);
    setText(this.topic, this.isMine ? `Asks: ${title}` : `Its question: ${title}`);
    setText(this.letters, now.code);
    show(this.move, this.lessons.shown() !== now.lesson && this.lessons.titleOf(this.lessons.shown()) !== null);
  }
}
