/** A file that is dropped anywhere on the page is a model or a text, by its name. */
import { openFile, readFile } from './actions.ts';
import { isBusy, isDropping } from './state.ts';

export function takeDrops(): void {
  document.addEventListener('dragover', (event) => {
    event.preventDefault(); // else the browser would leave the page for the file
    isDropping.value = true;
  });
  document.addEventListener('dragleave', ({ relatedTarget }) => {
    isDropping.value = relatedTarget !== null; // it goes from one element to the next
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    isDropping.value = false;
    const file = event.dataTransfer?.files[0];
    if (!file || isBusy.value) return;
    void (file.name.toLowerCase().endsWith('.gguf') ? openFile(file) : readFile(file));
  });
}
