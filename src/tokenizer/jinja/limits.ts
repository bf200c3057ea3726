/** What a template may do has bounds, and it ends with one kind of error. */

/** A template, or what it does, is at fault. The message goes on from "the chat template". */
export class TemplateError extends Error {}

/** Ends a template. @param verb Says what the template does, in front of the reason. */
export function fail(reason: string, verb = 'fails'): never {
  throw new TemplateError(verb === 'uses' ? `uses ${reason}` : `${verb}: ${reason}`);
}

/** Refuses what is lacking here. @param feature Has its name, such as `the filter "urlize"`. */
export function lacks(feature: string): never {
  fail(`${feature}, which is not supported here`, 'uses');
}

/** A template of a long conversation takes a few hundred steps a message. */
const BASE_STEPS = 1e6;
const STEPS_PER_MESSAGE = 2000;
/** It may read and write so many characters and list items, and so copy all that it is given some dozens of times. */
const BASE_CHARACTERS = 2 ** 24;
const MAX_COPIES = 64;
/** A step may look through a long text or dictionary without making one, so the clock ends what the counts let pass. */
const BASE_MILLISECONDS = 2000;
const MILLISECONDS_PER_CHARACTER = 2e-4;
const STEPS_PER_LOOK = 64;
const CHARACTERS_PER_LOOK = 2 ** 16;

export class Meter {
  readonly maxSteps: number;
  readonly maxCharacters: number;
  readonly maxMilliseconds: number;
  readonly #start = performance.now();
  #steps = 0;
  #characters = 0;

  /** @param nCharacters All messages have so many together. */
  constructor(nMessages: number, nCharacters: number) {
    this.maxSteps = BASE_STEPS + STEPS_PER_MESSAGE * nMessages;
    this.maxCharacters = BASE_CHARACTERS + MAX_COPIES * nCharacters;
    this.maxMilliseconds = BASE_MILLISECONDS + MILLISECONDS_PER_CHARACTER * nCharacters;
  }

  step(): void {
    if (++this.#steps > this.maxSteps) throw new TemplateError(`did not finish after ${this.maxSteps} steps`);
    if (this.#steps % STEPS_PER_LOOK === 0) this.#look();
  }

  #look(): void {
    if (performance.now() - this.#start > this.maxMilliseconds) {
      throw new TemplateError(`did not finish after ${this.maxMilliseconds / 1000} seconds`);
    }
  }

  /** Call it before making something that long, so that it is never made where it is too long. */
  count(nCharacters: number): void {
    this.#characters += nCharacters;
    if (!(this.#characters <= this.maxCharacters)) {
      throw new TemplateError(`did not finish after ${this.maxCharacters} characters and list items`);
    }
    if (nCharacters >= CHARACTERS_PER_LOOK) this.#look();
  }
}
