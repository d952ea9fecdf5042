// Preloaded into a server that is to live at another time (`node --require`): shifts `Date` by the
// number of seconds that the file $CLOCK_OFFSET_FILE holds at that moment.

const { readFileSync } = require("node:fs");

const RealDate = Date;
const now = () =>
  RealDate.now() + 1000 * Number(readFileSync(process.env.CLOCK_OFFSET_FILE, "utf8"));

globalThis.Date = class extends RealDate {
  constructor(...parts) {
    super(...(parts.length ? parts : [now()]));
  }

  static now() {
    return now();
  }
};
