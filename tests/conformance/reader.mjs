// What a client reports, kept in order, with a way to wait for it. Adapters call event(), state() and
// error(); tests read.
export class Reader {
  events = [];    // {type, data, id}, without the connected frames
  openings = [];  // the connected frames' {channel, position, …, id}
  states = [];    // "open", "connecting", "closed"
  errors = [];
  #waiting = new Set();
  #close;

  // What stops the client; an adapter gives it.
  closes(close) { this.#close = close; return this; }
  async close() { await this.#close?.(); }

  event({ type, data, id }) {
    if (type === "message" && data.startsWith('{"type":"connected"')) {
      this.openings.push({ ...JSON.parse(data), id });
    } else {
      this.events.push({ type, data, id });
    }
    this.#changed();
  }
  state(state) { this.states.push(state); this.#changed(); }
  error(error) { this.errors.push(error); this.#changed(); }

  get data() { return this.events.map((event) => event.data); }
  get closed() { return this.states.at(-1) === "closed"; }

  #changed() { for (const look of this.#waiting) look(); }

  // Resolves once `condition` holds, without asking over and over.
  async until(what, condition, milliseconds = 60_000) {
    let timer;
    let look;
    try {
      await new Promise((resolve, reject) => {
        look = () => { if (condition(this)) resolve(); };
        this.#waiting.add(look);
        timer = setTimeout(() => reject(new Error(`waited ${milliseconds} ms for ${what}; ${this.summary()}`)), milliseconds);
        look();
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }
  connected(times = 1) { return this.until(`connected frame ${times}`, () => this.openings.length >= times); }
  has(count) { return this.until(`${count} events`, () => this.events.length >= count); }
  hasData(data) { return this.until(`the event ${data}`, () => this.events.some((event) => event.data === data)); }

  summary() {
    const text = (list) => JSON.stringify(list.slice(-8), (_, value) => (typeof value === "string" ? value.slice(0, 120) : value));
    return `${this.openings.length} connected frames, ${this.events.length} events ${text(this.events)}, ` +
      `states ${text(this.states)}, errors ${text(this.errors)}`;
  }
}
