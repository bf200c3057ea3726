/**
 * Prints what a model goes on with, how it answers from a session that another copy of it has read, and what it says in JSON. It
 * runs in Node, Deno, Bun and browsers alike, which give it the package and the model.
 */
const LOAD = { context: 512, precision: 'f32', kvType: 'f32' };
const BOOK = 'Once upon a time there was a king who had three sons, and the youngest was never asked. '.repeat(9);

export async function generate({ loadModel }, source) {
  const [model, other] = [await loadModel(source, LOAD), await loadModel(source, LOAD)];
  const text = await said(model, 'Once upon a time there was');
  const session = await model.read(BOOK);
  const blob = await new Response(session.stream()).blob();
  const { tokens } = await other.loadSession(blob);
  let nRead = -1;
  const onProgress = (_done, total) => {
    nRead = total;
  };
  const resumed = await said(other, tokens, { onProgress });
  const jsonSchema = { type: 'object', properties: { sons: { type: 'integer' } }, required: ['sons'] };
  const json = await said(model, 'The king has', { jsonSchema, maxTokens: 60 });
  await model.dispose();
  await other.dispose();
  return { backend: model.backendName, text, resumed, nRead, json };
}

async function said(model, prompt, more) {
  let text = '';
  const options = { maxTokens: 24, temperature: 0, ...more };
  for await (const piece of model.generate(prompt, options)) text += piece.text;
  return text;
}

if (globalThis.process?.argv.length > 2) {
  const [entry, path] = process.argv.slice(-2);
  console.log(JSON.stringify(await generate(await import(entry), path)));
}
