/**
 * The Walsh-Hadamard transform, in place and scaled to keep lengths: an orthogonal matrix of plus and minus ones. Applied
 * to a query and a key alike it leaves their product as it is, but spreads what few dimensions hold over all of them, so
 * that 8 bits with one scale suffice (arXiv 2404.00456, 2407.08608). By blocks of the largest power of two in `n`.
 */

export function hadamard(x: usize, n: i32): void {
  const end = x + ((n as usize) << 2);
  const blockBytes = ((n & -n) as usize) << 2; // n is a multiple of 8
  const scale = f32x4.splat(1 / Mathf.sqrt((n & -n) as f32));
  const odd = f32x4(1, -1, 1, -1);
  const upper = f32x4(1, 1, -1, -1);
  for (let at = x; at < end; at += 16) {
    let v = f32x4.mul(v128.load(at), scale);
    v = f32x4.add(v128.shuffle<f32>(v, v, 0, 0, 2, 2), f32x4.mul(v128.shuffle<f32>(v, v, 1, 1, 3, 3), odd));
    v = f32x4.add(v128.shuffle<f32>(v, v, 0, 1, 0, 1), f32x4.mul(v128.shuffle<f32>(v, v, 2, 3, 2, 3), upper));
    v128.store(at, v);
  }
  for (let half: usize = 16; half < blockBytes; half <<= 1) {
    for (let first = x; first < end; first += 2 * half) {
      for (let at = first; at < first + half; at += 16) {
        const a = v128.load(at);
        const b = v128.load(at + half);
        v128.store(at, f32x4.add(a, b));
        v128.store(at + half, f32x4.sub(a, b));
      }
    }
  }
}
