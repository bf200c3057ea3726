/** What lies beside the page. */
export const BUNDLED_MODEL = './books-16m.Q8_0.gguf';
export const BUNDLED_BOOK = './dracula.txt';
