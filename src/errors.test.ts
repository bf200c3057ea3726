import { describe, expect, it } from 'vitest';
import { FormatError } from './errors.ts';

describe('a message', () => {
  it('shows control characters', () => {
    expect(new FormatError('a\u001b[31m\n\u202e b').message).toBe('a\\u001b[31m\\u000a\\u202e b');
  });

  it.each(['x', '\u0000', '日'])('of a million of %j is short, and ends as it did', (character) => {
    const { message } = new FormatError(`key ${character.repeat(1e6)}; convert the model again`);
    expect(message.length).toBeLessThan(2500);
    expect(message).toMatch(/^key .*…(.*); convert the model again$/);
  });
});
