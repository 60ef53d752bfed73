// A small line of figures over time, drawn as SVG. No axes: the figure beside it says how much it is now.

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 56;

const shape = (name, attributes) => {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const FEWEST = 20; // fewer begin on the right, so that the first ones are no cliffs

/** Points of a line through `values`, the newest on the right. */
export function points(values) {
  const top = Math.max(1, ...values);
  const step = WIDTH / (Math.max(FEWEST, values.length) - 1);
  const first = WIDTH - step * (values.length - 1);
  return values.map((value, n) => [first + n * step, HEIGHT - 3 - (value / top) * (HEIGHT - 8)]);
}

/** Of the last `most` values. */
export class Spark {
  constructor(where, most) {
    this.most = most;
    this.values = [];
    this.line = shape("polyline", { class: "spark-line" });
    this.area = shape("polygon", { class: "spark-area" });
    const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    drawing.append(this.area, this.line);
    where.append(drawing);
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > this.most) this.values.shift();
    const line = points(this.values);
    this.line.setAttribute("points", line.map(String).join(" "));
    const area = [[line[0][0], HEIGHT], ...line, [WIDTH, HEIGHT]];
    this.area.setAttribute("points", area.map(String).join(" "));
  }
}
