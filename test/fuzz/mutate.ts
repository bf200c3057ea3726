/** Damage to files, the same for the same random numbers. */
import type { Random } from '../../src/eval/random.ts';

/** Values that stand where others were expected. */
const STRANGE: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1, 2, 0.5, 1e308, -1e308, 2 ** 31, 2 ** 53, 1e-320],
  ...['', 'x', '\u0000', '\ufeff', '\ud800', '\u001b[2J', '__proto__', '../../x', '<s>', '(a+)+$', 'x'.repeat(5000)],
  ...[[], {}, [[]], [null], { type: 'x' }, { Regex: '(a|a)*$' }, [0, 'x'], Array(300).fill('ab')],
];

const STRANGE_BYTES = [0, 1, 7, 0x22, 0x5b, 0x7b, 0x7f, 0x80, 0xbf, 0xc3, 0xed, 0xef, 0xfe, 0xff];

/** A copy with bytes changed, cut out, put in, doubled, or its end lost; near its head more often than not. */
export function mutateBytes(bytes: Uint8Array, random: Random): Uint8Array {
  let copy = bytes.slice();
  for (let times = random.integer(1, 4); times > 0; times--) {
    const reach = random.pick([64, 2000, copy.length]);
    const at = random.integer(0, Math.max(0, Math.min(reach, copy.length) - 1));
    const length = random.pick([1, 1, 4, 8, 100]);
    const byte = () => random.pick([...STRANGE_BYTES, random.integer(0, 255)]);
    const [before, after] = [copy.slice(0, at), copy.slice(at)];
    switch (random.integer(0, 5)) {
      case 0:
        copy = before;
        break;
      case 1:
        copy = Uint8Array.from([...before, ...after.slice(length)]);
        break;
      case 2:
        copy = Uint8Array.from([...before, ...after.slice(0, length), ...after]);
        break;
      case 3:
        copy = Uint8Array.from([...before, ...Array.from({ length }, byte), ...after]);
        break;
      default:
        for (let i = at; i < Math.min(at + length, copy.length); i++) copy[i] = byte();
    }
  }
  return copy;
}

/** A copy of a JSON value in which a few places hold something else, or nothing. */
export function mutateJson(value: unknown, random: Random): unknown {
  let copy = structuredClone(value);
  for (let times = random.integer(1, 3); times > 0; times--) copy = changed(copy, random);
  return JSON.parse(JSON.stringify(copy) ?? 'null'); // as a file would give it: no holes, no infinite numbers
}

function changed(value: unknown, random: Random): unknown {
  if (typeof value !== 'object' || value === null || random.uniform() < 0.05) return strange(value, random);
  const places = value as Record<string, unknown>;
  const keys = Object.keys(places);
  if (keys.length === 0) return strange(value, random);
  const key = random.pick(keys);
  const fate = random.uniform();
  if (fate < 0.08) delete places[key];
  else if (fate < 0.12 && !Array.isArray(value)) {
    const name = random.pick(['x', '__proto__', 'constructor', '']);
    Object.defineProperty(places, name, { value: places[key], enumerable: true, configurable: true, writable: true });
  } else places[key] = fate < 0.4 ? strange(places[key], random) : changed(places[key], random);
  return value;
}

function strange(value: unknown, random: Random): unknown {
  if (typeof value === 'number' && random.uniform() < 0.5)
    return random.pick([-value, value + 1, value * 1000, 1 / value]);
  if (typeof value === 'string' && random.uniform() < 0.5)
    return value + random.pick([' ', '\u0000', '+', value, '\ufeff']);
  return structuredClone(random.pick(STRANGE)); // what is made of it may be changed further
}

/** Text of many scripts, with what is no text between. */
export function strangeText(random: Random): string {
  const parts = [
    'Hello world',
    ' the',
    '\n',
    '  ',
    'é',
    '日本語のテキスト',
    '🙂',
    '\u0000',
    '\ufeff',
    '\ud800',
    'a'.repeat(50),
  ];
  const more = ['<|im_start|>', '<s>', '</s>', '12345', '\t', '▁', 'Ġ', 'שלום', '́', '\ufdd0', '!'.repeat(40), '\r\n'];
  return Array.from({ length: random.integer(0, 30) }, () => random.pick([...parts, ...more])).join('');
}
