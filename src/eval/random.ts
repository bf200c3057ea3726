/** Random numbers are the same on every machine for the same seed. */
export interface Random {
  /** Draws a number in [0, 1). */
  uniform(): number;
  /** Draws a whole number from `min` to `max`, both included. */
  integer(min: number, max: number): number;
  pick<T>(items: readonly T[]): T;
  shuffled<T>(items: readonly T[]): T[];
  uuid(): string;
  /** Draws normal numbers, exact in float32. */
  normals(count: number, deviation?: number): Float32Array;
}

export function seededRandom(seed: string): Random {
  let state = 0x811c9dc5; // FNV-1a makes it of the seed, then Mulberry32 goes on
  for (const char of seed) state = Math.imul(state ^ (char.codePointAt(0) as number), 0x01000193);
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const integer = (min: number, max: number) => min + Math.floor(uniform() * (max - min + 1));
  return {
    uniform,
    integer,
    pick: (items) => items[integer(0, items.length - 1)],
    shuffled(items) {
      const order = [...items]; // this is how Fisher and Yates shuffle
      for (let at = order.length - 1; at > 0; at--) {
        const other = integer(0, at);
        [order[at], order[other]] = [order[other], order[at]];
      }
      return order;
    },
    uuid: () =>
      'xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx'.replace(/[xy]/g, (digit) =>
        (digit === 'x' ? integer(0, 15) : integer(8, 11)).toString(16),
      ),
    normals: (count, deviation = 1) => Float32Array.from({ length: count }, () => deviation * normal()),
  };
}
