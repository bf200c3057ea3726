/** `dualchunk/browser`. */
export {};
