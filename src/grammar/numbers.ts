/** Numbers of JSON in a range, as digits. */
import { bytes, choice, EMPTY, NEVER, type Node, optional, repeat, sequence } from './automaton.ts';
import { literal } from './characters.ts';

const DIGIT = bytes(0x30, 0x39);
const SIGN = optional(literal('-'));

/** Integers of up to 15 digits, each of which float64 holds exactly. */
export const ANY_INTEGER: Node = choice(literal('0'), sequence(SIGN, bytes(0x31, 0x39), repeat(DIGIT, 0, 14)));
/** As `JSON.stringify` writes numbers, but for exponents of three digits: none of these is infinite. */
export const ANY_NUMBER: Node = sequence(
  SIGN,
  choice(literal('0'), sequence(bytes(0x31, 0x39), repeat(DIGIT, 0, 20))),
  optional(sequence(literal('.'), repeat(DIGIT, 1, 22))),
  optional(
    sequence(
      choice(literal('e'), literal('E')),
      optional(choice(literal('+'), literal('-'))),
      bytes(0x31, 0x39),
      optional(DIGIT),
    ),
  ),
);

/** Multiples of `multiple` from `min` to `max`, both safe integers. */
export function integers(min: number, max: number, multiple: number): Node {
  const known = new Map<string, Node>();
  return choice(
    ...(min < 0 ? [sequence(literal('-'), magnitudes(Math.max(1, -max), -min, multiple, known))] : []),
    ...(min <= 0 && max >= 0 ? [literal('0')] : []),
    ...(max > 0 ? [magnitudes(Math.max(1, min), max, multiple, known)] : []),
  );
}

/** Bounds of integers, and the largest `multiple`. */
export const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
export const MAX_MULTIPLE = 1000;

/** Digits behind the point that numbers of a range may have. */
const MAX_DECIMALS = 6;

/**
 * Numbers from `min` to `max` without an exponent, the bounds themselves only where they are not exclusive. There are few
 * enough digits that no other number rounds to a bound.
 */
export function decimals(min: Bound, max: Bound): Node {
  const zero = { value: 0, isExclusive: false };
  const options: Node[] = [];
  if (min.value < 0) {
    const low = max.value < 0 ? { ...max, value: -max.value } : { value: 0, isExclusive: true };
    options.push(sequence(literal('-'), unsigned(low, { ...min, value: -min.value })));
  }
  if (max.value >= 0) options.push(unsigned(min.value >= 0 ? min : zero, max));
  return choice(...options);
}

export interface Bound {
  readonly value: number;
  readonly isExclusive: boolean;
}

/** The largest whole part and bound that `decimals` takes. */
export const MAX_DECIMAL_BOUND = 999_999_999;
/** Whether a bound can be written with the digits that there are. */
export const isDecimalBound = (value: number): boolean =>
  Math.abs(value) <= MAX_DECIMAL_BOUND && Number(value.toFixed(MAX_DECIMALS)) === value;

// --- internal ---

/** Whole numbers above 0, by their numbers of digits; `known` has what was made for the same multiple. */
function magnitudes(min: number, max: number, multiple: number, known: Map<string, Node>): Node {
  /** `left` digits that may be any, where those before leave `rest`. */
  const free = (left: number, rest: number): Node => {
    if (left === 0) return rest === 0 ? EMPTY : NEVER;
    const key = `${left} ${rest}`;
    const made = known.get(key);
    if (made) return made;
    const node =
      multiple === 1
        ? repeat(DIGIT, left, left)
        : choice(...digits(0, 9, (digit) => free(left - 1, (rest * 10 + digit) % multiple)));
    known.set(key, node);
    return node;
  };
  /** What follows the first `at` digits where these are those of a bound. */
  const bound = (low: string | undefined, high: string | undefined, at: number, rest: number): Node => {
    const text = low ?? high;
    if (text === undefined) throw new RangeError('no bound');
    if (at === text.length) return rest === 0 ? EMPTY : NEVER;
    const [first, last] = [Number(low?.[at] ?? (at === 0 ? 1 : 0)), Number(high?.[at] ?? 9)];
    return choice(
      ...digits(first, last, (digit) => {
        const now = (rest * 10 + digit) % multiple;
        const [isLow, isHigh] = [low !== undefined && digit === first, high !== undefined && digit === last];
        if (!isLow && !isHigh) return free(text.length - at - 1, now);
        return bound(isLow ? low : undefined, isHigh ? high : undefined, at + 1, now);
      }),
    );
  };
  const [low, high] = [String(min), String(max)];
  const options: Node[] = [];
  for (let length = low.length; min <= max && length <= high.length; length++) {
    const [isLow, isHigh] = [length === low.length, length === high.length];
    options.push(bound(isLow ? low : `1${'0'.repeat(length - 1)}`, isHigh ? high : '9'.repeat(length), 0, 0));
  }
  return choice(...options);
}

