/**
 * A SentencePiece vocabulary has scores where BPE has merges: it joins the pair whose whole scores best. Merges come in
 * the order of transformers' `generate_merges`: best whole first, then the longest left part, then the longest right.
 */
import { FormatError } from '../errors.ts';

export interface Merge {
  left: string;
  right: string;
}

/** Published vocabularies have some two merges a token; far more are an attack on the memory. */
const MERGES_PER_TOKEN = 16;
const FREE_MERGES = 2 ** 16;

/**
 * Makes merges.
 * @param pieces Each token that merges may make has a score.
 * @throws FormatError when there are far too many merges.
 */
export function mergesByScore(pieces: ReadonlyMap<string, number>): Merge[] {
  const limit = MERGES_PER_TOKEN * pieces.size + FREE_MERGES;
  const cutsOf = makeCutter(pieces);
  const merges: (Merge & { score: number; nLeft: number; nRight: number })[] = [];
  for (const [piece, score] of pieces) {
    for (const at of cutsOf(piece)) {
      const [left, right] = [piece.slice(0, at), piece.slice(at)];
      merges.push({ left, right, score, nLeft: countCharacters(left), nRight: countCharacters(right) });
      if (merges.length > limit) {
        throw new FormatError(
          `GGUF: the ${pieces.size} tokens can be merged in more than ${limit} ways; it is corrupt`,
        );
      }
    }
  }
  return merges.sort((a, b) => b.score - a.score || b.nLeft - a.nLeft || b.nRight - a.nRight);
}

/** The base of the hashes is odd, and without pattern in its bits. */
const BASE = 0x9e3779b1;

/**
 * Finds where a token can be cut so that both sides are tokens. A hash of each side, made from that of the side before,
 * tells where it is worth to look, so that a token takes time by its length and not by the square of it.
 */
function makeCutter(pieces: ReadonlyMap<string, number>): (piece: string) => number[] {
  const known = new Set(Array.from(pieces.keys(), (piece) => prefixHashes(piece)[piece.length]));
  return (piece) => {
    const cuts: number[] = [];
    const prefixes = prefixHashes(piece);
    let suffix = 0;
    let power = 1;
    for (let at = piece.length - 1; at > 0; at--) {
      suffix = (suffix + Math.imul(piece.charCodeAt(at) + 1, power)) | 0;
      power = Math.imul(power, BASE);
      const isWorthLooking = known.has(prefixes[at]) && known.has(suffix) && !isInsideCharacter(piece, at);
      if (isWorthLooking && pieces.has(piece.slice(0, at)) && pieces.has(piece.slice(at))) cuts.push(at);
    }
    return cuts.reverse();
  };
}

/** Hashes the first 0, 1, 2, … code units. */
function prefixHashes(piece: string): Int32Array {
  const hashes = new Int32Array(piece.length + 1);
  for (let at = 0; at < piece.length; at++) hashes[at + 1] = Math.imul(hashes[at], BASE) + piece.charCodeAt(at) + 1;
  return hashes;
}

/** Tells a place between the two surrogates of one character. */
const isInsideCharacter = (text: string, at: number): boolean => (text.codePointAt(at - 1) as number) > 0xffff;

const countCharacters = (text: string): number => Array.from(text).length;
