/** What comes with the package: a model, a book, and its own name and version. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = (path: string) => new URL(`../${path}`, import.meta.url);

/** `books-16m`: 15.7 million parameters, trained on windows of 1,024 tokens; see training/README.md. */
export const BUNDLED_MODEL = fileURLToPath(root('books-16m/books-16m.Q8_0.gguf'));

/** Bram Stoker's *Dracula*, whose author wrote nothing that the model was trained on. Public domain. */
export const BUNDLED_BOOK = fileURLToPath(root('texts/dracula.txt'));

/** The page, built. */
export const BUNDLED_PAGE = fileURLToPath(root('dist/web'));

export const PACKAGE: { version: string; description: string } = JSON.parse(readFileSync(root('package.json'), 'utf8'));
