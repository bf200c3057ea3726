/** The model and the book that come with the package. */
import { fileURLToPath } from 'node:url';

/** `books-16m`: 15.7 million parameters, trained on windows of 1,024 tokens; see training/README.md. */
export const BUNDLED_MODEL = fileURLToPath(new URL('../books-16m/books-16m.Q8_0.gguf', import.meta.url));

/** Bram Stoker's *Dracula*, whose author wrote nothing that the model was trained on. Public domain. */
export const BUNDLED_BOOK = fileURLToPath(new URL('../texts/dracula.txt', import.meta.url));
