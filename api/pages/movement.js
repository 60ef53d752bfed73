// Who moved: compares each board with the one before. No clock and no page in here.

export class Movements {
  /** A mark stays for `lastsMs` after the player's latest move and tells the whole way of that time. */
  constructor(lastsMs) {
    this.lastsMs = lastsMs;
    this.before = null;
    this.marks = new Map();
  }

  /** For each player of `items`: {up, entered, gain}: places won, whether new on the board, points since the last one. */
  update(items, now) {
    const before = this.before;
    const told = new Map();
    const marks = new Map();
    for (const { userId, rank, score } of items) {
      const was = before?.get(userId);
      let mark = this.marks.get(userId);
      if (mark && now - mark.at > this.lastsMs) mark = undefined;
      if (before && !was) mark = { from: null, at: now };
      else if (was && was.rank !== rank) mark = { from: mark ? mark.from : was.rank, at: now };
      if (mark) marks.set(userId, mark);
      const entered = mark !== undefined && mark.from === null;
      told.set(userId, {
        up: mark && !entered ? mark.from - rank : 0,
        entered,
        gain: was ? score - was.score : 0,
      });
    }
    this.marks = marks;
    this.before = new Map(items.map((item) => [item.userId, item]));
    return told;
  }
}