/** One digit each, with what follows it; neighbours before the same are joined. */
function digits(first: number, last: number, then: (digit: number) => Node): Node[] {
  const options: { from: number; to: number; next: Node }[] = [];
  for (let digit = first; digit <= last; digit++) {
    const next = then(digit);
    const before = options.at(-1);
    if (before && before.next === next) before.to = digit;
    else options.push({ from: digit, to: digit, next });
  }
  return options.map(({ from, to, next }) => sequence(bytes(0x30 + from, 0x30 + to), next));
}

function unsigned(min: Bound, max: Bound): Node {
  if (min.value > max.value) return NEVER;
  const [low, high] = [min, max].map(({ value }) => Math.trunc(value));
  const [lowDigits, highDigits] = [min, max].map(({ value }) => value.toFixed(MAX_DECIMALS).split('.')[1]);
  const fraction = (from: Bound | undefined, to: Bound | undefined) =>
    fractions(from && lowDigits, to && highDigits, from?.isExclusive ?? false, to?.isExclusive ?? false);
  const whole = (value: number) => literal(String(value));
  if (low === high) return sequence(whole(low), fraction(min, max));
  return choice(
    sequence(whole(low), fraction(min, undefined)),
    ...(low + 1 < high ? [sequence(integers(low + 1, high - 1, 1), fraction(undefined, undefined))] : []),
    sequence(whole(high), fraction(undefined, max)),
  );
}

/** `.` and digits, or nothing, between two of the same length; absent bounds leave all. */
function fractions(low: string | undefined, high: string | undefined, noLow: boolean, noHigh: boolean): Node {
  /** What follows the first `at` digits where these are those of the bounds that are left. */
  const rest = (at: number, isLow: boolean, isHigh: boolean): Node => {
    const hasLow = isLow && low !== undefined;
    const hasHigh = isHigh && high !== undefined;
    if (!hasLow && !hasHigh) return at === MAX_DECIMALS ? EMPTY : repeat(DIGIT, 0, MAX_DECIMALS - at);
    // With zeros from here on it equals a bound, or lies on the right side of it.
    const lowLeft = hasLow ? Number(low.slice(at)) : 0;
    const highLeft = hasHigh ? Number(high.slice(at)) : 0;
    const canEnd = (!hasLow || (lowLeft === 0 && !noLow)) && (!hasHigh || highLeft > 0 || !noHigh);
    const end = canEnd ? [EMPTY] : [];
    if (at === MAX_DECIMALS) return choice(...end);
    const [first, last] = [hasLow ? Number(low[at]) : 0, hasHigh ? Number(high[at]) : 9];
    return choice(
      ...end,
      ...digits(first, last, (digit) => rest(at + 1, hasLow && digit === first, hasHigh && digit === last)),
    );
  };
  const all = rest(0, true, true);
  // A point wants a digit behind it, so that what may end before the first digit is left out behind one.
  if (all.kind === 'repeat') return optional(sequence(literal('.'), repeat(DIGIT, 1, MAX_DECIMALS)));
  const parts = all.kind === 'choice' ? all.parts : [all];
  const some = parts.filter((part) => part !== EMPTY);
  return choice(sequence(literal('.'), choice(...some)), ...(some.length < parts.length ? [EMPTY] : []));
}
