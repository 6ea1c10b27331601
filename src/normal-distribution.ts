/** The number below which a standard normal variable lies with probability `p`, 0 < p < 1. */
export function normalQuantile(p: number): number {
  if (p < 0.5) return -normalQuantile(1 - p);
  let x = 0;
  // Newton from the left of an inverse that curves upwards: the first step overshoots at most, the others close in.
  for (let step = 0; step < 100; step++) {
    const change = (p - normalProbability(x)) / normalDensity(x);
    x = Math.min(x + change, x + 1);
    if (Math.abs(change) < 1e-15) break;
  }
  return x;
}

function normalDensity(x: number): number {
  return Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
}

/** The probability that a standard normal variable lies below x: 1/2 + density(x) · (x + x³/3 + x⁵/15 + …), whose terms are all of one sign. */
export function normalProbability(x: number): number {
  // Beyond this the series overflows, and no float32 tells the result from 0 or 1.
  if (Math.abs(x) > 30) return x < 0 ? 0 : 1;
  let [sum, term] = [0, x];
  for (let i = 3; sum + term !== sum; i += 2) {
    sum += term;
    term *= (x * x) / i;
  }
  return 0.5 + normalDensity(x) * sum;
}
